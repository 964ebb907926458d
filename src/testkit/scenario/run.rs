//! From what was seen in a run to its report.

use std::collections::BTreeSet;

use super::releases::{Arrival, Phase};
use super::report::{
    AllKnowing, Attempts, CircuitShares, ClientReport, Moment, Percentiles, Report, Requests, ReturnReport,
    TargetReport, Tier,
};
use super::site::{Returns, Site};
use super::traffic::Job;
use super::watch::Stood;
use super::world::{End, Record};
use crate::pool::Release;

/// All that was seen in a run.
pub(super) struct Run {
    /// The clients that have limits.
    pub(super) limited: BTreeSet<u32>,
    pub(super) jobs: Vec<Job>,
    pub(super) records: Vec<Record>,
    pub(super) releases: Vec<Release>,
    pub(super) phases: Vec<Phase>,
    /// At releases only.
    pub(super) arrivals: Vec<Arrival>,
    pub(super) sites: Vec<Site>,
    /// Of each provisioned site while requests were made: what was used, and what was lost while it was wanted.
    pub(super) usages: Vec<Option<(f64, f64)>>,
    pub(super) moments: Vec<Vec<Stood>>,
    pub(super) moment: u64,
    pub(super) horizon: u64,
}

impl Run {
    pub(super) fn all_knowing(&self) -> AllKnowing {
        let requests = self.requests();
        let mut timeline = vec![0; self.moments.len()];
        for (job, record) in self.pairs() {
            if matches!(record.end, End::Served { .. }) {
                timeline[(job.at / self.moment) as usize] += 1;
            }
        }
        AllKnowing { served: requests.served, goodput: requests.goodput(), timeline }
    }

    pub(super) fn report(mut self, scenario: String, strategy: String, seed: u64, all_knowing: AllKnowing) -> Report {
        for (record, end) in self.records.iter().map(|record| (record, record.end)) {
            self.sites[record.site].seen.served += u64::from(matches!(end, End::Served { .. }));
        }
        let total: u64 = self.records.iter().map(|record| u64::from(record.attempts)).sum();
        let attempts = Attempts {
            total,
            per_request: if self.jobs.is_empty() { 0.0 } else { total as f64 / self.jobs.len() as f64 },
            most: self.records.iter().map(|record| u64::from(record.attempts)).max().unwrap_or_default(),
        };
        Report {
            scenario,
            strategy,
            seed,
            lasted_ms: self.horizon,
            requests: self.requests(),
            traffic: self.traffic(),
            first_content_ms: Percentiles::of(&sorted(self.pairs().filter_map(|(_, record)| first_content(record)))),
            attempts,
            tokens_spent_twice: self.records.iter().map(|record| record.tokens - record.most_tokens).sum(),
            taped: self.taped(),
            tiers: self.tiers(),
            targets: self.targets(),
            releases: self.releases(),
            clients: self.limited.iter().map(|client| self.client(*client)).collect(),
            all_knowing,
            timeline: self.timeline(),
            weather: Vec::new(),
            unserved_aliases: Vec::new(),
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (&Job, &Record)> {
        self.jobs.iter().zip(&self.records)
    }

    fn requests(&self) -> Requests {
        let mut requests = Requests::default();
        self.records.iter().for_each(|record| requests.add(record.end));
        requests
    }

    fn traffic(&self) -> Vec<Requests> {
        let kinds = self.jobs.iter().map(|job| job.traffic + 1).max().unwrap_or_default();
        if kinds < 2 {
            return Vec::new();
        }
        let mut traffic = vec![Requests::default(); kinds];
        self.pairs().for_each(|(job, record)| traffic[job.traffic].add(record.end));
        traffic
    }

    fn client(&self, client: u32) -> ClientReport {
        let mut report = ClientReport { client: format!("client-{client}"), requests: Requests::default(), tokens: 0 };
        for (_, record) in self.pairs().filter(|(job, _)| job.client == client) {
            report.requests.add(record.end);
            report.tokens += record.tokens;
        }
        report
    }

    fn taped(&self) -> Option<f64> {
        self.jobs.iter().find(|job| job.recorded.is_some())?;
        let sum = |count: fn(&Site) -> u64| self.sites.iter().map(count).sum::<u64>();
        let (taped, attempts) = (sum(|site| site.seen.taped), sum(|site| site.seen.attempts));
        Some(if attempts > 0 { taped as f64 / attempts as f64 } else { 1.0 })
    }

    fn tiers(&self) -> Vec<Tier> {
        let mut priorities: Vec<_> = self.sites.iter().map(|site| site.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let tier = |priority| {
            let members = || self.sites.iter().filter(move |site| site.priority == priority);
            Tier {
                priority,
                served: members().map(|site| site.seen.served).sum(),
                tokens: members().map(|site| site.seen.tokens).sum(),
            }
        };
        priorities.into_iter().map(tier).collect()
    }

    fn targets(&self) -> Vec<TargetReport> {
        let report = |(index, site): (usize, &Site)| {
            let (seen, usage) = (&site.seen, self.usages.get(index).copied().flatten());
            let lost = usage.map(|(_, lost)| lost);
            TargetReport {
                backend: site.backend.clone(),
                alias: site.alias.clone(),
                deployment: site.deployment.clone(),
                priority: site.priority,
                attempts: seen.attempts,
                served: seen.served,
                throttled: seen.throttled,
                failed: seen.failed,
                tokens: seen.tokens,
                during_hint: seen.during_hint,
                after_hint: seen.after_hint.into(),
                after_outage: seen.after_outage.into(),
                utilization: usage.map(|(used, _)| used),
                idle: if seen.attempts == 0 { self.left_unused(index).or(lost) } else { lost },
                overslept: seen.overslept as f64 / self.horizon.max(1) as f64,
            }
        };
        self.sites.iter().enumerate().map(report).collect()
    }

    /// The share of the time in which a target that nothing was sent to would have served while others were asked in its place;
    /// `None` when they never were, as behind a first choice that suffices.
    fn left_unused(&self, index: usize) -> Option<f64> {
        let own = &self.sites[index];
        let is_wanted = |record: &Record| {
            let site = &self.sites[record.site];
            let may_be_sent_here = record.attempts > 0 && (&site.alias, site.release) == (&own.alias, own.release);
            may_be_sent_here && (site.priority >= own.priority || record.end == End::Refused)
        };
        let mut wanted = vec![false; self.moments.len()];
        self.pairs().filter(|(_, record)| is_wanted(record)).for_each(|(job, _)| {
            wanted[(job.at / self.moment) as usize] = true;
        });
        let stood = self.moments.iter().zip(wanted).filter(|(_, is_wanted)| *is_wanted).map(|(stood, _)| &stood[index]);
        let (looks, able) = stood.fold((0, 0), |(looks, able), stood| (looks + stood.looks, able + stood.able));
        (looks > 0).then(|| able as f64 / looks as f64)
    }

    fn timeline(&self) -> Vec<Moment> {
        let moment = |(index, stood): (usize, &Vec<Stood>)| Moment {
            from_ms: index as u64 * self.moment,
            offered: 0,
            served: vec![0; self.sites.len()],
            refused: 0,
            broken: 0,
            p50_ms: 0,
            p95_ms: 0,
            circuits: stood.iter().map(CircuitShares::from).collect(),
        };
        let mut timeline: Vec<_> = self.moments.iter().enumerate().map(moment).collect();
        let mut firsts = vec![Vec::new(); timeline.len()];
        for (job, record) in self.pairs() {
            let index = (job.at / self.moment) as usize;
            let moment = &mut timeline[index];
            moment.offered += 1;
            match record.end {
                End::Abandoned => {}
                End::Broken => moment.broken += 1,
                End::Refused => moment.refused += 1,
                End::Served { first } => {
                    moment.served[record.site] += 1;
                    firsts[index].push(first);
                }
            }
        }
        for (moment, firsts) in timeline.iter_mut().zip(firsts) {
            let sorted = sorted(firsts);
            (moment.p50_ms, moment.p95_ms) = (percentile(&sorted, 50), percentile(&sorted, 95));
        }
        timeline
    }
}

fn first_content(record: &Record) -> Option<u64> {
    match record.end {
        End::Served { first } => Some(first),
        _ => None,
    }
}

fn sorted(values: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable();
    values
}

impl From<Returns> for ReturnReport {
    fn from(returns: Returns) -> Self {
        Self { times: returns.times, longest_ms: returns.longest, most_requests: returns.most_requests }
    }
}

impl From<&Stood> for CircuitShares {
    fn from(stood: &Stood) -> Self {
        let share = |looks: u64| looks as f64 / stood.looks.max(1) as f64;
        Self {
            throttled: share(stood.throttled),
            failing: share(stood.failing),
            probing: share(stood.probing),
            able: share(stood.able),
        }
    }
}

impl Percentiles {
    fn of(sorted: &[u64]) -> Self {
        Self {
            p50: percentile(sorted, 50),
            p90: percentile(sorted, 90),
            p99: percentile(sorted, 99),
            max: sorted.last().copied().unwrap_or_default(),
        }
    }
}

/// The smallest that so many percent are not longer than.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    rank.checked_sub(1).and_then(|index| sorted.get(index)).copied().unwrap_or_default()
}
