//! Chooses the target of each attempt and takes its permit.
//!
//! 1. The [`Route`] is taken from the extensions, or read from the path.
//! 2. Eligible is who serves the alias, meets the constraints of the client and those that the request has among its extensions
//!    ([`Constraints`](crate::pool::Constraints), checked before anything else and never relaxed), is not drained, whose circuit
//!    admits, who was not tried for this request, and who is below its `max_in_flight`; with a [`Pin`], only
//!    the backends that it names, in their order. One whose token is not at hand, or that refused it, is passed over while
//!    anybody else is eligible; one that is shown the client's own token serves only clients that have one. Where the request
//!    names [further aliases](crate::context::Route::further_aliases), its backend must serve them too; a name that no backend of the pool serves,
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
//!
//! [`Attempt`]: crate::context::Attempt
//! [`Error`]: crate::Error
//! [`Pin`]: crate::pool::Pin
//! [`Route`]: crate::context::Route
//! [`Target`]: crate::pool::Target

mod affinity;
mod choose;
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
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

pub use self::future::Sent;
pub use self::least_load::LeastLoad;
pub use self::lowest_latency::LowestLatency;
pub use self::policy::{Choice, FromFn, Policy, from_fn};
pub use self::prompt_cache::{BUSY, PromptCache};
pub use self::round_robin::RoundRobin;
pub use self::slow_start::SlowStart;
use self::trace::Trace;
pub use self::weighted::Weighted;
use crate::attempt::Watched;
use crate::below::Inner;
use crate::body::Body;
use crate::context::{ClassifyError, DefaultClassify, Terms};
use crate::headers;
use crate::pool::Pool;

pub use crate::attempt::ResponseBody;
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

impl<S, P, ReqBody> Service<Request<ReqBody>> for SelectBackend<S, P>
where
    S: Inner<Body>,
    P: Policy,
    ReqBody: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody>;
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
            let trace = Trace::of(&mut request, &chosen.target);
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
