//! Credential re-issue, from outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::pin::pin;
use std::sync::Arc;

use http::{HeaderValue, Request, Response, StatusCode};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Service};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Attempt, AttemptFailed};
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::pool::{Backend, BearerTokens, BoxFuture, Credential, Deployment, Pool, Target};
use tower_azure_openai::reissue::ReissueCredentialsLayer;
use tower_test::mock;
use tower_test::mock::spawn_layer;

/// Tokens in any state that matters.
struct Tokens {
    current: Option<&'static str>,
    later: Result<&'static str, &'static str>,
    has_another: bool,
}

impl BearerTokens for Tokens {
    fn current(&self) -> Option<HeaderValue> {
        self.current.map(HeaderValue::from_static)
    }

    fn wait(&self) -> BoxFuture<Result<HeaderValue, BoxError>> {
        let later = self.later.map(HeaderValue::from_static).map_err(BoxError::from);
        Box::pin(async {
            tokio::task::yield_now().await;
            later
        })
    }

    fn rejected(&self, _: &HeaderValue) -> BoxFuture<bool> {
        Box::pin(std::future::ready(self.has_another))
    }

    fn problem(&self) -> Option<String> {
        None
    }
}

fn target(credential: Option<Credential>) -> Target {
    let mut backend = Backend::new("b", "https://contoso.example/east").add_deployment(Deployment::new("gpt-4o"));
    if let Some(credential) = credential {
        backend = backend.credential(credential);
    }
    Pool::builder().add_backend(backend).build().unwrap().targets("gpt-4o").remove(0)
}

fn bearer(tokens: Tokens) -> Target {
    target(Some(Credential::bearer(Arc::new(tokens))))
}

fn key() -> Target {
    target(Some(Credential::api_key("backend-key").unwrap()))
}

const TOKEN: Tokens = Tokens { current: Some("Bearer t1"), later: Err("unused"), has_another: true };

fn inbound(target: Option<Target>) -> Request<Body> {
    let mut request =
        Request::post("https://contoso.example/openai/files?api-key=k1&api-version=1&subscription-key=k2")
            .header("host", "gateway.example")
            .header("api-key", "k3")
            .header("authorization", "Bearer k4")
            .header("ocp-apim-subscription-key", "k5")
            .header("cookie", "k6")
            .header("sec-websocket-protocol", "realtime, openai-insecure-api-key.k7")
            .header("connection", "x-hop")
            .header("x-hop", "k8")
            .header("x-forwarded-for", "192.0.2.1")
            .header("accept-encoding", "gzip")
            .header("x-ms-client-request-id", "kept")
            .body(Body::from("body"))
            .unwrap();
    request.extensions_mut().extend(
        target
            .map(|target| {
                let mut extensions = http::Extensions::new();
                extensions.insert(target);
                extensions
            })
            .unwrap_or_default(),
    );
    request
}

type Seen = (Request<Body>, Result<Response<Body>, BoxError>);

/// Sends `request`, answers with `answer`, and tells what arrived and what came back.
async fn exchange(request: Request<Body>, answer: Response<Body>) -> Seen {
    let (mut service, mut handle) = spawn_layer::<_, _, _>((ForwardLayer::new(), ReissueCredentialsLayer::new()));
    assert_ready!(service.poll_ready()).unwrap();
    let answering = tokio::spawn(service.call(request));
    let (arrived, reply) = handle.next_request().await.unwrap();
    reply.send_response(answer);
    (arrived, answering.await.unwrap())
}

fn ok() -> Response<Body> {
    Response::new(Body::empty())
}

fn unauthorized() -> Response<Body> {
    Response::builder().status(StatusCode::UNAUTHORIZED).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn each_target_gets_its_one_credential_and_none_of_the_clients() {
    for (target, name, value) in [
        (key(), "api-key", Some("backend-key")),
        (bearer(TOKEN), "authorization", Some("Bearer t1")),
        (
            bearer(Tokens { current: None, later: Ok("Bearer t2"), has_another: false }),
            "authorization",
            Some("Bearer t2"),
        ),
        (target(None), "api-key", None),
    ] {
        let (arrived, answer) = exchange(inbound(Some(target)), ok()).await;
        answer.unwrap();
        assert_eq!(arrived.headers().get(name).map(HeaderValue::as_bytes), value.map(str::as_bytes));
        let credentials = ["api-key", "authorization"].iter().filter(|name| arrived.headers().contains_key(**name));
        assert_eq!(credentials.count(), usize::from(value.is_some()));
        assert_eq!(arrived.uri().query(), Some("api-version=1"));
        assert_eq!(arrived.headers()["host"], "contoso.example");
        assert_eq!(arrived.headers()["accept-encoding"], "identity");
        assert_eq!(arrived.headers()["x-ms-client-request-id"], "kept");
        assert_eq!(arrived.body().as_bytes().unwrap(), "body");
        let shown = arrived.headers().iter().map(|(name, value)| format!("{name}={}\n", value.to_str().unwrap()));
        let shown: String = shown.collect();
        for k in 1..=8 {
            assert!(!shown.contains(&format!("k{k}")), "{shown}");
        }
        assert!(!shown.contains("192.0.2.1"), "{shown}");
    }
}

#[tokio::test]
async fn without_a_target_everything_passes_untouched() {
    let answer = Response::builder().header("set-cookie", "a=b").header("location", "https://other.example/");
    let (arrived, answer) = exchange(inbound(None), answer.body(Body::empty()).unwrap()).await;
    let (expected, answer) = (inbound(None), answer.unwrap());
    assert_eq!((arrived.headers(), arrived.uri()), (expected.headers(), expected.uri()));
    assert!(answer.headers().contains_key("set-cookie") && answer.headers().contains_key("location"));
}

#[tokio::test]
async fn a_401_to_a_token_says_whether_a_repeat_makes_sense() {
    let stale = Tokens { has_another: false, ..TOKEN };
    for (target, fresh) in [(bearer(TOKEN), true), (bearer(stale), false), (key(), false)] {
        let (_, answer) = exchange(inbound(Some(target)), unauthorized()).await;
        assert_eq!(Attempt::of(&answer.unwrap()).has_fresh_credential, fresh);
    }
    let (_, answer) = exchange(inbound(Some(bearer(TOKEN))), ok()).await;
    assert!(!Attempt::of(&answer.unwrap()).has_fresh_credential);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let (mut service, handle) =
        spawn_layer::<Request<Body>, Response<Body>, _>((ForwardLayer::new(), ReissueCredentialsLayer::new()));
    let mut handle = pin!(handle);
    assert_ready!(service.poll_ready()).unwrap();
    let none = bearer(Tokens { current: None, later: Err("the identity endpoint is down"), has_another: false });
    let error = service.call(inbound(Some(none))).await.unwrap_err();
    assert_eq!(error.downcast_ref::<AttemptFailed>().unwrap().outcome(), Outcome::CredentialUnavailable);
    assert!(task::spawn(handle.as_mut().next_request()).poll().is_pending(), "no request arrived");
}

#[tokio::test]
async fn answers_name_no_infrastructure() {
    for (location, expected) in [
        ("https://contoso.example/east/openai/batches/1?a=b", Some("/openai/batches/1?a=b")),
        ("https://CONTOSO.example:443/east/openai", Some("/openai")),
        ("https://contoso.example/eastern", Some("/eastern")),
        ("/east/openai/batches/1", Some("/openai/batches/1")),
        ("https://other.example/openai", None),
        ("//other.example/openai", None),
    ] {
        for name in ["content-location", "location", "operation-location", "azure-asyncoperation"] {
            let answer = Response::builder()
                .header(name, location)
                .header("set-cookie", "a=b")
                .header("apim-request-id", "kept")
                .body(Body::empty());
            let (_, answer) = exchange(inbound(Some(key())), answer.unwrap()).await;
            let headers = answer.unwrap().into_parts().0.headers;
            assert_eq!(headers.get(name).map(|value| value.to_str().unwrap()), expected, "{location}");
            assert_eq!(headers["apim-request-id"], "kept");
            assert!(!headers.contains_key("set-cookie"));
        }
    }
}

#[tokio::test]
async fn readiness_is_the_services_below_and_a_waiting_call_uses_the_ready_one() {
    let (mock, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let mut service = task::spawn(());
    let mut layered = tower::Layer::layer(&(ForwardLayer::new(), ReissueCredentialsLayer::new()), mock);
    handle.allow(0);
    assert_pending!(service.enter(|cx, _| layered.poll_ready(cx)));
    handle.allow(1);
    assert_ready!(service.enter(|cx, _| layered.poll_ready(cx))).unwrap();
    let cold = bearer(Tokens { current: None, later: Ok("Bearer t2"), has_another: false });
    let answering = tokio::spawn(layered.call(inbound(Some(cold))));
    let (_, reply) = handle.next_request().await.unwrap();
    reply.send_response(ok());
    answering.await.unwrap().unwrap();
}

#[tokio::test]
async fn no_credential_is_shown_to_anybody_but_the_target() {
    for uri in [
        "https://elsewhere.example/openai/files",
        "http://contoso.example/openai/files",
        "https://contoso.example:8443/openai/files",
        "https://contoso.example.elsewhere.example/openai/files",
    ] {
        let (mut service, handle) = spawn_layer::<Request<Body>, Response<Body>, _>(ReissueCredentialsLayer::new());
        let mut handle = pin!(handle);
        assert_ready!(service.poll_ready()).unwrap();
        let mut request = inbound(Some(key()));
        *request.uri_mut() = uri.parse().unwrap();
        let error = service.call(request).await.unwrap_err();
        assert_eq!(error.downcast_ref::<AttemptFailed>().unwrap().outcome(), Outcome::Abandoned, "{uri}");
        assert!(std::error::Error::source(&*error).unwrap().to_string().contains("ForwardLayer"), "{uri}");
        assert!(task::spawn(handle.as_mut().next_request()).poll().is_pending(), "{uri}: no request arrived");
    }
}
