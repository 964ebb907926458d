//! A snapshot of the pool for people and probes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::{Explained, Obstacle};
use crate::pool::describe::Release;
use crate::pool::find::{Pool, Query, Table};
use crate::pool::live::{CircuitState, Resource, Target, ceil_ms};

/// The pool at one moment. Serialises to the JSON of the status page; holds no endpoint and no credential.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolStatus {
    /// True if any backend could serve.
    pub ready: bool,
    /// In the order of configuration.
    pub backends: Vec<BackendStatus>,
    /// Releases, where an alias has several, in the order of configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<ReleaseStatus>,
}

/// One release of a [`PoolStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReleaseStatus {
    /// The name that clients use.
    pub alias: String,
    /// The model.
    pub model: String,
    /// The model's version.
    pub version: String,
    /// The share of the clients, relative to the alias's other releases.
    pub share: u32,
}

/// One backend of a [`PoolStatus`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BackendStatus {
    /// The configured name.
    pub name: String,
    /// The configured region.
    pub region: Option<String>,
    /// The configured geography.
    pub geography: Option<String>,
    /// Lower is tried first.
    pub priority: u32,
    /// The share inside the priority group that holds now; 0 is drained.
    pub weight: u32,
    /// The weight that was [set](Pool::set_weight) beside the description, if one was.
    #[serde(rename = "override")]
    pub weight_override: Option<u32>,
    /// The weight of the description.
    pub configured_weight: u32,
    /// True if it gets nothing new, by its weight or because it was [drained](Pool::drain).
    pub drained: bool,
    /// Requests now, streams counted to their end.
    pub in_flight: u32,
    /// `ok`, `key`, or a sentence that says what is wrong.
    pub identity: String,
    /// Reason why no connection can be made, and `None` while there is none to tell of.
    pub last_error: Option<String>,
    /// Milliseconds since that began.
    pub last_error_since_ms: Option<u64>,
    /// In the order of configuration.
    pub deployments: Vec<DeploymentStatus>,
}

/// One deployment of a [`BackendStatus`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeploymentStatus {
    /// The deployment's name on the backend.
    pub name: String,
    /// The name that clients use.
    pub alias: String,
    /// The model.
    pub model: String,
    /// The model's version, if it was told.
    pub version: Option<String>,
    /// Lower is tried first.
    pub priority: u32,
    /// The share inside the priority group that holds now.
    pub weight: u32,
    /// `closed`, `open` or `half-open`.
    pub circuit: &'static str,
    /// Milliseconds until a request will be sent again, while the circuit is open.
    pub reopens_in_ms: Option<u64>,
    /// Requests now.
    pub in_flight: u32,
    /// Requests that its backend may have at a time, if there is a limit.
    pub max_in_flight: Option<u32>,
    /// Utilization from 0 to 1: by its own last report, or as requests in flight of those that its backend may have,
    /// whichever is more; `None` when neither is known.
    pub utilization: Option<f64>,
    /// Attempts sent since the start.
    pub requests: u64,
    /// 429 answers among them.
    pub throttled: u64,
    /// Failures among them: 5xx, timeouts, broken and refused connections.
    pub failures: u64,
    /// Times that answers took to begin.
    pub first_content_ms: FirstContent,
    /// Answers among them that Azure itself had another deployment of the resource give.
    pub spilled_over_by_azure: u64,
    /// Obstacles between it and the next request for the alias, a client's own demands aside, in the words of
    /// [`Pool::explain`](crate::pool::Pool::explain); empty for a candidate.
    pub obstacles: Vec<String>,
}

/// Milliseconds to the first content of answers, streamed or whole, as of the last 256 within ten minutes; `None` without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FirstContent {
    /// Half of the answers were not slower.
    pub p50: Option<u64>,
    /// 95 per cent were not.
    pub p95: Option<u64>,
}

impl FirstContent {
    fn of(target: &Target, now: Instant) -> Self {
        let ms = |took: Duration| u64::try_from(took.as_millis()).ok();
        target.live.first_content(now).map_or_else(Self::default, |[p50, p95]| Self { p50: ms(p50), p95: ms(p95) })
    }
}

impl Pool {
    /// A snapshot for people and probes.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        let (table, now) = (self.0.table.load(), Instant::now());
        let mut explained = ExplainedByAlias::new();
        for alias in table.aliases() {
            // Whether clients have tokens is a matter of theirs.
            let query = Query::new(Some(&alias)).has_token(true);
            let view = self.view(&table, &query);
            for surveyed in self.survey_alias(&table, view) {
                explained.insert((surveyed.0.slot(), alias.clone()), Explained::new(view, surveyed));
            }
        }
        let backends = table.resources.iter().map(|resource| resource.status(&table, &explained, now)).collect();
        let releases = table.description.releases.iter().map(Release::status).collect();
        PoolStatus { ready: self.is_ready(), backends, releases }
    }
}

/// By the slot of the target and the alias that it serves.
type ExplainedByAlias = HashMap<(usize, Arc<str>), Explained>;

impl Release {
    fn status(&self) -> ReleaseStatus {
        let Self { alias, model, version, share } = self.clone();
        ReleaseStatus { alias, model, version, share }
    }
}

impl Resource {
    fn status(&self, table: &Table, explained: &ExplainedByAlias, now: Instant) -> BackendStatus {
        let own = || table.deployed().filter(|target| target.inner.backend.name == self.name);
        let trouble = self.trouble.report(now);
        BackendStatus {
            name: self.name.to_string(),
            region: self.region.as_deref().map(str::to_owned),
            geography: self.place.geography.as_deref().map(str::to_owned),
            priority: self.priority,
            weight: self.weight,
            weight_override: self.told.weight,
            configured_weight: self.configured_weight,
            drained: self.is_drained(),
            in_flight: self.in_flight.load(Relaxed),
            identity: self.identity(own().any(|target| target.live.refuses_token(now))),
            last_error: trouble.as_ref().map(|(cause, _)| cause.clone()),
            last_error_since_ms: trouble.as_ref().map(|(_, since)| ceil_ms(*since)),
            deployments: own().filter_map(|target| target.status(explained, now)).collect(),
        }
    }

    fn identity(&self, is_refused: bool) -> String {
        let Some(credential) = &self.credential else { return "no credential is configured".to_owned() };
        let problem = credential.problem();
        let refused = || is_refused.then(|| "The backend refuses the token of the gateway's identity.".to_owned());
        let fine = || if credential.as_api_key().is_some() { "key" } else { "ok" }.to_owned();
        problem.or_else(refused).unwrap_or_else(fine)
    }
}

impl Target {
    fn status(&self, explained: &ExplainedByAlias, now: Instant) -> Option<DeploymentStatus> {
        let (served, live) = (self.inner.deployment.as_ref()?, &self.live);
        let state = live.state(now);
        let reopens_in_ms = match state {
            CircuitState::Open { until, .. } => Some(ceil_ms(until.saturating_duration_since(now))),
            _ => None,
        };
        Some(DeploymentStatus {
            name: served.name.to_string(),
            alias: served.alias.to_string(),
            model: served.model.to_string(),
            version: served.version.as_deref().map(str::to_owned),
            priority: self.priority(),
            weight: self.weight(),
            circuit: state.as_str(),
            reopens_in_ms,
            in_flight: self.in_flight(),
            max_in_flight: Some(self.inner.max_in_flight).filter(|max| *max > 0),
            utilization: self.utilization(now).map(to_thousandths),
            requests: live.counters.requests.load(Relaxed),
            throttled: live.counters.throttled.load(Relaxed),
            failures: live.counters.failures.load(Relaxed),
            first_content_ms: FirstContent::of(self, now),
            spilled_over_by_azure: live.counters.spilled_over_by_azure.load(Relaxed),
            obstacles: match explained.get(&(self.slot(), served.alias.clone())) {
                Some(explained) => explained.obstacles().iter().map(Obstacle::to_string).collect(),
                None => vec![Obstacle::OtherRelease.to_string()],
            },
        })
    }
}

fn to_thousandths(share: f64) -> f64 {
    (share * 1_000.0).round() / 1_000.0
}
