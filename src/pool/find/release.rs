//! Releases and their clients: which targets of an alias a request may get at all.

use super::rendezvous;
use super::table::{Alias, Group, ReleaseGroup, Table};
use super::{Pool, Query};
use crate::azure::stable_hash;
use crate::pool::live::TargetSet;

impl Pool {
    /// Whom a request is for now; for a request of nobody in particular, the release is drawn.
    pub(in crate::pool) fn group_of<'t>(&self, table: &'t Table, query: &Query<'_>) -> Option<&'t Group> {
        let Some(alias) = query.alias else { return table.group(None) };
        let alias = table.alias(alias)?;
        if alias.releases.is_empty() {
            return Some(&alias.all);
        }
        let key = || query.client.map_or_else(|| self.next_draw(), |client| stable_hash([client.as_bytes()]));
        let release = alias.begun(query).or_else(|| alias.assigned(query, key()))?;
        Some(&release.group)
    }

    /// The same without a draw: where the release is not known, all that may be drawn.
    pub(in crate::pool) fn known_group_of<'t>(&self, table: &'t Table, query: &Query<'_>) -> Option<&'t Group> {
        match query.alias {
            Some(alias) if query.may_be_drawn() => {
                let alias = table.alias(alias)?;
                Some(if query.is_required() { &alias.all } else { &alias.offered })
            }
            _ => self.group_of(table, query),
        }
    }

    /// The same, each release that may be drawn apart.
    pub(in crate::pool) fn known_groups_of<'t>(&self, table: &'t Table, query: &Query<'_>) -> Vec<&'t Group> {
        let releases = query.alias.and_then(|alias| table.alias(alias)).map_or(&[][..], |alias| &alias.releases);
        if releases.is_empty() || query.is_required() || !query.may_be_drawn() {
            return self.known_group_of(table, query).into_iter().collect();
        }
        releases.iter().filter(|release| release.share > 0).map(|release| &release.group).collect()
    }
}

impl Query<'_> {
    /// Tells whether nothing says which release the request has.
    fn may_be_drawn(&self) -> bool {
        self.client.is_none() && self.tried.is_none_or(TargetSet::is_empty)
    }
}

impl Alias {
    /// The release that the request was sent to before.
    fn begun(&self, query: &Query<'_>) -> Option<&ReleaseGroup> {
        let tried = query.tried.filter(|tried| !tried.is_empty())?;
        self.releases.iter().find(|release| release.group.targets().any(|target| tried.contains(target)))
    }

    /// The release that the key falls to, among those that could ever serve the query: with the credential that it has, if there
    /// are such.
    fn assigned(&self, query: &Query<'_>, key: u64) -> Option<&ReleaseGroup> {
        let reach = query.reach();
        let rank = |release: &ReleaseGroup| {
            let able = || release.group.targets().filter(|target| query.allows(target));
            able().next()?;
            let is_shown = able().any(|target| query.suits(target));
            let leads_there = able().any(|target| reach.holds(target));
            // State stays where it is, though nothing new is sent there.
            let is_offered = release.share > 0;
            let draw = rendezvous::draw(key, release.identity);
            let score = rendezvous::score(f64::from(release.share.max(1)), draw);
            (is_offered || leads_there && query.is_required()).then_some(((is_shown, leads_there, is_offered), score))
        };
        let ranked = self.releases.iter().filter_map(|release| Some((rank(release)?, release)));
        let highest = ranked.max_by(|((a, one), _), ((b, other), _)| a.cmp(b).then(one.total_cmp(other)));
        highest.map(|(_, release)| release)
    }
}
