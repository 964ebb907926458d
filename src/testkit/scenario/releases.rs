//! Releases in a scenario: shares that change while it runs, and which client was sent to which.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::iter::Peekable;
use std::vec;

use serde::Serialize;
use tokio::time::sleep_until;

use super::report::Report;
use super::run::Run;
use super::table::columns;
use super::world::{Azure, End};
use crate::pool::{Pool, Release};

/// Fate of the releases of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReleasesReport {
    /// Requests that were sent to targets of more than one release. A repeat of a client's library is another request here.
    pub crossed: u64,
    /// Number of times that a client came to another release than its last request had been sent to.
    pub moves: u64,
    /// Those of them that no change of shares required: the share of the release that the client came to had not grown relative
    /// to that of the one it left.
    pub needless_moves: u64,
    /// In the order of the scenario.
    pub releases: Vec<ReleaseReport>,
}

/// Report on one release.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReleaseReport {
    /// The alias that it is behind.
    pub alias: String,
    /// The model.
    pub model: String,
    /// The version of the model.
    pub version: String,
    /// From one change of any share to the next.
    pub phases: Vec<ReleasePhase>,
}

/// Report on a release while the shares were the same. What is sent to a target counts when it arrives there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReleasePhase {
    /// Beginning.
    pub from_ms: u64,
    /// The share of the clients, relative to the alias's other releases.
    pub share: u32,
    /// Requests that arrived at its targets.
    pub attempts: u64,
    /// Requests that ended well there.
    pub served: u64,
    /// Tokens that were worked on.
    pub tokens: u64,
    /// Clients of which a request arrived.
    pub clients: u64,
    /// Clients that came from another release.
    pub came: u64,
}

impl Report {
    /// No request was sent to targets of more than one release, and no client changed its release without need.
    ///
    /// # Panics
    /// One was, or did; shows the report.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "one assertion may be all that is wanted")]
    pub fn assert_releases_kept(&self) -> &Self {
        let (crossed, needless) = self.releases.as_ref().map_or((0, 0), |seen| (seen.crossed, seen.needless_moves));
        assert!(crossed == 0, "{crossed} requests were sent to targets of more than one release\n{self}");
        assert!(needless == 0, "clients changed their release {needless} times without need\n{self}");
        self
    }
}

/// The shares from one change to the next.
#[derive(Debug)]
pub(super) struct Phase {
    from: u64,
    /// In the order of the releases.
    shares: Vec<u32>,
}

/// A request has arrived at a site.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) request: usize,
    pub(super) client: u32,
    /// Number of times that the client had repeated it.
    pub(super) tried: u32,
    pub(super) site: usize,
    pub(super) phase: usize,
    pub(super) tokens: u64,
}

/// The changes of shares that are to come, and those that were.
pub(super) struct Changes {
    scenario: String,
    releases: Vec<Release>,
    coming: Peekable<vec::IntoIter<(u64, Release)>>,
    phases: Vec<Phase>,
}

impl Changes {
    pub(super) fn new(scenario: String, releases: &[Release], mut coming: Vec<(u64, Release)>) -> Self {
        coming.sort_by_key(|(at, _)| *at);
        let first = Phase { from: 0, shares: releases.iter().map(|release| release.share).collect() };
        Self { scenario, releases: releases.to_vec(), coming: coming.into_iter().peekable(), phases: vec![first] }
    }

    /// Makes those that are due until then.
    pub(super) async fn until(&mut self, time: u64, pool: &Pool, azure: &Azure) {
        while let Some((at, release)) = self.coming.next_if(|(at, _)| *at <= time) {
            sleep_until(azure.at(at)).await;
            let Release { alias, model, version, share } = &release;
            pool.set_share(alias, model, version, *share)
                .unwrap_or_else(|problem| panic!("scenario `{}`: {problem}", self.scenario));
            self.note(at, &release);
            azure.state().phase = self.phases.len() - 1;
        }
    }

    fn note(&mut self, at: u64, changed: &Release) {
        if let Some(last) = self.phases.last().filter(|last| last.from < at) {
            self.phases.push(Phase { from: at, shares: last.shares.clone() });
        }
        let Some(now) = self.phases.last_mut() else { return };
        for (release, share) in self.releases.iter().zip(&mut now.shares) {
            if release.is(&changed.alias, &changed.model, &changed.version) {
                *share = changed.share;
            }
        }
    }

    pub(super) fn into_phases(self) -> Vec<Phase> {
        self.phases
    }
}

impl Run {
    /// Returns what was seen of the releases, if there are any.
    pub(super) fn releases(&self) -> Option<ReleasesReport> {
        let described = |(at, release): (usize, &Release)| ReleaseReport {
            alias: release.alias.clone(),
            model: release.model.clone(),
            version: release.version.clone(),
            phases: self.phases.iter().map(|phase| phase.begun(at)).collect(),
        };
        let mut report = ReleasesReport {
            releases: self.releases.iter().enumerate().map(described).collect(),
            ..ReleasesReport::default()
        };
        self.count(&mut report);
        self.follow_clients(&mut report);
        (!report.releases.is_empty()).then_some(report)
    }

    /// Each arrival at a release.
    fn arrivals(&self) -> impl Iterator<Item = (&Arrival, usize)> {
        self.arrivals.iter().filter_map(|arrival| Some((arrival, self.sites[arrival.site].release?)))
    }

    fn count(&self, report: &mut ReleasesReport) {
        let (mut clients, mut last) = (BTreeSet::new(), BTreeMap::new());
        for (arrival, release) in self.arrivals() {
            let phase = &mut report.releases[release].phases[arrival.phase];
            phase.attempts += 1;
            phase.tokens += arrival.tokens;
            phase.clients += u64::from(clients.insert((release, arrival.phase, arrival.client)));
            last.insert(arrival.request, (release, arrival.phase));
        }
        for (request, (release, phase)) in last {
            let served = matches!(self.records[request].end, End::Served { .. });
            report.releases[release].phases[phase].served += u64::from(served);
        }
    }

    fn follow_clients(&self, report: &mut ReleasesReport) {
        let (mut requests, mut crossed, mut clients) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        for (arrival, release) in self.arrivals() {
            let request = (arrival.request, arrival.tried);
            match requests.entry(request) {
                Entry::Occupied(first) if *first.get() != release => _ = crossed.insert(request),
                Entry::Occupied(_) => {}
                Entry::Vacant(first) => {
                    first.insert(release);
                    let alias = &self.releases[release].alias;
                    let before = clients.insert((alias, arrival.client), (release, arrival.phase));
                    let Some((left, then)) = before.filter(|(left, _)| *left != release) else { continue };
                    report.moves += 1;
                    report.needless_moves += u64::from(!self.grew(release, left, then, arrival.phase));
                    report.releases[release].phases[arrival.phase].came += 1;
                }
            }
        }
        report.crossed = crossed.len() as u64;
    }

    /// Tells whether the share of a release has grown, relative to that of another one, from one phase to another.
    fn grew(&self, release: usize, other: usize, from: usize, to: usize) -> bool {
        let share = |release: usize, phase: usize| u64::from(self.phases[phase].shares[release]);
        share(release, to) * share(other, from) > share(release, from) * share(other, to)
    }
}

impl Phase {
    fn begun(&self, release: usize) -> ReleasePhase {
        ReleasePhase { from_ms: self.from, share: self.shares[release], ..ReleasePhase::default() }
    }
}

const COLUMNS: [&str; 8] = ["release", "from", "share", "attempts", "served", "tokens", "clients", "came"];

impl fmt::Display for ReleasesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crossed, moves, needless_moves, .. } = self;
        writeln!(
            f,
            "  releases       {crossed} requests crossed; {moves} moves of clients, {needless_moves} needless"
        )?;
        let mut rows = vec![COLUMNS.map(str::to_owned)];
        let row = |release: &ReleaseReport, phase: &ReleasePhase| {
            [
                format!("{} = {} {}", release.alias, release.model, release.version),
                format!("{} s", phase.from_ms as f64 / 1_000.0),
                phase.share.to_string(),
                phase.attempts.to_string(),
                phase.served.to_string(),
                phase.tokens.to_string(),
                phase.clients.to_string(),
                phase.came.to_string(),
            ]
        };
        for release in &self.releases {
            rows.extend(release.phases.iter().map(|phase| row(release, phase)));
        }
        columns(f, &rows)
    }
}
