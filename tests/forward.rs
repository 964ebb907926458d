//! The layer that makes a request the target's and an answer the client's, from outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::pool::{Backend, BackendKind, Deployment, Pool, Target};
use tower_azure_openai::{Error, ErrorKind};

const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=1";

fn target(kind: BackendKind) -> Target {
    let backend = Backend::new("east", "https://east.example/at").kind(kind).add_deployment(Deployment::new("gpt-4o"));
    Pool::builder().add_backend(backend).build().unwrap().targets("gpt-4o").remove(0)
}

fn request(headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::post(CHAT).extension(target(BackendKind::Azure)).body(body.into()).unwrap();
    request.headers_mut().extend(headers);
    request
}

/// What a backend sees, trailers included, and what the client gets of its answer.
async fn exchange(
    layer: ForwardLayer,
    request: Request<Body>,
    answer: HeaderMap,
) -> Result<(HeaderMap, Option<HeaderMap>, HeaderMap), BoxError> {
    let seen = Arc::new(Mutex::new(None));
    let backend = {
        let seen = seen.clone();
        service_fn(move |request: Request<Body>| {
            let (seen, answer) = (seen.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let trailers = body.collect().await?.trailers().cloned();
                *seen.lock().unwrap() = Some((parts.headers, trailers));
                let mut response = Response::new(Body::empty());
                *response.headers_mut() = answer;
                Ok::<_, BoxError>(response)
            }
        })
    };
    let answer = ServiceBuilder::new().layer(layer).service(backend).oneshot(request).await?;
    let (headers, trailers) = seen.lock().unwrap().take().unwrap();
    Ok((headers, trailers, answer.headers().clone()))
}

fn pair(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    (name.parse().unwrap(), value.parse().unwrap())
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

/// The documentation's list, written down a second time.
fn is_documented(name: &str) -> bool {
    let exact = [
        "accept",
        "accept-encoding",
        "anthropic-beta",
        "anthropic-version",
        "content-encoding",
        "content-language",
        "content-length",
        "content-type",
        "extra-parameters",
        "host",
        "idempotency-key",
        "user-agent",
        "x-client-request-id",
        "x-ms-client-request-id",
        "x-ms-oai-image-generation-deployment",
    ];
    exact.contains(&name) || name.starts_with("openai-") || name.starts_with("aoai-")
}

fn name() -> impl Strategy<Value = String> {
    let listed = prop::sample::select(vec![
        "accept",
        "openai-beta",
        "aoai-evals",
        "cookie",
        "authorization",
        "api-key",
        "x-api-key",
        "x-http-method-override",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-for",
        "x-ms-client-principal-id",
        "forwarded",
        "traceparent",
        "idempotency-key",
        "te",
        "x-real-ip",
        "cf-connecting-ip",
        "x-envoy-peer-metadata",
        "sec-websocket-key",
        "origin",
    ]);
    prop_oneof![listed.prop_map(str::to_owned), "[a-z][a-z0-9-]{0,20}", "(x|openai|aoai|api)[-_][a-z_-]{1,12}"]
}

proptest! {
    #[test]
    fn no_header_that_is_not_listed_ever_arrives(sent in prop::collection::vec(name(), 0..20), trailing: bool) {
        let sent: Vec<_> = sent.iter().filter(|name| *name != "connection").map(|name| pair(name, "v")).collect();
        let trailers: HeaderMap = sent.iter().cloned().collect();
        let frames = [Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"{}"))), Ok(Frame::trailers(trailers))];
        let body = if trailing { Body::new(StreamBody::new(stream::iter(frames))) } else { Body::from("{}") };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match runtime.block_on(exchange(ForwardLayer::new(), request(sent.clone(), body), HeaderMap::new())) {
            Ok((arrived, trailers, _)) => {
                let trailers = trailers.unwrap_or_default();
                for name in names(&arrived).into_iter().chain(names(&trailers)) {
                    prop_assert!(is_documented(name), "{name}");
                }
                for (name, _) in sent.iter().filter(|(name, _)| is_documented(name.as_str())) {
                    prop_assert!(arrived.contains_key(name), "{name}");
                }
            }
            Err(error) => {
                prop_assert_eq!(Error::find(error.as_ref()).map(Error::kind), Some(ErrorKind::AmbiguousRequest));
                prop_assert!(sent.iter().any(|(name, _)| name.as_str().contains('_')));
            }
        }
    }

    #[test]
    fn no_answer_leads_to_another_host(
        name in prop::sample::select(vec!["location", "content-location", "operation-location", "x-ms-file-url", "link"]),
        url in r"(https?:)?[/\\]{0,3}(east\.example|EAST\.EXAMPLE:443|evil\.example)?[/\\]{0,3}(at)?[/\\]{0,3}[a-z/?=.:@]{0,12}",
    ) {
        let value = if name == "link" { format!("<{url}>; rel=next") } else { url };
        let answer = [pair(name, &value)].into_iter().collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (.., answer) = runtime.block_on(exchange(ForwardLayer::new(), request([], "{}"), answer)).unwrap();
        if let Some(left) = answer.get(name) {
            let left = left.to_str().unwrap().trim_start_matches('<');
            prop_assert!(left.starts_with('/') && !left.starts_with("//") && !left.starts_with("/\\"), "{left}");
        }
    }
}

#[tokio::test]
async fn no_location_leads_out_of_where_it_stands() {
    for (url, is_kept) in [
        ("/./..//evil.example/", false),
        ("/openai/%2e%2E/status", false),
        ("/openai/x/.", false),
        ("/openai/files/..\\x", false),
        ("/openai/files/f..1?after=../x", true),
        ("/openai/.well-known", true),
    ] {
        let answer = [pair("location", url)].into_iter().collect();
        let (.., answer) = exchange(ForwardLayer::new(), request([], "{}"), answer).await.unwrap();
        assert_eq!(answer.contains_key("location"), is_kept, "{url}");
    }
}

#[tokio::test]
async fn no_answer_tells_a_front_end_what_to_do() {
    for (name, is_kept) in [
        ("x-accel-redirect", false),
        ("x-accel-expires", false),
        ("x-sendfile", false),
        ("x-lighttpd-send-file", false),
        ("x-reproxy-url", false),
        ("x-accel-buffering", true),
    ] {
        let answer = [pair(name, "/internal/secrets")].into_iter().collect();
        let (.., answer) = exchange(ForwardLayer::new(), request([], "{}"), answer).await.unwrap();
        assert_eq!(answer.contains_key(name), is_kept, "{name}");
    }
}

#[tokio::test]
async fn codex_behind_a_mesh_stays_below_the_limit_of_azure() {
    let sent = [
        "x-codex-beta-features",
        "session-id",
        "originator",
        "x-datadog-trace-id",
        "x-envoy-internal",
        "x-b3-traceid",
        "cf-ray",
        "x-real-ip",
        "max-forwards",
        "x-client-request-id",
        "openai-beta",
        "x-stainless-lang",
        "traceparent",
    ];
    let (arrived, ..) =
        exchange(ForwardLayer::new(), request(sent.map(|name| pair(name, "1")), "{}"), HeaderMap::new()).await.unwrap();
    assert_eq!(names(&arrived), ["accept-encoding", "host", "openai-beta", "x-client-request-id"]);
}

#[tokio::test]
async fn a_header_that_connection_names_stays_here_though_it_is_listed() {
    let sent = [pair("connection", "close, openai-beta, host"), pair("openai-beta", "1")];
    let (arrived, ..) = exchange(ForwardLayer::new(), request(sent, "{}"), HeaderMap::new()).await.unwrap();
    assert_eq!(names(&arrived), ["accept-encoding", "host"]);
}

#[tokio::test]
async fn further_headers_arrive_and_nothing_else_with_them() {
    let layer = ForwardLayer::new().headers(["X-Team", "x-trace-*"]).unwrap();
    let sent = ["x-team", "x-team-b", "x-trace-a", "cookie"].map(|name| pair(name, "1"));
    let (arrived, ..) = exchange(layer, request(sent, "{}"), HeaderMap::new()).await.unwrap();
    assert_eq!(names(&arrived), ["accept-encoding", "host", "x-team", "x-trace-a"]);
    let error = ForwardLayer::new().headers(["x-team", "auth*"]).unwrap_err();
    assert!(error.to_string().starts_with("`auth*` names a credential"), "{error}");
}

#[tokio::test]
async fn a_second_spelling_is_refused_before_anything_is_sent() {
    for name in ["x_ms_spillover_deployment", "content_length", "x_http_method_override", "openai_beta", "Api_Key"] {
        let error =
            exchange(ForwardLayer::new(), request([pair(name, "1")], "{}"), HeaderMap::new()).await.unwrap_err();
        assert_eq!(Error::find(error.as_ref()).map(Error::kind), Some(ErrorKind::AmbiguousRequest), "{name}");
    }
    exchange(ForwardLayer::new(), request([pair("my_own", "1")], "{}"), HeaderMap::new()).await.unwrap();
}

#[tokio::test]
async fn a_method_that_anticipates_content_says_that_there_is_none() {
    for (method, expected) in
        [(Method::POST, Some("0")), (Method::PUT, Some("0")), (Method::GET, None), (Method::DELETE, None)]
    {
        let mut request = request([], Body::empty());
        *request.method_mut() = method.clone();
        let (arrived, ..) = exchange(ForwardLayer::new(), request, HeaderMap::new()).await.unwrap();
        assert_eq!(arrived.get("content-length").map(|value| value.to_str().unwrap()), expected, "{method}");
    }
}

#[tokio::test]
async fn what_names_infrastructure_stays_here() {
    for (name, value, expected) in [
        ("server", "envoy at east.example", None),
        ("via", "1.1 east.example", None),
        ("alt-svc", "h3=\":443\"", None),
        ("set-cookie", "a=b", None),
        ("refresh", "5; url=https://east.example/", None),
        ("access-control-allow-origin", "*", None),
        ("www-authenticate", "Bearer realm=\"https://east.example\"", Some("Bearer")),
        ("location", "https://east.example/at//evil.example/x", None),
        ("location", "https://east.example/at/openai/files/f", Some("/openai/files/f")),
        ("content-location", "//evil.example/x", None),
        ("x-ms-blob-url", "https://east.example/at/openai/x?y", Some("/openai/x?y")),
        ("x-ms-blob-url", "https://blob.example/x", None),
        (
            "link",
            "<https://east.example/at/openai/x>; rel=\"next\", </openai/y>; rel=prev",
            Some("</openai/x>; rel=\"next\", </openai/y>; rel=prev"),
        ),
        ("link", "<https://other.example/x>; rel=next", None),
        ("api-key", "key-of-east", None),
        ("authorization", "Bearer token-of-east", None),
        ("x-gateway-backend", "another", None),
        ("x-forwarded-host", "internal", None),
        ("x-served-by", "cache-7", None),
        ("strict-transport-security", "max-age=0", None),
        ("clear-site-data", "\"*\"", None),
        ("content-security-policy", "default-src 'none'", None),
        ("x-anything", "it was EAST.example:8443", None),
        ("x-anything", "it was least.example", None),
        ("x-anything", "it was the east", Some("it was the east")),
        ("link", "</openai/x>; rel=next; anchor=\"https://other.example\"", None),
        ("x-ms-region", "East US", Some("East US")),
    ] {
        let answer = [pair(name, value)].into_iter().collect();
        let (.., left) = exchange(ForwardLayer::new(), request([], "{}"), answer).await.unwrap();
        assert_eq!(left.get(name).map(|value| value.to_str().unwrap()), expected, "{name}: {value}");
    }
}

#[tokio::test]
async fn without_a_target_everything_passes() {
    let mut untouched = request([pair("x-own", "1"), pair("api-key", "k")], "{}");
    untouched.extensions_mut().clear();
    let (arrived, _, left) =
        exchange(ForwardLayer::new(), untouched, [pair("server", "s")].into_iter().collect()).await.unwrap();
    assert_eq!((names(&arrived), names(&left)), (vec!["api-key", "x-own"], vec!["server"]));
}

#[tokio::test]
async fn a_length_is_said_once_and_as_it_is() {
    for said in [&["2"][..], &["02"], &["+2"], &["2", "2"], &["2", "3"], &["7"], &["\u{b2}"], &[""]] {
        let headers = said
            .iter()
            .map(|length| (http::header::CONTENT_LENGTH, HeaderValue::from_bytes(length.as_bytes()).unwrap()));
        let mut request = request([], "{}");
        for (name, length) in headers {
            request.headers_mut().append(name, length);
        }
        let (seen, ..) = exchange(ForwardLayer::new(), request, HeaderMap::new()).await.unwrap();
        assert_eq!(seen.get_all("content-length").iter().collect::<Vec<_>>(), ["2"], "{said:?}");
    }
}
