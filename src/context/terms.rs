use http::Extensions;

use super::{Client, Route, Session, priority};
use crate::pool::{Constraints, Pin, Priority, Query};

/// Terms on which a request chooses its target, from its extensions. Whoever chooses among targets asks through this, so that
/// nothing of it is forgotten.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) client: Option<Client>,
    session: Option<Session>,
    pub(crate) pin: Option<Pin>,
    narrowed: Option<Constraints>,
    /// The further aliases that the request names, as the pool knows them.
    beside: Vec<Box<str>>,
    priority: Priority,
}

impl Terms {
    pub(crate) fn of(extensions: &Extensions) -> Self {
        Self {
            client: extensions.get().cloned(),
            session: extensions.get().cloned(),
            pin: extensions.get().cloned(),
            narrowed: extensions.get().cloned(),
            beside: beside(extensions),
            priority: priority::of(extensions),
        }
    }

    /// Returns what a request with this route asks of its target.
    pub(crate) fn query<'a>(&'a self, route: &'a Route) -> Query<'a> {
        let query = self.query_for(route.alias()).pinned(self.pin.as_ref()).beside(&self.beside);
        let who = self.client.as_ref().map(Client::id).or(self.session.as_ref().map(Session::name));
        who.map_or(query, |who| query.client(who))
    }

    /// The further aliases that the request names, in the order of its route, as the pool knows them.
    pub(crate) fn beside(&self) -> &[Box<str>] {
        &self.beside
    }

    /// Returns what any request for an alias asks of its target, by the name that the client uses.
    pub(crate) fn query_for<'a>(&'a self, alias: Option<&'a str>) -> Query<'a> {
        let asked = |alias| Query::new(alias).priority(self.priority);
        let Some(client) = &self.client else { return asked(alias).narrowed(self.narrowed.as_ref()) };
        asked(alias.map(|alias| client.resolve(alias)))
            .constraints(client.constraints())
            .narrowed(self.narrowed.as_ref())
            .has_token(client.token().is_some())
    }
}

fn beside(extensions: &Extensions) -> Vec<Box<str>> {
    let Some(route) = extensions.get::<Route>() else { return Vec::new() };
    let client = extensions.get::<Client>();
    route.further_names().iter().map(|further| further.alias_of(client).into()).collect()
}

/// Of a request of which no more is known.
impl From<Option<&Client>> for Terms {
    fn from(client: Option<&Client>) -> Self {
        let priority = client.map(Client::own_priority).unwrap_or_default();
        Self { client: client.cloned(), priority, ..Self::default() }
    }
}
