//! The future of layers that either pass a request on or refuse it at once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::BoxError;

use crate::error::{Error, polled_again};

pin_project! {
    /// The future of the layer's service: that of the service below, or a refusal.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F> {
        Called { #[pin] future: F },
        Refused { error: Option<Error> },
    }
}

impl<F> ResponseFuture<F> {
    /// What `call` began, unless the request was refused before.
    pub(crate) fn new(called: Result<F, Error>) -> Self {
        let state = match called {
            Ok(future) => State::Called { future },
            Err(error) => State::Refused { error: Some(error) },
        };
        Self { state }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Called { future } => future.poll(cx).map_err(Into::into),
            StateProjection::Refused { error } => Poll::Ready(Err(error.take().map_or_else(polled_again, Into::into))),
        }
    }
}
