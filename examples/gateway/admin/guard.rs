//! Guard of the admin listener: who may ask it.

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Request, StatusCode, Version};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::Config;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Knows requests that were meant for the admin listener, by somebody who may.
pub(super) struct Guard {
    /// In lower case.
    hosts: Vec<String>,
    /// The digest of what must be shown.
    token: Option<[u8; 32]>,
}

/// Reason why a request gets nothing.
pub(super) type Refusal = (StatusCode, &'static str);

impl Guard {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            hosts: config.admin_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            token: config.admin_token.as_ref().map(|token| Sha256::digest(token.expose()).into()),
        }
    }

    /// Refuses what was sent to another name, or by a page of somebody else.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        if !self.is_meant(request) {
            return Err((
                StatusCode::MISDIRECTED_REQUEST,
                "admin_hosts does not have the host that this was sent to\n",
            ));
        }
        if is_of_another_site(request) {
            return Err((StatusCode::FORBIDDEN, "another site may not ask this\n"));
        }
        Ok(())
    }

    /// A page can make its own name lead here, but it cannot make it an address.
    fn is_meant<B>(&self, request: &Request<B>) -> bool {
        let named = request.headers().get_all(HOST).iter().map(|host| Authority::try_from(host.as_bytes()).ok());
        let mut named = request.uri().authority().cloned().map(Some).into_iter().chain(named).peekable();
        // Whoever speaks like this is no browser.
        let is_plain = request.version() < Version::HTTP_11 && named.peek().is_none();
        is_plain || (named.peek().is_some() && named.all(|host| host.is_some_and(|host| self.is_own(&host))))
    }

    fn is_own(&self, authority: &Authority) -> bool {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok() || self.hosts.contains(&host)
    }

    /// Tells whether the token was shown, where there is one.
    pub(super) fn is_authorised<B>(&self, request: &Request<B>) -> bool {
        let Some(expected) = &self.token else { return true };
        let mut shown = request.headers().get_all(AUTHORIZATION).iter();
        let (first, second) = (shown.next(), shown.next());
        let token = first.filter(|_| second.is_none()).and_then(|value| {
            let (scheme, token) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
        });
        token.is_some_and(|token| Sha256::digest(token).as_slice().ct_eq(expected).into())
    }
}

/// Browsers say where a request comes from: by `Sec-Fetch-Site`, but to trustworthy addresses only, which plain http to another
/// machine is not (Fetch Metadata, §2). There `Origin` tells, which is on everything that could change something.
fn is_of_another_site<B>(request: &Request<B>) -> bool {
    let mut sites = request.headers().get_all(FETCH_SITE).iter().peekable();
    if sites.peek().is_some() {
        return sites.any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    }
    let own = request.uri().authority().map(Authority::as_str);
    let own = own.or_else(|| request.headers().get(HOST)?.to_str().ok());
    request.headers().get_all(ORIGIN).iter().any(|origin| !own.is_some_and(|own| is_origin_of(origin, own)))
}

/// Tells whether an origin is that of what is asked here; in front of this may stand something that speaks https.
fn is_origin_of(origin: &HeaderValue, own: &str) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(own))
}
