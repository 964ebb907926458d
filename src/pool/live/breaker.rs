//! A circuit without a pool.

use std::sync::Arc;

use tokio::time::Instant;

use super::permit::Admission;
use super::{Announcer, Live, NoTarget, NoTargetReason, Spread};
use crate::azure::Outcome;
use crate::pool::describe::CircuitConfig;

/// The circuit of one service, shared by all its clones.
///
/// There is nobody else to go to, so a run of 5xx answers opens it like any other failures.
#[derive(Clone, Debug)]
pub(crate) struct Breaker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    live: Arc<Live>,
    spread: Spread,
}

impl Breaker {
    /// A closed circuit; `name` appears in the log line of each transition.
    pub(crate) fn new(name: impl Into<String>, config: CircuitConfig) -> Self {
        let live = Live::new((name.into(), 0), Instant::now(), config, Announcer::default());
        Self(Arc::new(Shared { live, spread: Spread::default() }))
    }

    /// Admission for one request.
    ///
    /// # Errors
    /// The circuit refuses; says for how long.
    pub(crate) fn acquire(&self) -> Result<BreakerPermit, NoTarget> {
        let now = Instant::now();
        Admission::take(&self.0.live, now).map(BreakerPermit).ok_or_else(|| self.why_not(now))
    }

    fn why_not(&self, now: Instant) -> NoTarget {
        let reason = if self.0.live.is_throttled(now) { NoTargetReason::Throttled } else { NoTargetReason::Down };
        NoTarget::new(reason, Some(self.0.live.waits(now))).spread(&self.0.spread)
    }
}

/// The admission of a [`Breaker`]. Dropped without a verdict it teaches nothing.
#[derive(Debug)]
#[must_use = "dropping a permit gives its place back"]
pub(crate) struct BreakerPermit(Admission);

impl BreakerPermit {
    /// The answer belongs to the client now: a probe's place is free, its verdict still to come.
    pub(crate) fn commit(&mut self) {
        self.0.commit(Instant::now());
    }

    /// Records what the attempt taught. The first call decides, later ones change nothing.
    pub(crate) fn record(&mut self, outcome: &Outcome) {
        self.0.record(outcome, Instant::now());
    }
}
