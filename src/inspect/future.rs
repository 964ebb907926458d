use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Request;
use http::request::Parts;
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::streaming;
use crate::body::Body;
use crate::context::Route;
use crate::error::{Error, polled_again};
use crate::pool::BoxFuture;

pin_project! {
    /// The future of [`Inspect`](super::Inspect).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S: Service<Request<Body>>> {
        #[pin]
        state: State<S>,
    }
}

pin_project! {
    #[project = StateProjected]
    enum State<S: Service<Request<Body>>> {
        Refused { error: Option<Error> },
        Collecting { waiting: Option<Waiting<S>>, body: BoxFuture<Result<Body, Error>> },
        Called { #[pin] future: S::Future },
    }
}

/// What waits for the body.
pub(super) struct Waiting<S> {
    pub(super) ready: S,
    pub(super) head: Parts,
    pub(super) route: Route,
}

impl<S: Service<Request<Body>>> Waiting<S> {
    fn call(mut self, body: Body) -> S::Future {
        let streaming = streaming::is_asked(&self.head, &self.route, &body);
        self.head.extensions.insert(self.route.with_streaming(streaming));
        self.ready.call(Request::from_parts(self.head, body))
    }
}

impl<S: Service<Request<Body>>> ResponseFuture<S> {
    pub(super) const fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }

    pub(super) fn collecting(
        waiting: Waiting<S>,
        body: impl Future<Output = Result<Body, Error>> + Send + 'static,
    ) -> Self {
        Self { state: State::Collecting { waiting: Some(waiting), body: Box::pin(body) } }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<Request<Body>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let future = match state.as_mut().project() {
                StateProjected::Refused { error } => {
                    return Poll::Ready(Err(error.take().map_or_else(polled_again, Into::into)));
                }
                StateProjected::Called { future } => return future.poll(cx).map_err(Into::into),
                StateProjected::Collecting { waiting, body } => {
                    let body = ready!(body.as_mut().poll(cx))?;
                    let Some(waiting) = waiting.take() else { return Poll::Ready(Err(polled_again())) };
                    waiting.call(body)
                }
            };
            state.set(State::Called { future });
        }
    }
}

impl<S: Service<Request<Body>>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
