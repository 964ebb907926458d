//! Clients that tokens stand for.

use std::collections::HashMap;
use std::fmt;

use super::token::Claims;
use crate::context::Client;
use crate::problems::Problems;

/// Caller that a token names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Caller {
    /// The application, by its client id: `azp` in tokens of version 2, `appid` in those of version 1.
    AppId(String),
    /// The user or service principal, by its object id in the tenant: `oid`.
    ObjectId(String),
    /// One who was given this app role: one of `roles`.
    Role(String),
}

impl Caller {
    /// The application with this client id.
    pub fn app_id(id: impl Into<String>) -> Self {
        Self::AppId(id.into())
    }

    /// The user or service principal with this object id.
    pub fn object_id(id: impl Into<String>) -> Self {
        Self::ObjectId(id.into())
    }

    /// Matches whoever was given this app role.
    pub fn role(value: impl Into<String>) -> Self {
        Self::Role(value.into())
    }

    fn value(&self) -> &str {
        match self {
            Self::AppId(value) | Self::ObjectId(value) | Self::Role(value) => value,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::AppId(_) => "application",
            Self::ObjectId(_) => "object",
            Self::Role(_) => "role",
        };
        write!(f, "{kind} `{}`", self.value())
    }
}

/// Every caller with its client and its place in the order in which they were added.
#[derive(Default)]
pub(super) struct Callers {
    apps: Known,
    objects: Known,
    roles: Known,
}

type Known = HashMap<Box<str>, (usize, Client)>;

impl Callers {
    pub(super) fn new(clients: Vec<(Caller, Client)>, problems: &mut Problems) -> Self {
        let mut callers = Self::default();
        for (place, (caller, client)) in clients.into_iter().enumerate() {
            if caller.value().is_empty() {
                problems.add(format_args!("the caller of client `{}` is empty", client.id()));
            }
            let (_, owner) = callers.entry(&caller).or_insert_with(|| (place, client.clone()));
            if *owner != client {
                problems.add(format_args!("clients `{}` and `{}` are the same {caller}", owner.id(), client.id()));
            }
        }
        callers
    }

    /// Ids are GUIDs, whose case means nothing; roles are compared as they are.
    fn entry(&mut self, caller: &Caller) -> std::collections::hash_map::Entry<'_, Box<str>, (usize, Client)> {
        match caller {
            Caller::AppId(id) => self.apps.entry(id.to_ascii_lowercase().into()),
            Caller::ObjectId(id) => self.objects.entry(id.to_ascii_lowercase().into()),
            Caller::Role(role) => self.roles.entry(role.as_str().into()),
        }
    }

    pub(super) fn find(&self, claims: &Claims) -> Option<Client> {
        let by_id = |known: &'_ Known, id: Option<&str>| known.get(&*id?.to_ascii_lowercase()).cloned();
        let roles = claims.roles.iter().filter_map(|role| self.roles.get(role.as_str()).cloned());
        let named = by_id(&self.apps, claims.app_id()).into_iter().chain(by_id(&self.objects, claims.oid.as_deref()));
        named.chain(roles).min_by_key(|(place, _)| *place).map(|(_, client)| client)
    }
}
