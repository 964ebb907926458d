//! Futures of layers that pass a request on, answer or refuse it at once, or work on it for longer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;
use tower::BoxError;

use crate::below::Answering;
use crate::body::Body;
use crate::error::polled_again;
use crate::pool::BoxFuture;

pin_project! {
    /// Response future of the layer's service: that of the service below, or a refusal.
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
        Refused { error: Option<BoxError> },
    }
}

impl<F> ResponseFuture<F> {
    /// Waits for what `call` began, unless the request was refused before.
    pub(crate) fn new(called: Result<F, impl Into<BoxError>>) -> Self {
        match called {
            Ok(future) => Self::called(future),
            Err(error) => Self::refused(error),
        }
    }

    pub(crate) const fn called(future: F) -> Self {
        Self { state: State::Called { future } }
    }

    pub(crate) fn refused(error: impl Into<BoxError>) -> Self {
        Self { state: State::Refused { error: Some(error.into()) } }
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
            StateProjection::Refused { error } => Poll::Ready(Err(error.take().unwrap_or_else(polled_again))),
        }
    }
}

pin_project! {
    /// Response future of the layer's service: that of the service below, an answer or a refusal of the layer's own, or longer work.
    #[must_use = "futures do nothing unless polled"]
    pub struct WorkingFuture<F> {
        #[pin]
        state: WorkingState<F>,
    }
}

pin_project! {
    #[project = WorkingProjection]
    enum WorkingState<F> {
        Answered { answer: Option<Result<Response<Body>, BoxError>> },
        Passing { #[pin] future: F },
        Working { future: BoxFuture<Result<Response<Body>, BoxError>> },
    }
}

impl<F> WorkingFuture<F> {
    pub(crate) const fn answered(answer: Response<Body>) -> Self {
        Self { state: WorkingState::Answered { answer: Some(Ok(answer)) } }
    }

    pub(crate) const fn passing(future: F) -> Self {
        Self { state: WorkingState::Passing { future } }
    }

    pub(crate) fn refused(error: impl Into<BoxError>) -> Self {
        Self { state: WorkingState::Answered { answer: Some(Err(error.into())) } }
    }

    pub(crate) fn working(future: impl Future<Output = Result<Response<Body>, BoxError>> + Send + 'static) -> Self {
        Self { state: WorkingState::Working { future: Box::pin(future) } }
    }
}

impl<F: Answering> Future for WorkingFuture<F> {
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            WorkingProjection::Answered { answer } => Poll::Ready(answer.take().unwrap_or_else(|| Err(polled_again()))),
            WorkingProjection::Passing { future } => future.poll_answer(cx),
            WorkingProjection::Working { future } => future.as_mut().poll(cx),
        }
    }
}

impl<F> fmt::Debug for WorkingFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkingFuture").finish_non_exhaustive()
    }
}
