//! Choosing a target and taking its permit, in one step.

use std::time::Duration;

use tokio::time::Instant;

use super::live::Live;
use super::permit::Permit;
use super::table::Group;
use super::{Constraints, Pool, Target, TargetSet};

/// How soon a place of a target that is full is worth asking for again: nobody can know when it will be free.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// What a request asks of its target.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Query<'a> {
    /// The alias that must be served; `None` for a call that names no model.
    pub alias: Option<&'a str>,
    /// What the client demands of every backend.
    pub constraints: Option<&'a Constraints>,
    /// Targets that this request has used up.
    pub tried: Option<&'a TargetSet>,
    /// Whose request it is: decides the [release](super::Release) where the alias has several.
    pub client: Option<&'a str>,
}

impl<'a> Query<'a> {
    /// Targets of an alias, or any backend for a call that names no model.
    #[must_use]
    pub fn new(alias: Option<&'a str>) -> Self {
        Self { alias, ..Self::default() }
    }

    /// Only targets that comply with these.
    #[must_use]
    pub const fn constraints(mut self, constraints: &'a Constraints) -> Self {
        self.constraints = Some(constraints);
        self
    }

    /// Of the release that this client has.
    #[must_use]
    pub const fn client(mut self, id: &'a str) -> Self {
        self.client = Some(id);
        self
    }

    /// Only targets that are not among these, and of the same release as they are.
    #[must_use]
    pub const fn tried(mut self, tried: &'a TargetSet) -> Self {
        self.tried = Some(tried);
        self
    }

    pub(super) fn is_new(&self, target: &Target) -> bool {
        self.tried.is_none_or(|tried| !tried.contains(target))
    }

    #[inline]
    fn can_take(&self, target: &Target, since: u64) -> bool {
        target.0.live.admits(since)
            && self.is_new(target)
            && !target.is_drained()
            && !target.is_full()
            && target.complies(self.constraints)
    }
}

/// No target can take the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoTarget {
    /// Why not.
    pub reason: NoTargetReason,
    /// How long until a target that may serve the request admits one; `None` when none ever will as things stand.
    pub retry_after: Option<Duration>,
}

/// Why no target can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoTargetReason {
    /// Those that could are down or drained.
    Down,
    /// Nobody that complies serves the alias.
    NotServed,
    /// At least one is merely throttled, or full.
    Throttled,
}

impl Pool {
    /// Chooses among the eligible targets of the first priority group that has any, and takes the permit of the choice.
    ///
    /// `choose` gets at least one candidate and returns an index into them; one out of range stands for the last. Losing
    /// the last place of a target to another request between the two is not an error: the choice is made again.
    ///
    /// # Errors
    /// No target is eligible.
    pub fn acquire(&self, query: &Query<'_>, mut choose: impl FnMut(&[&Target]) -> usize) -> Result<Permit, NoTarget> {
        let (table, now) = (self.0.table.load(), Instant::now());
        let group = self.group_of(&table, query).ok_or(NoTarget::not_served())?;
        for tier in group.tiers() {
            let mut candidates = self.eligible(tier, query, now);
            while !candidates.is_empty() {
                let chosen = choose(&candidates).min(candidates.len() - 1);
                if let Some(permit) = Permit::take(self, candidates[chosen], now) {
                    return Ok(permit);
                }
                candidates.remove(chosen);
            }
        }
        Err(self.why_not(group, query, now))
    }

    /// Apart from [`acquire`](Self::acquire), which is compiled where it is used, so that the little that is asked of every
    /// target is inlined.
    fn eligible<'t>(&self, tier: &'t [Target], query: &Query<'_>, now: Instant) -> Vec<&'t Target> {
        let since = Live::since(self.0.epoch, now);
        let mut eligible = Vec::with_capacity(tier.len());
        // With a thousand targets a plain loop takes two thirds of the time of `extend` with a filter.
        for target in tier {
            if query.can_take(target, since) {
                eligible.push(target);
            }
        }
        eligible
    }

    /// Whether [`acquire`](Self::acquire) would find a target now.
    #[must_use]
    pub fn has_eligible(&self, query: &Query<'_>) -> bool {
        let (table, since) = (self.0.table.load(), Live::since(self.0.epoch, Instant::now()));
        self.known_group_of(&table, query)
            .is_some_and(|group| group.targets().any(|target| query.can_take(target, since)))
    }

    /// Takes the permit of one target, if its circuit and its limit allow it.
    #[must_use]
    pub fn acquire_target(&self, target: &Target) -> Option<Permit> {
        Permit::take(self, target, Instant::now())
    }

    /// Why a request would find no target, and how long until one that may serve it admits one, whatever was tried.
    #[must_use]
    pub fn outlook(&self, query: &Query<'_>) -> NoTarget {
        let (table, now) = (self.0.table.load(), Instant::now());
        self.known_group_of(&table, query).map_or(NoTarget::not_served(), |group| self.why_not(group, query, now))
    }

    fn soonest_of(&self, group: &Group, query: &Query<'_>, now: Instant) -> Option<Duration> {
        let since = Live::since(self.0.epoch, now);
        let able = group.targets().filter(|target| !target.is_drained() && target.complies(query.constraints));
        let waits = able.map(|target| {
            let full = if target.is_full() { FULL_RETRY } else { Duration::ZERO };
            target.0.live.admits_in(since).max(full)
        });
        waits.min()
    }

    fn why_not(&self, group: &Group, query: &Query<'_>, now: Instant) -> NoTarget {
        let mut compliant = group.targets().filter(|target| target.complies(query.constraints)).peekable();
        if compliant.peek().is_none() {
            return NoTarget::not_served();
        }
        let throttled = compliant.any(|target| !target.is_drained() && target.is_throttled(now));
        let reason = if throttled { NoTargetReason::Throttled } else { NoTargetReason::Down };
        NoTarget { reason, retry_after: self.soonest_of(group, query, now) }
    }
}

impl NoTarget {
    const fn not_served() -> Self {
        Self { reason: NoTargetReason::NotServed, retry_after: None }
    }
}
