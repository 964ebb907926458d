//! Endpoint of a backend.

use std::fmt;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};

use super::BackendKind;

/// Scheme, authority and path prefix of a backend, ready to be put into requests.
#[derive(Clone)]
pub struct Endpoint {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    prefix: Box<str>,
}

impl Endpoint {
    /// Reads `scheme://host[:port][/prefix]`.
    pub(in crate::pool) fn parse(text: &str) -> Result<Self, &'static str> {
        // `Uri` drops a fragment silently.
        if text.contains('#') {
            return Err("must not have a fragment");
        }
        let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
        let scheme = uri.scheme().filter(|s| **s == Scheme::HTTP || **s == Scheme::HTTPS).cloned();
        let scheme = scheme.ok_or("must begin with http:// or https://")?;
        let authority = uri.authority().cloned().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("must not carry credentials");
        }
        if authority.host().is_empty() {
            return Err("names no host");
        }
        // `Authority` takes any digits after the colon, and none.
        if authority.as_str().len() > authority.host().len() && authority.port_u16().is_none() {
            return Err("has no valid port");
        }
        if uri.query().is_some() {
            return Err("must not have a query");
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| "is not a URL")?;
        Ok(Self { scheme, authority, host, prefix: uri.path().trim_end_matches('/').into() })
    }

    /// `http` or `https`.
    #[must_use]
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Host and port.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The value of the `Host` header.
    #[must_use]
    pub const fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Returns what stands before the path of every request, without a slash at its end; mostly empty.
    #[must_use]
    pub const fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(in crate::pool) fn is_same_place(&self, other: &Self) -> bool {
        (&self.scheme, &self.authority, &self.prefix) == (&other.scheme, &other.authority, &other.prefix)
    }

    pub(in crate::pool) fn may_carry_tokens(&self) -> bool {
        self.scheme == Scheme::HTTPS || is_loopback(self.authority.host())
    }
}

/// Domains in which every name is a resource, which has no path: those of Azure, of its government and of its Chinese cloud.
/// <https://learn.microsoft.com/azure/ai-services/cognitive-services-custom-subdomains>
const RESOURCES: [&str; 10] = [
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
    ".cognitive.microsoft.com",
    ".openai.azure.us",
    ".cognitiveservices.azure.us",
    ".services.ai.azure.us",
    ".openai.azure.cn",
    ".cognitiveservices.azure.cn",
    ".cognitive.azure.cn",
];

impl BackendKind {
    /// Checks that an endpoint of this kind ends where the paths of requests begin. Portals and client libraries show addresses
    /// that lead further, to the API of a resource or to a project; a request would have its path twice.
    ///
    /// # Errors
    /// The change that the endpoint needs.
    pub fn check_endpoint(self, endpoint: &Uri) -> Result<(), &'static str> {
        self.check_path(endpoint.host().unwrap_or_default(), endpoint.path().trim_end_matches('/'))
    }

    pub(in crate::pool) fn check_path(self, host: &str, path: &str) -> Result<(), &'static str> {
        let (host, path) = (host.to_ascii_lowercase(), path.to_ascii_lowercase() + "/");
        match self {
            Self::OpenAi if path.ends_with("/v1/") => Err("must not end in /v1, which is put there"),
            Self::OpenAi => Ok(()),
            Self::Azure if path.contains("/api/projects/") => {
                Err("is that of a project, must be the resource's: leave out /api/projects and what follows")
            }
            Self::Azure if path.contains("/openai/v1/") || path.contains("/openai/deployments/") => {
                Err("must end before /openai: requests bring that part of their path along")
            }
            Self::Azure if path != "/" && RESOURCES.iter().any(|domain| host.ends_with(domain)) => {
                Err("must have no path at a host of Azure: requests bring theirs along")
            }
            Self::Azure => Ok(()),
        }
    }
}

/// The scheme only: hostnames of backends stay out of logs.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("scheme", &self.scheme.as_str()).finish_non_exhaustive()
    }
}

/// Tells whether `host` (as it stands in a URL) names this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_scheme_host_port_and_prefix() {
        let endpoint = Endpoint::parse("https://contoso.example:8443/east/").unwrap();
        assert_eq!((endpoint.scheme(), endpoint.prefix()), (&Scheme::HTTPS, "/east"));
        assert_eq!(endpoint.host(), "contoso.example:8443");
        assert_eq!(Endpoint::parse("http://127.0.0.1:1").unwrap().prefix(), "");
    }

    #[test]
    fn refuses_what_is_no_endpoint() {
        for wrong in [
            "",
            "contoso.example",
            "ftp://contoso.example",
            "https://",
            "https:///path",
            "https://user:secret@contoso.example",
            "https://contoso.example?api-key=1",
            "https://contoso.example#x",
        ] {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_ends_where_requests_begin() {
        let check = |kind: BackendKind, url: &str| kind.check_endpoint(&url.parse().unwrap());
        for (url, expected) in [
            ("https://contoso.openai.azure.com", None),
            ("https://contoso.openai.azure.com/", None),
            ("https://contoso.openai.azure.com/openai/v1/", Some("must end before /openai")),
            ("https://contoso.openai.azure.com/OpenAI/V1", Some("must end before /openai")),
            (
                "https://contoso.openai.azure.com/openai/deployments/gpt-4o/chat/completions",
                Some("must end before /openai"),
            ),
            ("https://contoso.openai.azure.com/openai", Some("must have no path")),
            ("https://Contoso.CognitiveServices.Azure.com/openai/", Some("must have no path")),
            ("https://contoso.openai.azure.us/x", Some("must have no path")),
            ("https://contoso.services.ai.azure.com/models", Some("must have no path")),
            ("https://contoso.services.ai.azure.com/api/projects/chat", Some("is that of a project")),
            ("https://contoso.services.ai.azure.com/api/projects/chat/openai/v1", Some("is that of a project")),
            ("https://front.example/east", None),
            ("https://front.example/openai", None),
            ("https://front.example/openai/east", None),
            ("https://front.example/east/openai/v1/", Some("must end before /openai")),
            ("https://front.example/openai/v10", None),
            ("https://openai.azure.com.example/east", None),
        ] {
            let found = check(BackendKind::Azure, url);
            match expected {
                None => assert_eq!(found, Ok(()), "{url}"),
                Some(start) => assert!(found.is_err_and(|why| why.starts_with(start)), "{url}: {found:?}"),
            }
        }
        for (url, is_right) in [
            ("https://api.openai.com", true),
            ("https://api.openai.com/v1", false),
            ("https://elsewhere.example/openai/V1/", false),
            ("https://elsewhere.example/openai", true),
        ] {
            assert_eq!(check(BackendKind::OpenAi, url).is_ok(), is_right, "{url}");
        }
    }

    #[test]
    fn tokens_go_over_https_or_loopback_only() {
        for (url, may) in [
            ("https://contoso.example", true),
            ("http://contoso.example", false),
            ("http://127.0.0.1:8080", true),
            ("http://localhost", true),
            ("http://[::1]:80", true),
            ("http://127.evil.example", false),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().may_carry_tokens(), may, "{url}");
        }
    }
}
