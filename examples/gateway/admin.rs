//! The admin listener: probes, status.
//!
//! It is not for clients, and not for pages that somebody who can reach it happens to look at: a request must have been meant
//! for it by the name that it was sent to, and must not come from another site.

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tower_azure_openai::body::Body;
use tower_azure_openai::health::Health;
use tower_azure_openai::meter::Ledger;
use tower_azure_openai::metrics::MetricsRecorder;

use crate::config::Config;
use crate::{metrics, usage};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Answers what is asked of the admin listener.
pub(crate) struct Admin {
    health: Health,
    ledger: Ledger,
    metrics: MetricsRecorder,
    /// In lower case.
    hosts: Vec<String>,
    /// The digest of what must be shown.
    token: Option<[u8; 32]>,
}

impl Admin {
    pub(crate) fn new(config: &Config, health: Health, ledger: Ledger, metrics: MetricsRecorder) -> Self {
        let token = config.admin_token.as_ref().map(|token| Sha256::digest(token.expose()).into());
        Self {
            health,
            ledger,
            metrics,
            hosts: config.admin_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            token,
        }
    }

    pub(crate) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let path = request.uri().path();
        if !self.is_meant(request) {
            return refuse(
                StatusCode::MISDIRECTED_REQUEST,
                "admin_hosts does not have the host that this was sent to\n",
            );
        }
        if request
            .headers()
            .get_all(FETCH_SITE)
            .iter()
            .any(|site| matches!(site.as_bytes(), b"cross-site" | b"same-site"))
        {
            return refuse(StatusCode::FORBIDDEN, "another site may not ask this\n");
        }
        if !matches!(path, "/livez" | "/readyz") && !self.is_authorised(request) {
            let mut answer = refuse(StatusCode::UNAUTHORIZED, "admin_token is asked for, as a bearer token\n");
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return answer;
        }
        if path == metrics::PATH {
            return metrics::answer(&self.metrics, request);
        }
        if path == usage::PATH {
            return usage::answer(&self.ledger, request.method(), request.uri().query().unwrap_or_default());
        }
        self.health.answer(request.method(), path)
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

    fn is_authorised<B>(&self, request: &Request<B>) -> bool {
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

fn refuse(status: StatusCode, why: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::from(why));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}
