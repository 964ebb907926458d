//! Checks that only the whole file allows.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::backends::{Backend, Credential, Deployment};
use super::capture::Sink;
use super::clients::Client;
use super::reader::{Findings, quoted};
use super::releases::Release;
use super::served::{Target, aliases};
use super::session::Ownership;
use super::{Authentication, Config};

pub(super) fn check(config: &Config, findings: &Findings<'_>) {
    let aliases = aliases(config);
    duplicate_names(config, findings);
    captures(config, findings);
    callers(config, findings);
    passed_tokens(config, findings);
    mixed_aliases(config, &aliases, findings);
    further_names(config, &aliases, findings);
    unfit_releases(config, &aliases, findings);
    unanswered_aliases(config, &aliases, findings);
    if config.redis.is_none() {
        kept_in_memory(config, findings);
    }
    if config.authentication == Authentication::Clients {
        unservable_clients(config, &aliases, findings);
    }
}

fn kept_in_memory(config: &Config, findings: &Findings<'_>) {
    if config.session.ownership == Ownership::Enforce {
        findings.warning("session.ownership", "owners are kept in memory: a restart forgets them, and their objects");
    }
    for (at, _) in config.clients.iter().enumerate().filter(|(_, client)| client.limits.tokens_per_day > 0) {
        let text = "is kept in memory: a restart forgets what was used, and each replica counts for itself";
        findings.warning(format!("clients[{at}].tokens_per_day"), text);
    }
}

type Aliases<'a> = [(&'a str, Vec<Target<'a>>)];

fn duplicate_names(config: &Config, findings: &Findings<'_>) {
    let backends = config.backends.iter().enumerate();
    let clients = config.clients.iter().enumerate();
    each_once(findings, backends.clone().map(|(at, backend)| (format!("backends[{at}].name"), &*backend.name)));
    each_once(findings, clients.map(|(at, client)| (format!("clients[{at}].id"), &*client.id)));
    for (at, backend) in backends {
        for (of, deployment) in backend.deployments.iter().enumerate() {
            let is_same = |other: &Deployment| other.name == deployment.name && other.alias == deployment.alias;
            let first = backend.deployments[..of].iter().position(is_same);
            if let Some(first) = first.filter(|_| !deployment.name.is_empty()) {
                let (place, alias) = (format!("backends[{at}].deployments[{of}].name"), &deployment.alias);
                let text = format!("{:?} is already backends[{at}].deployments[{first}].name", deployment.name);
                findings.problem(place, format!("{text}, for the same alias {alias:?}"));
            }
        }
    }
}

fn captures(config: &Config, findings: &Findings<'_>) {
    for (at, id) in config.capture.clients.iter().enumerate() {
        if !config.clients.iter().any(|client| client.id == *id) {
            findings.problem(format!("capture.clients[{at}]"), format!("{id:?} is no client of this file"));
        }
    }
    if config.capture.sink == Sink::Otlp && config.telemetry.otlp_endpoint.is_none() {
        findings.problem("capture.sink", "is \"otlp\", and telemetry.otlp_endpoint names no collector");
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

fn mixed_aliases(config: &Config, aliases: &Aliases<'_>, findings: &Findings<'_>) {
    let is_released = |alias: &str| config.releases.iter().any(|release| release.alias == alias);
    for (alias, targets) in aliases.iter().filter(|(alias, _)| !alias.is_empty() && !is_released(alias)) {
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

fn further_names(config: &Config, aliases: &Aliases<'_>, findings: &Findings<'_>) {
    let is_served = |name: &str| aliases.iter().any(|(alias, _)| *alias == name);
    let described = || config.aliases.iter().enumerate();
    each_once(findings, described().map(|(at, alias)| (format!("aliases[{at}].name"), &*alias.name)));
    let also = || {
        described().flat_map(|(at, alias)| {
            let names = alias.also.iter().enumerate();
            names.map(move |(of, name)| (format!("aliases[{at}].also[{of}]"), name.as_str()))
        })
    };
    each_once(findings, also());
    for (at, alias) in described().filter(|(_, alias)| !alias.name.is_empty() && !is_served(&alias.name)) {
        findings.problem(format!("aliases[{at}].name"), format!("no backend serves the alias {:?}", alias.name));
    }
    for (place, name) in also().filter(|(_, name)| is_served(name)) {
        findings.problem(place, format!("{name:?} is an alias itself"));
    }
}

fn unfit_releases(config: &Config, aliases: &Aliases<'_>, findings: &Findings<'_>) {
    let all = || config.releases.iter().enumerate();
    for (at, release) in all() {
        let Release { alias, model, version, .. } = release;
        // What could not be read is reported already.
        if [alias, model, version].iter().any(|name| name.is_empty()) {
            continue;
        }
        let targets = aliases.iter().find(|(name, _)| name == alias).map_or(&[][..], |(_, targets)| targets);
        if !targets.iter().any(|(.., deployment)| release.is_of(deployment)) {
            let text = format!("no backend serves {model:?} in version {version:?} as {alias:?}");
            findings.problem(format!("releases[{at}]"), text);
        }
        let same = |other: &Release| (&other.alias, &other.model, &other.version) == (alias, model, version);
        if let Some((first, _)) = all().take(at).find(|(_, other)| same(other)) {
            findings.problem(format!("releases[{at}]"), format!("is already releases[{first}]"));
        }
        let mut of_alias = all().filter(|(_, other)| other.alias == *alias);
        if of_alias.clone().all(|(_, other)| other.share == 0) && of_alias.next().is_some_and(|(first, _)| first == at)
        {
            findings.problem(format!("releases[{at}].share"), format!("no release of {alias:?} has a share"));
        }
    }
    for (alias, targets) in aliases {
        let of_alias: Vec<_> = config.releases.iter().filter(|release| release.alias == *alias).collect();
        let stray = |deployment: &Deployment| !of_alias.iter().any(|release| release.is_of(deployment));
        for (place, backend, deployment) in targets.iter().filter(|(.., d)| !of_alias.is_empty() && stray(d)) {
            let text = format!("{}, which is no release of {alias:?}", describe(backend, deployment));
            findings.problem(format!("{place}.version"), text);
        }
    }
}

impl Release {
    pub(super) fn is_of(&self, deployment: &Deployment) -> bool {
        self.model == deployment.model && deployment.version.as_ref() == Some(&self.version)
    }

    /// Tells whether it has the deployment and no share.
    fn is_retired(&self, alias: &str, deployment: &Deployment) -> bool {
        self.share == 0 && self.alias == alias && self.is_of(deployment)
    }
}

fn describe(backend: &Backend, deployment: &Deployment) -> String {
    let version = deployment.version.as_ref().map_or("no version".to_owned(), |version| format!("version {version}"));
    format!("{}/{} is {} with {version}", backend.name, deployment.name, deployment.model)
}

fn unanswered_aliases(config: &Config, aliases: &Aliases<'_>, findings: &Findings<'_>) {
    let also = config.aliases.iter().flat_map(|alias| alias.also.iter().map(String::as_str));
    let known: HashSet<&str> = aliases.iter().map(|(alias, _)| *alias).chain(also).collect();
    // A deployment whose alias could not be read might be the one that is meant.
    if known.contains("") {
        return;
    }
    for (at, client) in config.clients.iter().enumerate() {
        let unserved = |alias: &str| !known.contains(alias);
        for (of, alias) in
            client.allow.iter().flatten().enumerate().filter(|(_, alias)| unserved(client.resolve(alias)))
        {
            // Reported where it stands for something else.
            if !client.renames(alias) {
                findings
                    .problem(format!("clients[{at}].allow[{of}]"), format!("no backend serves the alias {alias:?}"));
            }
        }
        for (name, alias) in client.route.iter().filter(|(_, alias)| unserved(alias)) {
            let place = format!("clients[{at}].route.{}", quoted(name));
            findings.problem(place, format!("no backend serves the alias {alias:?}"));
        }
    }
}

fn unservable_clients(config: &Config, aliases: &Aliases<'_>, findings: &Findings<'_>) {
    for (at, client) in config.clients.iter().enumerate() {
        for (alias, targets) in aliases.iter().filter(|(alias, _)| client.reaches(alias)) {
            let is_offered = |deployment: &Deployment| !config.releases.iter().any(|r| r.is_retired(alias, deployment));
            let offered: Vec<_> = targets.iter().filter(|(.., deployment)| is_offered(deployment)).collect();
            // Where no release has a share, that is the problem.
            if offered.is_empty() {
                continue;
            }
            let mut near = offered.iter().filter(|(_, backend, _)| client.accepts_geography(backend)).peekable();
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

    fn renames(&self, name: &str) -> bool {
        self.route.iter().any(|(renamed, _)| renamed == name)
    }

    /// Returns what a name of this client stands for.
    fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        self.route.iter().find(|(renamed, _)| renamed == name).map_or(name, |(_, alias)| alias)
    }

    /// Tells whether any name that it may use stands for the alias.
    fn reaches(&self, alias: &str) -> bool {
        let mut names = self.route.iter().map(|(name, _)| name.as_str()).chain([alias]);
        names.any(|name| self.allows(name) && self.resolve(name) == alias)
    }

    fn accepts_geography(&self, backend: &Backend) -> bool {
        self.geography.is_none() || self.geography == backend.geography
    }

    fn accepts_processing(&self, backend: &Backend) -> bool {
        self.processing.as_ref().is_none_or(|accepted| accepted.contains(&backend.processing))
    }
}
