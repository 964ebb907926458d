//! Refusals of a request before it is sent.

use std::time::Duration;

use super::Spread;

/// No target can take the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoTarget {
    /// Reason.
    pub reason: NoTargetReason,
    /// Time until a target that may serve the request admits one; `None` when none ever will as things stand.
    pub retry_after: Option<Duration>,
    /// Spread after that in which this one may come, where all who come at once would be too many.
    pub(crate) spread: Option<Duration>,
}

/// Reason why no target can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoTargetReason {
    /// Those that could are down or drained.
    Down,
    /// Nobody that complies serves the alias.
    NotServed,
    /// The backend that the request is pinned to does not serve the alias, or does not comply.
    NotServedThere,
    /// The backend that the request is pinned to is down or drained.
    Pinned,
    /// At least one is merely throttled, or full.
    Throttled,
    /// Those that could are shown the client's own token, and it has none.
    TokenMissing,
}

impl NoTargetReason {
    /// Tells whether nobody asked to wait: those that could serve are gone.
    pub(crate) const fn is_outage(self) -> bool {
        matches!(self, Self::Down | Self::Pinned)
    }
}

impl NoTarget {
    pub(in crate::pool) const fn new(reason: NoTargetReason, retry_after: Option<Duration>) -> Self {
        Self { reason, retry_after, spread: None }
    }

    pub(in crate::pool) const fn not_served() -> Self {
        Self::new(NoTargetReason::NotServed, None)
    }

    /// An outage lasts for all alike.
    pub(in crate::pool) fn spread(mut self, spread: &Spread) -> Self {
        self.spread = self.reason.is_outage().then(|| spread.next());
        self
    }
}
