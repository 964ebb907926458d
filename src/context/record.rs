use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::{Attempts, Client, RequestId, Route, Size, Spent, TraceContext};
use crate::azure::operation::Operation;
use crate::pool::Target;

/// Record of one request, made once when its answer ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// Its id, which its answer carries too.
    pub id: RequestId,
    /// Its span, where a [recorder](super::Recorder::trace) traces.
    pub trace: Option<TraceContext>,
    /// Time at which it came.
    pub started: Instant,
    /// Its method.
    pub method: Method,
    /// Client, if it is known.
    pub client: Option<Client>,
    /// Route, if it was read.
    pub route: Option<Route>,
    /// Size, if its body was read.
    pub size: Option<Size>,
    /// Attempts that were made, in this order.
    pub attempts: Attempts,
    /// The status of the answer; `None` when the client left before there was one.
    pub status: Option<StatusCode>,
    /// Way in which it ended.
    pub ending: Ending,
    /// Time to the head of the answer.
    pub first_byte: Option<Duration>,
    /// Time to the first bytes of its body. A stream whose head is held for its first content has it there.
    pub first_content: Option<Duration>,
    /// Time to its end.
    pub total: Duration,
    /// Usage, where it is metered and there was any.
    pub spent: Option<Spent>,
}

/// Way in which a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// The answer broke off, at a backend or on the way from it.
    Broken,
    /// The service below gave an error instead of an answer.
    Failed,
    /// The client left before the answer had ended.
    Left,
    /// The connection became a WebSocket.
    Upgraded,
    /// All of the answer was handed on.
    Whole,
}

impl Ending {
    /// Its name in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Failed => "failed",
            Self::Left => "left",
            Self::Upgraded => "upgraded",
            Self::Whole => "whole",
        }
    }
}

impl Record {
    /// The alias that was asked for, as the client wrote it.
    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        self.route.as_ref()?.alias()
    }

    /// The call that was made.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        self.route.as_ref().map(Route::operation)
    }

    /// Returns the target to which it was sent last, which answered if any did.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        self.attempts.last().map(|attempt| &attempt.target)
    }
}
