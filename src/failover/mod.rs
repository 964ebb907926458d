//! Sends a request that one target refused to the next.
//!
//! 1. Each target is tried at most once per request, and never after a pause, but for 5.
//! 2. A *refusal* proves that nothing was processed: 429, no connection, 401 or 403 to the gateway's own credential, 404 of a
//!    deployment, 400 to encrypted content that only another resource can read. It moves on to the next eligible target always, and costs neither attempts nor budget.
//! 3. An *unknown* outcome (a timeout or reset after sending, 408, 5xx) moves on only where a repeat costs tokens but changes
//!    nothing the client can name ([`Repeat::Safe`](crate::azure::operation::Repeat)), at most
//!    [`attempts`](FailoverLayer::attempts) times in total, and while the process-wide [`RetryBudget`] lasts,
//!    of which one client can use half.
//!    So does an error in the preamble of a stream, its breaking off there, or its end without anything delivered
//!    ([`Condition::StreamPreamble`]). A rate limit in a preamble is a refusal where a repeat is safe, and unknown otherwise:
//!    what the stream had announced may exist.
//! 4. Everything else goes straight to the client, other 4xx among it. So does any outcome that
//!    [`on`](FailoverLayer::on) leaves out.
//! 5. After a 401, when a token other than the refused one is in hand
//!    ([`Attempt::has_fresh_credential`](crate::context::Attempt::has_fresh_credential)), the same target is asked once more. That costs nothing either.
//!    So is a backend that a required [`Pin`](crate::pool::Pin) names and that answers `previous_response_not_found`: a moment
//!    later, since right after a streamed answer it may not find that answer yet.
//! 6. When nothing is left to try the client gets a real answer if there was one: a 429 before any other, else the latest; else
//!    the latest stream that delivered nothing, as it came.
//!    Without one: 429 if a target is merely throttled or full, 502 if every backend refused the gateway's credential, 504
//!    after a timeout, 502 after a reset, else 503.
//! 7. A 401 or 403 of a backend is never the client's fault and becomes 502.
//! 8. A 429 or 503 tells when the soonest target will admit a request. The answer to a call that creates something, and may
//!    have done so, carries `x-should-retry: false`.
//!
//! Below it belongs [`SelectBackendLayer`](crate::select::SelectBackendLayer), which chooses a new target for every attempt. What an
//! attempt was is read from the [`Attempt`](crate::context::Attempt) of its answer or error, so that a layer of your own between the two must
//! pass the extensions of answers on, and errors as the source of its own; a timeout belongs below selection.
//! Around a service without selection a refusal counts like a failure, because nothing says that the next attempt goes
//! elsewhere.
//!
//! A body can be repeated when it is in hand ([`Body::as_bytes`]); put [`InspectLayer`](crate::inspect::InspectLayer) above to
//! collect bodies. A streamed body is sent once. Extensions of the request are given to every attempt.
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::forward::ForwardLayer;
//! use tower_azure_openai::pool::{Backend, Deployment, Pool};
//! use tower_azure_openai::{body::Body, failover::FailoverLayer, select::SelectBackendLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let pool = Pool::builder()
//!     .add_backend(Backend::new("ptu", "https://ptu.example").add_deployment(Deployment::new("gpt-4o")))
//!     .add_backend(Backend::new("paygo", "https://paygo.example").priority(1).add_deployment(Deployment::new("gpt-4o")))
//!     .build()?;
//! let azure = service_fn(async |request: Request<Body>| {
//!     let throttled = request.uri().host() == Some("ptu.example");
//!     let status = if throttled { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
//!     Ok::<_, BoxError>(Response::builder().status(status).header("retry-after-ms", "300").body(Body::empty())?)
//! });
//! let service = ServiceBuilder::new()
//!     .layer(FailoverLayer::new())
//!     .layer(SelectBackendLayer::new(pool))
//!     .layer(ForwardLayer::new())
//!     .service(azure);
//! let answer = service.oneshot(Request::post("/openai/deployments/gpt-4o/chat/completions").body(Body::empty())?).await?;
//! assert_eq!(answer.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//!
//! **Order.** Below selection, stream commit, forwarding or re-issue every attempt would go to the one target that was
//! chosen above, or learn nothing: refused with [`Misordered`](crate::ErrorKind::Misordered). Without inspection above, a streamed
//! body is sent once, and an attempt that could not move on for that is told of in the log.
//!
//! **Errors.** [`Error`](crate::Error) as under 6; an error of that type from below that is not about a target passes.
//!
//! **Cancellation.** Dropping the future ends the attempt that is running; nothing is sent afterwards.

mod attempt;
mod budget;
mod condition;
mod ending;
mod future;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use self::attempt::Sending;
pub use self::budget::{ClientBudget, RetryBudget};
use self::condition::Conditions;
pub use self::condition::{Condition, UnknownCondition};
pub use self::future::ResponseFuture;
use crate::below::{Below, READY_TIME};
use crate::body::Body;
use crate::context::{ClassifyError, DefaultClassify};

/// Attempts whose outcome is unknown, in total.
pub(crate) const DEFAULT_ATTEMPTS: u32 = 3;

/// Sends a request that one target refused to the next. See the [module docs](self).
///
/// All services made from one layer, and from its clones, share its budget.
#[derive(Clone)]
#[must_use]
pub struct FailoverLayer(Arc<Config>);

#[derive(Clone)]
struct Config {
    attempts: u32,
    on: Conditions,
    ready_timeout: Duration,
    classify: Arc<dyn ClassifyError>,
    budget: Arc<dyn ClientBudget>,
}

impl FailoverLayer {
    /// With the defaults: three attempts, [`Condition::DEFAULT`], a [`RetryBudget`] of 0.2.
    pub fn new() -> Self {
        Self(Arc::new(Config {
            attempts: DEFAULT_ATTEMPTS,
            on: Conditions::new(Condition::DEFAULT),
            ready_timeout: READY_TIME,
            classify: Arc::new(DefaultClassify),
            budget: Arc::new(RetryBudget::default()),
        }))
    }

    /// Attempts whose outcome is unknown, in total; 1 repeats nothing after one. Refusals do not count.
    pub fn attempts(self, attempts: u32) -> Self {
        self.with(|config| config.attempts = attempts)
    }

    /// Sets what sends a request on.
    pub fn on(self, conditions: impl IntoIterator<Item = Condition>) -> Self {
        self.with(|config| config.on = Conditions::new(conditions))
    }

    /// The budget that retries after unknown outcomes are taken from: a [`RetryBudget`], or any of tower's.
    pub fn budget(self, budget: impl ClientBudget + 'static) -> Self {
        self.with(|config| config.budget = Arc::new(budget))
    }

    /// Time for which an attempt waits for the service below to become ready. Default 10 s.
    pub fn ready_timeout(self, timeout: Duration) -> Self {
        self.with(|config| config.ready_timeout = timeout)
    }

    /// Reads errors of the service below in another way. Default: [`DefaultClassify`].
    pub fn classify(self, classify: impl ClassifyError + 'static) -> Self {
        self.with(|config| config.classify = Arc::new(classify))
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl Default for FailoverLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for FailoverLayer {
    type Service = Failover<S>;

    fn layer(&self, inner: S) -> Failover<S> {
        Failover { inner, layer: self.clone() }
    }
}

impl fmt::Debug for FailoverLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailoverLayer")
            .field("attempts", &self.0.attempts)
            .field("on", &self.0.on)
            .finish_non_exhaustive()
    }
}

/// Sends a request that one target refused to the next. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct Failover<S> {
    inner: S,
    layer: FailoverLayer,
}

impl<S: Below> Failover<S> {
    /// Not everybody above has asked whether the service below is ready; where it is not, that is waited for, but not for ever.
    /// Nobody needs to be woken for the question: the future that waits asks again.
    fn send(&mut self, sending: Sending<S>, request: Request<Body>) -> ResponseFuture<S> {
        match self.inner.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => ResponseFuture::sent(self.inner.call(request), sending),
            Poll::Ready(Err(error)) => ResponseFuture::further(sending.go_on(Err(error.into()))),
            Poll::Pending => ResponseFuture::further(sending.start(self.inner.take_ready(), request)),
        }
    }
}

impl<S, ReqBody> Service<Request<ReqBody>> for Failover<S>
where
    S: Below,
    ReqBody: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = ResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match Sending::begin(&self.layer.0, request.map(Body::new), || self.inner.clone()) {
            Ok((sending, request)) => self.send(sending, request),
            Err(error) => ResponseFuture::refused(error),
        }
    }
}
