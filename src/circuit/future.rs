use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::ResponseBody;
use super::body::Events;
use crate::azure::Outcome;
use crate::body::Body;
use crate::context::{Attempt, AttemptFailed, ClassifyError, of_body, of_head};
use crate::error::{Error, polled_again};
use crate::pool::{BoxFuture, BreakerPermit, Permit};

/// Whoever admitted the request.
#[derive(Debug)]
pub(super) enum Watch {
    Own(BreakerPermit),
    Pool(Permit),
}

impl Watch {
    pub(super) fn record(&mut self, outcome: &Outcome) {
        match self {
            Self::Own(permit) => permit.record(outcome),
            Self::Pool(permit) => permit.record(outcome),
        }
    }

    fn explain(&mut self, failed: &AttemptFailed) {
        if let Self::Pool(permit) = self {
            permit.explain(failed.cause());
        }
    }

    fn observe(&self, headers: &HeaderMap) {
        if let Self::Pool(permit) = self {
            permit.observe(headers);
        }
    }

    fn commit(&mut self) {
        match self {
            Self::Own(permit) => permit.commit(),
            Self::Pool(permit) => permit.commit(),
        }
    }
}

pin_project! {
    /// The future of [`CircuitBreaker`](super::CircuitBreaker).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
        watch: Option<Watch>,
        classify: Option<Arc<dyn ClassifyError>>,
        closes: bool,
    }
}

pin_project! {
    #[project = StateProjected]
    enum State<F> {
        Refused { error: Option<Error> },
        Called { #[pin] future: F },
        // Boxed because it is rare: only where the body of an answer decides what it means.
        Reading { future: BoxFuture<Result<(Response<Body>, Outcome), AttemptFailed>> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) }, watch: None, classify: None, closes: false }
    }

    /// `closes`: a stream that answers owes a closing event.
    pub(super) const fn called(
        future: F,
        watch: Option<Watch>,
        classify: Arc<dyn ClassifyError>,
        closes: bool,
    ) -> Self {
        Self { state: State::Called { future }, watch, classify: Some(classify), closes }
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    E: Into<BoxError>,
    ResBody: HttpBody<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let read = match this.state.as_mut().project() {
                StateProjected::Refused { error } => {
                    return Poll::Ready(Err(error.take().map_or_else(polled_again, Into::into)));
                }
                StateProjected::Called { future } => match ready!(future.poll(cx)) {
                    Ok(answer) => {
                        let answer = answer.map(Body::new);
                        let Some(outcome) = of_head(&answer) else {
                            this.state.set(State::Reading { future: Box::pin(of_body(answer)) });
                            continue;
                        };
                        Ok((answer, outcome))
                    }
                    Err(error) => Err(fail(error.into(), this.classify.as_deref())),
                },
                StateProjected::Reading { future } => ready!(future.as_mut().poll(cx)),
            };
            return Poll::Ready(settle(read, this.watch.take(), this.classify.take(), *this.closes));
        }
    }
}

fn fail(error: BoxError, classify: Option<&dyn ClassifyError>) -> AttemptFailed {
    match error.downcast::<AttemptFailed>() {
        Ok(failed) => *failed,
        Err(error) => {
            let outcome = match classify {
                _ if Error::find_misordered(error.as_ref()).is_some() => Outcome::Abandoned,
                Some(classify) => classify.classify(error.as_ref()),
                None => Outcome::Unknown,
            };
            AttemptFailed::new(outcome, error)
        }
    }
}

/// Records everything but a success, which is one only when its body has ended.
fn settle(
    read: Result<(Response<Body>, Outcome), AttemptFailed>,
    mut watch: Option<Watch>,
    classify: Option<Arc<dyn ClassifyError>>,
    closes: bool,
) -> Result<Response<ResponseBody>, BoxError> {
    let outcome = read.as_ref().map_or_else(AttemptFailed::outcome, |(_, outcome)| *outcome);
    if let Some(watch) = &mut watch {
        match &read {
            Ok((answer, _)) => watch.observe(answer.headers()),
            Err(failed) => watch.explain(failed),
        }
        match outcome {
            Outcome::Success => watch.commit(),
            _ => watch.record(&outcome),
        }
    }
    let (mut answer, outcome) = read?;
    Attempt::of_mut(answer.extensions_mut()).outcome = Some(outcome);
    let classify = classify.ok_or_else(polled_again)?;
    let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let events = watch.as_ref().and_then(|_| Events::of(&answer, closes));
    let watched = if switches { ResponseBody::lasting } else { ResponseBody::new };
    Ok(answer.map(|body| watched(body, watch, events, &classify)))
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("watch", &self.watch).finish_non_exhaustive()
    }
}
