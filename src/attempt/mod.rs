//! One attempt from its sending to the end of its answer: read at the head, watched through the body, recorded once.
//!
//! Selection does so with the permit of a pool, the circuit breaker with that of its own circuit.

mod body;
mod future;

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Method, Response, StatusCode};
use tower::BoxError;

use self::body::Events;
pub use self::body::ResponseBody;
pub use self::future::Watched;
use crate::azure::{Outcome, stream_event};
use crate::body::Body;
use crate::context::{Attempt, AttemptFailed, ClassifyError, Route};
use crate::error::Error;
use crate::pool::{BreakerPermit, Permit, Target};

/// The admission of an attempt.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// By the circuit of a single service.
    Alone(BreakerPermit),
    /// By a pool, at one of its targets.
    Pooled(Permit),
}

impl Admitted {
    fn record(&mut self, outcome: &Outcome) {
        match self {
            Self::Alone(permit) => permit.record(outcome),
            Self::Pooled(permit) => permit.record(outcome),
        }
    }

    fn commit(&mut self) {
        match self {
            Self::Alone(permit) => permit.commit(),
            Self::Pooled(permit) => permit.commit(),
        }
    }

    fn observe(&self, headers: &HeaderMap) {
        if let Self::Pooled(permit) = self {
            permit.observe(headers);
        }
    }

    const fn target(&self) -> Option<&Target> {
        match self {
            Self::Alone(_) => None,
            Self::Pooled(permit) => Some(permit.target()),
        }
    }

    fn explain(&mut self, failed: &AttemptFailed) {
        if let Self::Pooled(permit) = self {
            permit.explain(failed.cause());
        }
    }
}

/// An attempt that is under way. Dropped, it gives its place back and teaches nothing.
pub(crate) struct Running {
    /// `None` where nothing is asked of a target, so that nothing can be learned of it.
    admitted: Option<Admitted>,
    /// Facts that are known beforehand.
    known: Attempt,
    classify: Arc<dyn ClassifyError>,
    /// True if a stream that answers owes a closing event.
    closes: bool,
}

impl Running {
    pub(crate) fn new(admitted: Option<Admitted>, classify: Arc<dyn ClassifyError>) -> Self {
        Self { admitted, known: Attempt::default(), classify, closes: false }
    }

    /// Says what is known beforehand, for the answer or the error to tell.
    pub(crate) fn known(self, known: Attempt) -> Self {
        Self { known, ..self }
    }

    /// Says what is asked for. A stored answer that is read again from some event on may well have nothing left to tell.
    pub(crate) fn asking(self, method: &Method, route: &Route) -> Self {
        Self { closes: method == Method::POST && stream_event::is_spoken_by(route.operation()), ..self }
    }

    /// Reads what an error of the service below means. A wrong order of layers blames nobody, whoever reads it.
    fn failed(&self, error: BoxError) -> AttemptFailed {
        match error.downcast::<AttemptFailed>() {
            Ok(failed) => *failed,
            Err(error) if Error::find_misordered(error.as_ref()).is_some() => {
                AttemptFailed::new(Outcome::Abandoned, error)
            }
            Err(error) => AttemptFailed::new(self.classify.classify(error.as_ref()), error),
        }
    }

    /// Records everything but a success, which is one only when its body has ended.
    fn settle(
        mut self,
        read: Result<(Response<Body>, Outcome), AttemptFailed>,
    ) -> Result<Response<ResponseBody>, AttemptFailed> {
        let outcome = read.as_ref().map_or_else(AttemptFailed::outcome, |(_, outcome)| *outcome);
        if let Some(admitted) = &mut self.admitted {
            match &read {
                Ok((answer, _)) => admitted.observe(answer.headers()),
                Err(failed) => admitted.explain(failed),
            }
            match outcome {
                Outcome::Success => admitted.commit(),
                _ => admitted.record(&outcome),
            }
        }
        let (mut answer, outcome) = match read {
            Ok(read) => read,
            Err(failed) => return Err(failed.sent(self.known)),
        };
        let attempt = Attempt::of_mut(answer.extensions_mut());
        attempt.sent(self.known);
        attempt.outcome = Some(outcome);
        let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let watch = self.admitted.map(|admitted| (admitted, self.classify));
        let events = watch.as_ref().and_then(|_| Events::of(&answer, self.closes));
        let watched = if switches { ResponseBody::lasting } else { ResponseBody::new };
        Ok(answer.map(|body| watched(body, watch, events)))
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("admitted", &self.admitted).finish_non_exhaustive()
    }
}
