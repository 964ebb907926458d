use std::borrow::Cow;
use std::error::Error as StdError;
use std::{fmt, io};

use tower::BoxError;

use super::{Attempt, Reason};
use crate::azure::Outcome;
use crate::error::causes;
use crate::pool::Target;

/// An attempt that ended without an answer, and what that means.
#[derive(Debug)]
pub struct AttemptFailed {
    attempt: Attempt,
    outcome: Outcome,
    source: BoxError,
}

impl AttemptFailed {
    /// An outcome and the error that showed it.
    pub fn new(outcome: Outcome, source: impl Into<BoxError>) -> Self {
        Self { attempt: Attempt::ended(outcome), outcome, source: source.into() }
    }

    /// The same, between the head of a stream and its first content: see [`Attempt::is_in_preamble`].
    #[must_use]
    pub const fn in_preamble(mut self) -> Self {
        self.attempt.is_in_preamble = true;
        self
    }

    /// The same, at a target.
    #[must_use]
    pub fn at(mut self, target: Target) -> Self {
        self.attempt.target = Some(target);
        self
    }

    /// Adds what was known before it was sent.
    pub(crate) fn sent(mut self, known: Attempt) -> Self {
        self.attempt.sent(known);
        self
    }

    /// All that is known of the attempt.
    #[must_use]
    pub const fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Tells whether it ended between the head of a stream and its first content.
    #[must_use]
    pub const fn is_in_preamble(&self) -> bool {
        self.attempt.is_in_preamble
    }

    /// Returns the reason, in words that name no host: errors of others may hold an address, so that only their kinds are told.
    pub(crate) fn cause(&self) -> Cow<'static, str> {
        let told = causes(self.source.as_ref()).find_map(|cause| {
            let reason = cause.downcast_ref::<Reason>().map(Reason::to_string);
            let kind = || cause.downcast_ref::<io::Error>().map(io::Error::kind);
            reason.or_else(|| kind().filter(|kind| *kind != io::ErrorKind::Other).map(|kind| kind.to_string()))
        });
        told.map_or("no connection".into(), Cow::Owned)
    }

    /// Returns its meaning.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }
}

impl fmt::Display for AttemptFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.outcome {
            Outcome::Abandoned => "the client's own part failed",
            Outcome::CredentialUnavailable => "no token for the backend could be had",
            Outcome::Reset => "the connection to the backend broke",
            Outcome::TimedOut(_) => "the backend did not answer in time",
            Outcome::Unreachable => "no connection to the backend",
            _ => "the attempt failed",
        })
    }
}

impl StdError for AttemptFailed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}
