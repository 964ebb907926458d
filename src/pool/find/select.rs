//! Choosing a target and taking its permit, in one step.

use std::time::Duration;

use tokio::time::Instant;

use super::filter::{Filter, Scope};
use super::table::Group;
use super::{Pool, Query, Strength};
use crate::pool::live::{Live, NoTarget, NoTargetReason, Permit, Target};

/// How soon a target that is full, or without identity, is worth asking for again: nobody can know when that ends.
const UNCERTAIN_RETRY: Duration = Duration::from_secs(1);

/// How one request chooses.
struct Choice<F> {
    choose: F,
    /// Whether targets without identity are chosen too.
    last_resort: bool,
    /// Whether one of them was passed over.
    passed_over: bool,
}

impl Pool {
    /// Chooses among the eligible targets of the first priority group that has any, and takes the permit of the choice.
    ///
    /// One whose token is not at hand, or that refused it, is passed over like one that is down; only when nobody else could
    /// take the request is it chosen all the same, for the first token may be on its way.
    ///
    /// `choose` gets at least one candidate and returns an index into them; one out of range stands for the last. Losing
    /// the last place of a target to another request between the two is not an error: the choice is made again.
    ///
    /// # Errors
    /// No target is eligible.
    pub fn acquire(&self, query: &Query<'_>, mut choose: impl FnMut(&[&Target]) -> usize) -> Result<Permit, NoTarget> {
        let (table, now) = (self.0.table.load(), Instant::now());
        let group = self.group_of(&table, query).ok_or(NoTarget::not_served())?;
        let mut choice = Choice { choose: &mut choose, last_resort: false, passed_over: false };
        let mut permit = self.first(group, query, now, |scope| self.take(group, query, scope, now, &mut choice));
        if permit.is_none() && choice.passed_over {
            choice.last_resort = true;
            permit = self.first(group, query, now, |scope| self.take(group, query, scope, now, &mut choice));
        }
        permit.or_else(|| self.probe_early(group, query, now)).ok_or_else(|| self.why_not(group, query, now))
    }

    /// While failures keep the circuits of all targets open that could take the request, one request after each probe interval
    /// goes to the one that failed longest ago, so that the end of an outage is seen when it comes.
    fn probe_early(&self, group: &Group, query: &Query<'_>, now: Instant) -> Option<Permit> {
        let scope = verdict(group, query, now);
        let down = self.down(group, query, scope, now)?;
        // Of concurrent requests one goes on.
        let _alone = self.changing();
        let due = |failed_at: Instant| failed_at + self.probe_interval() <= now;
        let latest = down.iter().map(|(_, failed_at)| *failed_at).max()?;
        let admits_soon = |target: &Target| target.live.is_being_probed(now);
        if !due(latest) || down.iter().any(|(target, _)| admits_soon(target)) {
            return None;
        }
        let new = down.iter().filter(|(target, _)| query.is_new(target) && !target.is_full());
        let (target, _) = new.min_by_key(|(_, failed_at)| *failed_at)?;
        Permit::take_early(&self.0, target, now)
    }

    /// The targets that could take the request but for their failures, with the moment of the last one; `None` when it is not
    /// failures alone that stand in the way of all of them.
    fn down<'t>(
        &self,
        group: &'t Group,
        query: &Query<'_>,
        scope: Scope<'_>,
        now: Instant,
    ) -> Option<Vec<(&'t Target, Instant)>> {
        let able = group.targets().filter(|target| scope.is_open_to(target) && query.suits(target));
        able.map(|target| Some((target, target.live.failing_since(now)?))).collect()
    }

    /// What `find` finds in the first part of the pool that has it. A preferred backend that is merely throttled is waited for.
    fn first<T>(
        &self,
        group: &Group,
        query: &Query<'_>,
        now: Instant,
        mut find: impl FnMut(Scope<'_>) -> Option<T>,
    ) -> Option<T> {
        for scope in query.scopes() {
            let found = find(scope);
            if found.is_some() || waits(query) && is_throttled(group, query, scope, now) {
                return found;
            }
        }
        None
    }

    fn take<F: FnMut(&[&Target]) -> usize>(
        &self,
        group: &Group,
        query: &Query<'_>,
        scope: Scope<'_>,
        now: Instant,
        choice: &mut Choice<F>,
    ) -> Option<Permit> {
        let filter = Filter::new(self, group, query, scope, now);
        for tier in group.tiers() {
            let mut candidates = filter.eligible(tier);
            while !candidates.is_empty() {
                let chosen = (choice.choose)(&candidates).min(candidates.len() - 1);
                // Asking the chosen one alone keeps tokens out of the loop over all targets.
                if !choice.last_resort && !candidates[chosen].admits_identity(now) {
                    candidates.retain(|target| target.has_identity(now));
                    choice.passed_over = true;
                    continue;
                }
                let permit = Permit::take(&self.0, candidates[chosen], now);
                if permit.is_some() {
                    return permit;
                }
                candidates.remove(chosen);
            }
        }
        None
    }

    /// Whether [`acquire`](Self::acquire) would find a target now.
    #[must_use]
    pub fn has_eligible(&self, query: &Query<'_>) -> bool {
        let (table, now) = (self.0.table.load(), Instant::now());
        let found = |group: &Group| {
            let any = |scope: Scope<'_>| {
                let filter = Filter::new(self, group, query, scope, now);
                group.seats().any(|seat| filter.admits(seat)).then_some(())
            };
            self.first(group, query, now, any).is_some()
        };
        self.known_group_of(&table, query).is_some_and(found)
    }

    /// Every target that may serve the request at some time: drained, throttled, full and tried ones too. Those of other
    /// releases may not, where the release is known.
    #[must_use]
    pub fn compliant(&self, query: &Query<'_>) -> Vec<Target> {
        let table = self.0.table.load();
        let targets = self.known_group_of(&table, query).into_iter().flat_map(Group::targets);
        targets.filter(|target| query.suits(target)).cloned().collect()
    }

    /// Takes the permit of one target, if its circuit and its limit allow it.
    #[must_use]
    pub fn acquire_target(&self, target: &Target) -> Option<Permit> {
        Permit::take(&self.0, target, Instant::now())
    }

    /// Why a request would find no target, and how long until one that may serve it admits one, whatever was tried.
    #[must_use]
    pub fn outlook(&self, query: &Query<'_>) -> NoTarget {
        let (table, now) = (self.0.table.load(), Instant::now());
        self.known_group_of(&table, query).map_or(NoTarget::not_served(), |group| self.why_not(group, query, now))
    }

    fn soonest_of(&self, group: &Group, query: &Query<'_>, scope: Scope<'_>, now: Instant) -> Option<Duration> {
        let since = Live::since(self.0.epoch, now);
        let able = group.targets().filter(|target| scope.is_open_to(target) && query.suits(target));
        let waits = able.map(|target| {
            let is_uncertain = target.is_full() || !target.has_identity(now);
            target.live.admits_in(since).max(if is_uncertain { UNCERTAIN_RETRY } else { Duration::ZERO })
        });
        let soonest = waits.min();
        // One of them is probed before its time.
        match self.down(group, query, scope, now) {
            Some(down) if !down.is_empty() => soonest.map(|wait| wait.min(self.probe_interval())),
            _ => soonest,
        }
    }

    fn why_not(&self, group: &Group, query: &Query<'_>, now: Instant) -> NoTarget {
        let scope = verdict(group, query, now);
        let mut compliant = group.targets().filter(|target| scope.holds(target) && query.allows(target));
        if compliant.next().is_none() {
            return NoTarget { reason: scope.reason(NoTargetReason::NotServed), retry_after: None };
        }
        if !group.targets().any(|target| scope.holds(target) && query.suits(target)) {
            return NoTarget { reason: NoTargetReason::TokenMissing, retry_after: None };
        }
        let throttled = is_throttled(group, query, scope, now);
        let reason = if throttled { NoTargetReason::Throttled } else { scope.reason(NoTargetReason::Down) };
        NoTarget { reason, retry_after: self.soonest_of(group, query, scope, now) }
    }
}

/// Which part of the pool tells why there is no target: the one that is waited for, else all of it.
fn verdict<'a>(group: &Group, query: &Query<'a>, now: Instant) -> Scope<'a> {
    let alone = query.pin.is_some_and(|pin| pin.strength() != Strength::Movable && pin.backends().len() == 1);
    let mut scopes = query.scopes();
    let waited_for = if alone {
        scopes.next()
    } else {
        scopes.find(|scope| waits(query) && is_throttled(group, query, *scope, now))
    };
    waited_for.unwrap_or(Scope::ALL)
}

fn waits(query: &Query<'_>) -> bool {
    query.pin.is_some_and(|pin| pin.strength() == Strength::Preferred)
}

fn is_throttled(group: &Group, query: &Query<'_>, scope: Scope<'_>, now: Instant) -> bool {
    let mut able = group.targets().filter(|target| scope.is_open_to(target) && query.suits(target));
    able.any(|target| target.is_throttled(now))
}
