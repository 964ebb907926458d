use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::connector::{Connector, Dial, Egress};
use super::destination::Origin;
use super::proxy::Proxy;
use super::tls::{self, Trust};
use super::{
    ANSWER_TIMEOUT, CONNECT_TIMEOUT, Destination, Exchange, FIRST_BYTE_TIMEOUT, HttpClient, IDLE_TIMEOUT,
    POOL_IDLE_TIMEOUT,
};
use crate::problems::Problems;

/// Describes a client; made by [`HttpClient::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpClientBuilder {
    pub(super) limits: Limits,
    aliases: Vec<(String, AliasTimeouts)>,
    destinations: Vec<Destination>,
    proxy: Option<Proxy>,
}

/// Time that each step may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
    pub(super) answer: Duration,
    pub(super) idle: Duration,
    pub(super) pool_idle: Duration,
}

impl Limits {
    pub(super) fn but(self, other: &AliasTimeouts) -> Self {
        Self {
            first_byte: other.first_byte.unwrap_or(self.first_byte),
            answer: other.answer.unwrap_or(self.answer),
            idle: other.idle.unwrap_or(self.idle),
            ..self
        }
    }
}

/// Limits of one alias, such as that of a model which thinks for long; what is not said stays as it is for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct AliasTimeouts {
    first_byte: Option<Duration>,
    answer: Option<Duration>,
    idle: Option<Duration>,
}

impl AliasTimeouts {
    /// Nothing special.
    pub const fn new() -> Self {
        Self { first_byte: None, answer: None, idle: None }
    }

    /// Time that the head of a streamed answer may take after the upload.
    pub const fn first_byte(mut self, limit: Duration) -> Self {
        self.first_byte = Some(limit);
        self
    }

    /// Time that the head of any other answer may take after the upload.
    pub const fn answer(mut self, limit: Duration) -> Self {
        self.answer = Some(limit);
        self
    }

    /// Time that the next part of an answer's body may take.
    pub const fn idle(mut self, limit: Duration) -> Self {
        self.idle = Some(limit);
        self
    }
}

impl HttpClientBuilder {
    pub(super) const fn new() -> Self {
        let limits = Limits {
            connect: CONNECT_TIMEOUT,
            first_byte: FIRST_BYTE_TIMEOUT,
            answer: ANSWER_TIMEOUT,
            idle: IDLE_TIMEOUT,
            pool_idle: POOL_IDLE_TIMEOUT,
        };
        Self { limits, aliases: Vec::new(), destinations: Vec::new(), proxy: None }
    }

    /// Time that the name, TCP and TLS may take together: 5 s.
    pub const fn connect_timeout(mut self, limit: Duration) -> Self {
        self.limits.connect = limit;
        self
    }

    /// Time that the head of a streamed answer may take after the upload: 5 min.
    pub const fn first_byte_timeout(mut self, limit: Duration) -> Self {
        self.limits.first_byte = limit;
        self
    }

    /// Time that the head of any other answer may take after the upload: 10 min.
    pub const fn answer_timeout(mut self, limit: Duration) -> Self {
        self.limits.answer = limit;
        self
    }

    /// Time that the next part of an answer's body may take: 5 min.
    pub const fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.idle = limit;
        self
    }

    /// Time for which a connection that is not used is kept: 90 s.
    pub const fn pool_idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.pool_idle = limit;
        self
    }

    /// Has other limits for an alias. The last word on an alias holds.
    pub fn add_alias(mut self, alias: impl Into<String>, timeouts: AliasTimeouts) -> Self {
        self.aliases.push((alias.into(), timeouts));
        self
    }

    /// Says what is special about one destination. The last word on a destination holds.
    pub fn add_destination(mut self, destination: Destination) -> Self {
        self.destinations.push(destination);
        self
    }

    /// Connects through a proxy, but for destinations with an [address](Destination::address) of their own. The time for a
    /// connection holds for all of it: to the proxy, its word, and TLS through the tunnel. A proxy that cannot be reached or refuses
    /// makes the destination `Unreachable`; the cause says that it was the proxy.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Checks the description and makes the client. Reads the system's root certificates, once.
    ///
    /// # Errors
    /// Every problem at once, each naming its destination. That the system has no root certificates is none of them:
    /// plain http and destinations with a CA of their own work all the same. The log says so at `warn`.
    pub fn build(self) -> Result<HttpClient, BuildError> {
        let (mut addresses, mut roots, mut problems) = (HashMap::new(), HashMap::new(), Problems::default());
        for Destination { url, address, ca_pem } in self.destinations {
            let origin = match Origin::parse(&url) {
                Ok(origin) => origin,
                Err(why) => {
                    problems.add(format_args!("destination `{}` {why}", without_credentials(&url)));
                    continue;
                }
            };
            match address.map(|address| origin.at(&address)).transpose() {
                Ok(address) => addresses.extend(address.map(|address| (origin.clone(), address))),
                Err(why) => problems.add(format_args!("address of destination `{origin}` {why}")),
            }
            match ca_pem.map(|pem| tls::certificates(&pem)).transpose() {
                Ok(certificates) => roots.extend(certificates.map(|certificates| (origin, certificates))),
                Err(why) => problems.add(format_args!("CA of destination `{origin}` {why}")),
            }
        }
        problems.check().map_err(BuildError)?;
        let trust = Trust::new(roots).map_err(|_| BuildError("TLS could not be set up".to_owned().into()))?;
        let proxy = self.proxy.map(Arc::new);
        let egress = proxy.clone().map(|proxy| {
            let trust = Arc::new(trust.http1_only());
            Egress { proxy, trust, tunnels_all: false }
        });
        let dial = Dial::new(addresses, egress, self.limits.connect);
        let handshakes = Connector::new(dial.for_handshakes(), trust.http1_only(), self.limits.connect);
        let aliases = self.aliases.into_iter().map(|(alias, timeouts)| (alias, self.limits.but(&timeouts))).collect();
        let http = Connector::new(dial, trust, self.limits.connect);
        Ok(HttpClient(Arc::new(Exchange::new(http, handshakes, self.limits, aliases).through(proxy))))
    }
}

/// A URL that was refused may be one with a password in it.
fn without_credentials(url: &str) -> &str {
    url.rsplit('@').next().unwrap_or_default()
}

/// Everything that is wrong with the description of a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(Problems);

impl BuildError {
    /// One sentence for each problem.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.0.iter()
    }
}
