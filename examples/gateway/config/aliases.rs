//! `[[aliases]]`: what only some aliases need.

use std::time::Duration;

use super::Config;
use super::reader::Section;

/// Settings of one alias beside its deployments.
#[derive(Debug, PartialEq)]
pub(crate) struct Alias {
    /// One that deployments have; unique.
    pub(crate) name: String,
    /// Further names that clients may use for it.
    pub(crate) also: Vec<String>,
    pub(crate) timeouts: Timeouts,
}

/// Timeouts of an alias instead of `[timeouts]`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Timeouts {
    pub(crate) first_byte: Option<Duration>,
    pub(crate) answer: Option<Duration>,
    pub(crate) idle: Option<Duration>,
}

pub(super) fn read(s: &mut Section<'_>) -> Vec<Alias> {
    s.sections("aliases", |s| Alias {
        name: s.required_name("name"),
        also: s.names("also"),
        timeouts: Timeouts { first_byte: given(s, "first_byte"), answer: given(s, "answer"), idle: given(s, "idle") },
    })
}

fn given(s: &mut Section<'_>, key: &str) -> Option<Duration> {
    s.has(key).then(|| s.positive_duration(key, Duration::MAX))
}

impl Alias {
    fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.name).chain(&self.also)
    }
}

/// Lets every client that may use, or that routes, one name of an alias do so by all of them.
pub(super) fn spread(config: &mut Config) {
    let Config { aliases, clients, backends, .. } = config;
    let of = |name: &String| aliases.iter().find(|alias| alias.names().any(|known| known == name));
    let is_served = |name: &str| backends.iter().flat_map(|backend| &backend.deployments).any(|d| d.alias == name);
    for client in clients {
        if let Some(allow) = &mut client.allow {
            let further: Vec<_> = allow.iter().filter_map(of).flat_map(Alias::names).cloned().collect();
            for name in further {
                if !allow.contains(&name) {
                    allow.push(name);
                }
            }
        }
        for (_, stands_for) in &mut client.route {
            if let Some(alias) = of(stands_for) {
                stands_for.clone_from(&alias.name);
            }
        }
        for (name, stands_for) in client.route.clone() {
            for name in of(&name).into_iter().flat_map(Alias::names).filter(|_| is_served(&stands_for)) {
                if !client.route.iter().any(|(routed, _)| routed == name) {
                    client.route.push((name.clone(), stands_for.clone()));
                }
            }
        }
    }
}
