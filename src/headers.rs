//! Common knowledge of headers: the forms of credentials, what concerns one connection, what means something to gateways.

use std::borrow::Cow;
use std::ops::Range;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, COOKIE, Entry, HOST, LINK, LOCATION,
    PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use memchr::{memchr, memchr3};
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

/// The header of Azure's API keys.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// The header of API Management's subscription keys.
pub(crate) const SUBSCRIPTION_KEY: HeaderName = HeaderName::from_static("ocp-apim-subscription-key");
/// Query parameters that carry keys.
pub(crate) const QUERY_KEYS: [&str; 2] = ["api-key", "subscription-key"];
/// Prefix of the subprotocol as which browsers, which cannot set headers on a WebSocket, offer a key.
pub(crate) const PROTOCOL_KEY: &str = "openai-insecure-api-key.";

/// Every header that can carry a client's credential.
static CREDENTIALS: [HeaderName; 8] = [
    API_KEY,
    AUTHORIZATION,
    COOKIE,
    HeaderName::from_static("cookie2"),
    PROXY_AUTHORIZATION,
    SUBSCRIPTION_KEY,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-forwarded-authorization"),
];

/// Headers that no backend gets, whatever is configured: credentials, what concerns one connection, by which a client could name a
/// deployment that it may not use, and what the gateway says itself.
pub(crate) const NEVER_PASSED: [&str; 22] = [
    "accept-encoding",
    "api-key",
    "authorization",
    "azureml-model-deployment",
    "connection",
    "cookie",
    "cookie2",
    "expect",
    "http2-settings",
    "keep-alive",
    "ocp-apim-subscription-key",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "sec-websocket-accept",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    "x-forwarded-authorization",
    "x-ms-spillover-deployment",
];

/// Headers that no backend gets, whatever is configured.
pub(crate) fn never_passes(name: &str) -> bool {
    NEVER_PASSED.contains(&name)
}

/// Headers that concern one connection.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Headers of an answer that name infrastructure or bind a client to it behind the gateway's back, show a credential, are said of a
/// host, which to the client is the gateway, or tell a front end to answer with something else.
fn names_infrastructure(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["access-control-", "content-security-policy", "x-forwarded-", "x-gateway-"];
    matches!(
        name,
        "alt-svc"
            | "api-key"
            | "authorization"
            | "clear-site-data"
            | "cookie"
            | "cookie2"
            | "nel"
            | "ocp-apim-subscription-key"
            | "refresh"
            | "report-to"
            | "reporting-endpoints"
            | "server"
            | "set-cookie"
            | "set-cookie2"
            | "sourcemap"
            | "strict-transport-security"
            | "via"
            | "x-api-key"
            | "x-lighttpd-send-file"
            | "x-reproxy-url"
            | "x-sendfile"
            | "x-served-by"
            | "x-sourcemap"
    ) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name.starts_with("x-accel-") && name != "x-accel-buffering"
}

/// Tells whether a gateway or front end may read it: credentials and constraints, addresses, methods and URLs that replace the real ones.
pub(crate) fn is_meant_for_gateways(name: &str) -> bool {
    never_passes(name)
        || is_front_ends(name)
        || matches!(name, "x-http-method" | "x-http-method-override" | "x-method-override" | "x-session-affinity")
        || matches!(name, "x-host" | "x-original-host" | "x-original-url" | "x-real-ip" | "x-rewrite-url")
}

/// Headers by which front ends and client libraries speak of themselves.
fn is_front_ends(name: &str) -> bool {
    const PREFIXES: [&str; 5] = ["forwarded-", "azure-", "appgw-", "stainless-", "gateway-"];
    let begins = |rest: &str| PREFIXES.iter().any(|prefix| rest.starts_with(prefix));
    matches!(name, "forwarded" | "via" | "expect") || name.strip_prefix("x-").is_some_and(begins)
}

/// Names the deployment that draws, for the image tool of responses.
pub(crate) const IMAGE_DEPLOYMENT: HeaderName = HeaderName::from_static("x-ms-oai-image-generation-deployment");

/// Says for which alias something is meant that names none, such as a file. Ours, and never passed on.
pub(crate) const ALIAS: HeaderName = HeaderName::from_static("x-gateway-alias");

/// Removes every form of an inbound credential from a request, in headers and query.
pub(crate) fn strip_credentials<B>(request: &mut Request<B>) {
    let found: SmallVec<[HeaderName; 4]> =
        request.headers().keys().filter(|name| CREDENTIALS.contains(name)).cloned().collect();
    for name in found {
        request.headers_mut().remove(name);
    }
    strip_protocol_key(request.headers_mut());
    if let Some(uri) = without_query_keys(request.uri()) {
        *request.uri_mut() = uri;
    }
}

/// Keeps what `passes`, unless `Connection` declares it to be hop-by-hop, and no key among WebSocket protocols.
pub(crate) fn keep(headers: &mut HeaderMap, passes: impl Fn(&str) -> bool) {
    remove_if(headers, |name| !passes(name.as_str()));
    strip_protocol_key(headers);
}

/// Removes what concerned only the way from the backend to the gateway. A 101 stays a 101.
pub(crate) fn strip_answer(status: StatusCode, headers: &mut HeaderMap) {
    let switches = status == StatusCode::SWITCHING_PROTOCOLS && names_websocket(headers);
    if status == StatusCode::NO_CONTENT || headers.contains_key(TRANSFER_ENCODING) {
        // RFC 9110 §8.6, RFC 9112 §6.3: there is none, or another one. Passed on, it would cut the answer or break the connection.
        headers.remove(CONTENT_LENGTH);
    }
    remove_if(headers, |name| is_hop_by_hop(name.as_str()) || names_infrastructure(name.as_str()));
    if let Entry::Occupied(mut challenge) = headers.entry(WWW_AUTHENTICATE) {
        // It may name a realm or an authority; a client that shows tokens of its own knows them.
        challenge.insert(HeaderValue::from_static("Bearer"));
    }
    if switches {
        upgrade_to_websocket(headers);
    }
}

/// Leaves of an answer's trailers what a header might say, too, and what leads nowhere.
pub(crate) fn strip_trailers_of_answer(trailers: &mut HeaderMap, host: Option<&str>) {
    let is_unwanted = |name: &HeaderName| {
        let leads = holds_url(name) || *name == LINK || *name == WWW_AUTHENTICATE;
        leads || is_hop_by_hop(name.as_str()) || names_infrastructure(name.as_str())
    };
    remove_if(trailers, is_unwanted);
    if let Some(host) = host {
        drop_host(trailers, host);
    }
}

/// Tells whether the value is a URL. Azure has `operation-location`, `azure-asyncoperation`, and several that end in `-url`.
pub(crate) fn holds_url(name: &HeaderName) -> bool {
    *name == LOCATION
        || *name == CONTENT_LOCATION
        || name == "azure-asyncoperation"
        || ["-location", "-url", "-uri"].iter().any(|end| name.as_str().ends_with(end))
}

/// Drops what names a host. One without a dot is a word that may mean anything.
pub(crate) fn drop_host(headers: &mut HeaderMap, host: &str) {
    if !host.contains('.') {
        return;
    }
    let names_it = |value: &HeaderValue| contains_ignoring_case(value.as_bytes(), host.as_bytes());
    let found: Vec<_> = headers.iter().filter(|(_, value)| names_it(value)).map(|(name, _)| name.clone()).collect();
    for name in found {
        headers.remove(name);
    }
}

fn contains_ignoring_case(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

/// Tells whether `Connection` and `Upgrade` ask for a WebSocket, or grant one.
pub(crate) fn names_websocket(headers: &HeaderMap) -> bool {
    let has = |name, token: &str| tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token));
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// Says in `Connection` and `Upgrade` that a WebSocket is meant.
pub(crate) fn upgrade_to_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Removes what is unwanted, and what `Connection` declares to be hop-by-hop; never `Host`, without which there is no request.
///
/// One look at each header there is, rather than a search for each that there could be.
fn remove_if(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let named: SmallVec<[&str; 4]> = tokens(headers, CONNECTION).filter(|name| !is_hop_by_hop(name)).collect();
    let is_named = |name: &HeaderName| named.iter().any(|named| name == named) && *name != HOST;
    let mut found = headers.keys().filter(|name| unwanted(name) || is_named(name));
    let Some(first) = found.next() else { return };
    let removed: SmallVec<[HeaderName; 16]> = std::iter::once(first).chain(found).cloned().collect();
    drop(named);
    for name in removed {
        headers.remove(name);
    }
}

/// The elements of a header that is a list.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The request target without the parameters that carry keys; `None` when there are none.
pub(crate) fn without_query_keys(uri: &Uri) -> Option<Uri> {
    let query = uri.query().filter(|query| may_carry_key(query))?;
    if !query_parameters(query).any(|(name, ..)| is_query_key(&name)) {
        return None;
    }
    let carries_key = |pair: &str| query_parameters(pair).any(|(name, ..)| is_query_key(&name));
    let kept: Vec<_> = query.split('&').filter(|pair| !carries_key(pair)).collect();
    let path = uri.path();
    let path_and_query = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    let mut parts = uri.clone().into_parts();
    // Parts of a valid query are valid; if that were ever wrong, no key must go on all the same.
    parts.path_and_query = Some(path_and_query.try_into().unwrap_or_else(|_| PathAndQuery::from_static("/")));
    Some(Uri::from_parts(parts).unwrap_or_default())
}

/// The parameters of a query: name and value decoded, and where the value stands in the query as it was sent.
pub(crate) fn query_parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>, Range<usize>)> {
    let mut next = 0;
    let pairs = query.split('&').map(move |pair| {
        let start = next;
        next += pair.len() + 1;
        (start, pair)
    });
    pairs.filter(|(_, pair)| !pair.is_empty()).map(|(start, pair)| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let end = start + pair.len();
        (decoded(name), decoded(value), end - value.len()..end)
    })
}

/// A parameter by its value, with the `&` on one side of it.
pub(crate) fn parameter_at(query: &str, value: &Range<usize>) -> Range<usize> {
    let start = query[..value.start].rfind('&').unwrap_or(0);
    let end = if start == 0 { (value.end + 1).min(query.len()) } else { value.end };
    start..end
}

fn decoded(text: &str) -> Cow<'_, str> {
    match memchr(b'%', text.as_bytes()) {
        Some(_) => percent_decode_str(text).decode_utf8_lossy(),
        None => Cow::Borrowed(text),
    }
}

/// Tells whether a closer look is worth it: one of these is in every spelling of [`QUERY_KEYS`].
pub(crate) fn may_carry_key(query: &str) -> bool {
    memchr3(b'k', b'K', b'%', query.as_bytes()).is_some()
}

pub(crate) fn is_query_key(name: &str) -> bool {
    QUERY_KEYS.iter().any(|key| name.eq_ignore_ascii_case(key))
}

fn strip_protocol_key(headers: &mut HeaderMap) {
    if !headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().any(|value| carries_protocol_key(value.as_bytes())) {
        return;
    }
    let kept: Vec<_> = protocols(headers).filter(|protocol| !carries_protocol_key(protocol.as_bytes())).collect();
    let kept = HeaderValue::try_from(kept.join(", "));
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(kept) = kept.map_err(drop)
        && !kept.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

/// Wherever it stands and whatever surrounds it: a backend's parser may be more tolerant than ours.
fn carries_protocol_key(bytes: &[u8]) -> bool {
    bytes.windows(PROTOCOL_KEY.len()).any(|window| window.eq_ignore_ascii_case(PROTOCOL_KEY.as_bytes()))
}

/// The offered WebSocket subprotocols.
pub(crate) fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    tokens(headers, SEC_WEBSOCKET_PROTOCOL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_a_101_to_a_websocket_stays_an_upgrade() {
        let answer = [("connection", "Upgrade, x-private"), ("upgrade", "websocket"), ("x-private", "1")];
        let left = |status: u16, pairs| {
            let mut map = headers(pairs);
            strip_answer(StatusCode::from_u16(status).unwrap(), &mut map);
            (names_websocket(&map), map.len())
        };
        assert_eq!(left(101, &answer), (true, 2));
        assert_eq!(left(200, &answer), (false, 0));
        assert_eq!(left(101, &[("connection", "upgrade"), ("upgrade", "h2c")]), (false, 0));
        assert_eq!(left(101, &[("upgrade", "websocket")]), (false, 0));
    }

    #[test]
    fn a_key_among_subprotocols_is_removed_and_the_others_stay() {
        let mut map =
            headers(&[("sec-websocket-protocol", "realtime, openai-insecure-api-key.k, openai-beta.realtime-v1")]);
        strip_protocol_key(&mut map);
        assert_eq!(map[SEC_WEBSOCKET_PROTOCOL], "realtime, openai-beta.realtime-v1");

        for odd in ["openai-insecure-api-key.k", "x OpenAI-Insecure-API-Key.k", "a, openai-insecure-api-key.\u{e9}"] {
            let mut map = HeaderMap::new();
            map.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_bytes(odd.as_bytes()).unwrap());
            strip_protocol_key(&mut map);
            assert!(map.is_empty(), "{odd}");
        }
    }

    #[test]
    fn no_form_of_a_credential_is_left() {
        let mut request = Request::get("/p?api-key=1&b=2").header("accept", "*/*").body(()).unwrap();
        for name in &CREDENTIALS {
            assert!(never_passes(name.as_str()), "{name}");
            let mut answer: HeaderMap = [(name.clone(), HeaderValue::from_static("secret"))].into_iter().collect();
            strip_answer(StatusCode::OK, &mut answer);
            assert!(answer.is_empty(), "{name}");
            request.headers_mut().append(name, HeaderValue::from_static("secret"));
            request.headers_mut().append(name, HeaderValue::from_static("another"));
        }
        strip_credentials(&mut request);
        assert_eq!(*request.uri(), "/p?b=2");
        assert_eq!(*request.headers(), headers(&[("accept", "*/*")]));
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
