//! Every target with all that stands between it and a query.

use super::Pool;
use super::barriers::{Barrier, Barriers, View};
use super::filter::Filter;
use super::table::{Group, Seat, Table};
use crate::pool::live::{Target, TargetSet};

/// A target with what stands between it and a query.
pub(in crate::pool) type Surveyed = (Target, Barriers);

impl Pool {
    /// First those that serve the alias, in the order in which they are tried, then all others in the order of configuration.
    pub(in crate::pool) fn survey(&self, table: &Table, view: View<'_>) -> Vec<Surveyed> {
        let mut surveyed = self.survey_alias(table, view);
        let Some(alias) = view.query.alias.map(|name| table.alias_of(name)) else { return surveyed };
        let mut listed = TargetSet::default();
        for (target, _) in &surveyed {
            listed.insert(target);
        }
        let others = table.deployed().filter(|target| !listed.contains(target));
        surveyed.extend(others.map(|target| {
            let barrier = if target.alias() == Some(alias) { Barrier::OtherRelease } else { Barrier::NotServed };
            (target.clone(), Barriers::only(barrier))
        }));
        surveyed
    }

    /// Of those that serve the alias; where the release is not known, of one release after the other.
    pub(in crate::pool) fn survey_alias(&self, table: &Table, view: View<'_>) -> Vec<Surveyed> {
        self.known_groups_of(table, view.query).into_iter().flat_map(|group| view.survey(group)).collect()
    }
}

impl View<'_> {
    fn survey(self, group: &Group) -> Vec<Surveyed> {
        // Without identity a target is the last resort: only where nobody else is chosen from.
        let open = self.chosen_from(group).or_else(|| Some(self.within(self.first_open(group)?)));
        let (part, mut surveyed, mut found) = (open.unwrap_or_else(|| self.of_verdict(group)), Vec::new(), false);
        for tier in group.tiers() {
            let ahead = found;
            for target in tier.iter().map(Seat::target) {
                let mut barriers = self.barriers(target);
                let is_here = part.scope.holds(target);
                found |= barriers.is_empty() && is_here;
                // A part that is looked in later comes behind, and not at all where an earlier one is waited for.
                barriers = match open {
                    Some(_) if ahead || !is_here => barriers.with(Barrier::Behind),
                    None if !is_here => barriers.with(Barrier::PinnedElsewhere),
                    _ => barriers,
                };
                surveyed.push((target.clone(), barriers));
            }
        }
        surveyed
    }

    /// The part of the pool that the policy chooses from: the first with a target that nothing stands between.
    fn chosen_from(self, group: &Group) -> Option<Self> {
        self.first(group, |part| {
            let filter = Filter::new(group, part);
            let mut open = group.seats().filter(|seat| filter.admits(seat)).map(Seat::target);
            open.any(|target| !part.is_barred(Barrier::NoIdentity, target)).then_some(part)
        })
    }
}
