//! When circuits open and close, as the owner of a pool wants it.

use std::time::Duration;

/// When circuits open, for how long, and how they close again.
///
/// Building a pool checks that the values make sense together. No circuit opens for longer than `max_open` at a time, whatever
/// `default_open` says.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CircuitConfig {
    /// A hint of zero, or one in the past, opens for this long; any other is obeyed to the millisecond. Default 50 ms.
    pub min_open: Duration,
    /// A longer hint is cut to this and followed by a probe. Default 60 s.
    pub max_open: Duration,
    /// How long a 429 without a hint opens, and failures, which double it with each failed probe up to
    /// [`max_open`](Self::max_open). Default 10 s.
    pub default_open: Duration,
    /// While half-open: one request, and one more after each interval while none has failed. Default 250 ms.
    pub probe_interval: Duration,
    /// So many failures in a row open. Default 5.
    pub consecutive_failures: u32,
    /// A share of failures above this, of at least [`min_requests`](Self::min_requests) in the window, opens. Default 0.5.
    pub failure_ratio: f64,
    /// The span that the ratio looks back over. Default 10 s.
    pub window: Duration,
    /// With fewer requests than this in the window the ratio decides nothing. Default 20.
    pub min_requests: u32,
}

impl Default for CircuitConfig {
    fn default() -> Self {
        Self {
            min_open: Duration::from_millis(50),
            max_open: Duration::from_secs(60),
            default_open: Duration::from_secs(10),
            probe_interval: Duration::from_millis(250),
            consecutive_failures: 5,
            failure_ratio: 0.5,
            window: Duration::from_secs(10),
            min_requests: 20,
        }
    }
}

impl CircuitConfig {
    /// What is wrong with these values, as the name of a field and a sentence.
    pub(crate) fn problem(&self) -> Option<(&'static str, &'static str)> {
        let checks = [
            (self.min_open <= self.max_open, "min_open", "must not be above max_open"),
            (!self.default_open.is_zero(), "default_open", "must not be zero"),
            (!self.probe_interval.is_zero(), "probe_interval", "must not be zero"),
            (!self.window.is_zero(), "window", "must not be zero"),
            (self.consecutive_failures > 0, "consecutive_failures", "must be at least 1"),
            ((0.0..=1.0).contains(&self.failure_ratio), "failure_ratio", "must lie between 0 and 1"),
        ];
        checks.into_iter().find(|(holds, ..)| !holds).map(|(_, field, why)| (field, why))
    }
}
