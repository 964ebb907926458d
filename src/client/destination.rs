//! Peculiarities of one destination.

use std::fmt;

use http::Uri;
use http::uri::{Authority, Scheme};

/// Peculiarities of connections to one place: where it is really found, whom to trust there.
///
/// ```
/// use tower_azure_openai::client::{Destination, HttpClient};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let private = Destination::new("https://contoso.openai.azure.com").address("10.1.2.3:443");
/// let client = HttpClient::builder().add_destination(private).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Destination {
    pub(super) url: String,
    pub(super) address: Option<String>,
    pub(super) ca_pem: Option<Vec<u8>>,
}

impl Destination {
    /// A place by its URL, `scheme://host[:port]`. A path is allowed and means nothing, so that the endpoint of a backend
    /// can be given as it is.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), address: None, ca_pem: None }
    }

    /// Connects to `host[:port]` instead of the host of the URL, as for a private endpoint. The host name that is sent in
    /// TLS and in `Host` stays the URL's; the port does too unless one is given.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Trusts the certificates of this PEM text as roots too, for this destination only.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }
}

/// Names no host, which stays out of logs.
impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination")
            .field("address", &self.address.is_some())
            .field("ca_pem", &self.ca_pem.is_some())
            .finish_non_exhaustive()
    }
}

/// Scheme, host and port, in one spelling.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    https: bool,
    host: Box<str>,
    port: u16,
}

impl Origin {
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let https = *uri.scheme()? == Scheme::HTTPS;
        let authority = uri.authority()?;
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        Some(Self { https, host: authority.host().to_ascii_lowercase().into(), port })
    }

    /// Reads the URL of a [`Destination`].
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "is not a URL")?;
        if uri.scheme() != Some(&Scheme::HTTP) && uri.scheme() != Some(&Scheme::HTTPS) {
            return Err("must begin with http:// or https://");
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("must not carry credentials");
        }
        Self::of(&uri).filter(|origin| !origin.host.is_empty()).ok_or("names no host")
    }

    /// Returns where to connect when it is found at `address`.
    pub(super) fn at(&self, address: &str) -> Result<Uri, &'static str> {
        const WRONG: &str = "is not host[:port]";
        let authority: Authority = address.parse().map_err(|_| WRONG)?;
        let is_plain = !authority.host().is_empty() && !address.contains('@');
        let has_odd_port = authority.port_u16().is_none() && authority.as_str() != authority.host();
        if !is_plain || has_odd_port {
            return Err(WRONG);
        }
        let port = authority.port_u16().unwrap_or(self.port);
        let uri = Uri::builder().scheme("http").authority(format!("{}:{port}", authority.host())).path_and_query("/");
        uri.build().map_err(|_| WRONG)
    }
}

/// For the person who configures; nothing else shows it.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_place_has_one_spelling() {
        let origin = |url| Origin::parse(url).map(|origin| (origin.https, origin.to_string()));
        for url in ["https://contoso.example", "HTTPS://Contoso.example:443/east"] {
            assert_eq!(origin(url), Ok((true, "contoso.example:443".to_owned())), "{url}");
        }
        assert_eq!(origin("http://[::1]"), Ok((false, "[::1]:80".to_owned())));
        for wrong in ["", "contoso.example", "ftp://contoso.example", "https://", "https://a:b@contoso.example"] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_keeps_the_port_unless_it_has_its_own() {
        let origin = Origin::parse("https://contoso.example:8443").unwrap();
        let at = |address| origin.at(address).map(|uri| uri.authority().unwrap().to_string());
        assert_eq!(at("10.1.2.3"), Ok("10.1.2.3:8443".to_owned()));
        assert_eq!(at("private.example:444"), Ok("private.example:444".to_owned()));
        assert_eq!(at("[fd00::1]:443"), Ok("[fd00::1]:443".to_owned()));
        for wrong in ["", ":443", "a@b", "10.1.2.3:x", "10.1.2.3:99999", "https://10.1.2.3"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }
}
