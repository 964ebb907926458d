use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body as HttpBody;
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::guard::Guard;
use crate::body::Body;
use crate::error::{Error, ErrorKind, polled_again};
use crate::headers;
use crate::pool::Target;

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
    /// The future of [`Upgrade`](super::Upgrade).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Accepted { answer: Option<Response<Body>> },
        CarriedAbove { #[pin] future: F },
        Called { #[pin] future: F, carry: Option<Carry> },
        Refused { error: Option<Error> },
    }
}

impl<F> ResponseFuture<F> {
    /// Without `carry` nobody has asked for a socket.
    pub(super) const fn called(future: F, carry: Option<Carry>) -> Self {
        Self { state: State::Called { future, carry } }
    }

    pub(super) const fn carried_above(future: F) -> Self {
        Self { state: State::CarriedAbove { future } }
    }

    pub(super) const fn accepted(answer: Response<Body>) -> Self {
        Self { state: State::Accepted { answer: Some(answer) } }
    }

    pub(super) const fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    E: Into<BoxError>,
    ResBody: HttpBody<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().state.project() {
            StateProjection::Called { future, carry } => {
                let answer = ready!(future.poll(cx)).map_err(Into::into)?.map(Body::new);
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    Ok(switch(answer, carry.take())?)
                } else {
                    Ok(answer)
                }
            }
            StateProjection::Accepted { answer } => answer.take().ok_or_else(polled_again),
            StateProjection::CarriedAbove { future } => Ok(ready!(future.poll(cx)).map_err(Into::into)?.map(Body::new)),
            StateProjection::Refused { error } => Err(error.take().map_or_else(polled_again, Into::into)),
        })
    }
}

/// Connects both sides, of which the client's begins once the answer is written.
fn switch(mut answer: Response<Body>, carry: Option<Carry>) -> Result<Response<Body>, Error> {
    let connection = answer.extensions_mut().remove::<OnUpgrade>();
    let (Some(carry), Some(connection), true) = (carry, connection, headers::names_websocket(answer.headers())) else {
        return Err(Error::new(
            ErrorKind::BackendFailed,
            "The backend switched to another protocol than was asked for.",
        ));
    };
    let backend = answer.extensions().get().map(Target::backend_name);
    let (mut head, body) = answer.into_parts();
    let events = head.extensions.remove();
    carry(Accepted { connection, backend, guard: Guard::new(body, events) });
    Ok(Response::from_parts(head, Body::empty()))
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
