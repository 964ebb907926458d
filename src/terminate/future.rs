use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Request;
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::{Authenticate, Presented};
use crate::context::Client;
use crate::error::{Error, ErrorKind, polled_again};

pin_project! {
    /// The future of [`TerminateCredentials`](super::TerminateCredentials).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S: Service<Request<B>>, A: Authenticate, B> {
        #[pin]
        state: State<S, A, B>,
    }
}

pin_project! {
    #[project = StateProjected]
    enum State<S: Service<Request<B>>, A: Authenticate, B> {
        Refused { error: Option<Error> },
        Authenticating { #[pin] asked: Option<A::Future>, waiting: Option<Waiting<S, A, B>> },
        Called { #[pin] future: S::Future },
    }
}

struct Waiting<S, A, B> {
    authenticate: A,
    untried: std::vec::IntoIter<Presented>,
    ready: S,
    request: Request<B>,
}

impl<S: Service<Request<B>>, A: Authenticate, B> ResponseFuture<S, A, B> {
    pub(super) const fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }

    pub(super) const fn called(future: S::Future) -> Self {
        Self { state: State::Called { future } }
    }

    pub(super) fn authenticating(authenticate: A, presented: Vec<Presented>, ready: S, request: Request<B>) -> Self {
        let waiting = Waiting { authenticate, untried: presented.into_iter(), ready, request };
        Self { state: State::Authenticating { asked: None, waiting: Some(waiting) } }
    }
}

impl<S, A, B> Future for ResponseFuture<S, A, B>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
    A: Authenticate,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let called = match state.as_mut().project() {
                StateProjected::Refused { error } => {
                    return Poll::Ready(Err(error.take().map_or_else(polled_again, Into::into)));
                }
                StateProjected::Called { future } => return future.poll(cx).map_err(Into::into),
                StateProjected::Authenticating { asked, waiting } => {
                    let client = ready!(poll_client(asked, waiting, cx));
                    let Some(Waiting { mut ready, mut request, .. }) = waiting.take() else {
                        return Poll::Ready(Err(polled_again()));
                    };
                    let Some(client) = client else { return Poll::Ready(Err(unauthenticated().into())) };
                    request.extensions_mut().insert(client);
                    ready.call(request)
                }
            };
            state.set(State::Called { future: called });
        }
    }
}

/// Asks for one credential after the other.
fn poll_client<S, A: Authenticate, B>(
    mut asked: Pin<&mut Option<A::Future>>,
    waiting: &mut Option<Waiting<S, A, B>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Client>> {
    loop {
        if let Some(future) = asked.as_mut().as_pin_mut() {
            let client = ready!(future.poll(cx));
            asked.set(None);
            if client.is_some() {
                return Poll::Ready(client);
            }
        }
        let Some(waiting) = waiting else { return Poll::Ready(None) };
        let Some(presented) = waiting.untried.next() else { return Poll::Ready(None) };
        asked.set(Some(waiting.authenticate.authenticate(&presented)));
    }
}

fn unauthenticated() -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        "Access denied due to a missing or invalid credential. Send a key of this gateway as api-key or Authorization: Bearer.",
    )
}

impl<S: Service<Request<B>>, A: Authenticate, B> fmt::Debug for ResponseFuture<S, A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
