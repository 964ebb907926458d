//! Learns from every outcome, and refuses at once while a circuit is open.
//!
//! 1. Below [selection](crate::select) it adopts the [`Permit`](crate::pool::Permit) that came with the request: the circuit
//!    of the chosen target has admitted it already. Around a single service it has a circuit of its own
//!    ([`CircuitBreakerLayer::new`]) and refuses with the time to wait while that is open.
//! 2. The head of the answer says what the answer means ([`Outcome`]); where the body decides (a 404, or a 429 without a
//!    wait header) up to [`REFUSED_BODY`] bytes of it are read, for [`REFUSED_BODY_TIME`] at most.
//! 3. A refusal or failure is recorded at the head. A success is recorded when its body has ended; a body that breaks is a
//!    failure, one that the client drops teaches nothing. A probe's place is free once the head is there. The body of a 101
//!    stands for the connection that follows: it has not ended before it is read to its end or dropped.
//!    In a stream of events an error is noticed in passing, in events of up to [`OBSERVED_EVENT`] bytes, and recorded at once as
//!    what it stands for: a rate limit opens the circuit for its hint. The events reach the client unchanged. A stream of chat,
//!    completions, responses or a run that ends without its
//!    [closing event](crate::azure::stream_event) is a failure too, however clean its end looks.
//! 4. The `Outcome` is put on the answer, in its [`Attempt`](crate::context::Attempt). An error of the service below becomes
//!    [`AttemptFailed`](crate::context::AttemptFailed) with the outcome that [`ClassifyError`] reads from it.
//! 5. The permit, and with it the place in flight, is held until the body has ended.
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
//! **Order.** [`adopting`](CircuitBreakerLayer::adopting) belongs below selection, from which it adopts, and above stream commit and
//! re-issue, from which it learns what an answer means; otherwise the request is refused with [`Misordered`](crate::ErrorKind::Misordered).
//! [`new`](CircuitBreakerLayer::new) may stand around any service.
//!
//! **Errors.** [`Error`] while its own circuit is open; `AttemptFailed` for errors of the service below.
//!
//! **Cancellation.** Dropping the future or the body gives the permit back without a verdict.

mod body;
mod future;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body as HttpBody;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

pub use self::body::{OBSERVED_EVENT, ResponseBody};
pub use self::future::ResponseFuture;
#[cfg(doc)]
use crate::azure::Outcome;
use crate::azure::stream_event;
use crate::context::order::{self, LayerName};
use crate::context::{ClassifyError, DefaultClassify, Route};
use crate::error::Error;
use crate::pool::{Breaker, CircuitConfig, PermitCell};

pub use crate::context::{REFUSED_BODY, REFUSED_BODY_TIME};

/// Learns from every outcome. See the [module docs](self).
#[derive(Clone)]
#[must_use]
pub struct CircuitBreakerLayer {
    own: Option<Breaker>,
    classify: Arc<dyn ClassifyError>,
}

impl CircuitBreakerLayer {
    /// A circuit of its own around one service, common to all services made from this layer and its clones. `name` appears
    /// in the log line of each transition.
    pub fn new(name: impl Into<String>, config: CircuitConfig) -> Self {
        Self { own: Some(Breaker::new(name, config)), classify: Arc::new(DefaultClassify) }
    }

    /// Adopts the permits that selection put into requests; a request without one passes unwatched.
    pub fn adopting() -> Self {
        Self { own: None, classify: Arc::new(DefaultClassify) }
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
        CircuitBreaker { inner, own: self.own.clone(), classify: self.classify.clone() }
    }
}

impl fmt::Debug for CircuitBreakerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer").field("own", &self.own).finish_non_exhaustive()
    }
}

/// Learns from every outcome. See the [module docs](self).
#[derive(Clone)]
pub struct CircuitBreaker<S> {
    inner: S,
    own: Option<Breaker>,
    classify: Arc<dyn ClassifyError>,
}

impl<S> CircuitBreaker<S> {
    fn admit<B>(&self, request: &mut Request<B>) -> Result<Option<future::Watch>, Error> {
        if self.own.is_none() {
            order::enter(LayerName::Circuit, request.extensions_mut())?;
        }
        if let Some(cell) = request.extensions_mut().remove::<PermitCell>() {
            return Ok(cell.take().map(future::Watch::Pool));
        }
        let own = self.own.as_ref().map(Breaker::acquire).transpose()?;
        Ok(own.map(future::Watch::Own))
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for CircuitBreaker<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ResBody: HttpBody<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self.admit(&mut request) {
            Ok(watch) => {
                let closes = watch.is_some() && begins_an_answer(&request);
                ResponseFuture::called(self.inner.call(request), watch, self.classify.clone(), closes)
            }
            Err(error) => ResponseFuture::refused(error),
        }
    }
}

/// Whether the stream that answers is one from its beginning to a closing event. A stored answer that is read again from some
/// event on may well have nothing left to tell.
fn begins_an_answer<B>(request: &Request<B>) -> bool {
    request.method() == Method::POST
        && Route::find_or_parse(request.extensions(), request.method(), request.uri())
            .is_ok_and(|route| stream_event::is_spoken_by(route.operation()))
}

impl<S: fmt::Debug> fmt::Debug for CircuitBreaker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").field("inner", &self.inner).field("own", &self.own).finish_non_exhaustive()
    }
}
