//! What a configuration would serve.

use std::collections::HashSet;
use std::fmt::Write;

use super::Config;
use super::backends::{Backend, Deployment};

impl Config {
    /// Names that clients use, in order of first appearance.
    pub(super) fn aliases(&self) -> impl Iterator<Item = &str> {
        let mut seen = HashSet::new();
        targets(self).map(|(.., deployment)| &*deployment.alias).filter(move |alias| seen.insert(*alias))
    }

    /// One line per alias: `alias MODEL VERSION: backend/deployment (priority P, weight W), …`.
    pub(crate) fn served(&self) -> String {
        self.aliases().fold(String::new(), |mut lines, alias| {
            let targets: Vec<_> = targets(self).filter(|(.., deployment)| deployment.alias == alias).collect();
            let each: Vec<_> = targets.iter().map(|(_, backend, deployment)| target(backend, deployment)).collect();
            let model = targets.first().map_or_else(String::new, |(.., deployment)| model(deployment));
            let _ = writeln!(lines, "{alias} {model}: {}", each.join(", "));
            lines
        })
    }
}

/// Every deployment with its place and its backend, in the order of the file.
pub(super) fn targets(config: &Config) -> impl Iterator<Item = (Place, &Backend, &Deployment)> {
    config.backends.iter().enumerate().flat_map(|(at, backend)| {
        let deployments = backend.deployments.iter().enumerate();
        deployments.map(move |(of, deployment)| (Place { backend: at, deployment: of }, backend, deployment))
    })
}

fn model(deployment: &Deployment) -> String {
    format!("{} {}", deployment.model, deployment.version.as_deref().unwrap_or("-"))
}

fn target(backend: &Backend, deployment: &Deployment) -> String {
    let Deployment { name, priority, weight, .. } = deployment;
    format!("{}/{name} (priority {priority}, weight {weight})", backend.name)
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    backend: usize,
    deployment: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "backends[{}].deployments[{}]", self.backend, self.deployment)
    }
}
