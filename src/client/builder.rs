use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::connector::{Connector, Dial};
use super::destination::Origin;
use super::tls::{self, Trust};
use super::{
    ANSWER_TIMEOUT, CONNECT_TIMEOUT, Destination, Exchange, FIRST_BYTE_TIMEOUT, HttpClient, IDLE_TIMEOUT,
    POOL_IDLE_TIMEOUT,
};

/// Describes a client; made by [`HttpClient::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpClientBuilder {
    pub(super) limits: Limits,
    destinations: Vec<Destination>,
}

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
    pub(super) answer: Duration,
    pub(super) idle: Duration,
    pub(super) pool_idle: Duration,
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
        Self { limits, destinations: Vec::new() }
    }

    /// How long the name, TCP and TLS may take together: [`CONNECT_TIMEOUT`].
    pub const fn connect_timeout(mut self, limit: Duration) -> Self {
        self.limits.connect = limit;
        self
    }

    /// How long the head of a streamed answer may take after the upload: [`FIRST_BYTE_TIMEOUT`].
    pub const fn first_byte_timeout(mut self, limit: Duration) -> Self {
        self.limits.first_byte = limit;
        self
    }

    /// How long the head of any other answer may take after the upload: [`ANSWER_TIMEOUT`].
    pub const fn answer_timeout(mut self, limit: Duration) -> Self {
        self.limits.answer = limit;
        self
    }

    /// How long the next part of an answer's body may take: [`IDLE_TIMEOUT`].
    pub const fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.idle = limit;
        self
    }

    /// How long a connection that is not used is kept: [`POOL_IDLE_TIMEOUT`].
    pub const fn pool_idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.pool_idle = limit;
        self
    }

    /// Says what is special about one destination. The last word on a destination holds.
    pub fn add_destination(mut self, destination: Destination) -> Self {
        self.destinations.push(destination);
        self
    }

    /// Checks the description and makes the client. Reads the system's root certificates, once.
    ///
    /// # Errors
    /// Every problem at once, each naming its destination. That the system has no root certificates is none of them:
    /// plain http and destinations with a CA of their own work all the same. The log says so at `warn`.
    pub fn build(self) -> Result<HttpClient, BuildError> {
        let (mut addresses, mut roots, mut problems) = (HashMap::new(), HashMap::new(), Vec::new());
        for Destination { url, address, ca_pem } in self.destinations {
            let origin = match Origin::parse(&url) {
                Ok(origin) => origin,
                Err(why) => {
                    problems.push(format!("destination `{}` {why}", without_credentials(&url)));
                    continue;
                }
            };
            match address.map(|address| origin.at(&address)).transpose() {
                Ok(address) => addresses.extend(address.map(|address| (origin.clone(), address))),
                Err(why) => problems.push(format!("address of destination `{origin}` {why}")),
            }
            match ca_pem.map(|pem| tls::certificates(&pem)).transpose() {
                Ok(certificates) => roots.extend(certificates.map(|certificates| (origin, certificates))),
                Err(why) => problems.push(format!("CA of destination `{origin}` {why}")),
            }
        }
        if !problems.is_empty() {
            return Err(BuildError(problems));
        }
        let trust = Trust::new(roots).map_err(|_| BuildError(vec!["TLS could not be set up".to_owned()]))?;
        let dial = Dial::new(addresses, self.limits.connect);
        let handshakes = Connector::new(dial.clone(), trust.http1_only(), self.limits.connect);
        Ok(HttpClient(Exchange::new(Connector::new(dial, trust, self.limits.connect), handshakes, self.limits)))
    }
}

/// A URL that was refused may be one with a password in it.
fn without_credentials(url: &str) -> &str {
    url.rsplit('@').next().unwrap_or_default()
}

/// What is wrong with the description of a client: all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError(Vec<String>);

impl BuildError {
    /// One sentence for each problem.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for BuildError {}
