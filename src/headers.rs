//! What is never passed on: one list of credential forms, one of hop-by-hop headers, one of what front ends add.
//!
//! Azure OpenAI answers 431 to more than ten custom headers, so what only concerned the way to the gateway ends here.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HOST, SEC_WEBSOCKET_PROTOCOL, SET_COOKIE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

/// The header of Azure's API keys.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// The header of API Management's subscription keys.
pub(crate) const SUBSCRIPTION_KEY: HeaderName = HeaderName::from_static("ocp-apim-subscription-key");
/// Query parameters that carry keys.
pub(crate) const QUERY_KEYS: [&str; 2] = ["api-key", "subscription-key"];
/// How browsers, which cannot set headers on a WebSocket, offer a key as a subprotocol.
pub(crate) const PROTOCOL_KEY: &str = "openai-insecure-api-key.";

static CREDENTIALS: [HeaderName; 4] = [API_KEY, AUTHORIZATION, SUBSCRIPTION_KEY, COOKIE];

static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("te"),
    HeaderName::from_static("trailer"),
    HeaderName::from_static("transfer-encoding"),
    HeaderName::from_static("upgrade"),
];

/// Answers that name infrastructure, or that would pin a client to a backend behind the gateway's back.
static INFRASTRUCTURE: [HeaderName; 2] = [SET_COOKIE, HeaderName::from_static("alt-svc")];

/// Room for what a backend is shown: `Host`, `accept-encoding` and a credential.
const ADDED: usize = 3;

const FRONT_END: [&str; 3] = ["forwarded", "via", "expect"];
const FRONT_END_PREFIXES: [&str; 5] = ["x-forwarded-", "x-azure-", "x-appgw-", "x-stainless-", "x-gateway-"];

/// Removes every form of an inbound credential from the headers.
pub(crate) fn strip_credentials(headers: &mut HeaderMap) {
    for name in &CREDENTIALS {
        headers.remove(name);
    }
    strip_protocol_key(headers);
}

/// The request target without the parameters that carry keys; `None` when there are none.
pub(crate) fn without_query_keys(uri: &Uri) -> Option<Uri> {
    let query = uri.query()?;
    if !parameters(query).any(|(name, _)| is_query_key(&name)) {
        return None;
    }
    let kept: Vec<_> = query.split('&').filter(|pair| !is_query_key(&parameter(pair).0)).collect();
    let path = uri.path();
    let path_and_query = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
    Uri::from_parts(parts).ok()
}

/// The parameters of a query, decoded.
pub(crate) fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(parameter)
}

fn parameter(pair: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (decoded(name), decoded(value))
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('%') { percent_decode_str(text).decode_utf8_lossy() } else { Cow::Borrowed(text) }
}

pub(crate) fn is_query_key(name: &str) -> bool {
    QUERY_KEYS.iter().any(|key| name.eq_ignore_ascii_case(key))
}

/// Removes what concerned only the way to the gateway, credentials included.
///
/// Most of what a client library sends ends here, so what is left moves to a new map: that is much less work than to look for
/// every name of the lists and to close the gap that each leaves.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    strip_protocol_key(headers);
    let named = named_in_connection(headers);
    let ends_here = |name: &HeaderName| {
        is_front_end(name.as_str()) || HOP_BY_HOP.contains(name) || CREDENTIALS.contains(name) || named.contains(name)
    };
    let room = HeaderMap::with_capacity(headers.keys_len() + ADDED);
    let mut keeps = false;
    let left = std::mem::replace(headers, room).into_iter().filter(|(name, _)| {
        // Further values of a name come without it.
        keeps = name.as_ref().map_or(keeps, |name| !ends_here(name));
        keeps
    });
    headers.extend(left);
}

/// Removes what concerned only the way from the backend to the gateway.
pub(crate) fn strip_answer(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    for name in &INFRASTRUCTURE {
        headers.remove(name);
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in named_in_connection(headers).iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// What `Connection` names beside the hop-by-hop headers that are known anyway.
fn named_in_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !HOP_BY_HOP.iter().any(|known| known.as_str().eq_ignore_ascii_case(name)))
        .filter_map(|name| HeaderName::try_from(name).ok())
        .filter(|name| *name != HOST)
        .collect()
}

fn is_front_end(name: &str) -> bool {
    FRONT_END.contains(&name) || FRONT_END_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn strip_protocol_key(headers: &mut HeaderMap) {
    let carries_key = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains(PROTOCOL_KEY));
    if !headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().any(carries_key) {
        return;
    }
    let kept: Vec<_> = protocols(headers).filter(|protocol| !protocol.starts_with(PROTOCOL_KEY)).collect();
    let kept = HeaderValue::try_from(kept.join(", "));
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(kept) = kept.map_err(drop)
        && !kept.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

/// The offered WebSocket subprotocols.
pub(crate) fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|protocol| !protocol.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_what_concerns_the_backend_is_passed_on() {
        let mut map = headers(&[
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
            ("expect", "100-continue"),
            ("via", "1"),
            ("host", "h"),
            ("openai-beta", "assistants=v2"),
            ("aoai-evals", "preview"),
            ("x-ms-client-request-id", "1"),
        ]);
        strip_request(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["aoai-evals", "host", "openai-beta", "x-ms-client-request-id"]);
    }

    #[test]
    fn a_key_among_subprotocols_is_removed_and_the_others_stay() {
        let mut map =
            headers(&[("sec-websocket-protocol", "realtime, openai-insecure-api-key.k, openai-beta.realtime-v1")]);
        strip_credentials(&mut map);
        assert_eq!(map[SEC_WEBSOCKET_PROTOCOL], "realtime, openai-beta.realtime-v1");

        let mut map = headers(&[("sec-websocket-protocol", "openai-insecure-api-key.k")]);
        strip_credentials(&mut map);
        assert!(map.is_empty());
    }

    #[test]
    fn keys_leave_the_query_in_any_spelling() {
        for (uri, expected) in [
            ("/p?api-key=1&api-version=2", Some("/p?api-version=2")),
            ("/p?a=1&API-KEY=1", Some("/p?a=1")),
            ("/p?api%2Dkey=1", Some("/p")),
            ("/p?subscription-key=1&b=2&api-key=3", Some("/p?b=2")),
            ("/p?api-version=2", None),
            ("/p", None),
        ] {
            let stripped = without_query_keys(&Uri::from_static(uri)).map(|uri| uri.to_string());
            assert_eq!(stripped.as_deref(), expected, "{uri}");
        }
    }
}
