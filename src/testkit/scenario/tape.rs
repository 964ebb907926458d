//! Fates that requests really had at the targets that they were sent to.

use std::collections::HashMap;
use std::time::Duration;

use http::StatusCode;

use super::site::{Course, Ending, Fate, Hint};
use super::traffic::Job;
use super::weather::millis;
use crate::azure::Outcome;
use crate::context::Ending as RequestEnding;
use crate::recorder::{Attempted, Recording, Requested};

/// Time for which an answer whose client left would have gone on.
const CUT_SHORT: u64 = 60_000;

/// Fates of requests at one target, by their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Tape(HashMap<u32, Taped>);

/// Fate of one request there. Times are milliseconds since it was sent there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Taped {
    Answered { status: StatusCode, hint: Option<Hint> },
    Broken { after: u64 },
    Served { first: u64, end: u64, ending: TapedEnding },
    TimedOut { after: u64 },
    Unreachable { after: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum TapedEnding {
    Complete,
    Cut,
}

impl Tape {
    /// The tapes of all targets, by their identities.
    pub(super) fn of(recording: &Recording) -> HashMap<u64, Self> {
        let requests: HashMap<_, _> = recording.requests().map(|requested| (requested.number, requested)).collect();
        let mut tapes = HashMap::<u64, Self>::new();
        for attempted in recording.attempts() {
            let Some(requested) = requests.get(&attempted.number) else { continue };
            tapes.entry(attempted.target).or_default().0.insert(attempted.number, Taped::of(attempted, requested));
        }
        tapes
    }

    /// Returns what becomes of a request that is sent now, if it was sent here then.
    pub(super) fn fate(&self, job: &Job, now: u64) -> Option<Fate> {
        Some(match *self.0.get(&job.recorded?)? {
            Taped::Answered { status, hint } => Fate::Answered { status, hint },
            Taped::Broken { after } => {
                let at = now + after;
                Fate::Served(Course { began: now, first: at, end: at + 1, ending: Ending::Cut { at } })
            }
            Taped::Served { first, end, ending } => {
                let (first, end) = (now + first, now + end);
                let ending = match ending {
                    TapedEnding::Complete => Ending::Complete,
                    TapedEnding::Cut => Ending::Cut { at: end },
                };
                // What is cut would have gone on.
                let end = if ending == Ending::Complete { end } else { end + CUT_SHORT };
                Fate::Served(Course { began: now, first, end, ending })
            }
            Taped::TimedOut { after } => Fate::TimesOut { streamed: job.streamed, after },
            Taped::Unreachable { after } => Fate::Unreachable { after },
        })
    }
}

impl Taped {
    fn of(attempted: &Attempted, requested: &Requested) -> Self {
        let after = millis(attempted.duration).max(1);
        // Its client left, or that of the gateway: an answer would have come later.
        let later = Self::Served { first: after + CUT_SHORT, end: after + CUT_SHORT, ending: TapedEnding::Complete };
        let Some(outcome) = attempted.outcome else { return later };
        match outcome {
            Outcome::Success => {
                let since = |time: Duration| millis((requested.at + time).saturating_sub(attempted.at)).max(1);
                let end = since(requested.total);
                let first = requested.first_content.filter(|_| requested.is_streamed).map_or(end, since);
                match requested.ending {
                    RequestEnding::Broken | RequestEnding::Failed => {
                        Self::Served { first, end, ending: TapedEnding::Cut }
                    }
                    RequestEnding::Left => Self::Served { first, end: end + CUT_SHORT, ending: TapedEnding::Complete },
                    RequestEnding::Upgraded | RequestEnding::Whole => {
                        Self::Served { first, end, ending: TapedEnding::Complete }
                    }
                }
            }
            Outcome::Throttled { hint } => {
                Self::Answered { status: StatusCode::TOO_MANY_REQUESTS, hint: hint.map(millis).map(Hint::Millis) }
            }
            Outcome::ServerFailed { status, hint } => {
                Self::Answered { status, hint: hint.map(millis).map(Hint::Millis) }
            }
            Outcome::CredentialRefused { status } => Self::Answered { status, hint: None },
            Outcome::Conflict { .. } => Self::Answered { status: StatusCode::CONFLICT, hint: None },
            Outcome::DeploymentMissing => Self::Answered { status: StatusCode::NOT_FOUND, hint: None },
            Outcome::DependencyFailed => Self::Answered { status: StatusCode::FAILED_DEPENDENCY, hint: None },
            Outcome::ClientFault | Outcome::ContentUnreadable => {
                Self::Answered { status: StatusCode::BAD_REQUEST, hint: None }
            }
            Outcome::TimedOut(_) => Self::TimedOut { after },
            Outcome::Unreachable | Outcome::CredentialUnavailable => Self::Unreachable { after },
            Outcome::Reset | Outcome::Unfinished | Outcome::Unknown => Self::Broken { after },
            Outcome::Abandoned => later,
        }
    }
}
