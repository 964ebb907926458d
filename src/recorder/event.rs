use std::time::Duration;

use http::StatusCode;

use crate::azure::{Outcome, stable_hash};
use crate::context::Ending;

/// Something that was decided or happened. Times count from the beginning of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An administrator, or a file, changed something.
    Action {
        /// Time, from the beginning.
        at: Duration,
        /// Action that was taken.
        action: Action,
    },
    /// A request was sent to a target.
    Attempt(Attempted),
    /// A circuit opened, closed or let a probe through.
    Circuit(CircuitChange),
    /// A request ended. Its attempts stand before it.
    Request(Requested),
}

/// One request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requested {
    /// Its number, which its attempts carry too.
    pub number: u32,
    /// Time at which it came.
    pub at: Duration,
    /// The hash of the client's id; 0 without a client.
    pub client: u64,
    /// The hash of the alias that was asked for; 0 without one. See [`Recording::alias`](super::Recording::alias).
    pub alias: u64,
    /// The call, as its number in this version of the format; 0 when it was not found out.
    pub operation: u8,
    /// True if its answer was to be streamed.
    pub is_streamed: bool,
    /// The bytes of its body, as far as it was collected.
    pub bytes: u32,
    /// The most tokens that its answer could have, as far as it said so.
    pub max_tokens: Option<u32>,
    /// Attempts that it took.
    pub attempts: u8,
    /// The status of its answer; `None` when the client left before there was one.
    pub status: Option<StatusCode>,
    /// Way in which it ended.
    pub ending: Ending,
    /// Time to the first bytes of the answer's body.
    pub first_content: Option<Duration>,
    /// Time to its end.
    pub total: Duration,
    /// Tokens of the prompt and of the answer, where they were metered.
    pub tokens: Option<(u32, u32)>,
}

/// One request that was sent to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempted {
    /// The number of the client's request.
    pub number: u32,
    /// Time at which it was sent.
    pub at: Duration,
    /// The target's identity; see [`Recording::target`](super::Recording::target).
    pub target: u64,
    /// Outcome up to the head of its answer; `None` when it was given up before that.
    pub outcome: Option<Outcome>,
    /// Time to that moment.
    pub duration: Duration,
}

/// A change of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitChange {
    /// Time, from the beginning.
    pub at: Duration,
    /// The target's identity.
    pub target: u64,
    /// Time for which it was opened, if it was.
    pub opened: Option<Duration>,
    /// True if it was opened because the target asked to wait, rather than by failures.
    pub is_throttled: bool,
    /// True if it is half-open now. Neither opened nor half-open is closed.
    pub is_half_open: bool,
}

/// Change from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// The process was drained, or is no longer.
    Drain(bool),
    /// A backend was drained, or is no longer.
    DrainBackend {
        /// The hash of its name.
        backend: u64,
        /// True if it is drained now.
        is_drained: bool,
    },
    /// A backend has another weight.
    Weigh {
        /// The hash of its name.
        backend: u64,
        /// The weight.
        weight: u32,
    },
    /// A circuit was closed by hand.
    CloseCircuit {
        /// The target's identity.
        target: u64,
    },
    /// A configuration took effect.
    Configure {
        /// Its fingerprint: the same for configurations that differ in secrets only.
        fingerprint: u64,
    },
}

impl Action {
    /// A backend was drained, or is no longer.
    #[must_use]
    pub fn drain_backend(name: &str, is_drained: bool) -> Self {
        Self::DrainBackend { backend: stable_hash([name.as_bytes()]), is_drained }
    }

    /// A backend has another weight.
    #[must_use]
    pub fn weigh(name: &str, weight: u32) -> Self {
        Self::Weigh { backend: stable_hash([name.as_bytes()]), weight }
    }

    /// A circuit was closed by hand.
    #[must_use]
    pub fn close_circuit(backend: &str, deployment: &str) -> Self {
        Self::CloseCircuit { target: stable_hash([backend.as_bytes(), deployment.as_bytes()]) }
    }
}

impl Event {
    /// Returns when it was.
    #[must_use]
    pub const fn at(&self) -> Duration {
        match self {
            Self::Action { at, .. } => *at,
            Self::Attempt(attempted) => attempted.at,
            Self::Circuit(change) => change.at,
            Self::Request(requested) => requested.at,
        }
    }
}
