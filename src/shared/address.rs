//! Address of Redis, and the login that it asks for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;
use rustls::pki_types::CertificateDer;

use crate::client::certificates;
use crate::pool::BearerTokens;

const DEFAULT_PORT: u16 = 6379;

/// Address of Redis: `redis://HOST:PORT/DATABASE`, or `rediss://` for TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: i64,
    pub(super) is_tls: bool,
    /// Trusted beside the system's roots.
    pub(super) own_roots: Vec<CertificateDer<'static>>,
}

/// An address that cannot be used. The text of the address is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAddress(pub(super) &'static str);

impl Address {
    /// Tells whether the connection is encrypted.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Trusts these certificates (PEM) as roots too, as for a Redis whose CA is one's own. What the system trusts stays trusted.
    ///
    /// # Errors
    /// It is no PEM with certificates, or there is no TLS for which they could be of use.
    pub fn trust_ca(mut self, pem: impl AsRef<[u8]>) -> Result<Self, InvalidAddress> {
        if !self.is_tls {
            return Err(InvalidAddress("is of use with rediss:// only"));
        }
        self.own_roots.extend(certificates(pem.as_ref()).map_err(InvalidAddress)?);
        Ok(self)
    }

    /// Tells whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        crate::pool::is_loopback(&self.host)
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        const MALFORMED: InvalidAddress =
            InvalidAddress("must be a URL such as \"rediss://name.region.redis.azure.net:10000\"");
        if text.contains(['?', '#']) {
            return Err(InvalidAddress("must have neither a query nor a fragment"));
        }
        let uri: Uri = text.parse().map_err(|_| MALFORMED)?;
        let is_tls = match uri.scheme_str() {
            Some("redis") => false,
            Some("rediss") => true,
            _ => return Err(MALFORMED),
        };
        let authority = uri.authority().ok_or(MALFORMED)?;
        if authority.as_str().contains('@') {
            return Err(InvalidAddress("must not carry credentials: they go into `credential`"));
        }
        if authority.host().is_empty() {
            return Err(MALFORMED);
        }
        let has_port = authority.as_str().len() > authority.host().len();
        let port = if has_port { authority.port_u16() } else { Some(DEFAULT_PORT) };
        let port = port.filter(|port| *port > 0).ok_or(InvalidAddress("must have a port from 1 to 65535, or none"))?;
        let database = uri.path().trim_matches('/');
        let database = if database.is_empty() { Ok(0) } else { database.parse() };
        let database = database.ok().filter(|number| (0..=15).contains(number));
        let database =
            database.ok_or(InvalidAddress("must end in the number of a database from 0 to 15, or in none"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, database, is_tls, own_roots: Vec::new() })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, database, is_tls, own_roots } = self;
        f.debug_struct("Address")
            .field("host", host)
            .field("port", port)
            .field("database", database)
            .field("is_tls", is_tls)
            .field("own_roots", &own_roots.len())
            .finish()
    }
}

/// Login that Redis asks for. `Debug` shows the kind only.
#[derive(Clone)]
#[non_exhaustive]
pub enum Login {
    /// Nobody in particular.
    Nobody,
    /// Somebody with a password, such as an access key.
    Password {
        /// `None` is the default user.
        user: Option<String>,
        /// The password.
        password: String,
    },
    /// The one whom these tokens name; a newer one is shown before the last ends. Their scope is
    /// `https://redis.azure.com/.default`.
    Tokens(Arc<dyn BearerTokens>),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Login::Nobody",
            Self::Password { .. } => "Login::Password",
            Self::Tokens(_) => "Login::Tokens",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses() {
        let read = |text: &str| text.parse::<Address>();
        let of = |host: &str, port, database, is_tls| {
            Ok(Address { host: host.to_owned(), port, database, is_tls, own_roots: Vec::new() })
        };
        assert_eq!(read("redis://127.0.0.1"), of("127.0.0.1", 6379, 0, false));
        assert_eq!(read("redis://[::1]:7000/3"), of("::1", 7000, 3, false));
        assert_eq!(read("rediss://n.redis.azure.net:10000/"), of("n.redis.azure.net", 10_000, 0, true));
        for wrong in [
            "",
            "redis",
            "http://a",
            "redis://",
            "redis://a:0",
            "redis://a:",
            "redis://a/x",
            "redis://a/16",
            "redis://a/-1",
            "redis://hunter2@a",
            "rediss://u:hunter2@a:1",
            "redis://a?password=hunter2",
        ] {
            let error = read(wrong).expect_err(wrong).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let login = Login::Password { user: None, password: "hunter2".to_owned() };
        assert_eq!(format!("{login:?}"), "Login::Password");
    }
}
