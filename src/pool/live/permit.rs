//! Admission by the circuit and a place in flight, taken together and given back together.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::circuit::{Ticket, Verdict};
use super::{Live, RouteKind, Target};
use crate::azure::signals::{self, Signals};
use crate::azure::{Outcome, asked};

/// Knowledge of the other targets, by which a permit tells what an outcome means for them.
pub(in crate::pool) trait Neighbours: Send + Sync {
    /// Tells whether another target of the alias would admit, while nobody else can change that by a failure of the same
    /// kind: a 5xx answer does not open the last one, because one poisonous prompt must not close the shop.
    fn with_others_admitting(&self, target: &Target, now: Instant, then: &mut dyn FnMut(bool));

    /// The other targets at the same place.
    fn siblings(&self, target: &Target) -> Vec<Target>;

    /// The other targets that share a quota with this one.
    fn quota_members(&self, target: &Target) -> Vec<Target>;
}

/// The right to send one request to a target.
///
/// Held until the body of the answer has ended. Dropping it gives the place in flight back; dropped before
/// [`record`](Self::record) it teaches the circuit nothing, so a client that goes away is nobody's failure.
#[must_use = "dropping a permit gives its place back"]
pub struct Permit {
    neighbours: Arc<dyn Neighbours>,
    target: Target,
    admission: Admission,
    sent: Option<(RouteKind, Instant)>,
    taken: Instant,
    /// Reason why there was no connection, as far as it is known.
    cause: Option<Cow<'static, str>>,
    /// The body of the request until its answer begins, for what it asks of a quota.
    body: Option<Bytes>,
}

impl Permit {
    /// Takes a place in flight, of those below the threshold, then the circuit's admission.
    pub(in crate::pool) fn take(
        neighbours: &Arc<impl Neighbours + 'static>,
        target: &Target,
        threshold: Option<f64>,
        now: Instant,
    ) -> Option<Self> {
        Self::take_place(neighbours, target, threshold, now, || Admission::take(&target.live, now))
    }

    /// The same for a probe before its time.
    pub(in crate::pool) fn take_early(
        neighbours: &Arc<impl Neighbours + 'static>,
        target: &Target,
        threshold: Option<f64>,
        now: Instant,
    ) -> Option<Self> {
        Self::take_place(neighbours, target, threshold, now, || Admission::take_early(&target.live, now))
    }

    fn take_place(
        neighbours: &Arc<impl Neighbours + 'static>,
        target: &Target,
        threshold: Option<f64>,
        now: Instant,
        admit: impl FnOnce() -> Option<Admission>,
    ) -> Option<Self> {
        let backend = &target.inner.backend;
        let max = target.places(threshold);
        backend.in_flight.fetch_update(AcqRel, Relaxed, |n| (n < max).then(|| n + 1)).ok()?;
        let Some(admission) = admit() else {
            backend.in_flight.fetch_sub(1, AcqRel);
            return None;
        };
        target.live.in_flight().fetch_add(1, AcqRel);
        target.live.counters.requests.fetch_add(1, Relaxed);
        Some(Self {
            neighbours: neighbours.clone() as Arc<dyn Neighbours>,
            target: target.clone(),
            admission,
            sent: None,
            taken: now,
            cause: None,
            body: None,
        })
    }

    /// Whom the request may be sent to.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The request is being sent: its latency counts from now, among those of its kind. Otherwise it is not measured.
    pub fn sent(&mut self, kind: RouteKind) {
        let now = Instant::now();
        self.sent = Some((kind, now));
        self.target.live.measure(kind, |latency| latency.sent(now));
    }

    /// Says what is sent, so that a quota which could never admit it is not taken for one that is used up.
    pub(crate) fn carries(&mut self, body: Bytes) {
        self.body = Some(body);
    }

    /// Says why the attempt ended without a connection, in words that hold no address.
    pub(crate) fn explain(&mut self, cause: Cow<'static, str>) {
        self.cause = Some(cause);
    }

    /// Takes note of what the head of an answer says of the room that is left.
    pub fn observe(&self, headers: &HeaderMap) {
        let (live, backend) = (&self.target.live, &self.target.inner.backend);
        backend.trouble.answered(&backend.name, self.taken, Instant::now());
        if signals::is_spilled_over(headers) {
            live.counters.spilled_over_by_azure.fetch_add(1, Relaxed);
        }
        let signals = Signals::read(headers);
        if !signals.is_empty() {
            live.report(&signals, Instant::now());
        }
    }

    /// The answer belongs to the client now, and its content begins: the latency is known, a probe's place is free, its verdict
    /// still to come.
    pub fn commit(&mut self) {
        let now = Instant::now();
        if let Some((kind, sent)) = self.sent.take() {
            self.target.live.began(kind, now.saturating_duration_since(sent), now);
        }
        self.admission.commit(now);
        self.body = None;
    }

    /// Records what the attempt taught. The first call decides, later ones change nothing.
    pub fn record(&mut self, outcome: &Outcome) {
        if self.admission.is_settled() {
            return;
        }
        let (now, counters) = (Instant::now(), &self.target.live.counters);
        if outcome.is_failure() || matches!(outcome, Outcome::ServerFailed { .. }) {
            let live = &self.target.live;
            RouteKind::ALL.iter().for_each(|kind| live.measure(*kind, |latency| latency.fail(outcome.hint(), now)));
        }
        match Lesson::of(outcome) {
            Lesson::Answered | Lesson::Nothing => self.admission.record(outcome, now),
            Lesson::Failed => {
                counters.failures.fetch_add(1, Relaxed);
                let admission = &mut self.admission;
                self.neighbours.with_others_admitting(&self.target, now, &mut |others| {
                    admission.settle(Verdict::Failure { may_open: others }, now);
                });
            }
            Lesson::Unreachable => {
                counters.failures.fetch_add(1, Relaxed);
                self.admission.record(outcome, now);
                let backend = &self.target.inner.backend;
                backend.trouble.begin(&backend.name, self.cause.take().unwrap_or("no connection".into()), now);
                self.neighbours.siblings(&self.target).iter().for_each(|sibling| sibling.live.fail(now));
            }
            // Whoever sends something smaller is admitted.
            Lesson::Wait { quota: true, .. } if self.is_too_large() => {
                counters.throttled.fetch_add(1, Relaxed);
                self.admission.settle(Verdict::Neutral, now);
            }
            Lesson::Wait { hint, quota } => {
                let counter = if quota { &counters.throttled } else { &counters.failures };
                counter.fetch_add(1, Relaxed);
                self.admission.record(outcome, now);
                if quota {
                    self.neighbours
                        .quota_members(&self.target)
                        .iter()
                        .for_each(|member| member.live.throttle(hint, now));
                }
            }
        }
    }
}

impl Permit {
    /// Tells whether the request asks for more than the whole quota of its target.
    fn is_too_large(&self) -> bool {
        let (Some(body), Some(limit)) = (&self.body, self.target.token_limit()) else { return false };
        asked::tokens(body) > limit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.target.live.in_flight().fetch_sub(1, AcqRel);
        self.target.inner.backend.in_flight.fetch_sub(1, AcqRel);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("target", &self.target).finish_non_exhaustive()
    }
}

/// The admission of one circuit, given back without a verdict when it is dropped.
#[derive(Debug)]
pub(in crate::pool) struct Admission {
    live: Arc<Live>,
    ticket: Option<Ticket>,
}

impl Admission {
    pub(in crate::pool) fn take(live: &Arc<Live>, now: Instant) -> Option<Self> {
        live.admit(now).map(|ticket| Self { live: live.clone(), ticket: Some(ticket) })
    }

    pub(in crate::pool) fn take_early(live: &Arc<Live>, now: Instant) -> Option<Self> {
        live.admit_early(now).map(|ticket| Self { live: live.clone(), ticket: Some(ticket) })
    }

    pub(in crate::pool) fn commit(&mut self, now: Instant) {
        if let Some(ticket) = self.ticket.as_mut().filter(|ticket| ticket.is_probe()) {
            self.live.commit(ticket, now);
        }
    }

    pub(in crate::pool) fn record(&mut self, outcome: &Outcome, now: Instant) {
        self.settle(Lesson::of(outcome).verdict(), now);
    }

    const fn is_settled(&self) -> bool {
        self.ticket.is_none()
    }

    fn settle(&mut self, verdict: Verdict, now: Instant) {
        if let Some(ticket) = self.ticket.take() {
            self.live.record(ticket, verdict, now);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.is_settled() {
            self.settle(Verdict::Neutral, Instant::now());
        }
    }
}

/// Lesson of an outcome for circuits.
enum Lesson {
    Answered,
    /// An unknown outcome, which the request itself may have brought about: it never opens the last admitting target of an alias,
    /// for one client's prompt must not close the shop.
    Failed,
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
            Outcome::Success | Outcome::ClientFault | Outcome::Conflict { .. } | Outcome::ContentUnreadable => {
                Self::Answered
            }
            Outcome::Throttled { hint } => Self::Wait { hint: *hint, quota: true },
            Outcome::ServerFailed { hint: hint @ Some(_), .. } => Self::Wait { hint: *hint, quota: false },
            Outcome::Unreachable => Self::Unreachable,
            Outcome::ServerFailed { .. }
            | Outcome::Unfinished
            | Outcome::TimedOut(_)
            | Outcome::Reset
            | Outcome::Unknown => Self::Failed,
            _ => Self::Nothing,
        }
    }

    const fn verdict(&self) -> Verdict {
        match self {
            Self::Answered => Verdict::Success,
            Self::Failed => Verdict::Failure { may_open: true },
            Self::Unreachable => Verdict::Unreachable,
            Self::Nothing => Verdict::Neutral,
            Self::Wait { hint, .. } => Verdict::Throttled { hint: *hint },
        }
    }
}
