use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Span;
use tracing::field::Empty;

use crate::azure::Outcome;
use crate::context::{AttemptRecord, ClassifyError, DefaultClassify, Observation, of_head};
use crate::pool::Target;

/// Tells each attempt to the [`Observation`] of its request, and puts it into a span of its own.
///
/// Belongs right below selection, and above what finds out what an answer means. Without an observation, or without a
/// [`Target`], requests pass.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
#[non_exhaustive]
pub struct ObserveAttemptsLayer;

impl ObserveAttemptsLayer {
    /// The layer; there is nothing to configure.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for ObserveAttemptsLayer {
    type Service = ObserveAttempts<S>;

    fn layer(&self, inner: S) -> ObserveAttempts<S> {
        ObserveAttempts { inner }
    }
}

/// Tells each attempt to the [`Observation`] of its request. See [`ObserveAttemptsLayer`].
#[derive(Clone, Debug)]
pub struct ObserveAttempts<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ObserveAttempts<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = AttemptFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let running = Running::of(&request);
        let span = running.as_ref().map_or_else(Span::none, |running| running.span.clone());
        let future = span.in_scope(|| self.inner.call(request));
        AttemptFuture { future, running }
    }
}

/// An attempt whose answer has not begun; told when it is dropped.
struct Running {
    observation: Observation,
    target: Target,
    started: Instant,
    span: Span,
    outcome: Option<Outcome>,
}

impl Running {
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let observation = request.extensions().get::<Observation>()?.clone();
        let target = request.extensions().get::<Target>()?.clone();
        let span = tracing::debug_span!(
            "attempt",
            backend = target.backend(),
            deployment = target.deployment(),
            outcome = Empty
        );
        Some(Self { observation, target, started: Instant::now(), span, outcome: None })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(outcome) = &self.outcome {
            self.span.record("outcome", outcome.as_str());
        }
        self.observation.tried(AttemptRecord {
            target: self.target.clone(),
            outcome: self.outcome,
            duration: self.started.elapsed(),
        });
    }
}

pin_project! {
    /// The future of [`ObserveAttempts`].
    #[must_use = "futures do nothing unless polled"]
    pub struct AttemptFuture<F> {
        #[pin]
        future: F,
        running: Option<Running>,
    }
}

impl<F, B, E> Future for AttemptFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<B>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = this.running.as_ref().map(|running| running.span.enter());
        let answered = ready!(this.future.poll(cx)).map_err(Into::into);
        drop(entered);
        if let Some(mut running) = this.running.take() {
            running.outcome = match &answered {
                Ok(answer) => of_head(answer),
                Err(error) => Some(DefaultClassify.classify(error.as_ref())),
            };
        }
        Poll::Ready(answered)
    }
}

impl<F> fmt::Debug for AttemptFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptFuture").finish_non_exhaustive()
    }
}
