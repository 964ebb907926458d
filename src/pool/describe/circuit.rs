//! Rules by which circuits open and close, as the owner of a pool wants it.

use std::time::Duration;

/// Bounds of the circuits of a pool: when they open, for how long, and how they close again.
///
/// | state | meaning | left when |
/// |---|---|---|
/// | closed | traffic flows | a 429 (or any answer with a wait hint) opens it for the hint; failures open it |
/// | open | no request at all | its time is over: then closed, or half-open where it is not known that the target is well |
/// | half-open | one request, and one more after each [`probe_interval`](Self::probe_interval) while none has failed | the first success closes it, a failure opens it again: for twice as long as before, or for a second when there was no connection |
///
/// A 429 is an order to wait, not a failure: it enters no ratio, no run and no back-off. After a hint that was obeyed in
/// full the circuit is simply closed, because the backend itself said when.
///
/// The states are those of Nygard's circuit breaker ("Release It!"), with a run and a windowed ratio as in most of its descendants;
/// that an order to wait opens for exactly its time and counts for nothing else is particular to quotas.
///
/// A target that fails each request with probability p opens by its run of n after (p⁻ⁿ − 1) / (1 − p) requests on average: with
/// the default of 5, after 62 at one in two, and after a hundred thousand at one in ten. So the run notices outages within five
/// requests, the ratio notices what fails more often than not, and neither minds a few errors.
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
    /// Time for which a 429 without a hint opens, and failures, which double it with each failed probe up to
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
    /// Returns what is wrong with these values, as the name of a field and a sentence.
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
