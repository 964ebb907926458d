use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::{Attempts, Client, RequestId, Route, Size, Spent};
use crate::azure::operation::Operation;
use crate::pool::Target;

/// What one request came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// Its id, which its answer carries too.
    pub id: RequestId,
    /// When it came.
    pub started: Instant,
    /// Its method.
    pub method: Method,
    /// Who called, if that was found out.
    pub client: Option<Client>,
    /// What was asked for, if that was found out.
    pub route: Option<Route>,
    /// How large it is, if its body was read.
    pub size: Option<Size>,
    /// Where it was sent, in this order.
    pub attempts: Attempts,
    /// The status of the answer; `None` when the client left before there was one.
    pub status: Option<StatusCode>,
    /// How it ended.
    pub ending: Ending,
    /// Time to the head of the answer.
    pub first_byte: Option<Duration>,
    /// Time to the first bytes of its body. A stream whose head is held for its first content has it there.
    pub first_content: Option<Duration>,
    /// Time to its end.
    pub total: Duration,
    /// What was used, where it is metered and anything was.
    pub spent: Option<Spent>,
}

/// How a request ended.
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

    /// Where it was sent last, which is who answered if anybody did.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        self.attempts.last().map(|attempt| &attempt.target)
    }
}
