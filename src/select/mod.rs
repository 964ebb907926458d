//! Chooses the target of each attempt and takes its permit.
//!
//! 1. The [`Route`] is taken from the extensions, or read from the path.
//! 2. Eligible is who serves the alias, meets the constraints of the client and those that the request has among its extensions
//!    ([`Constraints`](crate::pool::Constraints), checked before anything else and never relaxed), is not drained, whose circuit
//!    admits, who was not tried for this request, and who is below its `max_in_flight`; with a [`Pin`], only
//!    the backends that it names, in their order. One whose token is not at hand, or that refused it, is passed over while
//!    anybody else is eligible; one that is shown the client's own token serves only clients that have one. Where the request
//!    names [further aliases](Route::further_aliases), its backend must serve them too; a name that no backend of the pool serves,
//!    such as that of a model, demands nothing and passes as it is.
//! 3. The lowest priority number goes first; the next group only when this one has nobody eligible. Inside a group, targets of
//!    the [gateway's own region](crate::pool::PoolBuilder::region) form a group before the others.
//! 4. Inside the group the [`Policy`] decides: one of those [below](#policies), or your own closure. Choosing and taking the
//!    permit are one step: a hundred concurrent requests cannot all get the one free place.
//! 5. [`Target`] is put into the extensions. The request itself stays the client's:
//!    [`ForwardLayer`](crate::forward::ForwardLayer) below makes it the target's.
//! 6. What becomes of it is read from the answer as a [circuit breaker](crate::circuit#outcomes) reads it, and recorded in the
//!    circuit of the target: a refusal or failure at the head, a success when its body has ended, an error in passing. The permit,
//!    and with it the place in flight, is held until the body of the answer ends, is dropped, or fails (that of a 101 ends with the
//!    connection); the place of a probe is free once the head is there.
//! 7. Target and outcome are told in the [`Attempt`] of the answer, or of the
//!    [`AttemptFailed`](crate::context::AttemptFailed), and to the [`Observation`](crate::context::Observation) of the request, with a
//!    span for each attempt. A 429 or 503 that passes tells the truth of the whole pool in `retry-after-ms` and
//!    `Retry-After`: when the soonest target that may serve this alias will admit a request, at most 59 s.
//!
//! Between it and the client belongs what makes an answer mean something else ([stream commit](crate::stream_commit)), so that each
//! attempt has one outcome.
//!
//! It does not repeat anything ([`FailoverLayer`](crate::failover::FailoverLayer) does) and adds no credential.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::body::Body;
//! use tower_azure_openai::pool::{Backend, Deployment, Pool, Target};
//! use tower_azure_openai::{forward::ForwardLayer, select::SelectBackendLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let pool = Pool::builder()
//!     .add_backend(Backend::new("east", "https://east.example").add_deployment(Deployment::new("gpt-4o-east").alias("gpt-4o")))
//!     .build()?;
//! let echo = service_fn(async |request: Request<Body>| {
//!     Ok::<_, BoxError>(Response::new(Body::from(request.uri().to_string())))
//! });
//! let service =
//!     ServiceBuilder::new().layer(SelectBackendLayer::new(pool)).layer(ForwardLayer::new()).service(echo);
//! let request = Request::post("/openai/deployments/gpt-4o/embeddings?api-version=2024-10-21").body(Body::empty())?;
//! let answer = service.oneshot(request).await?;
//! assert_eq!(answer.extensions().get::<Target>().map(Target::backend), Some("east"));
//! # Ok(())
//! # }
//! ```
//!
//! A policy of your own is a closure over a [`Choice`], which knows the route, the client and the eligible targets; it returns an
//! index into these:
//!
//! ```
//! # use tower_azure_openai::{pool::Pool, select::{self, SelectBackendLayer}};
//! # fn layer(pool: Pool) {
//! let fewest_first = select::from_fn(|choice| {
//!     let eligible = choice.candidates();
//!     (0..eligible.len()).min_by_key(|i| eligible[*i].in_flight()).unwrap_or(0)
//! });
//! let layer = SelectBackendLayer::new(pool).with_policy(fewest_first);
//! # drop(layer);
//! # }
//! ```
//!
//! # Policies
//!
//! | policy | chooses |
//! |---|---|
//! | [`RoundRobin`] | whoever was chosen longest ago |
//! | [`Weighted`] | by weight, evenly spread |
//! | [`LeastLoad`] | the better of two that are drawn by weight: latency × (requests in flight + 1) |
//! | [`LowestLatency`] | whoever is fastest to the first content |
//! | [`PromptCache`] | one target for each prompt, until that is busy |
//! | [`SlowStart`] | as the policy inside, with less for targets that are just back after failures |
//!
//! Each of them decides inside one priority group, may be called without the layer, looks at [live figures](crate::pool::load)
//! where it needs them, and takes its random numbers from a seed where a test gives one.
//!
//! # Why not?
//!
//! [`Pool::explain`] says for every target what stands between it and a request; the status page shows it, and it is logged at
//! `debug` for a request that finds no target.
//!
//! **Order.** Below stream commit, forwarding or re-issue these would have no target: refused with
//! [`Misordered`](crate::ErrorKind::Misordered), and so is a model in a body that no [`InspectLayer`](crate::inspect::InspectLayer) has
//! read. Whatever is missing below, no credential of the client goes on from here, in no header and no query.
//!
//! **Errors.** [`Error`]: 404 when nobody that complies serves the alias, 401 when those who do are shown tokens of clients and
//! this one has none, 429 when somebody is merely throttled or full, or the pinned backend cannot serve, else 503; the path's own
//! errors. An error of the service below becomes an [`AttemptFailed`](crate::context::AttemptFailed) with target and outcome.
//!
//! **Cancellation.** Dropping the future or the body gives the permit back without a verdict.

mod affinity;
mod future;
mod least_load;
mod lowest_latency;
mod opening;
mod policy;
mod prompt_cache;
mod random;
mod round_robin;
mod slow_start;
mod trace;
mod weighted;

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::Body as HttpBody;
use memchr::memmem::Finder;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use self::future::Chosen;
pub use self::future::Sent;
pub use self::least_load::LeastLoad;
pub use self::lowest_latency::LowestLatency;
pub use self::policy::{Choice, FromFn, Policy, from_fn};
pub use self::prompt_cache::{BUSY, PromptCache};
pub use self::round_robin::RoundRobin;
pub use self::slow_start::SlowStart;
use self::trace::Trace;
pub use self::weighted::Weighted;
use crate::attempt::{Admitted, Running, Watched};
use crate::azure::operation::ModelPlace;
use crate::body::Body;
use crate::context::order::{self, LayerName, Missing};
use crate::context::{
    Attempt, ClassifyError, Companions, DefaultClassify, FurtherName, FurtherPlace, Outlook, Route, SocketFrame, Terms,
    Tried, Undecided,
};
use crate::error::{Error, ErrorKind};
use crate::headers;
use crate::pool::{BackendKind, Permit, Pin, Pool, Strength, Target};

pub use crate::attempt::{OBSERVED_EVENT, ResponseBody};
pub use crate::context::{REFUSED_BODY, REFUSED_BODY_TIME};
pub use crate::refusable::ResponseFuture;

/// Chooses the target of each attempt. See the [module docs](self).
///
/// All services made from one layer, and from its clones, share the state of its policy.
#[must_use]
pub struct SelectBackendLayer<P = RoundRobin> {
    pool: Pool,
    policy: Arc<P>,
    classify: Arc<dyn ClassifyError>,
}

impl SelectBackendLayer {
    /// Selects among the targets of a pool, in rotation inside each priority group.
    pub fn new(pool: Pool) -> Self {
        Self { pool, policy: Arc::default(), classify: Arc::new(DefaultClassify) }
    }
}

impl<P> SelectBackendLayer<P> {
    /// Decides with another policy inside each priority group.
    pub fn with_policy<Q: Policy>(self, policy: Q) -> SelectBackendLayer<Q> {
        SelectBackendLayer { pool: self.pool, policy: Arc::new(policy), classify: self.classify }
    }

    /// Reads the errors of the service below in another way. Default: [`DefaultClassify`].
    pub fn classify(mut self, classify: impl ClassifyError + 'static) -> Self {
        self.classify = Arc::new(classify);
        self
    }
}

impl<S, P> Layer<S> for SelectBackendLayer<P> {
    type Service = SelectBackend<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { pool, policy, classify } = self.clone();
        SelectBackend { inner, pool, policy, classify }
    }
}

impl<P> Clone for SelectBackendLayer<P> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), policy: self.policy.clone(), classify: self.classify.clone() }
    }
}

impl<P> fmt::Debug for SelectBackendLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelectBackendLayer").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// Chooses the target of each attempt. See the [module docs](self).
pub struct SelectBackend<S, P = RoundRobin> {
    inner: S,
    pool: Pool,
    policy: Arc<P>,
    classify: Arc<dyn ClassifyError>,
}

impl<S, P: Policy> SelectBackend<S, P> {
    /// Chooses and takes the permit: what is sent then is under way.
    fn choose(&self, mut terms: Terms, request: &mut Request<Body>) -> Result<(Chosen, Running), Error> {
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

impl<S, P, ReqBody, ResBody> Service<Request<ReqBody>> for SelectBackend<S, P>
where
    S: Service<Request<Body>, Response = http::Response<ResBody>, Error: Into<BoxError>>,
    P: Policy,
    ReqBody: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    ResBody: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = http::Response<ResponseBody>;
    type Error = BoxError;
    type Future = ResponseFuture<Sent<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let mut request = request.map(Body::new);
        let terms = Terms::of(request.extensions());
        let chosen = self.choose(terms, &mut request);
        ResponseFuture::new(chosen.map(|(chosen, running)| {
            // Whatever stands below, and whatever is missing there: from here on the request leads to a backend.
            headers::strip_credentials(&mut request);
            let trace = Trace::of(request.extensions(), &chosen.target);
            let entered = trace.as_ref().map(Trace::enter);
            let future = self.inner.call(request);
            drop(entered);
            Sent::new(Watched::new(future, running), chosen, trace)
        }))
    }
}

impl<S: Clone, P> Clone for SelectBackend<S, P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            pool: self.pool.clone(),
            policy: self.policy.clone(),
            classify: self.classify.clone(),
        }
    }
}

impl<S: fmt::Debug, P> fmt::Debug for SelectBackend<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelectBackend").field("inner", &self.inner).field("pool", &self.pool).finish_non_exhaustive()
    }
}
