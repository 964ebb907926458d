//! Choosing a target and taking its permit, in one step.

use tokio::time::Instant;

use super::barriers::{Barrier, View};
use super::filter::Filter;
use super::table::{Group, Table};
use super::{Pool, Query};
use crate::pool::live::{NoTarget, Permit, Target};

/// Choice of one request.
struct Choice<F> {
    choose: F,
    /// True if targets without identity are chosen too.
    last_resort: bool,
    /// True if one of them was passed over.
    passed_over: bool,
}

impl Pool {
    /// Chooses among the eligible targets of the first priority group that has any, and takes the permit of the choice.
    ///
    /// One whose token is not at hand, or that refused it, is passed over like one that is down; only when nobody else could
    /// take the request is it chosen all the same, for the first token may be on its way.
    ///
    /// `choose` gets at least one candidate and returns an index into them; one out of range is a defect of the caller: debug
    /// builds panic, others take the last. Losing
    /// the last place of a target to another request between the two is not an error: the choice is made again.
    ///
    /// # Errors
    /// No target is eligible.
    pub fn acquire(&self, query: &Query<'_>, mut choose: impl FnMut(&[&Target]) -> usize) -> Result<Permit, NoTarget> {
        let table = self.0.table.load();
        let view = self.view(&table, query);
        let group = self.group_of(&table, query).ok_or(NoTarget::not_served())?;
        let mut choice = Choice { choose: &mut choose, last_resort: false, passed_over: false };
        let mut permit = view.first(group, |view| self.take(group, view, &mut choice));
        if permit.is_none() && choice.passed_over {
            choice.last_resort = true;
            permit = view.first(group, |view| self.take(group, view, &mut choice));
        }
        permit.or_else(|| self.probe_early(group, view)).ok_or_else(|| self.why_not(group, view))
    }

    /// While failures keep the circuits of all targets open that could take the request, one request after each probe interval
    /// goes to the one that failed longest ago, so that the end of an outage is seen when it comes.
    fn probe_early(&self, group: &Group, view: View<'_>) -> Option<Permit> {
        let view = view.of_verdict(group);
        let down = view.down(group)?;
        // Of concurrent requests one goes on.
        let _alone = self.changing();
        let due = |failed_at: Instant| failed_at + self.probe_interval() <= view.now;
        let latest = down.iter().map(|(_, failed_at)| *failed_at).max()?;
        let admits_soon = |target: &Target| target.live.is_being_probed(view.now);
        if !due(latest) || down.iter().any(|(target, _)| admits_soon(target)) {
            return None;
        }
        let is_free = |target: &Target| view.is_clear(&[Barrier::Tried, Barrier::Full, Barrier::Reserved], target);
        let free = down.iter().filter(|(target, _)| is_free(target));
        let (target, _) = free.min_by_key(|(_, failed_at)| *failed_at)?;
        Permit::take_early(&self.0, target, view.threshold, view.now)
    }

    fn take<F: FnMut(&[&Target]) -> usize>(
        &self,
        group: &Group,
        view: View<'_>,
        choice: &mut Choice<F>,
    ) -> Option<Permit> {
        let filter = Filter::new(group, view);
        for tier in group.tiers() {
            let mut candidates = filter.eligible(tier);
            while !candidates.is_empty() {
                let chosen = in_range((choice.choose)(&candidates), candidates.len());
                // Asking the chosen one alone keeps tokens out of the loop over all targets.
                if !choice.last_resort && !candidates[chosen].admits_identity(view.now) {
                    candidates.retain(|target| target.has_identity(view.now));
                    choice.passed_over = true;
                    continue;
                }
                let permit = Permit::take(&self.0, candidates[chosen], view.threshold, view.now);
                if permit.is_some() {
                    return permit;
                }
                candidates.remove(chosen);
            }
        }
        None
    }

    /// Tells whether [`acquire`](Self::acquire) would find a target now.
    #[must_use]
    pub fn has_eligible(&self, query: &Query<'_>) -> bool {
        let table = self.0.table.load();
        let view = self.view(&table, query);
        self.known_group_of(&table, query).is_some_and(|group| view.first_open(group).is_some())
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
        Permit::take(&self.0, target, None, Instant::now())
    }

    /// Returns why a request would find no target, and how long until one that may serve it admits one, whatever was tried.
    #[must_use]
    pub fn outlook(&self, query: &Query<'_>) -> NoTarget {
        let table = self.0.table.load();
        let view = self.view(&table, query);
        self.known_group_of(&table, query).map_or(NoTarget::not_served(), |group| self.why_not(group, view))
    }

    /// Returns what a request waits for that only a target can serve which was not tried and cannot be now; `None` when there is
    /// no such.
    pub(crate) fn outlook_of_untried(&self, query: &Query<'_>) -> Option<NoTarget> {
        let table = self.0.table.load();
        let view = self.view(&table, query);
        view.of_untried(self.known_group_of(&table, query)?)
    }

    fn why_not(&self, group: &Group, view: View<'_>) -> NoTarget {
        view.why_not(group, self.probe_interval()).spread(&self.0.spread)
    }

    /// All that a query can see now.
    pub(in crate::pool) fn view<'a>(&self, table: &Table, query: &'a Query<'a>) -> View<'a> {
        View::new(query, &table.description.thresholds, self.0.epoch, Instant::now())
    }
}

/// An index that a policy returned, among so many candidates, of which there is at least one.
pub(crate) fn in_range(index: usize, candidates: usize) -> usize {
    debug_assert!(index < candidates, "the policy chose index {index} among {candidates} candidates");
    index.min(candidates - 1)
}
