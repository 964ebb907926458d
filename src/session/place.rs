//! One request on its way to where its state is.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request};

use super::home;
use super::layer::WhenUnavailable;
use super::visit::Visit;
use crate::azure::object_id::ObjectId;
use crate::below::Below;
use crate::body::Body;
use crate::context::{Client, Session};
use crate::directory::{Finding, MAX_UNKNOWN, Named, ObjectKey, Question, Remembered, in_time, not_found, warn};
use crate::error::{Error, ErrorKind};
use crate::pool::{Pin, Query, Target};

/// Place that a request goes to, and why.
pub(super) struct Place {
    pub(super) pin: Option<Pin>,
    pub(super) by: By,
}

impl Place {
    /// Tells whoever sends the request where it goes.
    pub(super) fn mark(&self, request: &mut Request<Body>) {
        if let Some(pin) = &self.pin {
            request.extensions_mut().insert(pin.clone());
        }
    }
}

/// Reason that led there.
#[derive(PartialEq)]
pub(super) enum By {
    /// Content that only this backend reads, as far as anybody remembers.
    Content,
    Cookie,
    Header(ObjectKey),
    Home,
    Id,
    Nothing,
}

/// Backend that is remembered of what a request refers to.
enum Known {
    /// The backend of its content.
    Content(Arc<str>),
    /// The backend of its ids.
    Ids(Arc<str>),
    Nothing,
}

impl Visit {
    /// Returns where the request goes.
    pub(super) async fn place<S: Below>(&self, service: &mut S, headers: &HeaderMap) -> Result<Place, Error> {
        let known = self.required(service, headers).await?;
        let required = |backend, by| Ok(Place { pin: Some(Pin::required(backend)), by });
        match (self.hints.issuer.clone(), known) {
            (Some(backend), _) | (None, Known::Ids(backend)) => required(backend, By::Id),
            (None, Known::Content(backend)) => required(backend, By::Content),
            (None, Known::Nothing) => self.preferred().await,
        }
    }

    /// Returns where a request goes that nothing binds.
    async fn preferred(&self) -> Result<Place, Error> {
        let able = self.able()?;
        if self.subject.is_kept
            && let Some((backend, _)) = &self.hints.cookie
            && able.iter().any(|target| target.backend() == &**backend)
        {
            return Ok(Place { pin: Some(self.soft([backend.clone()])), by: By::Cookie });
        }
        if let Some(session) = &self.hints.session {
            let (pin, key) = self.of_session(session, &able).await;
            return Ok(Place { pin, by: By::Header(key) });
        }
        if self.subject.is_kept && !able.is_empty() {
            return Ok(Place { pin: Some(self.soft(order(&self.who, &able))), by: By::Home });
        }
        Ok(Place { pin: None, by: By::Nothing })
    }

    /// Returns where a request goes whose content one backend should have read, and did not: to any other first.
    pub(super) fn elsewhere(&self, wrong: &Place) -> Option<Place> {
        let is_wrong = |backend: &Arc<str>| wrong.pin.as_ref().is_some_and(|pin| pin.backends().contains(backend));
        let mut others = order(&self.who, &self.able().ok()?);
        others.retain(|backend| !is_wrong(backend));
        (!others.is_empty()).then(|| Place { pin: Some(Pin::movable(others)), by: By::Nothing })
    }

    fn soft(&self, backends: impl IntoIterator<Item = Arc<str>>) -> Pin {
        // Nobody remembers who can read the content: a backend that cannot refuses it, and the request moves on.
        let is_uncertain = !self.subject.sealed.is_empty();
        match self.settings.when_unavailable {
            WhenUnavailable::Refuse if !is_uncertain => Pin::preferred(backends),
            _ => Pin::movable(backends),
        }
    }

    /// The targets at which something new may be placed.
    fn able(&self) -> Result<Vec<Target>, Error> {
        let mut able = self.settings.pool.compliant(&self.terms.query(&self.subject.route));
        able.retain(|target| !target.is_drained());
        if self.subject.is_kept && self.subject.route.alias().is_none() {
            self.keep_useful(&mut able)?;
        }
        Ok(able)
    }

    /// Leaves the targets of backends that serve the alias for which the client says that the request is meant, or one of those
    /// that it may use. Objects that lie elsewhere would be of no use to it.
    fn keep_useful(&self, able: &mut Vec<Target>) -> Result<(), Error> {
        let served = |alias: &str| self.compliant(&self.terms.query_for(Some(alias)));
        if let Some(alias) = &self.hints.alias {
            let useful = served(alias);
            if useful.is_empty() {
                return Err(not_served());
            }
            able.retain(|target| useful.contains(&target.backend_name()));
            return Ok(());
        }
        let aliases = self.terms.client.as_ref().and_then(Client::allowed);
        let useful: HashSet<_> = match aliases {
            Some(allowed) => allowed.flat_map(served).collect(),
            None => self.settings.pool.aliases().iter().flat_map(|alias| served(alias)).collect(),
        };
        // A client that may use no alias at all may still keep files.
        if able.iter().any(|target| useful.contains(&target.backend_name())) {
            able.retain(|target| useful.contains(&target.backend_name()));
        }
        Ok(())
    }

    /// Every backend that may see this request.
    fn everywhere(&self) -> Vec<Arc<str>> {
        self.compliant(&self.terms.query_for(None))
    }

    /// Those among them that can be asked without the client's token, for what is found is told to others.
    fn askable(&self) -> Vec<Arc<str>> {
        self.compliant(&self.terms.query_for(None).has_token(false))
    }

    fn compliant(&self, query: &Query<'_>) -> Vec<Arc<str>> {
        self.settings.pool.compliant(query).iter().map(Target::backend_name).collect()
    }

    /// Returns where a session is that the client gave a name: where it was moved to, else where its name leads.
    async fn of_session(&self, session: &Session, able: &[Target]) -> (Option<Pin>, ObjectKey) {
        let name = session.name();
        let key = ObjectKey::of_parts(&["session", &self.who, name]);
        let moved = match self.settings.when_unavailable {
            WhenUnavailable::Move => in_time(self.settings.store.look_up(key)).await.ok().flatten(),
            WhenUnavailable::Refuse => None,
        };
        let moved =
            moved.map(|moved| moved.backend).filter(|name| able.iter().any(|target| target.backend() == &**name));
        let backend = moved.or_else(|| order(&format!("{}\u{1f}{name}", self.who), able).into_iter().next());
        (backend.map(|backend| self.soft([backend])), key)
    }

    /// Returns what is remembered, or found, of what the request refers to.
    async fn required<S: Below>(&self, service: &mut S, headers: &HeaderMap) -> Result<Known, Error> {
        let everywhere = self.everywhere();
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        let remembered = self.remembered(self.subject.named.iter().map(|named| &named.id), &everywhere).await;
        for (named, backend) in self.subject.named.iter().zip(remembered) {
            match backend {
                Some(backend) => found.push((&named.id, backend)),
                None => unknown.push(named),
            }
        }
        let askable = if unknown.is_empty() { Vec::new() } else { self.askable() };
        for (id, finding) in self.discover(service, headers, &unknown, &askable).await {
            match finding {
                Finding::At(backend) => found.push((id, backend)),
                Finding::Misdirected => {}
                Finding::Nowhere => {
                    let mut unasked = everywhere.iter().filter(|backend| !askable.contains(backend));
                    match (unasked.next(), unasked.next()) {
                        (Some(elsewhere), None) => found.push((id, elsewhere.clone())),
                        _ => return Err(not_found(id.as_str())),
                    }
                }
                Finding::Unasked { wait } => return Err(busy(wait)),
                Finding::Unanswered { throttled, wait } => return Err(unanswered(throttled, wait)),
            }
        }
        if let Some((first, backend)) = found.first() {
            let other = found.iter().find(|(_, elsewhere)| elsewhere != backend);
            return other.map_or(Ok(Known::Ids(backend.clone())), |(other, _)| Err(apart(first, other)));
        }
        if let Some(backend) = self.reader(&everywhere).await {
            return Ok(Known::Content(backend));
        }
        let repeated = self.remembered(self.subject.repeated.iter(), &everywhere).await;
        Ok(repeated.into_iter().flatten().next().map_or(Known::Nothing, Known::Ids))
    }

    /// The backend that can read the last content of which that is remembered. What is older and was made elsewhere can be read
    /// nowhere together with it; a backend that is asked for an answer to it says so.
    async fn reader(&self, everywhere: &[Arc<str>]) -> Option<Arc<str>> {
        let keys = self.subject.sealed.iter().rev().map(ObjectKey::of_sealed).collect();
        self.known(keys, everywhere).await.into_iter().flatten().next()
    }

    /// The backends of ids that are remembered, of each whether this request may use it.
    async fn remembered<'i>(
        &self,
        ids: impl Iterator<Item = &'i ObjectId>,
        everywhere: &[Arc<str>],
    ) -> Vec<Option<Arc<str>>> {
        self.known(ids.map(|id| ObjectKey::of(id.as_str())).collect(), everywhere).await
    }

    async fn known(&self, keys: Vec<ObjectKey>, everywhere: &[Arc<str>]) -> Vec<Option<Arc<str>>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let number = keys.len();
        let known = in_time(self.settings.store.look_up_all(keys)).await.unwrap_or_else(|error| {
            warn(Err(error));
            vec![None; number]
        });
        let usable = |known: Remembered| Some(known.backend).filter(|backend| everywhere.contains(backend));
        known.into_iter().map(|known| known.and_then(usable)).collect()
    }

    async fn discover<'n, S: Below>(
        &self,
        service: &mut S,
        headers: &HeaderMap,
        unknown: &[&'n Named],
        backends: &[Arc<str>],
    ) -> Vec<(&'n ObjectId, Finding)> {
        let Some(discovery) = &self.settings.discovery else { return Vec::new() };
        let askable = unknown.iter().filter_map(|named| Some((&named.id, named.read.as_ref()?))).take(MAX_UNKNOWN);
        let searches: Vec<_> = askable
            .map(|(id, read)| {
                let question = Question { id, read, headers, backends, client: &self.who };
                (id, discovery.search(&question, service, &self.settings.store))
            })
            .collect();
        if !searches.is_empty() {
            // They go through clones, which a place that this one holds may keep from ever becoming ready.
            service.release();
        }
        let mut findings = Vec::with_capacity(searches.len());
        for (id, search) in searches {
            findings.push((id, search.finding().await));
        }
        findings
    }
}

/// Backends in the order in which a name prefers them, the lowest priority number first.
fn order(name: &str, able: &[Target]) -> Vec<Arc<str>> {
    let mut tiers: Vec<_> = able.iter().map(Target::priority).collect();
    tiers.sort_unstable();
    tiers.dedup();
    let mut order: Vec<Arc<str>> = Vec::new();
    for tier in tiers {
        let mut members: Vec<(Arc<str>, u32)> = Vec::new();
        for target in able.iter().filter(|target| target.priority() == tier) {
            let known =
                order.iter().chain(members.iter().map(|(name, _)| name)).any(|name| **name == *target.backend());
            if !known {
                members.push((target.backend_name(), target.weight()));
            }
        }
        order.extend(home::order(name, members));
    }
    order
}

fn apart(one: &ObjectId, other: &ObjectId) -> Error {
    let message = format!(
        "The request refers to objects that lie apart: '{}' and '{}'. Use objects that were made together.",
        one.as_str(),
        other.as_str()
    );
    Error::new(ErrorKind::IdsOnDifferentBackends, message)
}

/// As many objects are being looked for as may be, by this client or by all.
fn busy(wait: Duration) -> Error {
    Error::new(ErrorKind::Overloaded, "Too many objects are being looked for at the moment. Wait as the headers say.")
        .with_retry_after(wait)
}

fn unanswered(throttled: bool, wait: Duration) -> Error {
    let kind = if throttled { ErrorKind::NoTargetThrottled } else { ErrorKind::NoTargetDown };
    Error::new(kind, "Not every place could be asked for what this request refers to. Wait as the headers say.")
        .with_retry_after(wait)
}

/// No backend serves the alias for which a client says that its request is meant.
fn not_served() -> Error {
    Error::new(
        ErrorKind::DeploymentNotFound,
        "No backend that this client may use serves the deployment that the header names. Check its name.",
    )
}
