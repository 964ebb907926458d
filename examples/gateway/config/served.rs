//! Aliases and backends that a configuration would serve.

use std::collections::HashMap;
use std::fmt::Write;

use super::Config;
use super::backends::{Backend, Deployment};

impl Config {
    /// One line per alias: `alias MODEL VERSION: backend/deployment (priority P, weight W), …`; with releases, one for each of
    /// them: `alias MODEL VERSION (share S): …`.
    pub(crate) fn served(&self) -> String {
        let mut lines = String::new();
        for (alias, targets) in aliases(self) {
            let mut of_alias = self.releases.iter().filter(|release| release.alias == alias).peekable();
            if of_alias.peek().is_none() {
                line(&mut lines, alias, "", &targets);
            }
            for release in of_alias {
                let own: Vec<_> = targets.iter().filter(|(.., d)| release.is_of(d)).copied().collect();
                line(&mut lines, alias, &format!(" (share {})", release.share), &own);
            }
        }
        lines
    }
}

fn line(lines: &mut String, alias: &str, share: &str, targets: &[Target<'_>]) {
    let each: Vec<_> = targets.iter().map(|(_, backend, deployment)| target(backend, deployment)).collect();
    let model = targets.first().map_or_else(String::new, |(.., deployment)| model(deployment));
    let _ = writeln!(lines, "{alias} {model}{share}: {}", each.join(", "));
}

/// A deployment with its place and its backend.
pub(super) type Target<'a> = (Place, &'a Backend, &'a Deployment);

/// The names that clients use with their targets, in order of first appearance.
pub(super) fn aliases(config: &Config) -> Vec<(&str, Vec<Target<'_>>)> {
    let mut positions = HashMap::new();
    let mut aliases: Vec<(&str, Vec<Target<'_>>)> = Vec::new();
    for target @ (.., deployment) in targets(config) {
        let alias = &*deployment.alias;
        let position = *positions.entry(alias).or_insert(aliases.len());
        match aliases.get_mut(position) {
            Some((_, targets)) => targets.push(target),
            None => aliases.push((alias, vec![target])),
        }
    }
    aliases
}

/// In the order of the file.
fn targets(config: &Config) -> impl Iterator<Item = Target<'_>> {
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
