//! The service below a layer, as the layers see it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::time::timeout;
use tower::BoxError;
use tower_service::Service;

use crate::body::Body;
use crate::error::{Error, ErrorKind};

/// Time that a service below has to become ready for a request that is sent again or in several parts.
pub(crate) const READY_TIME: Duration = Duration::from_secs(10);

/// Service that a layer stands around: its answers have bodies of `Bytes`, and its errors can be boxed.
///
/// Every service with these bounds is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand below this layer",
    note = "below it belongs a `Service<Request<{B}>, Response = Response<A>>` with an error that is `Into<BoxError>` and a body `A` of `Bytes` that is `Send + 'static`"
)]
pub trait Inner<B>:
    Service<Request<B>, Response = Response<<Self as Inner<B>>::Answer>, Error: Into<BoxError>>
{
    /// Body of its answers.
    type Answer: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B, A> Inner<B> for S
where
    S: Service<Request<B>, Response = Response<A>, Error: Into<BoxError>>,
    A: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Answer = A;
}

/// Future of a service that a layer stands around.
///
/// Every future with these bounds is one.
pub trait Answering:
    Future<Output = Result<Response<<Self as Answering>::Answer>, <Self as Answering>::Error>>
{
    /// Body of the answer.
    type Answer: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
    /// Error instead of an answer.
    type Error: Into<BoxError>;

    /// Polls for the answer, in the forms that layers speak.
    fn poll_answer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Response<Body>, BoxError>> {
        self.poll(cx).map(|answered| Ok(answered.map_err(Into::into)?.map(Body::new)))
    }
}

impl<F, A, E> Answering for F
where
    F: Future<Output = Result<Response<A>, E>>,
    A: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    E: Into<BoxError>,
{
    type Answer = A;
    type Error = E;
}

/// Service that a layer takes along to wherever it works on a request: sends more than one there, or waits before it sends.
///
/// Every service with these bounds is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand below this layer",
    note = "below it belongs a `Service<Request<Body>, Response = Response<A>>` that is `Clone + Send + 'static`, with an error that is `Into<BoxError>`, a future that is `Send`, and a body `A` of `Bytes` that is `Send + 'static`"
)]
pub trait Below: Inner<Body, Future: Send> + Clone + Send + 'static {
    /// Takes the service that was polled ready. The clone that is left for other requests was not.
    fn take_ready(&mut self) -> Self {
        let clone = self.clone();
        std::mem::replace(self, clone)
    }

    /// Gives back whatever readiness holds, before clones are sent through or nothing is: a place below would stay taken.
    fn release(&mut self) {
        *self = self.clone();
    }

    /// Sends a request through a service that was polled ready.
    fn send(
        &mut self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, BoxError>> + Send + use<Self> {
        let called = self.call(request);
        async { Ok(called.await.map_err(Into::into)?.map(Body::new)) }
    }

    /// Sends the only request that this clone is for, once it is ready, which it has `patience` to become.
    fn send_once(
        mut self,
        patience: Duration,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, BoxError>> + Send {
        async move {
            ready(&mut self, patience).await?;
            let sent = self.send(request);
            // Whatever it shares with others need not wait for the answer.
            drop(self);
            sent.await
        }
    }

    /// Sends a request once the service is ready, which it has `patience` to become.
    fn send_within(
        &mut self,
        patience: Duration,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, BoxError>> + Send {
        async move {
            ready(self, patience).await?;
            self.send(request).await
        }
    }
}

impl<S: Inner<Body, Future: Send> + Clone + Send + 'static> Below for S {}

/// Waits for readiness, with a timer only where it is not there at once.
async fn ready<S: Below>(service: &mut S, patience: Duration) -> Result<(), BoxError> {
    let mut poll_ready = |cx: &mut Context<'_>| service.poll_ready(cx).map_err(Into::into);
    match poll_fn(|cx| Poll::Ready(poll_ready(cx))).await {
        Poll::Ready(ready) => ready,
        Poll::Pending => Box::pin(timeout(patience, poll_fn(poll_ready))).await.map_err(|_| not_ready())?,
    }
}

fn not_ready() -> Error {
    Error::new(ErrorKind::Overloaded, "The gateway is busy. Wait as the headers say.")
        .with_retry_after(Duration::from_secs(1))
}
