use std::fmt;

use serde::Serialize;

use super::site::{Returns, Site};
use super::svg;
use super::traffic::Job;
use super::watch::Stood;
use super::world::{End, Record};

/// What became of a scenario under one way of routing.
///
/// Displays as a table, serialises, and [draws itself](Self::to_svg). A request is what a client's caller wants: the repeats of
/// its library belong to it. All times are milliseconds of virtual time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The name of the scenario.
    pub scenario: String,
    /// The way of routing.
    pub strategy: String,
    /// The seed that it was run with.
    pub seed: u64,
    /// How long requests were made.
    pub lasted_ms: u64,
    /// What became of the requests.
    pub requests: Requests,
    /// From the request to the first content of the answer, repeats of the library included; to the whole of an answer that is not
    /// streamed. Of the requests that were served.
    pub first_content_ms: Percentiles,
    /// What was sent to backends.
    pub attempts: Attempts,
    /// Tokens that were worked on for a request beyond its most expensive attempt.
    pub tokens_spent_twice: u64,
    /// By priority, the lowest number first.
    pub tiers: Vec<Tier>,
    /// In the order of the scenario.
    pub targets: Vec<TargetReport>,
    /// What a router that [knows everything](super#the-all-knowing-router) made of the same scenario.
    pub all_knowing: AllKnowing,
    /// What happened when, in stretches of equal length.
    pub timeline: Vec<Moment>,
}

/// Numbers of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Requests {
    /// Those below together.
    pub offered: u64,
    /// A whole answer.
    pub served: u64,
    /// No answer, after all repeats of the client's library.
    pub refused: u64,
    /// An answer that began and broke off, or reported an error inside.
    pub broken: u64,
    /// The client went away first.
    pub abandoned: u64,
}

/// Of a distribution of milliseconds; zero without requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Percentiles {
    /// Half of them are not longer.
    pub p50: u64,
    /// Nine in ten.
    pub p90: u64,
    /// Ninety-nine in a hundred.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

/// What was sent to backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Attempts {
    /// Of all requests together.
    pub total: u64,
    /// On average.
    pub per_request: f64,
    /// For one request, repeats of the library included.
    pub most: u64,
}

/// The targets of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tier {
    /// Lower is tried first.
    pub priority: u32,
    /// Requests that ended well there.
    pub served: u64,
    /// Tokens that were worked on there.
    pub tokens: u64,
}

/// What was seen at one target.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TargetReport {
    /// The backend's name.
    pub backend: String,
    /// The alias, which is also the deployment's name.
    pub alias: String,
    /// Lower is tried first.
    pub priority: u32,
    /// Requests that arrived.
    pub attempts: u64,
    /// Requests that ended well here.
    pub served: u64,
    /// 429 answers.
    pub throttled: u64,
    /// Other errors, connections that failed among them.
    pub failed: u64,
    /// Tokens that were worked on.
    pub tokens: u64,
    /// Requests that arrived while the target had asked to wait. A hint counts from when it was delivered, and for at most 60 s.
    pub during_hint: u64,
    /// How soon it was used again after the end of a hint.
    pub after_hint: ReturnReport,
    /// How soon it was used again after the end of an outage in which it was tried.
    pub after_outage: ReturnReport,
    /// Of a provisioned deployment: the share of its capacity that was used while requests were made.
    pub utilization: Option<f64>,
    /// The share of the time in which it was neither asked nor had it asked to wait, would have served, and a request that it could
    /// have served had gone to a target of a higher priority number, or been refused.
    pub idle: f64,
}

/// How soon a target was used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReturnReport {
    /// How often it was.
    pub times: u64,
    /// The longest that it took.
    pub longest_ms: u64,
    /// The most requests for its alias that the router had before it sent one here, that one included: 1 is at once.
    pub most_requests: u64,
}

/// What a router that [knows everything](super#the-all-knowing-router) made of the scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AllKnowing {
    /// Requests that it served.
    pub served: u64,
    /// As [`Report::goodput`].
    pub goodput: f64,
    /// In each moment of the timeline.
    pub timeline: Vec<u64>,
}

/// A stretch of the timeline. Requests are counted when they are made.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Moment {
    /// When it begins.
    pub from_ms: u64,
    /// All requests.
    pub offered: u64,
    /// By the target that served, in the order of [`Report::targets`].
    pub served: Vec<u64>,
    /// Requests without an answer.
    pub refused: u64,
    /// Answers that broke off.
    pub broken: u64,
    /// Half of the first contents did not take longer.
    pub p50_ms: u64,
    /// Nineteen in twenty.
    pub p95_ms: u64,
    /// In the order of [`Report::targets`].
    pub circuits: Vec<CircuitShares>,
}

/// How a target stood, as shares of a stretch of time. What is left of the circuit's three is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CircuitShares {
    /// Its circuit was open because it had asked to wait.
    pub throttled: f64,
    /// Its circuit was open because it had failed.
    pub failing: f64,
    /// Its circuit was half-open, with a request under way.
    pub probing: f64,
    /// It would have served, whatever its circuit said.
    pub able: f64,
}

impl Report {
    /// The share of the requests that were served, of those whose clients stayed; 1 without requests.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.requests.goodput()
    }

    /// Goodput as a share of what the all-knowing router reached.
    #[must_use]
    pub fn share_of_all_knowing(&self) -> f64 {
        if self.all_knowing.goodput > 0.0 { self.goodput() / self.all_knowing.goodput } else { 1.0 }
    }

    /// Requests that arrived at targets which had asked to wait.
    #[must_use]
    pub fn during_hint(&self) -> u64 {
        self.targets.iter().map(|target| target.during_hint).sum()
    }

    /// The first target of a backend.
    ///
    /// # Panics
    /// The scenario has no such backend.
    #[must_use]
    #[track_caller]
    pub fn target(&self, backend: &str) -> &TargetReport {
        let found = self.targets.iter().find(|target| target.backend == backend);
        found.unwrap_or_else(|| panic!("the scenario has no backend `{backend}`\n{self}"))
    }

    /// Goodput is at least this.
    ///
    /// # Panics
    /// It is not; shows the report.
    #[track_caller]
    pub fn assert_goodput_at_least(&self, share: f64) -> &Self {
        let goodput = self.goodput();
        assert!(goodput >= share, "goodput is {goodput:.4}, not at least {share}\n{self}");
        self
    }

    /// Goodput is at least this share of what the all-knowing router reached.
    ///
    /// # Panics
    /// It is not; shows the report.
    #[track_caller]
    pub fn assert_share_of_all_knowing_at_least(&self, share: f64) -> &Self {
        let reached = self.share_of_all_knowing();
        assert!(
            reached >= share,
            "the share of the all-knowing router's goodput is {reached:.4}, not at least {share}\n{self}"
        );
        self
    }

    /// Nothing was sent to a target that had asked to wait.
    ///
    /// # Panics
    /// Something was; shows the report.
    #[track_caller]
    pub fn assert_hints_obeyed(&self) -> &Self {
        let sent = self.during_hint();
        assert!(sent == 0, "{sent} requests were sent to targets that had asked to wait\n{self}");
        self
    }

    /// A picture of the timeline: requests by what became of them, latency, and how circuits and backends stood.
    #[must_use]
    pub fn to_svg(&self) -> String {
        svg::draw(self)
    }
}

impl Requests {
    fn goodput(&self) -> f64 {
        let stayed = self.offered - self.abandoned;
        if stayed > 0 { self.served as f64 / stayed as f64 } else { 1.0 }
    }

    fn add(&mut self, end: End) {
        self.offered += 1;
        *match end {
            End::Abandoned => &mut self.abandoned,
            End::Broken => &mut self.broken,
            End::Refused => &mut self.refused,
            End::Served { .. } => &mut self.served,
        } += 1;
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

// ===== from a run =====

/// All that was seen in a run.
pub(super) struct Run {
    pub(super) jobs: Vec<Job>,
    pub(super) records: Vec<Record>,
    pub(super) sites: Vec<Site>,
    /// Of each site while requests were made.
    pub(super) utilizations: Vec<Option<f64>>,
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
            first_content_ms: Percentiles::of(&sorted(self.pairs().filter_map(|(_, record)| first_content(record)))),
            attempts,
            tokens_spent_twice: self.records.iter().map(|record| record.tokens - record.most_tokens).sum(),
            tiers: self.tiers(),
            targets: self.targets(),
            all_knowing,
            timeline: self.timeline(),
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
        let report = |(site, utilization): (&Site, &Option<f64>)| {
            let seen = &site.seen;
            TargetReport {
                backend: site.backend.clone(),
                alias: site.alias.clone(),
                priority: site.priority,
                attempts: seen.attempts,
                served: seen.served,
                throttled: seen.throttled,
                failed: seen.failed,
                tokens: seen.tokens,
                during_hint: seen.during_hint,
                after_hint: seen.after_hint.into(),
                after_outage: seen.after_outage.into(),
                utilization: *utilization,
                idle: seen.idle as f64 / self.horizon.max(1) as f64,
            }
        };
        self.sites.iter().zip(&self.utilizations).map(report).collect()
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

// ===== Display =====

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Requests { offered, served, refused, broken, abandoned } = self.requests;
        let Percentiles { p50, p90, p99, max } = self.first_content_ms;
        let minutes = self.lasted_ms as f64 / 60_000.0;
        writeln!(f, "{} under {}, seed {}, {minutes} min", self.scenario, self.strategy, self.seed)?;
        writeln!(
            f,
            "  requests       {offered}: {served} served, {refused} refused, {broken} broken, {abandoned} abandoned"
        )?;
        writeln!(
            f,
            "  goodput        {:.2} %, {:.2} % of the all-knowing router's {:.2} %",
            100.0 * self.goodput(),
            100.0 * self.share_of_all_knowing(),
            100.0 * self.all_knowing.goodput
        )?;
        writeln!(f, "  first content  p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, max {max} ms")?;
        let Attempts { per_request, most, .. } = self.attempts;
        writeln!(f, "  attempts       {per_request:.3} per request, at most {most}")?;
        writeln!(f, "  spent twice    {} tokens", self.tokens_spent_twice)?;
        self.fmt_targets(f)
    }
}

const COLUMNS: [&str; 12] = [
    "target",
    "tier",
    "attempts",
    "served",
    "429",
    "failed",
    "tokens",
    "in hint",
    "after hint",
    "after outage",
    "used",
    "idle",
];

impl Report {
    fn fmt_targets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![COLUMNS.map(str::to_owned)];
        rows.extend(self.targets.iter().map(TargetReport::row));
        let widths: Vec<_> =
            (0..COLUMNS.len()).map(|i| rows.iter().map(|row| row[i].len()).max().unwrap_or(0)).collect();
        for row in rows {
            write!(f, "  {:<width$}", row[0], width = widths[0])?;
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl TargetReport {
    fn row(&self) -> [String; COLUMNS.len()] {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        [
            format!("{}/{}", self.backend, self.alias),
            self.priority.to_string(),
            self.attempts.to_string(),
            self.served.to_string(),
            self.throttled.to_string(),
            self.failed.to_string(),
            self.tokens.to_string(),
            self.during_hint.to_string(),
            self.after_hint.to_string(),
            self.after_outage.to_string(),
            self.utilization.map_or_else(|| "-".to_owned(), percent),
            percent(self.idle),
        ]
    }
}

impl fmt::Display for ReturnReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.times {
            0 => f.write_str("-"),
            _ => write!(f, "{} ms, {} req", self.longest_ms, self.most_requests),
        }
    }
}
