//! Turns causes into answers.
//!
//! Every other layer that refuses a request returns a typed [`Error`](crate::Error); this one, outermost, writes the answer
//! in Azure's error shape. Above it the error type is [`Infallible`], so that the stack fits axum
//! and hyper.
//!
//! 1. An answer of the service below passes unchanged.
//! 2. An [`Error`](crate::Error), wherever it stands in the chain of causes, becomes its status, code and type, with
//!    `www-authenticate`, `retry-after`, `retry-after-ms` and `x-should-retry` where they belong.
//! 3. An [`AttemptFailed`](crate::context::AttemptFailed) that no failover made sense of becomes 502, 503 or 504.
//! 4. Any other error becomes 502 `backend_failed`. Its text goes to the log at `debug`, never to the client.
//! 5. A request that must not go further gets no further: `TRACE` and `CONNECT` (405), a `Transfer-Encoding` with anything but
//!    `chunked` (501, and the connection is closed), a `Host` that names none (400).
//!
//! It does not log requests and does not change answers of backends.
//!
//! ```
//! use std::convert::Infallible;
//! use http::{Request, Response, StatusCode};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{Error, body::Body, context, respond::RespondLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Infallible> {
//! let refuses = service_fn(async |_: Request<Body>| {
//!     Err::<Response<Body>, BoxError>(Error::new(tower_azure_openai::ErrorKind::AliasNotAllowed, "not yours").into())
//! });
//! let service = ServiceBuilder::new().layer(RespondLayer::new()).service(refuses);
//! let answer = service.oneshot(Request::new(Body::empty())).await?;
//! assert_eq!(answer.status(), StatusCode::FORBIDDEN);
//! # Ok(())
//! # }
//! ```
//!
//! [`DrainLayer`], above it, sees to it that a connection on which a request was refused early goes on, or says that it closes.
//!
//! **Order.** Outermost. Below failover it would make answers of what failover, circuits and discovery must see as errors; there every
//! request is answered 500 `misordered_layers`.
//!
//! Dropping the future drops the request below; there is nothing else to cancel.

pub mod drain;
mod head;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

pub use self::drain::DrainLayer;
use crate::answer;
use crate::below::{Answering, Inner};
use crate::body::Body;
use crate::context::order::{self, LayerName};
use crate::refusable::WorkingFuture;

/// Turns causes into answers. See the [module docs](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
#[non_exhaustive]
pub struct RespondLayer;

impl RespondLayer {
    /// The layer; there is nothing to configure.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for RespondLayer {
    type Service = Respond<S>;

    fn layer(&self, inner: S) -> Respond<S> {
        Respond { inner, not_ready: None }
    }
}

/// Turns causes into answers. See the [module docs](self).
pub struct Respond<S> {
    inner: S,
    /// Reason why the service below could not become ready, for the next call to answer.
    not_ready: Option<BoxError>,
}

impl<S: Inner<ReqBody>, ReqBody> Service<Request<ReqBody>> for Respond<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.not_ready.is_none()
            && let Err(error) = ready!(self.inner.poll_ready(cx))
        {
            self.not_ready = Some(error.into());
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let misplaced = order::enter(LayerName::Respond, request.extensions_mut()).err();
        let refusal = || misplaced.as_ref().map(answer::to_misordered).or_else(|| head::refusal(&request));
        let future = match (self.not_ready.take(), refusal()) {
            (Some(error), _) => WorkingFuture::refused(error),
            (None, Some(answer)) => WorkingFuture::answered(answer),
            (None, None) => WorkingFuture::passing(self.inner.call(request)),
        };
        ResponseFuture { future }
    }
}

/// A clone has found nothing out about readiness yet.
impl<S: Clone> Clone for Respond<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), not_ready: None }
    }
}

impl<S: fmt::Debug> fmt::Debug for Respond<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Respond").field("inner", &self.inner).finish_non_exhaustive()
    }
}

pin_project! {
    /// Response future of [`Respond`], which gives no error.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        future: WorkingFuture<F>,
    }
}

impl<F: Answering> Future for ResponseFuture<F> {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = ready!(self.project().future.poll(cx));
        Poll::Ready(Ok(answered.unwrap_or_else(|error| answer::to_error(&error))))
    }
}
