use std::time::Duration;

use serde::Serialize;

use super::releases::ReleasesReport;
use super::svg;
use super::world::End;

/// Outcome of a scenario under one way of routing.
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
    /// Time for which requests were made.
    pub lasted_ms: u64,
    /// Ends of the requests.
    pub requests: Requests,
    /// The same of each kind of [traffic](super::Traffic), in the order of the scenario; empty where there is but one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Requests>,
    /// From the request to the first content of the answer, repeats of the library included; to the whole of an answer that is not
    /// streamed. Of the requests that were served.
    pub first_content_ms: Percentiles,
    /// Attempts at backends.
    pub attempts: Attempts,
    /// Tokens that were worked on for a request beyond its most expensive attempt.
    pub tokens_spent_twice: u64,
    /// Of a [recording](super::Scenario::recorded): the share of the attempts whose outcome was recorded. Those of the others are a
    /// model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taped: Option<f64>,
    /// By priority, the lowest number first.
    pub tiers: Vec<Tier>,
    /// In the order of the scenario.
    pub targets: Vec<TargetReport>,
    /// Clients and their releases; `None` where an alias has but one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub releases: Option<ReleasesReport>,
    /// Clients with [limits](super::Scenario::limits), in the order of their numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientReport>,
    /// Result of a router that [knows everything](super#the-all-knowing-router) made of the same scenario.
    pub all_knowing: AllKnowing,
    /// Course of events, in stretches of equal length.
    pub timeline: Vec<Moment>,
    /// The weather, in the order of the scenario's backends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weather: Vec<Spell>,
    /// Aliases that the traffic asks for and no backend serves: a name that is misspelt, most likely.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unserved_aliases: Vec<String>,
}

/// Weather over one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Spell {
    /// The backend's name.
    pub backend: String,
    /// Name of the weather, such as `connections refused`.
    pub weather: String,
    /// Beginning.
    pub from_ms: u64,
    /// End, by that of the scenario at the latest.
    pub until_ms: u64,
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

/// Attempts at backends.
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

/// Figures of one client that has limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClientReport {
    /// Its id.
    pub client: String,
    /// Ends of its requests. What its limits refuse, and its library does not repeat with success, is refused.
    pub requests: Requests,
    /// Tokens that were worked on for it.
    pub tokens: u64,
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

/// Figures of one target.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TargetReport {
    /// The backend's name.
    pub backend: String,
    /// The alias that it serves.
    pub alias: String,
    /// The deployment's name: the alias, and [what sets it apart](super::Deployment::version).
    pub deployment: String,
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
    /// Return to it after the end of a hint.
    pub after_hint: ReturnReport,
    /// Return to it after the end of an outage in which it was tried.
    pub after_outage: ReturnReport,
    /// Of a provisioned deployment: the share of its capacity that was used while requests were made.
    pub utilization: Option<f64>,
    /// Of a provisioned deployment: the share of its capacity that was lost while it was [wanted](super#a-ptu-that-is-not-asked).
    /// Of any target to which nothing was ever sent: the share of the time in which it would have served while others of its
    /// priority, or of a higher priority number, were sent requests for its alias, or these were refused.
    pub idle: Option<f64>,
    /// The share of the time in which it was [left alone although it would have served](super#a-ptu-that-is-not-asked).
    pub overslept: f64,
}

/// Time until a target was used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReturnReport {
    /// Number of returns.
    pub times: u64,
    /// The longest that it took.
    pub longest_ms: u64,
    /// The most requests for its alias that the router had before it sent one here, that one included: 1 is at once.
    pub most_requests: u64,
}

/// Result of a router that [knows everything](super#the-all-knowing-router) made of the scenario.
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
    /// Beginning.
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

/// State of a target, as shares of a stretch of time. What is left of the circuit's three is closed.
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

    /// Goodput as a share of what the all-knowing router reached; 0 where that could serve nothing, or was asked for nothing.
    #[must_use]
    pub fn share_of_all_knowing(&self) -> f64 {
        if self.all_knowing.served > 0 { self.goodput() / self.all_knowing.goodput } else { 0.0 }
    }

    /// Requests that arrived at targets which had asked to wait.
    #[must_use]
    pub fn during_hint(&self) -> u64 {
        self.targets.iter().map(|target| target.during_hint).sum()
    }

    /// A picture of the timeline: requests by what became of them, latency, and how circuits and backends stood.
    #[must_use]
    pub fn to_svg(&self) -> String {
        svg::draw(self)
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

    /// One client that has limits, by its id.
    ///
    /// # Panics
    /// No such client asked for anything, or it has no limits.
    #[must_use]
    #[track_caller]
    pub fn client(&self, client: &str) -> &ClientReport {
        let found = self.clients.iter().find(|report| report.client == client);
        found.unwrap_or_else(|| panic!("the scenario has no limited client `{client}`\n{self}"))
    }
}

/// Assertions that show the report when they fail.
///
/// Each of them also fails for a scenario that proves nothing: one in which nothing was asked, in which an alias was asked for that
/// no backend serves, or in which even the [all-knowing router](super#the-all-knowing-router) could serve nothing.
#[expect(clippy::must_use_candidate, reason = "one assertion may be all that is wanted")]
impl Report {
    /// Goodput is at least this.
    ///
    /// # Panics
    /// It is not; shows the report.
    #[track_caller]
    pub fn assert_goodput_at_least(&self, share: f64) -> &Self {
        self.assert_proves_something();
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
        self.assert_proves_something();
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
        self.assert_proves_something();
        let sent = self.during_hint();
        assert!(sent == 0, "{sent} requests were sent to targets that had asked to wait\n{self}");
        self
    }

    /// Half of the requests that were served got their first content within this time, repeats of the client's library included.
    ///
    /// # Panics
    /// They did not, or nothing was served; shows the report.
    #[track_caller]
    pub fn assert_first_content_p50_at_most(&self, limit: Duration) -> &Self {
        self.assert_first_content("p50", self.first_content_ms.p50, limit)
    }

    /// Ninety-nine in a hundred of the requests that were served got their first content within this time, repeats of the client's
    /// library included.
    ///
    /// # Panics
    /// They did not, or nothing was served; shows the report.
    #[track_caller]
    pub fn assert_first_content_p99_at_most(&self, limit: Duration) -> &Self {
        self.assert_first_content("p99", self.first_content_ms.p99, limit)
    }

    /// No more tokens than this were worked on, and so paid for, a second time.
    ///
    /// # Panics
    /// More were; shows the report.
    #[track_caller]
    pub fn assert_tokens_spent_twice_at_most(&self, tokens: u64) -> &Self {
        self.assert_proves_something();
        let twice = self.tokens_spent_twice;
        assert!(twice <= tokens, "{twice} tokens were spent twice, not at most {tokens}\n{self}");
        self
    }

    #[track_caller]
    fn assert_first_content(&self, rank: &str, took: u64, limit: Duration) -> &Self {
        self.assert_proves_something();
        assert!(self.requests.served > 0, "nothing was served, so that there is no first content\n{self}");
        let limit = limit.as_millis();
        assert!(u128::from(took) <= limit, "the first content took {took} ms ({rank}), not at most {limit} ms\n{self}");
        self
    }

    #[track_caller]
    pub(super) fn assert_proves_something(&self) {
        let unserved = self.unserved_aliases.join("`, `");
        assert!(unserved.is_empty(), "the traffic asks for `{unserved}`, which no backend serves\n{self}");
        assert!(self.requests.offered > 0, "nothing was asked: the scenario has no traffic\n{self}");
        assert!(self.all_knowing.served > 0, "nothing could be served, whoever had routed it\n{self}");
    }
}

impl Requests {
    /// Returns the share of those that were served, of those whose clients stayed; 1 without requests.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        let stayed = self.offered - self.abandoned;
        if stayed > 0 { self.served as f64 / stayed as f64 } else { 1.0 }
    }

    pub(super) fn add(&mut self, end: End) {
        self.offered += 1;
        *match end {
            End::Abandoned => &mut self.abandoned,
            End::Broken => &mut self.broken,
            End::Refused => &mut self.refused,
            End::Served { .. } => &mut self.served,
        } += 1;
    }
}
