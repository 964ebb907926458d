//! Headers of a request that a backend gets.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use crate::error::{Error, ErrorKind};
use crate::headers;

/// Tells headers that the API defines, or that describe the body.
fn is_of_the_api(name: &str) -> bool {
    const PREFIXES: [&str; 2] = ["openai-", "aoai-"];
    matches!(
        name,
        "accept"
            | "anthropic-beta"
            | "anthropic-version"
            | "content-encoding"
            | "content-language"
            | "content-length"
            | "content-type"
            // Of Azure AI model inference: what happens to parameters that the model does not know.
            | "extra-parameters"
            | "host"
            | "idempotency-key"
            | "user-agent"
            | "x-client-request-id"
            | "x-ms-client-request-id"
            | "x-ms-oai-image-generation-deployment"
    ) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Tells headers that open a WebSocket, besides `Connection` and `Upgrade`.
fn is_of_a_handshake(name: &str) -> bool {
    matches!(
        name,
        "sec-websocket-extensions" | "sec-websocket-key" | "sec-websocket-protocol" | "sec-websocket-version"
    )
}

/// Further request headers that backends get. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Passed {
    further: Arc<[Pattern]>,
}

#[derive(Clone)]
enum Pattern {
    Name(HeaderName),
    Prefix(Box<str>),
}

impl Passed {
    /// Reads names, and prefixes that end in `*`.
    pub(super) fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidHeaderPattern> {
        let further = patterns.into_iter().map(Pattern::parse).collect::<Result<_, _>>()?;
        Ok(Self { further })
    }

    fn passes(&self, name: &str) -> bool {
        is_of_the_api(name) || !headers::never_passes(name) && self.further.iter().any(|pattern| pattern.matches(name))
    }

    /// Leaves what a backend gets of a request's headers.
    pub(super) fn strip(&self, map: &mut HeaderMap) {
        headers::keep(map, |name| self.passes(name));
    }

    /// The same for the handshake of a WebSocket.
    pub(super) fn strip_handshake(&self, map: &mut HeaderMap) {
        headers::keep(map, |name| self.passes(name) || is_of_a_handshake(name));
        headers::upgrade_to_websocket(map);
    }

    /// Leaves what a backend gets of a request's trailers, which describe no body.
    pub(super) fn strip_trailers(&self, map: &mut HeaderMap) {
        headers::keep(map, |name| self.passes(name) && !name.starts_with("content-") && name != "host");
    }

    /// Refuses names that a backend may read as ones that were not looked at: CGI and what is like it take `_` for `-`.
    pub(super) fn check(&self, map: &HeaderMap) -> Result<(), Error> {
        let means_something = |name: &str| {
            let dashed = name.replace('_', "-");
            self.passes(&dashed) || is_of_a_handshake(&dashed) || headers::is_meant_for_gateways(&dashed)
        };
        let is_wrong = |name: &HeaderName| name.as_str().contains('_') && means_something(name.as_str());
        match map.keys().any(is_wrong) {
            true => Err(Error::new(
                ErrorKind::AmbiguousRequest,
                "The name of a header contains `_` where others read `-`. Write it with `-`.",
            )),
            false => Ok(()),
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, InvalidHeaderPattern> {
        let wrong = |why| InvalidHeaderPattern { pattern: text.to_owned(), why };
        let lower = text.to_ascii_lowercase();
        let (name, is_prefix) = match lower.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (lower.as_str(), false),
        };
        let parsed: HeaderName =
            name.parse().map_err(|_| wrong("is no header's name, nor a prefix that ends in `*`"))?;
        if name.contains('*') {
            return Err(wrong("has a `*` before its end"));
        }
        if name.contains('_') {
            return Err(wrong("contains `_`, which others read as `-`"));
        }
        let pattern = if is_prefix { Self::Prefix(name.into()) } else { Self::Name(parsed) };
        match headers::NEVER_PASSED.iter().any(|never| pattern.matches(never)) {
            true => Err(wrong("names a credential, or what concerns one connection or the choice of a deployment")),
            false => Ok(pattern),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Prefix(prefix) => name.starts_with(&**prefix) && !name.contains('_'),
        }
    }
}

impl fmt::Debug for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.further.iter().map(Pattern::to_string)).finish()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name.as_str()),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// A header that cannot be added to those that backends get.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` {why}")]
pub struct InvalidHeaderPattern {
    pattern: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_what_concerns_the_backend_is_passed_on() {
        let mut map = map(&[
            ("api-key", "1"),
            ("authorization", "Bearer 1"),
            ("ocp-apim-subscription-key", "1"),
            ("cookie", "a=b"),
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("x-forwarded-for", "1"),
            ("forwarded", "for=1"),
            ("x-azure-fdid", "1"),
            ("x-appgw-trace-id", "1"),
            ("x-stainless-lang", "python"),
            ("x-gateway-backend", "1"),
            ("x-ms-spillover-deployment", "other"),
            ("azureml-model-deployment", "other"),
            ("expect", "100-continue"),
            ("via", "1"),
            ("host", "h"),
            ("openai-beta", "assistants=v2"),
            ("aoai-evals", "preview"),
            ("x-ms-client-request-id", "1"),
        ]);
        Passed::default().strip(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["aoai-evals", "host", "openai-beta", "x-ms-client-request-id"]);
    }

    #[test]
    fn a_handshake_keeps_its_upgrade_and_nothing_else_of_its_connection() {
        let mut map = map(&[
            ("connection", "keep-alive, Upgrade, x-private"),
            ("upgrade", "WebSocket"),
            ("x-private", "1"),
            ("api-key", "1"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ]);
        assert!(headers::names_websocket(&map));
        Passed::default().strip_handshake(&mut map);
        let mut left: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("connection", "upgrade"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-version", "13"),
                ("upgrade", "websocket"),
            ]
        );
    }

    #[test]
    fn further_headers_are_names_and_prefixes() {
        let passed = Passed::new(["X-Team", "x-trace-*"]).unwrap();
        let mut left =
            map(&[("x-team", "1"), ("x-teams", "1"), ("x-trace-id", "1"), ("x-trace-a_b", "1"), ("x-other", "1")]);
        passed.strip(&mut left);
        let mut left: Vec<_> = left.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-team", "x-trace-id"]);
    }

    #[test]
    fn no_credential_and_nothing_of_one_connection_can_be_added() {
        for wrong in
            ["api-key", "Authorization", "a*", "*", "coo*", "te", "x-a_b", "x-a*b", "", "x y", "x-api-*", "x-*"]
        {
            assert!(Passed::new([wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_second_spelling_is_refused_where_the_first_means_something() {
        for wrong in
            ["content_length", "x_ms_oai_image_generation_deployment", "api_key", "x_forwarded_for", "openai_beta"]
        {
            assert!(Passed::default().check(&map(&[(wrong, "1")])).is_err(), "{wrong}");
        }
        assert!(Passed::default().check(&map(&[("my_header", "1"), ("x-a-b", "1")])).is_ok());
        assert!(Passed::new(["x-team"]).unwrap().check(&map(&[("x_team", "1")])).is_err());
    }
}
