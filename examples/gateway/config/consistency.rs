//! What only the whole file can tell.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::backends::{Backend, Credential, Deployment};
use super::clients::Client;
use super::reader::Findings;
use super::served::{Target, aliases};
use super::{Authentication, Config};

pub(super) fn check(config: &Config, findings: &Findings<'_>) {
    let aliases = aliases(config);
    duplicate_names(config, findings);
    callers(config, findings);
    passed_tokens(config, findings);
    mixed_aliases(&aliases, findings);
    unanswered_aliases(config, &aliases, findings);
    if config.authentication == Authentication::Clients {
        unservable_clients(config, &aliases, findings);
    }
}

type Aliases<'a> = [(&'a str, Vec<Target<'a>>)];

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

fn callers(config: &Config, findings: &Findings<'_>) {
    let mut owners = HashMap::new();
    for (at, client) in config.clients.iter().enumerate() {
        let Some(caller) = &client.entra else { continue };
        let owner = *owners.entry(caller).or_insert(at);
        if owner != at {
            findings.problem(format!("clients[{at}].entra"), format!("is also that of clients[{owner}]"));
        }
        if config.entra.is_none() {
            findings.problem(format!("clients[{at}].entra"), "needs [entra]");
        }
    }
    if config.entra.is_some() && owners.is_empty() {
        findings.warning("entra", "tokens let nobody in: none of the [[clients]] has an `entra`");
    }
}

fn passed_tokens(config: &Config, findings: &Findings<'_>) {
    for (at, backend) in config.backends.iter().enumerate() {
        if config.entra.is_none() && matches!(backend.credential, Credential::PassThrough) {
            let place = format!("backends[{at}].credential.pass_through");
            findings.problem(place, "needs [entra]: only a client known by its token has one");
        }
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

fn mixed_aliases(aliases: &Aliases<'_>, findings: &Findings<'_>) {
    for (alias, targets) in aliases.iter().filter(|(alias, _)| !alias.is_empty()) {
        let Some(((_, first_backend, first), others)) = targets.split_first() else { continue };
        for (place, backend, deployment) in others {
            let key = if first.model != deployment.model {
                "model"
            } else if first.version != deployment.version {
                "version"
            } else {
                continue;
            };
            let (one, other) = (describe(first_backend, first), describe(backend, deployment));
            let text = format!("alias {alias:?} mixes models or versions: {one} and {other}");
            findings.problem(format!("{place}.{key}"), text);
        }
    }
}

fn describe(backend: &Backend, deployment: &Deployment) -> String {
    let version = deployment.version.as_ref().map_or("no version".to_owned(), |version| format!("version {version}"));
    format!("{}/{} is {} with {version}", backend.name, deployment.name, deployment.model)
}

fn unanswered_aliases(config: &Config, aliases: &Aliases<'_>, findings: &Findings<'_>) {
    let known: HashSet<&str> = aliases.iter().map(|(alias, _)| *alias).collect();
    // A deployment whose alias could not be read might be the one that is meant.
    if known.contains("") {
        return;
    }
    for (at, client) in config.clients.iter().enumerate() {
        for (of, alias) in client.allow.iter().flatten().enumerate().filter(|(_, alias)| !known.contains(&***alias)) {
            findings.problem(format!("clients[{at}].allow[{of}]"), format!("no backend serves the alias {alias:?}"));
        }
    }
}

fn unservable_clients(config: &Config, aliases: &Aliases<'_>, findings: &Findings<'_>) {
    for (at, client) in config.clients.iter().enumerate() {
        for (alias, targets) in aliases.iter().filter(|(alias, _)| client.allows(alias)) {
            let mut near = targets.iter().filter(|(_, backend, _)| client.accepts_geography(backend)).peekable();
            let key = if near.peek().is_none() {
                "geography"
            } else if !near.any(|(_, backend, _)| client.accepts_processing(backend)) {
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
