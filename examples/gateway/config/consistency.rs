//! What only the whole file can tell.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::backends::{Backend, Deployment};
use super::clients::Client;
use super::reader::Findings;
use super::served::targets;
use super::{Authentication, Config};

pub(super) fn check(config: &Config, findings: &Findings<'_>) {
    duplicate_names(config, findings);
    mixed_aliases(config, findings);
    unanswered_aliases(config, findings);
    if config.authentication == Authentication::Clients {
        unservable_clients(config, findings);
    }
}

fn duplicate_names(config: &Config, findings: &Findings<'_>) {
    let backends = config.backends.iter().enumerate();
    let clients = config.clients.iter().enumerate();
    each_once(findings, backends.clone().map(|(at, backend)| (format!("backends[{at}].name"), &*backend.name)));
    each_once(findings, clients.map(|(at, client)| (format!("clients[{at}].id"), &*client.id)));
    for (at, backend) in backends {
        let deployments = backend.deployments.iter().enumerate();
        let place = |of| format!("backends[{at}].deployments[{of}].name");
        each_once(findings, deployments.map(|(of, deployment)| (place(of), &*deployment.name)));
    }
}

/// Empty names stand in for those that could not be read.
fn each_once<'a>(findings: &Findings<'_>, names: impl Iterator<Item = (String, &'a str)>) {
    let mut first = HashMap::new();
    for (place, name) in names.filter(|(_, name)| !name.is_empty()) {
        match first.entry(name) {
            Entry::Occupied(first) => findings.problem(place, format!("{name:?} is already {}", first.get())),
            Entry::Vacant(vacant) => {
                vacant.insert(place);
            }
        }
    }
}

fn mixed_aliases(config: &Config, findings: &Findings<'_>) {
    let mut first = HashMap::new();
    for target @ (place, _, deployment) in targets(config).filter(|(_, _, deployment)| !deployment.alias.is_empty()) {
        let (_, other_backend, other) = *first.entry(&*deployment.alias).or_insert(target);
        let key = if other.model != deployment.model {
            "model"
        } else if other.version != deployment.version {
            "version"
        } else {
            continue;
        };
        findings.problem(
            format!("{place}.{key}"),
            format!(
                "alias {:?} mixes models or versions: {} and {}",
                deployment.alias,
                describe(other_backend, other),
                describe(target.1, deployment),
            ),
        );
    }
}

fn describe(backend: &Backend, deployment: &Deployment) -> String {
    let version = deployment.version.as_ref().map_or("no version".to_owned(), |version| format!("version {version}"));
    format!("{}/{} is {} with {version}", backend.name, deployment.name, deployment.model)
}

fn unanswered_aliases(config: &Config, findings: &Findings<'_>) {
    let known = |alias: &str| targets(config).any(|(.., deployment)| deployment.alias == alias);
    // A deployment whose alias could not be read might be the one that is meant.
    if known("") {
        return;
    }
    for (at, client) in config.clients.iter().enumerate() {
        for (of, alias) in client.allow.iter().flatten().enumerate().filter(|(_, alias)| !known(alias)) {
            findings.problem(format!("clients[{at}].allow[{of}]"), format!("no backend serves the alias {alias:?}"));
        }
    }
}

fn unservable_clients(config: &Config, findings: &Findings<'_>) {
    for (at, client) in config.clients.iter().enumerate() {
        for alias in config.aliases().filter(|alias| client.allows(alias)) {
            let backends = || targets(config).filter(|(.., of)| of.alias == alias).map(|(_, backend, _)| backend);
            let key = if !backends().any(|backend| client.accepts_geography(backend)) {
                "geography"
            } else if !backends().any(|backend| client.accepts_geography(backend) && client.accepts_processing(backend))
            {
                "processing"
            } else {
                continue;
            };
            findings.warning(
                format!("clients[{at}].{key}"),
                &format!("no backend that serves {alias:?} meets the constraints of client {:?}", client.id),
            );
        }
    }
}

impl Client {
    fn allows(&self, alias: &str) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.iter().any(|allowed| allowed == alias))
    }

    fn accepts_geography(&self, backend: &Backend) -> bool {
        self.geography.is_none() || self.geography == backend.geography
    }

    fn accepts_processing(&self, backend: &Backend) -> bool {
        self.processing.as_ref().is_none_or(|accepted| accepted.contains(&backend.processing))
    }
}
