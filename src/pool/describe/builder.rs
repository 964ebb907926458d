//! From a description of backends to a pool that cannot be wrong in ways that can be known beforehand.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::{Backend, CircuitConfig, Deployment, Endpoint, Overrides, Release, Thresholds};
#[cfg(doc)]
use crate::pool::Pool;
use crate::problems::Problems;

/// The largest weight of a backend or deployment.
pub const MAX_WEIGHT: u32 = 1_000_000;
/// The largest priority of a backend or deployment.
pub const MAX_PRIORITY: u32 = 1_000_000;

/// Collects backends; made by [`Pool::builder`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct PoolBuilder {
    pub(in crate::pool) backends: Vec<Backend>,
    pub(in crate::pool) circuit: CircuitConfig,
    pub(in crate::pool) region: Option<String>,
    pub(in crate::pool) releases: Vec<Release>,
    /// Aliases with further names of theirs.
    pub(in crate::pool) names: Vec<(String, String)>,
    pub(in crate::pool) thresholds: Thresholds,
    /// Taken over from the description before.
    pub(in crate::pool) overrides: Overrides,
}

impl PoolBuilder {
    /// Adds a backend.
    pub fn add_backend(mut self, backend: Backend) -> Self {
        self.backends.push(backend);
        self
    }

    /// Sets when circuits open and for how long.
    pub const fn circuit(mut self, config: CircuitConfig) -> Self {
        self.circuit = config;
        self
    }

    /// Adds a release of an alias, whose targets may then differ in model and version: each must be of one of its releases.
    pub fn add_release(mut self, release: Release) -> Self {
        self.releases.push(release);
        self
    }

    /// Adds a further name that clients may use for an alias. Who asks for it gets the targets of the alias; where a list of aliases
    /// is made for a client, [`Pool::names_of`] gives all of them.
    ///
    /// ```
    /// # use tower_azure_openai::pool::{Backend, Deployment, Pool};
    /// let east = Backend::new("east", "https://east.example").add_deployment(Deployment::new("gpt-4o-ptu").alias("gpt-4o"));
    /// let pool = Pool::builder().add_backend(east).add_alias_name("gpt-4o", "gpt-4o-2024-08-06").build()?;
    /// assert_eq!(pool.targets("gpt-4o-2024-08-06"), pool.targets("gpt-4o"));
    /// assert_eq!(pool.names_of("gpt-4o-2024-08-06").len(), 2);
    /// # Ok::<_, tower_azure_openai::pool::BuildError>(())
    /// ```
    pub fn add_alias_name(mut self, alias: impl Into<String>, name: impl Into<String>) -> Self {
        self.names.push((alias.into(), name.into()));
        self
    }

    /// Sets the region in which the gateway runs: inside each priority group, targets of this region come first, and others only
    /// while none of them can take a request. Default: regions do not matter.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets how far each priority uses a target. Default: [`Thresholds::OFF`].
    pub const fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// Every name under which clients may ask for what a backend serves.
    pub(in crate::pool) fn names_at<'a>(&'a self, backend: &'a Backend) -> impl Iterator<Item = Arc<str>> + use<'a> {
        backend.deployments.iter().map(Deployment::alias_name).flat_map(|alias| {
            let further = self.names.iter().filter(move |(of, _)| of.as_str() == alias).map(|(_, name)| name.as_str());
            std::iter::once(alias).chain(further).map(Into::into)
        })
    }

    /// The same description with the endpoints read, or every problem in it.
    pub(in crate::pool) fn checked(self) -> Result<Checked, BuildError> {
        let mut problems = Problems::default();
        let endpoints = self.backends.iter().filter_map(|backend| problems.check_backend(backend)).collect();
        problems.check_names(&self.backends);
        problems.check_aliases(&self.backends, &self.releases);
        problems.check_releases(&self.backends, &self.releases);
        problems.check_alias_names(&self.backends, &self.names);
        if self.backends.is_empty() {
            problems.blame("the pool", "has no backend");
        }
        if let Some((field, why)) = self.circuit.problem() {
            problems.blame(format_args!("circuit.{field}"), why);
        }
        if let Some((field, why)) = self.thresholds.problem() {
            problems.blame(format_args!("thresholds.{field}"), why);
        }
        problems.check().map_err(|problems| BuildError { problems, is_missing: false })?;
        Ok(Checked { description: self, endpoints })
    }
}

/// A description without problems.
pub(in crate::pool) struct Checked {
    pub(in crate::pool) description: PoolBuilder,
    /// One for each backend, in the same order.
    pub(in crate::pool) endpoints: Vec<Endpoint>,
}

/// Problems of the description of a pool, all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problems}")]
pub struct BuildError {
    problems: Problems,
    is_missing: bool,
}

impl BuildError {
    pub(in crate::pool) fn no_backend(name: &str) -> Self {
        Self::missing(format!("backend `{name}` is not in the pool"))
    }

    pub(in crate::pool) fn no_deployment(backend: &str, name: &str) -> Self {
        Self::missing(format!("backend `{backend}` has no deployment `{name}` in the pool"))
    }

    pub(in crate::pool) fn weight_above_max(backend: &str) -> Self {
        Self { problems: format!("weight of backend `{backend}` is above {MAX_WEIGHT}").into(), is_missing: false }
    }

    pub(in crate::pool) fn no_release(alias: &str, model: &str, version: &str) -> Self {
        Self::missing(format!("release {model} {version} of alias `{alias}` is not in the pool"))
    }

    fn missing(problem: String) -> Self {
        Self { problems: problem.into(), is_missing: true }
    }

    /// Tells whether something was named that is not in the pool.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        self.is_missing
    }

    /// One sentence for each problem.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.problems.iter()
    }
}

impl Problems {
    fn blame(&mut self, what: impl fmt::Display, why: impl fmt::Display) {
        self.add(format_args!("{what} {why}"));
    }

    fn check_backend(&mut self, backend: &Backend) -> Option<Endpoint> {
        let name = format!("backend `{}`", backend.name);
        self.check_rank(&name, Some(backend.weight), Some(backend.priority));
        if backend.name.is_empty() {
            self.blame("a backend", "has an empty name");
        }
        if backend.deployments.is_empty() {
            self.blame(&name, "has no deployment");
        }
        for deployment in &backend.deployments {
            let name = format!("deployment `{}` of {name}", deployment.name);
            self.check_rank(&name, deployment.weight, deployment.priority);
            if deployment.name.is_empty() || deployment.alias_name().is_empty() {
                self.blame(&name, "has an empty name or alias");
            }
        }
        let endpoint =
            Endpoint::parse(&backend.endpoint).map_err(|why| self.blame(format_args!("endpoint of {name}"), why));
        let endpoint = endpoint.ok()?;
        if let Err(why) = backend.kind.check_path(endpoint.authority().host(), endpoint.prefix()) {
            self.blame(format_args!("endpoint of {name}"), why);
        }
        let has_tokens = backend.credential.as_ref().is_some_and(|credential| credential.as_api_key().is_none());
        if has_tokens && !endpoint.may_carry_tokens() {
            self.blame(format_args!("endpoint of {name}"), "must be https: tokens are not sent in the clear");
        }
        Some(endpoint)
    }

    fn check_rank(&mut self, name: &str, weight: Option<u32>, priority: Option<u32>) {
        if weight.is_some_and(|weight| weight > MAX_WEIGHT) {
            self.blame(format_args!("weight of {name}"), format_args!("is above {MAX_WEIGHT}"));
        }
        if priority.is_some_and(|priority| priority > MAX_PRIORITY) {
            self.blame(format_args!("priority of {name}"), format_args!("is above {MAX_PRIORITY}"));
        }
    }

    fn check_names(&mut self, backends: &[Backend]) {
        let mut names = HashSet::new();
        for backend in backends {
            if !names.insert(&backend.name) {
                self.blame(format_args!("backend `{}`", backend.name), "is there twice");
            }
            let mut deployments = HashSet::new();
            for deployment in &backend.deployments {
                if !deployments.insert((&deployment.name, deployment.alias_name())) {
                    let name = format_args!("deployment `{}` of backend `{}`", deployment.name, backend.name);
                    self.blame(name, "is there twice for one alias");
                }
            }
        }
    }

    fn check_aliases(&mut self, backends: &[Backend], releases: &[Release]) {
        let mut first: HashMap<&str, (&Backend, &Deployment)> = HashMap::new();
        let served = backends.iter().flat_map(|b| b.deployments.iter().map(move |d| (b, d)));
        for (backend, deployment) in served {
            let alias = deployment.alias_name();
            if releases.iter().any(|release| release.alias == alias) {
                continue;
            }
            let (b, d) = *first.entry(alias).or_insert((backend, deployment));
            if d.model_name() != deployment.model_name() || d.version != deployment.version {
                let (was, is) = (ServedAt(b, d), ServedAt(backend, deployment));
                self.blame(
                    format_args!("alias `{alias}`"),
                    format_args!("is {was} and {is}: all its targets must agree"),
                );
            }
        }
    }

    fn check_alias_names(&mut self, backends: &[Backend], names: &[(String, String)]) {
        let served: HashSet<&str> = backends.iter().flat_map(|b| &b.deployments).map(Deployment::alias_name).collect();
        let mut seen = HashSet::new();
        for (alias, name) in names {
            let of = format!("name `{name}` of alias `{alias}`");
            if name.is_empty() {
                self.blame(&of, "is empty");
            }
            if !served.contains(&**alias) {
                self.blame(&of, "belongs to no target");
            }
            if served.contains(&**name) {
                self.blame(&of, "is an alias itself");
            }
            if !seen.insert(name) {
                self.blame(&of, "is there twice");
            }
        }
    }

    fn check_releases(&mut self, backends: &[Backend], releases: &[Release]) {
        let served = || backends.iter().flat_map(|b| b.deployments.iter().map(move |d| (b, d)));
        let is_of =
            |release: &Release, d: &Deployment| release.is_of(d.alias_name(), d.model_name(), d.version.as_deref());
        for (at, release) in releases.iter().enumerate() {
            let Release { alias, model, version, share } = release;
            let name = format!("release {model} {version} of alias `{alias}`");
            if releases[..at].iter().any(|other| other.is(alias, model, version)) {
                self.blame(&name, "is there twice");
            }
            if *share > MAX_WEIGHT {
                self.blame(format_args!("share of {name}"), format_args!("is above {MAX_WEIGHT}"));
            }
            if !served().any(|(_, deployment)| is_of(release, deployment)) {
                self.blame(&name, "has no target");
            }
            let is_first = !releases[..at].iter().any(|other| other.alias == *alias);
            if is_first && releases.iter().filter(|other| other.alias == *alias).all(|other| other.share == 0) {
                self.blame(format_args!("alias `{alias}`"), "has no release with a share");
            }
        }
        for (backend, deployment) in served() {
            let alias = deployment.alias_name();
            let mut own = releases.iter().filter(|release| release.alias == alias).peekable();
            if own.peek().is_some() && !own.any(|release| is_of(release, deployment)) {
                let at = ServedAt(backend, deployment);
                self.blame(format_args!("alias `{alias}`"), format_args!("is {at}, which is none of its releases"));
            }
        }
    }
}

struct ServedAt<'a>(&'a Backend, &'a Deployment);

impl fmt::Display for ServedAt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(backend, deployment) = self;
        let version = deployment.version.as_deref().unwrap_or("of no stated version");
        write!(f, "{} {version} on {}/{}", deployment.model_name(), backend.name, deployment.name)
    }
}
