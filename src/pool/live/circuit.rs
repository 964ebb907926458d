//! The circuit of one target: a pure state machine over the time it is given.

use std::time::Duration;

use tokio::time::Instant;

use super::window::Window;
use crate::pool::describe::CircuitConfig;

/// Time for which a target that could not be reached stays open after a failed probe: asking it again costs a request no more
/// than the attempt to connect, because a refused connection moves on, and an outage should not last longer than it lasts.
const UNREACHED_PAUSE: Duration = Duration::from_secs(1);

/// Verdict of an attempt on its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(in crate::pool) enum Verdict {
    /// The target failed. With `may_open: false` it is counted but opens nothing.
    Failure {
        /// True if this failure may open the circuit.
        may_open: bool,
    },
    /// Nothing can be said: the attempt ended for reasons of its own.
    Neutral,
    /// The target answered.
    Success,
    /// The target asked to wait.
    Throttled {
        /// Time for which it asked; `None` stands for [`CircuitConfig::default_open`].
        hint: Option<Duration>,
    },
    /// No connection to the target: nothing was sent. A failure that may open.
    Unreachable,
}

/// The state of a circuit at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CircuitState {
    /// Traffic flows.
    Closed,
    /// One request at a time finds out whether the target is well.
    HalfOpen,
    /// No request is sent.
    Open {
        /// The first moment at which a request will be sent again.
        until: Instant,
        /// The backend asked to wait, rather than failed.
        throttled: bool,
    },
}

impl CircuitState {
    /// `closed`, `open` or `half-open`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open { .. } => "open",
        }
    }
}

/// Proof of an admission, handed back with the verdict.
#[derive(Debug)]
#[must_use = "an admission without a verdict must be recorded as neutral"]
pub(in crate::pool) struct Ticket {
    generation: u64,
    probe: bool,
}

impl Ticket {
    /// Tells whether it stands for one of the few requests that a half-open circuit lets through.
    pub(in crate::pool) const fn is_probe(&self) -> bool {
        self.probe
    }
}

/// The circuit of one target: a pure state machine over the time it is given. [`CircuitConfig`] says when it changes.
///
/// The two ideas that make it safe under concurrency are *tickets* and *places*. Every admission gives a [`Ticket`] of the
/// current generation, and a trip starts a new one: an answer to a request that was sent before the trip changes nothing,
/// except that a wait it asks for is always obeyed. A probe holds a place that is given back when it ends without a verdict.
#[derive(Debug)]
pub(in crate::pool) struct Circuit {
    config: CircuitConfig,
    state: State,
    /// Opened by failures, and no success seen since.
    failing: bool,
    failed_probes: u32,
    /// Time of its last failure.
    failed_at: Option<Instant>,
    /// End of the wait that the backend asked for.
    asked_until: Option<Instant>,
    recovered_at: Option<Instant>,
    generation: u64,
    run: u32,
    window: Window,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    HalfOpen {
        next: Instant,
        /// End of the time for which it was to be open when a probe was let through early.
        early: Option<Instant>,
    },
    Open {
        until: Instant,
        cut: bool,
    },
}

/// Reason why a target is counted as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) enum Failure {
    /// It answered wrongly, or too late, or not to the end.
    Broken,
    /// No connection.
    Unreached,
}

impl Circuit {
    /// A closed circuit.
    pub(in crate::pool) fn new(config: CircuitConfig) -> Self {
        Self {
            config,
            state: State::Closed,
            failing: false,
            failed_probes: 0,
            failed_at: None,
            asked_until: None,
            recovered_at: None,
            generation: 0,
            run: 0,
            window: Window::new(config.window),
        }
    }

    /// Takes other bounds from now on; what is open stays open until its time.
    pub(in crate::pool) fn configure(&mut self, config: CircuitConfig) {
        if self.config.window != config.window {
            self.window = Window::new(config.window);
        }
        self.config = config;
    }

    /// The state at `now`.
    pub(in crate::pool) fn state(&self, now: Instant) -> CircuitState {
        match self.settled(now) {
            State::Closed => CircuitState::Closed,
            State::HalfOpen { .. } => CircuitState::HalfOpen,
            State::Open { until, .. } => CircuitState::Open { until, throttled: !self.failing },
        }
    }

    /// The first moment at which a request is admitted; `None` while the circuit is closed.
    pub(in crate::pool) const fn admits_at(&self) -> Option<Instant> {
        match self.state {
            State::Closed => None,
            State::HalfOpen { next, .. } => Some(next),
            State::Open { until, .. } => Some(until),
        }
    }

    /// Returns when it failed last, while it is open or half-open by failures and not because the backend asked to wait.
    pub(in crate::pool) fn failing_since(&self, now: Instant) -> Option<Instant> {
        let is_asked = self.asked_until.is_some_and(|until| until > now);
        self.failed_at.filter(|_| self.failing && !is_asked)
    }

    /// Tells whether [`admit`](Self::admit) would say yes.
    pub(in crate::pool) fn admits(&self, now: Instant) -> bool {
        self.admits_at().is_none_or(|at| at <= now)
    }

    /// Tells whether requests are refused because the backend asked to wait, rather than failed: until its time is over, and
    /// while a probe finds out whether it is.
    pub(in crate::pool) fn is_throttled(&self, now: Instant) -> bool {
        !self.admits(now) && !self.failing
    }

    /// Returns when it last closed after failures, rather than after a wait that the backend asked for.
    pub(in crate::pool) const fn recovered_at(&self) -> Option<Instant> {
        self.recovered_at
    }

    /// Takes a place for one request, or `None` while the circuit refuses.
    pub(in crate::pool) fn admit(&mut self, now: Instant) -> Option<Ticket> {
        self.settle(now);
        let probe = match &mut self.state {
            State::Closed => false,
            State::HalfOpen { next, .. } if *next <= now => {
                *next = now + self.config.probe_interval;
                true
            }
            State::HalfOpen { .. } | State::Open { .. } => return None,
        };
        Some(Ticket { generation: self.generation, probe })
    }

    /// Lets a probe through before the time of an open circuit is over, for a caller who has nobody else left.
    ///
    /// `None` while the backend's own order to wait runs, or while it is not failures that keep the circuit open.
    pub(in crate::pool) fn admit_early(&mut self, now: Instant) -> Option<Ticket> {
        self.settle(now);
        self.failing_since(now)?;
        if let State::Open { until, cut: false } = self.state {
            self.state = State::HalfOpen { next: now, early: Some(until) };
        }
        self.admit(now)
    }

    /// Frees the place of a probe whose answer belongs to the client now; its verdict is still to come.
    pub(in crate::pool) fn commit(&mut self, ticket: &mut Ticket, now: Instant) {
        if std::mem::take(&mut ticket.probe) && ticket.generation == self.generation {
            self.free_place(now);
        }
    }

    /// Learns from the one outcome of an attempt.
    // The ticket is consumed: one admission, one verdict.
    #[expect(clippy::needless_pass_by_value)]
    pub(in crate::pool) fn record(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) {
        self.settle(now);
        let current = ticket.generation == self.generation;
        match verdict {
            Verdict::Throttled { hint } => self.throttle(hint, now),
            Verdict::Neutral if current && ticket.probe => self.free_place(now),
            Verdict::Success if current => self.succeed(now),
            Verdict::Failure { may_open } if current => self.fail(Failure::Broken, may_open, now),
            Verdict::Unreachable if current => self.fail(Failure::Unreached, true, now),
            _ => {}
        }
    }

    /// Closes at once, whatever kept it open: what is still under way teaches it nothing any more.
    pub(in crate::pool) fn close_now(&mut self, now: Instant) {
        if self.failing {
            self.recovered_at = Some(now);
        }
        self.generation += 1;
        (self.asked_until, self.failed_at) = (None, None);
        self.close();
    }

    /// Opens for `hint`, or keeps an open circuit open for longer. Never shortens.
    pub(in crate::pool) fn throttle(&mut self, hint: Option<Duration>, now: Instant) {
        self.settle(now);
        let asked = hint.unwrap_or(self.config.default_open.min(self.config.max_open));
        let cut = asked > self.config.max_open;
        // The backend says when to the millisecond; only a hint of nothing is not one.
        let least = if asked.is_zero() { self.config.min_open } else { Duration::ZERO };
        let until = now + asked.max(least).min(self.config.max_open);
        self.asked_until = self.asked_until.max(Some(until));
        match &mut self.state {
            State::Open { until: open_until, cut: open_cut } => {
                if until > *open_until {
                    (*open_until, *open_cut) = (until, cut);
                }
            }
            State::Closed | State::HalfOpen { .. } => self.open(until, cut),
        }
    }

    /// Counts a failure that this target did not cause itself, such as a refused connection to its backend.
    pub(in crate::pool) fn fail(&mut self, failure: Failure, may_open: bool, now: Instant) {
        self.settle(now);
        self.failed_at = Some(now);
        match self.state {
            State::Closed => {
                self.run = self.run.saturating_add(1);
                self.window.add(true, now);
                if may_open && self.is_failing(now) {
                    self.failing = true;
                    self.open(now + self.backoff(), false);
                }
            }
            State::HalfOpen { early, .. } if may_open => {
                let until = match early {
                    // What is probed out of turn is no sign that it will be down for longer.
                    Some(until) => until.max(now + self.config.probe_interval),
                    None => {
                        self.failed_probes = self.failed_probes.saturating_add(1);
                        now + self.backoff()
                    }
                };
                let longest = if failure == Failure::Unreached { now + UNREACHED_PAUSE } else { until };
                self.failing = true;
                self.open(until.min(longest), false);
            }
            State::HalfOpen { .. } | State::Open { .. } => {}
        }
    }

    /// Opens because another replica's is, until then at the most, or stays open for longer. Never shortens.
    pub(in crate::pool) fn adopt(&mut self, until: Instant, throttled: bool, now: Instant) {
        self.settle(now);
        let until = until.min(now + self.config.max_open);
        if until <= now {
            return;
        }
        if throttled {
            self.asked_until = self.asked_until.max(Some(until));
        }
        match &mut self.state {
            State::Open { until: open_until, .. } => *open_until = until.max(*open_until),
            State::Closed | State::HalfOpen { .. } => {
                if !throttled {
                    self.failing = true;
                    self.failed_at = Some(now);
                }
                self.open(until, false);
            }
        }
    }

    fn succeed(&mut self, now: Instant) {
        match self.state {
            State::Closed => {
                self.run = 0;
                self.window.add(false, now);
            }
            State::HalfOpen { .. } => {
                if self.failing {
                    self.recovered_at = Some(now);
                }
                self.close();
            }
            State::Open { .. } => {}
        }
    }

    fn is_failing(&self, now: Instant) -> bool {
        let (requests, failures) = self.window.counts(now);
        self.run >= self.config.consecutive_failures
            || (requests >= u64::from(self.config.min_requests)
                && failures as f64 > self.config.failure_ratio * requests as f64)
    }

    /// Doubles with each failed probe.
    fn backoff(&self) -> Duration {
        let doubled =
            self.config.default_open.saturating_mul(1_u32.checked_shl(self.failed_probes).unwrap_or(u32::MAX));
        doubled.min(self.config.max_open)
    }

    fn open(&mut self, until: Instant, cut: bool) {
        self.generation += 1;
        self.state = State::Open { until, cut };
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.failing = false;
        self.failed_probes = 0;
        self.run = 0;
        self.window.clear();
    }

    const fn free_place(&mut self, now: Instant) {
        if let State::HalfOpen { next, .. } = &mut self.state {
            *next = now;
        }
    }

    fn settle(&mut self, now: Instant) {
        let settled = self.settled(now);
        if matches!((self.state, settled), (State::Open { .. }, State::Closed)) {
            self.close();
        }
        self.state = settled;
    }

    fn settled(&self, now: Instant) -> State {
        match self.state {
            State::Open { until, cut } if until <= now => {
                if cut || self.failing {
                    State::HalfOpen { next: until, early: None }
                } else {
                    State::Closed
                }
            }
            state => state,
        }
    }
}

#[cfg(test)]
#[path = "circuit/tests.rs"]
mod tests;
