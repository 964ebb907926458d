//! Answers before the request was read, on a connection that goes on.
//!
//! A request may be refused before its body was read. On HTTP/1.1 its rest then stands between the answer and the client's next
//! request: a server that does not read it has to close the connection, and a client that was not told loses what it sends next
//! (RFC 9112 §9.6). So:
//!
//! 1. A short rest is read and dropped before the answer: up to 256 KiB, for up to half a second.
//! 2. Otherwise the answer says `connection: close`: when more is announced or arrives, when the client waits for a
//!    `100 Continue` that it shall not get, and when an error comes while somebody below still reads.
//! 3. Requests without a body, or whose body was read, pass unchanged, and so does HTTP/2, where a request has a stream of its own.
//!
//! It belongs on top of everything, above [`RespondLayer`](super::RespondLayer); a [gateway](crate::gateway) has it there.
//!
//! ```
//! use http::{Request, Response, StatusCode, header::CONNECTION};
//! use http_body_util::Full;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{body::Body, respond::DrainLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let refuses = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
//! let service = ServiceBuilder::new().layer(DrainLayer::new()).service(refuses);
//! let answer = service.clone().oneshot(Request::new(Full::from("short"))).await?;
//! assert!(!answer.headers().contains_key(CONNECTION));
//!
//! let answer = service.oneshot(Request::new(Full::from("x".repeat(1 << 20)))).await?;
//! assert_eq!(answer.headers()[CONNECTION], "close");
//! # Ok(())
//! # }
//! ```
//!
//! Dropping the future drops the request below and what was not read.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, Response, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use crate::body::Body;

/// Length of a request that was not read up to which it is read for the sake of the connection: 256 KiB.
pub(crate) const DRAINED: u64 = 256 << 10;
/// Time for which the rest of such a request is waited for: half a second.
pub(crate) const DRAIN_TIME: Duration = Duration::from_millis(500);

/// Answers before the request was read, on a connection that goes on. See the [module docs](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
#[non_exhaustive]
pub struct DrainLayer;

impl DrainLayer {
    /// The layer; there is nothing to configure.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for DrainLayer {
    type Service = Drain<S>;

    fn layer(&self, inner: S) -> Drain<S> {
        Drain { inner }
    }
}

/// Answers before the request was read, on a connection that goes on. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct Drain<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Drain<S>
where
    S: Service<Request<Body>, Response = Response<ResBody>>,
    ReqBody: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DrainFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let request = request.map(Body::new);
        let is_in_hand = request.body().as_bytes().is_some() || request.body().is_end_stream();
        if request.version() > Version::HTTP_11 || is_in_hand {
            return DrainFuture { state: State::Calling { future: self.inner.call(request), lender: None } };
        }
        let lender = Arc::new(Lender { waits: request.headers().contains_key(EXPECT), place: Mutex::new(Place::Lent) });
        let lent = lender.clone();
        let request = request.map(|body| Body::new(Lent { body, was_polled: false, is_read: false, lender: lent }));
        DrainFuture { state: State::Calling { future: self.inner.call(request), lender: Some(lender) } }
    }
}

/// Holder of a request body while it is answered.
struct Lender {
    /// True if the client sends it only when it is asked for.
    waits: bool,
    place: Mutex<Place>,
}

enum Place {
    /// Somebody below has it.
    Lent,
    /// It was read, or it failed.
    Read,
    /// It was dropped before its end.
    Returned { body: Body, was_polled: bool },
}

impl Lender {
    fn put(&self, place: Place) -> Place {
        std::mem::replace(&mut *self.place.lock().unwrap_or_else(PoisonError::into_inner), place)
    }
}

/// A body that comes back when it is dropped before its end.
struct Lent {
    body: Body,
    was_polled: bool,
    is_read: bool,
    lender: Arc<Lender>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.was_polled = true;
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.is_read |= !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let place = if self.is_read || self.body.is_end_stream() {
            Place::Read
        } else {
            Place::Returned { body: std::mem::take(&mut self.body), was_polled: self.was_polled }
        };
        self.lender.put(place);
    }
}

pin_project! {
    /// The future of [`Drain`].
    #[must_use = "futures do nothing unless polled"]
    pub struct DrainFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateProjected]
    enum State<F, B> {
        Calling { #[pin] future: F, lender: Option<Arc<Lender>> },
        Draining { answer: Option<Response<B>>, rest: Rest },
        Done,
    }
}

/// Rest that the client still sends.
struct Rest {
    body: Body,
    left: u64,
    patience: Pin<Box<Sleep>>,
}

impl Rest {
    /// Tells whether all of it came in time.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while !self.body.is_end_stream() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                    let Some(left) = self.left.checked_sub(length) else { return Poll::Ready(false) };
                    self.left = left;
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Ready(None) => break,
                Poll::Pending => return self.patience.as_mut().poll(cx).map(|()| false),
            }
        }
        Poll::Ready(true)
    }
}

impl<F, B, E> Future for DrainFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        if let StateProjected::Calling { future, lender } = state.as_mut().project() {
            let answer = ready!(future.poll(cx));
            let lender = lender.take();
            // What was held by the future comes back before it is looked for.
            state.set(State::Done);
            let (lender, answer) = match (lender, answer) {
                (Some(lender), Ok(answer)) => (lender, answer),
                (_, answer) => return Poll::Ready(answer),
            };
            match lender.put(Place::Lent) {
                Place::Returned { body, was_polled } if may_drain(&body, lender.waits && !was_polled) => {
                    let patience = Box::pin(sleep(DRAIN_TIME));
                    let rest = Rest { body, left: DRAINED, patience };
                    state.set(State::Draining { answer: Some(answer), rest });
                }
                Place::Returned { .. } => return Poll::Ready(Ok(closing(answer))),
                Place::Lent if answer.status().as_u16() >= 400 => return Poll::Ready(Ok(closing(answer))),
                Place::Lent | Place::Read => return Poll::Ready(Ok(answer)),
            }
        }
        let StateProjected::Draining { answer, rest } = state.as_mut().project() else { return Poll::Pending };
        let is_drained = ready!(rest.poll(cx));
        let Some(answer) = answer.take() else { return Poll::Pending };
        state.set(State::Done);
        Poll::Ready(Ok(if is_drained { answer } else { closing(answer) }))
    }
}

/// Tells whether the rest of a body is short enough, as far as that is known, and comes without being asked for.
fn may_drain(body: &Body, waits: bool) -> bool {
    !waits && body.size_hint().lower() <= DRAINED
}

fn closing<B>(mut answer: Response<B>) -> Response<B> {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

impl<F, B> fmt::Debug for DrainFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainFuture").finish_non_exhaustive()
    }
}
