//! Learns from every outcome of a single service, and refuses at once while its circuit is open.
//!
//! For many backends there is [selection](crate::select), which has a circuit for each target and needs no other layer for it.
//!
//! # Outcomes
//!
//! Read and recorded like this, by this layer and by selection:
//!
//! 1. The head of the answer says what the answer means ([`Outcome`]); where the body decides (a 404, or a 429 without a
//!    wait header) up to 64 KiB of it are read, for 100 ms at most.
//! 2. A refusal or failure is recorded at the head. A success is recorded when its body has ended; a body that breaks is a
//!    failure, one that the client drops teaches nothing. A probe's place is free once the head is there. The body of a 101
//!    stands for the connection that follows: it has not ended before it is read to its end or dropped.
//!    In a stream of events an error is noticed in passing, in events of up to 64 KiB, and recorded at once as
//!    what it stands for: a rate limit opens the circuit for its hint. The events reach the client unchanged. A stream of chat,
//!    completions, responses or a run that ends without its
//!    closing event is a failure too, however clean its end looks.
//! 3. The `Outcome` is put on the answer, in its [`Attempt`](crate::context::Attempt). An error of the service below becomes
//!    [`AttemptFailed`](crate::context::AttemptFailed) with the outcome that [`ClassifyError`] reads from it.
//! 4. The admission is held until the body has ended.
//!
//! **What one request can bring about.** An unknown outcome never opens the last target of an alias that still admits. A 429 to a
//! request that asks for more than the whole quota, as the target reported it or
//! [was declared](crate::pool::Deployment::tokens_per_minute), opens nothing. Where no quota is known, such a request opens the
//! circuit of every target that it is sent to for as long as each asks, at most [`CircuitConfig::max_open`]: declare quotas where
//! clients do not trust one another. What this process itself has run out of is nobody's failure.
//!
//! What opens a circuit, for how long, and how it closes again stands with [`CircuitConfig`]. This layer
//! repeats nothing.
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{body::Body, circuit::CircuitBreakerLayer, pool::CircuitConfig, respond::RespondLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let throttled = service_fn(async |_: Request<Body>| {
//!     Response::builder().status(StatusCode::TOO_MANY_REQUESTS).header("retry-after", "20").body(Body::empty())
//! });
//! let mut service = ServiceBuilder::new()
//!     .layer(RespondLayer::new())
//!     .layer(CircuitBreakerLayer::new("my-resource", CircuitConfig::default()))
//!     .service(throttled);
//! service.ready().await?.call(Request::new(Body::empty())).await?;
//! let refused = service.ready().await?.call(Request::new(Body::empty())).await?;
//! assert_eq!(refused.headers()["retry-after"], "20", "refused here, without asking the service again");
//! # Ok(())
//! # }
//! ```
//!
//! **Order.** It may stand around any service, but neither below selection nor between failover and selection: there it would be one
//! circuit for all targets, and one that fails would stop them all. Such a request is refused with
//! [`Misordered`](crate::ErrorKind::Misordered), and so is one that comes from stream commit or re-issue, which belong below.
//!
//! **Errors.** [`Error`] while its own circuit is open; `AttemptFailed` for errors of the service below.
//!
//! **Cancellation.** Dropping the future or the body gives the permit back without a verdict.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use crate::attempt::{Admitted, Running};
#[cfg(doc)]
use crate::azure::Outcome;
use crate::below::Inner;
use crate::context::order;
use crate::context::{ClassifyError, DefaultClassify, Route};
use crate::error::Error;
use crate::pool::{Breaker, CircuitConfig};

pub use crate::attempt::{ResponseBody, Watched};
pub use crate::refusable::ResponseFuture;

/// Learns from every outcome. See the [module docs](self).
#[derive(Clone)]
#[must_use]
pub struct CircuitBreakerLayer {
    breaker: Breaker,
    classify: Arc<dyn ClassifyError>,
}

impl CircuitBreakerLayer {
    /// A circuit of its own around one service, common to all services made from this layer and its clones. `name` appears
    /// in the log line of each transition.
    pub fn new(name: impl Into<String>, config: CircuitConfig) -> Self {
        Self { breaker: Breaker::new(name, config), classify: Arc::new(DefaultClassify) }
    }

    /// Reads the errors of the service below in another way. Default: [`DefaultClassify`].
    pub fn classify(mut self, classify: impl ClassifyError + 'static) -> Self {
        self.classify = Arc::new(classify);
        self
    }
}

impl<S> Layer<S> for CircuitBreakerLayer {
    type Service = CircuitBreaker<S>;

    fn layer(&self, inner: S) -> CircuitBreaker<S> {
        CircuitBreaker { inner, breaker: self.breaker.clone(), classify: self.classify.clone() }
    }
}

impl fmt::Debug for CircuitBreakerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer").field("breaker", &self.breaker).finish_non_exhaustive()
    }
}

/// Learns from every outcome. See the [module docs](self).
#[derive(Clone)]
pub struct CircuitBreaker<S> {
    inner: S,
    breaker: Breaker,
    classify: Arc<dyn ClassifyError>,
}

impl<S> CircuitBreaker<S> {
    fn admit<B>(&self, request: &mut Request<B>) -> Result<Running, Error> {
        order::enter_circuit(request.extensions_mut())?;
        let running = Running::new(Some(Admitted::Alone(self.breaker.acquire()?)), self.classify.clone());
        let route = Route::find_or_parse(request.extensions(), request.method(), request.uri());
        Ok(match route {
            Ok(route) => running.asking(request.method(), &route),
            Err(_) => running,
        })
    }
}

impl<S: Inner<ReqBody>, ReqBody> Service<Request<ReqBody>> for CircuitBreaker<S> {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = ResponseFuture<Watched<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let admitted = self.admit(&mut request);
        ResponseFuture::new(admitted.map(|running| Watched::new(self.inner.call(request), running)))
    }
}

impl<S: fmt::Debug> fmt::Debug for CircuitBreaker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("inner", &self.inner)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}
