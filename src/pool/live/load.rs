//! Figures of a target while it serves: how long it takes, and how much room it says it has left.
//!
//! Fed by [`Permit`](crate::pool::Permit): when a request is sent, when its answer begins, when its outcome is known. In a stack,
//! selection and the circuit breaker do that; without a circuit breaker nothing is learned.
//!
//! **Latency** is the time from sending a request to the first content of its answer: to the head of an answer that is not
//! streamed, and to the head of a streamed one where something below holds it back until its content begins. It is kept per
//! [`RouteKind`] as a moving average that is quick to believe bad news: a sample above the estimate replaces it at once, one
//! below it blends with α = 1 − e^(−Δt / [`LATENCY_DECAY`]), and the first replaces [`DEFAULT_LATENCY`]. Δt is the time since the
//! last sample, so that what a sample counts for fades by e^(−t / [`LATENCY_DECAY`]) however many samples there are: an average
//! over time, not over requests, with the memory of ten seconds whether there are one or a thousand of them.
//!
//! A target that is not used looks better with time, by e^(−Δt / [`LATENCY_DECAY`]), until it is tried again: sending a request
//! ends the discount, so that one request finds out and not a crowd. That is the peak-sensitive average of Finagle's and
//! linkerd's balancers, but for this last part, without which an answer that takes ten seconds would draw ten seconds' worth of
//! requests.
//!
//! A failure, a refused connection included, counts as [`FAILURE_PENALTY`] or as the wait it asked for (at most [`MAX_PENALTY`]),
//! and never lowers the estimate: whoever refuses within five milliseconds must not look fast. Five seconds are longer than a
//! healthy target takes to its first content, and left alone it looks as good as one of a second again after 10 s × ln 5 = 16 s,
//! soon after its circuit lets a first request through. A 429 changes nothing: it is no failure, its circuit keeps the target out
//! for as long as it asked, and a penalty on top would leave paid capacity idle.
//!
//! **Room** is what Azure reports with its answers, as a share from 0 to 1, and forgotten after
//! [`SIGNAL_LIFETIME`]. Where no limit is told, the most that was ever left stands for it.

use std::time::Duration;

use tokio::time::Instant;

use crate::azure::signals::{Quota, Signals};

/// Time constant with which latencies are forgotten: 10 s.
pub const LATENCY_DECAY: Duration = Duration::from_secs(10);
/// The latency of a target that was never measured: 1 s.
pub const DEFAULT_LATENCY: Duration = Duration::from_secs(1);
/// Latency that a failure counts as, at least: 5 s.
pub const FAILURE_PENALTY: Duration = Duration::from_secs(5);
/// Latency that a failure counts as, at most, unless the target was slower than that already: 60 s.
pub const MAX_PENALTY: Duration = Duration::from_secs(60);
/// A shorter latency counts as this: 1 ms. Nothing is so fast that requests in flight do not matter.
pub const MIN_LATENCY: Duration = Duration::from_millis(1);
/// Time for which a report of the room that is left is believed: 10 s.
pub const SIGNAL_LIFETIME: Duration = Duration::from_secs(10);

/// Kind of answer that a request gets: latencies of different kinds are not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RouteKind {
    /// A stream, whose content begins long before it is complete.
    Streamed,
    /// An answer that comes when all of it has been generated.
    Whole,
}

impl RouteKind {
    pub(in crate::pool) const ALL: [Self; 2] = [Self::Streamed, Self::Whole];

    pub(in crate::pool) const fn index(self) -> usize {
        self as usize
    }
}

/// A moving average of latencies, in seconds. See the [module docs](self).
#[derive(Clone, Copy, Debug)]
pub(in crate::pool) struct Latency {
    estimate: f64,
    measured: bool,
    sampled: Instant,
    used: Instant,
}

impl Latency {
    pub(in crate::pool) const fn new(now: Instant) -> Self {
        Self { estimate: DEFAULT_LATENCY.as_secs_f64(), measured: false, sampled: now, used: now }
    }

    /// A request is being sent.
    pub(in crate::pool) fn sent(&mut self, now: Instant) {
        self.used = now;
    }

    pub(in crate::pool) fn sample(&mut self, latency: Duration, now: Instant) {
        let sample = latency.max(MIN_LATENCY).as_secs_f64();
        self.estimate = if !self.measured || sample >= self.projected(now) {
            sample
        } else {
            self.estimate + (sample - self.estimate) * (1.0 - kept(self.sampled, now))
        };
        (self.measured, self.sampled, self.used) = (true, now, now);
    }

    pub(in crate::pool) fn fail(&mut self, hint: Option<Duration>, now: Instant) {
        let penalty = hint.unwrap_or_default().clamp(FAILURE_PENALTY, MAX_PENALTY);
        self.estimate = self.estimate.max(penalty.as_secs_f64());
        (self.measured, self.sampled, self.used) = (true, now, now);
    }

    /// As of the last request, in seconds; infinite before the first answer and the first failure.
    pub(in crate::pool) const fn measured(&self) -> f64 {
        if self.measured { self.estimate } else { f64::INFINITY }
    }

    fn projected(&self, now: Instant) -> f64 {
        self.estimate * kept(self.used, now)
    }

    /// The logarithm of what [`projected`](Self::projected) would give at `epoch`. Adding the same to all of them gives the
    /// logarithms at any other moment, so targets are compared by it without computing anything.
    pub(in crate::pool) fn rank(&self, epoch: Instant) -> f64 {
        libm::log(self.estimate)
            + self.used.saturating_duration_since(epoch).as_secs_f64() / LATENCY_DECAY.as_secs_f64()
    }
}

/// Returns the share of a figure that is left after so long.
fn kept(since: Instant, now: Instant) -> f64 {
    libm::exp(-now.saturating_duration_since(since).as_secs_f64() / LATENCY_DECAY.as_secs_f64())
}

/// Last report of the room that is left.
#[derive(Debug, Default)]
pub(in crate::pool) struct Room {
    report: Option<(f64, Instant)>,
    most_requests: u64,
    most_tokens: u64,
    token_limit: Option<u64>,
}

impl Room {
    pub(in crate::pool) fn report(&mut self, signals: &Signals, now: Instant) {
        let provisioned = signals.utilization.map(|used| (1.0 - used).max(0.0));
        let requests = left(signals.requests, &mut self.most_requests);
        let tokens = left(signals.tokens, &mut self.most_tokens);
        self.token_limit = signals.tokens.limit.or(self.token_limit);
        if let Some(room) = [provisioned, requests, tokens].into_iter().flatten().reduce(f64::min) {
            self.report = Some((room, now));
        }
    }

    /// Returns what is used, and until when that is believed.
    pub(in crate::pool) fn used(&self) -> Option<(f64, Instant)> {
        self.report.map(|(room, reported)| (1.0 - room, reported + SIGNAL_LIFETIME))
    }

    /// The tokens that there are in all, as they were last reported.
    pub(in crate::pool) const fn token_limit(&self) -> Option<u64> {
        self.token_limit
    }

    /// From 0 to 1.
    pub(in crate::pool) fn at(&self, now: Instant) -> Option<f64> {
        let (room, reported) = self.report?;
        (now.saturating_duration_since(reported) < SIGNAL_LIFETIME).then_some(room)
    }
}

fn left(quota: Quota, most: &mut u64) -> Option<f64> {
    let remaining = quota.remaining?;
    *most = remaining.max(*most);
    let limit = quota.limit.filter(|limit| *limit > 0).unwrap_or(*most);
    Some(if remaining == 0 { 0.0 } else { (remaining as f64 / limit as f64).min(1.0) })
}

#[cfg(test)]
#[path = "load/tests.rs"]
mod tests;
