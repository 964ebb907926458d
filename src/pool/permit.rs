//! Admission by the circuit and a place in flight, taken together and given back together.

use std::fmt;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::circuit::{Ticket, Verdict};
use super::{Pool, Target};
use crate::azure::Outcome;

/// The right to send one request to a target.
///
/// Held until the body of the answer has ended. Dropping it gives the place in flight back; dropped before
/// [`record`](Self::record) it teaches the circuit nothing, so a client that goes away is nobody's failure.
#[must_use = "dropping a permit gives its place back"]
pub struct Permit {
    pool: Pool,
    target: Target,
    ticket: Option<Ticket>,
}

impl Permit {
    /// Takes a place in flight, then the circuit's admission.
    pub(super) fn take(pool: &Pool, target: &Target, now: Instant) -> Option<Self> {
        let backend = &target.0.backend;
        let max = if backend.max_in_flight == 0 { u32::MAX } else { backend.max_in_flight };
        backend.in_flight.fetch_update(AcqRel, Relaxed, |n| (n < max).then(|| n + 1)).ok()?;
        let Some(ticket) = target.0.live.admit(now) else {
            backend.in_flight.fetch_sub(1, AcqRel);
            return None;
        };
        target.0.live.in_flight.fetch_add(1, AcqRel);
        target.0.live.counters.requests.fetch_add(1, Relaxed);
        Some(Self { pool: pool.clone(), target: target.clone(), ticket: Some(ticket) })
    }

    /// Whom the request may be sent to.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The answer belongs to the client now: a probe's place is free, its verdict still to come.
    pub fn commit(&mut self) {
        if let Some(ticket) = &mut self.ticket {
            self.target.0.live.commit(ticket, Instant::now());
        }
    }

    /// Records what the attempt taught. The first call decides, later ones change nothing.
    pub fn record(&mut self, outcome: &Outcome) {
        let Some(ticket) = self.ticket.take() else { return };
        let (now, live) = (Instant::now(), &self.target.0.live);
        let counters = &live.counters;
        match Lesson::of(outcome) {
            Lesson::Answered => live.record(ticket, Verdict::Success, now),
            Lesson::Failed => {
                counters.failures.fetch_add(1, Relaxed);
                live.record(ticket, Verdict::Failure { may_open: true }, now);
            }
            Lesson::FailedOnce => {
                counters.failures.fetch_add(1, Relaxed);
                self.pool.record_answered_failure(&self.target, ticket, now);
            }
            Lesson::Nothing => live.record(ticket, Verdict::Neutral, now),
            Lesson::Unreachable => {
                counters.failures.fetch_add(1, Relaxed);
                live.record(ticket, Verdict::Failure { may_open: true }, now);
                self.pool.siblings(&self.target).for_each(|sibling| sibling.0.live.fail(now));
            }
            Lesson::Wait { hint, quota } => {
                let counter = if quota { &counters.throttled } else { &counters.failures };
                counter.fetch_add(1, Relaxed);
                live.record(ticket, Verdict::Throttled { hint }, now);
                if quota {
                    self.pool.quota_members(&self.target).for_each(|member| member.0.live.throttle(hint, now));
                }
            }
        }
    }
}

/// What an outcome means for circuits.
enum Lesson {
    Answered,
    Failed,
    /// A 5xx answer: it never opens the last admitting target of an alias.
    FailedOnce,
    Nothing,
    Unreachable,
    Wait {
        hint: Option<Duration>,
        quota: bool,
    },
}

impl Lesson {
    const fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Success | Outcome::ClientFault | Outcome::Conflict { .. } => Self::Answered,
            Outcome::Throttled { hint } => Self::Wait { hint: *hint, quota: true },
            Outcome::ServerFailed { hint: hint @ Some(_), .. } => Self::Wait { hint: *hint, quota: false },
            Outcome::ServerFailed { .. } => Self::FailedOnce,
            Outcome::Unreachable => Self::Unreachable,
            Outcome::TimedOut(_) | Outcome::Reset | Outcome::Unknown => Self::Failed,
            _ => Self::Nothing,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.target.0.live.record(ticket, Verdict::Neutral, Instant::now());
        }
        self.target.0.live.in_flight.fetch_sub(1, AcqRel);
        self.target.0.backend.in_flight.fetch_sub(1, AcqRel);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("target", &self.target).finish_non_exhaustive()
    }
}

/// A permit on its way through request extensions, for whoever takes it first.
#[derive(Clone, Debug)]
pub struct PermitCell(Arc<Mutex<Option<Permit>>>);

impl PermitCell {
    /// Puts a permit into a cell.
    #[must_use]
    pub fn new(permit: Permit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    /// Takes the permit, once.
    #[must_use]
    pub fn take(&self) -> Option<Permit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
