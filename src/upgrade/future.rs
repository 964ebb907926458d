use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::guard::Guard;
use crate::below::Answering;
use crate::body::Body;
use crate::error::{Error, ErrorKind};
use crate::headers;
use crate::pool::Target;
use crate::refusable::WorkingFuture;

/// Carries a socket between its client and the backend that has accepted it.
pub(super) type Carry = Box<dyn FnOnce(Accepted) + Send>;

/// The backend's side of a socket.
pub(super) struct Accepted {
    pub(super) connection: OnUpgrade,
    /// `None` without selection.
    pub(super) backend: Option<Arc<str>>,
    pub(super) guard: Guard,
}

pin_project! {
    /// Response future of [`Upgrade`](super::Upgrade).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        future: WorkingFuture<F>,
        socket: Switching,
    }
}

/// Connection that an answer 101 would be about.
enum Switching {
    Asked(Carry),
    /// Granted here, or carried by a layer above.
    Settled,
    Unasked,
}

impl<F> ResponseFuture<F> {
    pub(super) const fn accepted(answer: Response<Body>) -> Self {
        Self { future: WorkingFuture::answered(answer), socket: Switching::Settled }
    }

    pub(super) const fn asked(future: F, carry: Carry) -> Self {
        Self { future: WorkingFuture::passing(future), socket: Switching::Asked(carry) }
    }

    pub(super) const fn carried_above(future: F) -> Self {
        Self { future: WorkingFuture::passing(future), socket: Switching::Settled }
    }

    pub(super) fn refused(error: Error) -> Self {
        Self { future: WorkingFuture::refused(error), socket: Switching::Settled }
    }

    pub(super) const fn unasked(future: F) -> Self {
        Self { future: WorkingFuture::passing(future), socket: Switching::Unasked }
    }
}

impl<F: Answering> Future for ResponseFuture<F> {
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.future.poll(cx))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Poll::Ready(Ok(answer));
        }
        Poll::Ready(Ok(match std::mem::replace(this.socket, Switching::Settled) {
            Switching::Asked(carry) => switch(answer, carry)?,
            Switching::Settled => answer,
            Switching::Unasked => return Poll::Ready(Err(no_such_protocol().into())),
        }))
    }
}

/// Connects both sides, of which the client's begins once the answer is written.
fn switch(mut answer: Response<Body>, carry: Carry) -> Result<Response<Body>, Error> {
    let connection = answer.extensions_mut().remove::<OnUpgrade>();
    let connection = connection.filter(|_| headers::names_websocket(answer.headers())).ok_or_else(no_such_protocol)?;
    let backend = answer.extensions().get().map(Target::backend_name);
    let (mut head, body) = answer.into_parts();
    let events = head.extensions.remove();
    carry(Accepted { connection, backend, guard: Guard::new(body, events) });
    Ok(Response::from_parts(head, Body::empty()))
}

fn no_such_protocol() -> Error {
    Error::new(ErrorKind::BackendFailed, "The backend switched to another protocol than was asked for.")
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
