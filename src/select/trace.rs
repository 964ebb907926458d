//! Account of an attempt for the observation of its request.

use http::{Request, Response};
use tokio::time::Instant;
use tower::BoxError;
use tracing::Span;
use tracing::field::Empty;
use tracing::span::Entered;

use super::ResponseBody;
use crate::azure::Outcome;
use crate::context::{Attempt, AttemptFailed, AttemptRecord, Observation, TraceContext};
use crate::pool::Target;

/// An attempt whose answer has not begun, in a span of its own; told when it is dropped.
#[derive(Debug)]
pub(super) struct Trace {
    observation: Observation,
    target: Target,
    place: Option<TraceContext>,
    started: Instant,
    span: Span,
    outcome: Option<Outcome>,
}

impl Trace {
    /// Begins where somebody observes the request, which then names the attempt's span, if it is traced.
    pub(super) fn of<B>(request: &mut Request<B>, target: &Target) -> Option<Self> {
        let observation = request.extensions().get::<Observation>()?.clone();
        let place = observation.trace().map(TraceContext::child);
        if let Some(line) = place.and_then(|place| place.as_header()) {
            request.headers_mut().insert(TraceContext::HEADER, line);
        }
        let span = tracing::debug_span!(
            "attempt",
            backend = target.backend(),
            deployment = target.deployment(),
            outcome = Empty
        );
        Some(Self { observation, target: target.clone(), place, started: Instant::now(), span, outcome: None })
    }

    pub(super) fn enter(&self) -> Entered<'_> {
        self.span.enter()
    }

    /// Tells how it went up to the head of its answer.
    pub(super) fn end(mut self, came: &Result<Response<ResponseBody>, BoxError>) {
        self.outcome = match came {
            Ok(answer) => Attempt::of(answer).outcome,
            Err(error) => error.downcast_ref::<AttemptFailed>().map(AttemptFailed::outcome),
        };
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some(outcome) = &self.outcome {
            self.span.record("outcome", outcome.as_str());
        }
        self.observation.tried(AttemptRecord {
            target: self.target.clone(),
            trace: self.place,
            started: self.started,
            outcome: self.outcome,
            duration: self.started.elapsed(),
        });
    }
}
