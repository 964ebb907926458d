//! Part of the pool that a request looks in, and why it finds nobody there.

use std::time::Duration;

use tokio::time::Instant;

use super::barriers::{Barrier, Barriers, Scope, View};
use super::filter::Filter;
use super::table::Group;
use crate::pool::live::{NoTarget, NoTargetReason, Target};

/// Wait after which a target that is full, reserved or without identity is worth asking for again: nobody can know when that
/// ends.
const UNCERTAIN_RETRY: Duration = Duration::from_secs(1);

impl<'a> View<'a> {
    /// Finds in the first part of the pool that has it. A preferred backend that is merely throttled is waited for.
    pub(super) fn first<T>(self, group: &Group, mut find: impl FnMut(Self) -> Option<T>) -> Option<T> {
        for scope in self.query.scopes() {
            let part = self.within(scope);
            let found = find(part);
            if found.is_some() || part.is_waited_for(group) {
                return found;
            }
        }
        None
    }

    /// The part of the pool in which a target admits the request, its identity aside.
    pub(super) fn first_open(self, group: &Group) -> Option<Scope<'a>> {
        self.first(group, |part| {
            let filter = Filter::new(group, part);
            group.seats().any(|seat| filter.admits(seat)).then_some(part.scope)
        })
    }

    /// The same of the part that tells why there is no target: the one that is waited for, else all that may be looked in.
    pub(super) fn of_verdict(self, group: &Group) -> Self {
        let waited_for = self.query.scopes().map(|scope| self.within(scope)).find(|part| part.is_waited_for(group));
        waited_for.unwrap_or_else(|| self.within(self.query.reach()))
    }

    /// The targets that could take the request but for their failures, with the moment of the last one; `None` when it is not
    /// failures alone that stand in the way of all of them.
    pub(super) fn down<'t>(&self, group: &'t Group) -> Option<Vec<(&'t Target, Instant)>> {
        let able = group.targets().filter(|target| self.is_able(target));
        able.map(|target| Some((target, target.live.failing_since(self.now)?))).collect()
    }

    /// Returns why nobody in the group can take the request, and when somebody can.
    pub(super) fn why_not(self, group: &Group, probe_interval: Duration) -> NoTarget {
        let part = self.of_verdict(group);
        let barriers: Vec<_> = group.targets().map(|target| (target, part.barriers(target))).collect();
        let reason = part.reason(barriers.iter().map(|(_, barriers)| *barriers));
        let retry_after = match reason {
            NoTargetReason::Down | NoTargetReason::Pinned | NoTargetReason::Throttled => {
                part.soonest(group, &barriers, probe_interval)
            }
            _ => None,
        };
        NoTarget::new(reason, retry_after)
    }

    /// Returns what keeps the query from the targets that were not tried; `None` when one of them can take it now, or there is
    /// none.
    pub(super) fn of_untried(self, group: &Group) -> Option<NoTarget> {
        let is_untried = |target: &&Target| self.is_able(target) && !self.is_barred(Barrier::Tried, target);
        let waits = group.targets().filter(is_untried).map(|target| target.live.admits_in(self.since_epoch));
        let soonest = waits.min().filter(|wait| !wait.is_zero())?;
        let is_waited_for = group.targets().filter(is_untried).any(|target| self.is_waiting(target));
        let reason = if is_waited_for { NoTargetReason::Throttled } else { NoTargetReason::Down };
        Some(NoTarget::new(reason, Some(soonest)))
    }

    fn reason(&self, all: impl Iterator<Item = Barriers> + Clone) -> NoTargetReason {
        let here = all.filter(|barriers| !barriers.has(Barrier::PinnedElsewhere));
        let mut compliant = here.filter(|barriers| !barriers.has_any(&Barrier::COMPLIANCE)).peekable();
        if compliant.peek().is_none() {
            let is_pinned = !self.scope.is_all();
            return if is_pinned { NoTargetReason::NotServedThere } else { NoTargetReason::NotServed };
        }
        let mut shown = compliant.filter(|barriers| !barriers.has(Barrier::TokenMissing)).peekable();
        if shown.peek().is_none() {
            return NoTargetReason::TokenMissing;
        }
        let mut able = shown.filter(|barriers| !barriers.has(Barrier::Drained));
        match able.any(|barriers| barriers.has_any(&Barrier::WAITED_FOR)) {
            true => NoTargetReason::Throttled,
            false if self.scope.is_one() => NoTargetReason::Pinned,
            false => NoTargetReason::Down,
        }
    }

    fn soonest(&self, group: &Group, barriers: &[(&Target, Barriers)], probe_interval: Duration) -> Option<Duration> {
        let able = barriers.iter().filter(|(_, barriers)| !barriers.has_any(&Barrier::UNABLE));
        let waits = able.map(|(target, barriers)| {
            let is_uncertain = barriers.has_any(&[Barrier::Full, Barrier::NoIdentity, Barrier::Reserved]);
            target.live.admits_in(self.since_epoch).max(if is_uncertain { UNCERTAIN_RETRY } else { Duration::ZERO })
        });
        let soonest = waits.min();
        // One of them is probed before its time.
        match self.down(group) {
            Some(down) if !down.is_empty() => soonest.map(|wait| wait.min(probe_interval)),
            _ => soonest,
        }
    }

    fn is_waited_for(&self, group: &Group) -> bool {
        self.query.waits() && group.targets().any(|target| self.is_able(target) && self.is_waiting(target))
    }

    fn is_waiting(&self, target: &Target) -> bool {
        Barrier::WAITED_FOR.iter().any(|barrier| self.is_barred(*barrier, target))
    }
}
