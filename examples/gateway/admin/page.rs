//! The status page: one file, which asks for everything else itself.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use sha2::{Digest, Sha256};
use tower_azure_openai::body::Body;

use super::answers;

const PAGE: &str = include_str!("page.html");

/// Nothing but the one script and the one style of the page runs, whatever finds its way into it, and it speaks to nobody else.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let (script, style) = (hash("<script type=\"module\">", "</script>"), hash("<style>", "</style>"));
    let policy = format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; frame-ancestors 'none'; \
         base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    );
    HeaderValue::try_from(policy).expect("digests are ASCII")
});

/// The source of a policy that stands for what is between two tags.
fn hash(start: &str, end: &str) -> String {
    let inner = PAGE.split_once(start).and_then(|(_, rest)| rest.split_once(end)).map_or("", |(inner, _)| inner);
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inner)))
}

/// Answers who looks at it. There is nothing secret in it, so that it can ask for the token itself where that is missing.
pub(super) fn answer(method: &Method, is_authorised: bool) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return answers::not_allowed("GET, HEAD");
    }
    let mut answer = Response::new(if method == Method::GET { Body::from(PAGE) } else { Body::empty() });
    let headers = answer.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    if !is_authorised {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        *answer.status_mut() = StatusCode::UNAUTHORIZED;
    }
    answer
}
