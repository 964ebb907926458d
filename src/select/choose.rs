//! Choice of the target of one attempt, with the permit for it.

use std::sync::LazyLock;

use http::Request;
use http_body::Body as _;
use memchr::memmem::Finder;

use super::future::Chosen;
use super::policy::{Choice, Policy};
use super::{SelectBackend, affinity, opening};
use crate::attempt::{Admitted, Running};
use crate::azure::operation::ModelPlace;
use crate::body::Body;
use crate::context::order::{self, LayerName, Missing};
use crate::context::{
    Attempt, Companions, FurtherName, FurtherPlace, Outlook, Route, SocketFrame, Terms, Tried, Undecided,
};
use crate::error::{Error, ErrorKind};
use crate::pool::{BackendKind, Permit, Pin, Strength, Target};

impl<S, P: Policy> SelectBackend<S, P> {
    /// Chooses and takes the permit: what is sent then is under way.
    pub(super) fn choose(&self, mut terms: Terms, request: &mut Request<Body>) -> Result<(Chosen, Running), Error> {
        order::enter_selection(request.extensions_mut())?;
        let mut route = Route::find_or_parse(request.extensions(), request.method(), request.uri())?;
        check_inspected(request, &route)?;
        check_remembered(request, &route)?;
        if route.affinity().is_none()
            && self.policy.wants_affinity()
            && let Some(affinity) = affinity::of(&route, request.body())
        {
            route = route.with_affinity(affinity);
        }
        self.check_lines(&route, &terms)?;
        if opening::is_silent(request, &route) {
            terms.pin = Some(opening::order(&self.pool, &terms));
        }
        let mut tried = request.extensions().get::<Tried>().cloned().unwrap_or_default();
        let (target, admitted) = match self.standing(request, &route, &terms, &tried) {
            Some(target) => (target, None),
            None => {
                let permit = self.permit_for(request, &route, &terms, &tried)?;
                tried.sent_to(permit.target());
                (permit.target().clone(), Some(Admitted::Pooled(permit)))
            }
        };
        self.keep_company(&target, &route, &terms, request);
        let known = Attempt::at(target.clone(), tried.sent(), Outlook::of(&self.pool));
        let running = Running::new(admitted, self.classify.clone()).known(known).asking(request.method(), &route);
        request.extensions_mut().insert(tried);
        request.extensions_mut().insert(target.clone());
        request.extensions_mut().get_or_insert_with(|| route.clone());
        Ok((Chosen { target, pool: self.pool.clone(), route, terms }, running))
    }

    fn permit_for(
        &self,
        request: &Request<Body>,
        route: &Route,
        terms: &Terms,
        tried: &Tried,
    ) -> Result<Permit, Error> {
        let mut permit = self.permit(route, terms, tried)?;
        if let Some(body) = request.body().as_bytes() {
            permit.carries(body.clone());
        }
        // How soon a socket is accepted says nothing of how soon an answer comes.
        if request.extensions().get::<SocketFrame>().is_none() {
            permit.sent(route.kind());
        }
        Ok(permit)
    }

    /// The target of a frame that only changes a session which stands there: it is asked for nothing, so that it need not admit.
    fn standing(&self, request: &Request<Body>, route: &Route, terms: &Terms, tried: &Tried) -> Option<Target> {
        if request.extensions().get() != Some(&SocketFrame::Settings) {
            return None;
        }
        let query = terms.query(route).tried(tried.targets());
        let backend = terms.pin.as_ref().filter(|pin| pin.strength() == Strength::Required)?.backends().first()?;
        let alias = route.alias()?;
        let alias = terms.client.as_ref().map_or(alias, |client| client.resolve(alias));
        self.pool.target_at(backend, alias).filter(|target| query.allows(target))
    }

    /// Refuses a batch file that names what nobody serves: it would fail where nobody looks any more.
    fn check_lines(&self, route: &Route, terms: &Terms) -> Result<(), Error> {
        let in_lines = |further: &&FurtherName| matches!(further.place, FurtherPlace::Lines(_));
        let mut pairs = route.further_names().iter().zip(terms.beside()).filter(|(further, _)| in_lines(further));
        match pairs.find(|(_, alias)| self.pool.names_of(alias).is_empty()) {
            Some((further, _)) => {
                Err(Error::new(ErrorKind::DeploymentNotFound, further.said("No backend serves the deployment that")))
            }
            None => Ok(()),
        }
    }

    /// Says what the further names of the request are called at the backend of the target.
    fn keep_company(&self, target: &Target, route: &Route, terms: &Terms, request: &mut Request<Body>) {
        let is_unread = route.has_unread_lines();
        if route.further_aliases().len() == 0 && !is_unread {
            return;
        }
        let at = terms.beside().iter().map(|alias| self.pool.target_at(target.backend(), alias));
        let mut companions = Companions::new(route, at);
        if is_unread {
            let (pool, target, client) = (self.pool.clone(), target.clone(), terms.client.clone());
            companions = companions.with_late(move |name| {
                let alias = client.as_ref().map_or(name, |client| client.resolve_in_lines(name));
                pool.target_at(target.backend(), alias)
            });
        }
        request.extensions_mut().insert(companions);
    }

    /// The backends that have a model for a request that names none, among those that it may go to.
    fn defaulting(&self, route: &Route, terms: &Terms) -> Result<Option<Pin>, Error> {
        if !route.lacks_model() {
            return Ok(None);
        }
        let mut able = self.pool.compliant(&terms.query(route));
        able.retain(|target| target.kind() == BackendKind::OpenAi);
        let required = terms.pin.as_ref().filter(|pin| pin.strength() == Strength::Required);
        if let Some(pin) = required {
            able.retain(|target| pin.backends().iter().any(|backend| **backend == *target.backend()));
        }
        match able.is_empty() {
            true => Err(Error::no_model()),
            false => {
                Ok(Some(required.cloned().unwrap_or_else(|| Pin::preferred(able.iter().map(Target::backend_name)))))
            }
        }
    }

    fn permit(&self, route: &Route, terms: &Terms, tried: &Tried) -> Result<Permit, Error> {
        let defaulting = self.defaulting(route, terms)?;
        let query = terms.query(route).tried(tried.targets());
        let query = if defaulting.is_some() { query.pinned(defaulting.as_ref()) } else { query };
        let repeated = tried.repeat().filter(|target| query.allows(target));
        if let Some(permit) = repeated.and_then(|target| self.pool.acquire_target(target)) {
            return Ok(permit);
        }
        let choice = Choice::new(route, &[]).with_client(terms.client.as_ref());
        let acquired = self.pool.acquire(&query, |eligible| self.policy.choose(&choice.with_candidates(eligible)));
        acquired.map_err(|none| {
            tracing::debug!(reason = ?none.reason, targets = %self.pool.explain_query(&query), "no target");
            none.into()
        })
    }
}

/// Tells whether somebody has read which deployment the request names, where its path does not say.
fn check_inspected(request: &Request<Body>, route: &Route) -> Result<(), Error> {
    let extensions = request.extensions();
    let is_known = route.alias().is_some() || extensions.get::<Route>().is_some();
    if is_known || order::has_passed(LayerName::Inspect, extensions) {
        return Ok(());
    }
    let may_name = match route.model_place() {
        ModelPlace::Body
        | ModelPlace::DefaultBody
        | ModelPlace::Object
        | ModelPlace::OptionalBody
        | ModelPlace::Session => match request.body().as_bytes() {
            Some(bytes) => MODEL.find(bytes).is_some(),
            None => !request.body().is_end_stream(),
        },
        ModelPlace::Query => request.uri().query().is_some_and(|query| MODEL.find(query.as_bytes()).is_some()),
        ModelPlace::Elsewhere | ModelPlace::Nowhere | ModelPlace::Path => false,
    };
    if may_name { Err(order::missing(Missing::InspectForModel)) } else { Ok(()) }
}

/// Tells whether somebody remembers who made what, and with which model, where that decides who may use it.
fn check_remembered(request: &Request<Body>, route: &Route) -> Result<(), Error> {
    if request.extensions().get::<Undecided>().is_some() {
        return Err(Undecided::refusal(route));
    }
    let has_passed = |layer| order::has_passed(layer, request.extensions());
    match has_passed(LayerName::Ownership) && !has_passed(LayerName::Session) {
        true => Err(order::missing(Missing::SessionForOwnership)),
        false => Ok(()),
    }
}

static MODEL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("model"));
