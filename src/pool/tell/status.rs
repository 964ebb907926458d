//! A snapshot of the pool for people and probes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use tokio::time::Instant;

use super::{Explained, Obstacle};
use crate::pool::describe::Release;
use crate::pool::find::{Pool, Query, Table};
use crate::pool::live::{CircuitState, Resource, Target, ceil_ms};

/// The pool at one moment. Serialises to the JSON of the status page; holds no endpoint and no credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PoolStatus {
    /// Whether any backend could serve.
    pub ready: bool,
    /// In the order of configuration.
    pub backends: Vec<BackendStatus>,
    /// Where an alias has several, in the order of configuration.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// The share inside the priority group; 0 is drained.
    pub weight: u32,
    /// Whether it gets nothing new.
    pub drained: bool,
    /// Requests now, streams counted to their end.
    pub in_flight: u32,
    /// `ok`, `key`, or a sentence that says what is wrong.
    pub identity: String,
    /// Why no connection can be made, and `None` while there is none to tell of.
    pub last_error: Option<String>,
    /// Milliseconds since that began.
    pub last_error_since_ms: Option<u64>,
    /// In the order of configuration.
    pub deployments: Vec<DeploymentStatus>,
}

/// One deployment of a [`BackendStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// `closed`, `open` or `half-open`.
    pub circuit: &'static str,
    /// Milliseconds until a request will be sent again, while the circuit is open.
    pub reopens_in_ms: Option<u64>,
    /// Requests now.
    pub in_flight: u32,
    /// Attempts sent since the start.
    pub requests: u64,
    /// 429 answers among them.
    pub throttled: u64,
    /// Failures among them: 5xx, timeouts, broken and refused connections.
    pub failures: u64,
    /// Answers among them that Azure itself had another deployment of the resource give.
    pub spilled_over_by_azure: u64,
    /// What stands between it and the next request for the alias, a client's own demands aside, in the words of
    /// [`Pool::explain`](crate::pool::Pool::explain); empty for a candidate.
    pub obstacles: Vec<String>,
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
            drained: self.weight == 0,
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
            circuit: state.as_str(),
            reopens_in_ms,
            in_flight: self.in_flight(),
            requests: live.counters.requests.load(Relaxed),
            throttled: live.counters.throttled.load(Relaxed),
            failures: live.counters.failures.load(Relaxed),
            spilled_over_by_azure: live.counters.spilled_over_by_azure.load(Relaxed),
            obstacles: match explained.get(&(self.slot(), served.alias.clone())) {
                Some(explained) => explained.obstacles().iter().map(Obstacle::to_string).collect(),
                None => vec![Obstacle::OtherRelease.to_string()],
            },
        })
    }
}
