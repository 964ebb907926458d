//! Ephemeral keys of realtime sessions, through the whole stack.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::{Builder, Parts};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::time::advance;
use tower::{BoxError, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, ClientToken, EphemeralKey, EphemeralKeys, Handshake};
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::ownership::OwnershipLayer;
use tower_azure_openai::pool::{Backend, Credential, Deployment, Pool, Target};
use tower_azure_openai::reissue::ReissueCredentialsLayer;
use tower_azure_openai::session::{MemoryStore, StickySessionLayer};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};
use tower_azure_openai::{Error, ErrorKind};

const SECRETS: &str = "/openai/v1/realtime/client_secrets";
const CALLS: &str = "/openai/v1/realtime/calls?webrtcfilter=on";
const SOCKET: &str = "/openai/v1/realtime";
const CHAT: &str = "/openai/v1/chat/completions";
const MINUTE: Duration = Duration::from_secs(60);

type Reply = dyn Fn(&Parts) -> Response<Body> + Send + Sync;

/// A gateway for `a`, who may use `rt` only, and `b`, who may use anything, over backends in rotation that say what they are told to.
struct Estate {
    gateway: Gateway,
    pool: Pool,
    keys: EphemeralKeys,
    seen: Arc<Mutex<Vec<Parts>>>,
    reply: Arc<Mutex<Box<Reply>>>,
}

impl Estate {
    fn new() -> Self {
        Self::with(EphemeralKeys::default(), |session| session)
    }

    fn with(keys: EphemeralKeys, session: impl FnOnce(StickySessionLayer) -> StickySessionLayer) -> Self {
        Self::stacked(keys, None, session)
    }

    fn stacked(
        keys: EphemeralKeys,
        ownership: Option<OwnershipLayer>,
        session: impl FnOnce(StickySessionLayer) -> StickySessionLayer,
    ) -> Self {
        let backend = |name: &str, geography: &str| {
            let credential = Credential::api_key(format!("key-of-{name}")).unwrap();
            let backend = Backend::new(name, format!("https://{name}.example")).credential(credential);
            backend.geography(geography).add_deployment(Deployment::new("rt")).add_deployment(Deployment::new("gpt-4o"))
        };
        let pool = ["east", "west", "north"].into_iter().fold(Pool::builder(), |pool, name| {
            pool.add_backend(backend(name, if name == "north" { "eu" } else { "us" }))
        });
        let pool = pool.build().unwrap();
        let clients = ClientRegistry::builder()
            .add_key(Client::new("a").allow(["rt"]), "key-a")
            .add_key(Client::new("b"), "key-b")
            .add_key(Client::new("eu").geography("eu"), "key-eu");
        let terminate = TerminateCredentialsLayer::new(clients.build().unwrap()).ephemeral_keys(keys.clone());
        let (seen, reply) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Box::new(issue) as Box<Reply>)));
        let network = {
            let (seen, reply) = (seen.clone(), reply.clone());
            service_fn(move |request: Request<Body>| {
                let (parts, _) = request.into_parts();
                let answer = reply.lock().unwrap()(&parts);
                seen.lock().unwrap().push(parts);
                async { Ok::<_, BoxError>(answer) }
            })
        };
        let session = session(StickySessionLayer::new(pool.clone()).ephemeral_keys(keys.clone()));
        let gateway = gateway::builder(pool.clone(), terminate);
        let gateway = gateway.ownership(ownership).session(session).build(network);
        Self { gateway, pool, keys, seen, reply }
    }

    fn replies(&self, reply: impl Fn(&Parts) -> Response<Body> + Send + Sync + 'static) {
        *self.reply.lock().unwrap() = Box::new(reply);
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Bytes) {
        let answer = self.gateway.clone().oneshot(request).await.unwrap();
        (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
    }

    /// Has a key issued to the client of `key`: it, and the backend that issued it.
    async fn issued(&self, key: &str) -> (String, String) {
        let body = r#"{"session":{"type":"realtime","model":"rt"}}"#;
        let request = Request::post(SECRETS).header("api-key", key).header(CONTENT_TYPE, "application/json");
        let (status, answer) = self.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{answer:?}");
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        (answer["value"].as_str().unwrap().to_owned(), host(&self.last()))
    }

    async fn status(&self, request: Request<Body>) -> StatusCode {
        self.send(request).await.0
    }

    fn last(&self) -> Parts {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn host(parts: &Parts) -> String {
    parts.uri.host().unwrap().trim_end_matches(".example").to_owned()
}

fn json_of(status: u16, value: &serde_json::Value) -> Response<Body> {
    let answer = Response::builder().status(status).header(CONTENT_TYPE, "application/json; charset=utf-8");
    answer.body(Body::from(value.to_string())).unwrap()
}

fn ends_in(lifetime: Duration) -> u64 {
    let end = SystemTime::now() + lifetime;
    end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// A key of ten minutes, another one each time.
fn issue(parts: &Parts) -> Response<Body> {
    static ISSUED: AtomicUsize = AtomicUsize::new(0);
    let n = ISSUED.fetch_add(1, Relaxed);
    let secret = json!({"value": format!("ek_{}_{n}", host(parts)), "expires_at": ends_in(10 * MINUTE), "session": {}});
    json_of(200, &secret)
}

fn presenting(request: Builder, key: &str) -> Builder {
    request.header(AUTHORIZATION, format!("Bearer {key}"))
}

/// The offer of a WebRTC session.
fn call(key: &str) -> Request<Body> {
    let request = presenting(Request::post(CALLS), key).header(CONTENT_TYPE, "application/sdp");
    request.body(Body::from("v=0\r\n")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_key_leads_to_its_backend_as_its_client_with_nothing_else() {
    let (estate, mut issued) = (Estate::new(), Vec::new());
    for _ in 0..5 {
        issued.push(estate.issued("key-a").await);
        let seen = estate.last();
        assert!(seen.headers["api-key"].to_str().unwrap().starts_with("key-of-"), "issued to the gateway");
    }
    for (key, issuer) in issued.iter().rev().chain(&issued) {
        assert_eq!(estate.status(call(key)).await, StatusCode::OK, "{key}");
        let seen = estate.last();
        assert_eq!((&host(&seen), seen.uri.path()), (issuer, "/openai/v1/realtime/calls"));
        assert_eq!(seen.extensions.get::<Client>().map(Client::id), Some("a"));
        assert_eq!(seen.headers[AUTHORIZATION], format!("Bearer {key}"));
        assert!(seen.headers[AUTHORIZATION].is_sensitive() && !seen.headers.contains_key("api-key"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_of_a_backend_that_is_gone_goes_nowhere() {
    let estate = Estate::new();
    let (key, _) = estate.issued("key-b").await;
    let other = Backend::new("other", "https://other.example").add_deployment(Deployment::new("rt"));
    estate.pool.replace(Pool::builder().add_backend(other)).unwrap();
    let before = estate.count();
    assert_eq!((estate.status(call(&key)).await, estate.count()), (StatusCode::NOT_FOUND, before));
}

#[tokio::test(start_paused = true)]
async fn a_browser_presents_it_in_a_handshake() {
    let estate = Estate::new();
    let (key, issuer) = estate.issued("key-a").await;
    let handshake = |path: &str| {
        let protocols = format!("realtime, openai-insecure-api-key.{key}");
        let request = Request::get(path).header("connection", "upgrade").header("upgrade", "websocket");
        request.header("sec-websocket-protocol", protocols).extension(Handshake).body(Body::empty()).unwrap()
    };
    for path in
        [SOCKET, "/openai/v1/realtime?model=rt", "/openai/realtime?api-version=2025-04-01-preview&deployment=rt"]
    {
        assert_eq!(estate.status(handshake(path)).await, StatusCode::OK, "{path}");
        let seen = estate.last();
        assert_eq!(host(&seen), issuer);
        assert_eq!(seen.headers[AUTHORIZATION], format!("Bearer {key}"));
        assert_eq!(seen.headers["sec-websocket-protocol"], "realtime");
        assert_eq!(seen.headers["upgrade"], "websocket");
        assert!(!seen.headers.contains_key("api-key"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_ended_or_was_never_issued_is_nobodys() {
    let estate = Estate::new();
    let (key, _) = estate.issued("key-a").await;
    let before = estate.count();
    for stranger in ["ek_", "ek_unknown", &key[..key.len() - 1], &format!("{key}x")] {
        assert_eq!(estate.status(call(stranger)).await, StatusCode::UNAUTHORIZED, "{stranger}");
    }
    advance(10 * MINUTE).await;
    assert_eq!(estate.status(call(&key)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(estate.count(), before);
}

#[tokio::test(start_paused = true)]
async fn a_key_opens_nothing_but_a_session() {
    let estate = Estate::new();
    let (key, _) = estate.issued("key-b").await;
    let before = estate.count();
    for (method, path) in [
        ("POST", CHAT),
        ("POST", SECRETS),
        ("GET", "/openai/v1/models"),
        ("GET", "/openai/v1/files"),
        ("POST", "/openai/v1/realtime/calls/rtc_1/hangup"),
        ("POST", "/openai/v1/realtime"),
        ("GET", "/openai/v1/realtime/../files"),
        ("GET", "/openai/v1/realtime/%2e%2e/files"),
    ] {
        let request = presenting(Request::builder().method(method).uri(path), &key);
        let request = request.body(Body::from(r#"{"model":"rt","messages":[]}"#)).unwrap();
        assert_eq!(estate.status(request).await, StatusCode::UNAUTHORIZED, "{method} {path}");
    }
    for header in ["api-key", "ocp-apim-subscription-key"] {
        let request = Request::get(SOCKET).header(header, &*key).body(Body::empty()).unwrap();
        assert_eq!(estate.status(request).await, StatusCode::UNAUTHORIZED, "{header}");
    }
    assert_eq!(estate.count(), before);
}

#[tokio::test(start_paused = true)]
async fn the_clients_own_bounds_hold() {
    let estate = Estate::new();
    let (key, _) = estate.issued("key-a").await;
    let before = estate.count();
    let socket = presenting(Request::get(format!("{SOCKET}?model=gpt-4o")), &key);
    assert_eq!(estate.status(socket.body(Body::empty()).unwrap()).await, StatusCode::FORBIDDEN);
    let form = "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\n\r\nv=0\r\n--b--\r\n";
    for (uri, content_type, body) in [
        (format!("{CALLS}&model=gpt-4o"), "application/sdp", "v=0"),
        (CALLS.to_owned(), "multipart/form-data; boundary=b", form),
    ] {
        let request = presenting(Request::post(&uri), &key).header(CONTENT_TYPE, content_type);
        assert_eq!(estate.status(request.body(Body::from(body)).unwrap()).await, StatusCode::FORBIDDEN, "{uri}");
    }
    let own = Request::post(CALLS).header("api-key", "key-a").header(CONTENT_TYPE, "application/sdp");
    assert_eq!(
        estate.status(own.body(Body::from("v=0")).unwrap()).await,
        StatusCode::FORBIDDEN,
        "without a key of a session"
    );
    assert_eq!(estate.count(), before);
    for _ in 0..3 {
        let (key, issuer) = estate.issued("key-eu").await;
        assert_eq!((issuer.as_str(), estate.status(call(&key)).await), ("north", StatusCode::OK));
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_never_sent_elsewhere() {
    let estate = Estate::new();
    let (key, issuer) = estate.issued("key-b").await;
    estate.pool.drain(&issuer).unwrap();
    assert_eq!((estate.status(call(&key)).await, host(&estate.last())), (StatusCode::OK, issuer.clone()));
    let before = estate.count();
    estate.replies(|_| Response::builder().status(429).header("retry-after", "9").body(Body::empty()).unwrap());
    assert_eq!(estate.status(call(&key)).await, StatusCode::TOO_MANY_REQUESTS);
    let seen = estate.seen.lock().unwrap()[before..].iter().map(host).collect::<Vec<_>>();
    assert!(!seen.is_empty() && seen.iter().all(|host| *host == issuer), "{seen:?}");
}

#[tokio::test]
async fn a_target_of_another_backend_gets_neither_key() {
    let (estate, keys) = (Estate::new(), EphemeralKeys::default());
    keys.remember("ek_1", None, "east", MINUTE);
    let target = estate.pool.targets("rt").into_iter().find(|target| target.backend() == "west").unwrap();
    let network = service_fn(async |_: Request<Body>| -> Result<Response<Body>, BoxError> { panic!("was sent") });
    let service = tower::ServiceBuilder::new().layer(ReissueCredentialsLayer::new()).service(network);
    let request = Request::post(CALLS).extension(target).extension(keys.find(b"ek_1").unwrap());
    let error = service.oneshot(request.body(Body::empty()).unwrap()).await.unwrap_err();
    assert_eq!(Error::find(error.as_ref()).map(Error::kind), Some(ErrorKind::Unauthenticated));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_takes_the_clients_own_token_takes_its_own_key() {
    let (keys, backend) = (EphemeralKeys::default(), Backend::new("own", "https://own.example"));
    let known = Client::new("a").with_token(ClientToken::new("token-of-a").unwrap());
    keys.remember("ek_1", Some(known), "own", MINUTE);
    let estate = Estate::with(keys, |session| session);
    let backend = backend.credential(Credential::pass_through()).add_deployment(Deployment::new("rt"));
    estate.pool.replace(Pool::builder().add_backend(backend)).unwrap();
    assert_eq!(estate.status(call("ek_1")).await, StatusCode::OK);
    assert_eq!(estate.last().headers[AUTHORIZATION], "Bearer ek_1");
    assert!(!format!("{:?}", estate.last()).contains("ek_1"));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_its_backend_refuses_harms_nobody_else() {
    let estate = Estate::new();
    let (key, issuer) = estate.issued("key-b").await;
    for status in [401, 403] {
        estate.replies(move |_| json_of(status, &json!({"error": {"code": "401", "message": "no"}})));
        let before = estate.count();
        for _ in 0..20 {
            assert_eq!(estate.status(call(&key)).await, status, "the client's affair");
        }
        assert_eq!(estate.count(), before + 20, "one attempt each");
    }
    let status = estate.pool.status();
    let backend = status.backends.iter().find(|backend| *backend.name == *issuer).unwrap();
    assert!(backend.deployments.iter().all(|deployment| deployment.circuit == "closed"), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn only_a_successful_answer_of_such_a_call_teaches() {
    let secret = |lifetime| json!({"value": "ek_1", "expires_at": ends_in(lifetime)});
    let long = secret(10 * MINUTE);
    let post = |path: &str| {
        let request = Request::post(path).header("api-key", "key-b").header(CONTENT_TYPE, "application/json");
        request.body(Body::from(r#"{"model":"rt","session":{"model":"rt"},"messages":[]}"#)).unwrap()
    };
    let plain = Response::builder().header(CONTENT_TYPE, "text/plain").body(()).unwrap().into_parts().0.headers;
    for (path, status, body, headers) in [
        (SECRETS, 400, long.clone(), None),
        (SECRETS, 200, secret(Duration::ZERO), None),
        (SECRETS, 200, json!({"value": "sk-1", "expires_at": ends_in(MINUTE)}), None),
        (SECRETS, 200, long.clone(), Some(plain)),
        (CHAT, 200, long.clone(), None),
        ("/openai/v1/realtime/calls", 200, long.clone(), None),
    ] {
        let estate = Estate::new();
        estate.replies(move |_| {
            let mut answer = json_of(status, &body);
            answer.headers_mut().extend(headers.clone().unwrap_or_default());
            answer
        });
        estate.status(post(path)).await;
        assert!(estate.count() > 0 && estate.keys.is_empty(), "{path} {status}");
    }
    for (path, body) in [(SECRETS, long.clone()), ("/openai/v1/realtime/sessions", json!({"client_secret": long}))] {
        for in_hand in [true, false] {
            let (estate, body) = (Estate::new(), body.clone());
            estate.replies(move |_| {
                let answer = json_of(200, &body);
                if in_hand { answer } else { answer.map(|body| Body::prefixed(Bytes::new(), body)) }
            });
            assert_eq!(estate.status(post(path)).await, StatusCode::OK);
            assert_eq!(estate.keys.len(), 1, "{path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_costs_its_maker_only() {
    let estate = Estate::with(EphemeralKeys::new(20), |session| session);
    let (key, _) = estate.issued("key-a").await;
    for _ in 0..100 {
        estate.issued("key-b").await;
        assert!(estate.keys.len() <= 20);
    }
    assert_eq!(estate.status(call(&key)).await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn objects_that_are_kept_apart_do_not_stand_in_its_way() {
    let store = Arc::new(MemoryStore::new(100));
    let ownership = OwnershipLayer::new(store.clone());
    let estate = Estate::stacked(EphemeralKeys::default(), Some(ownership), |session| session.store(store));
    let (key, _) = estate.issued("key-a").await;
    assert_eq!(estate.status(call(&key)).await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_is_asked_it_still_leads_to_its_backend() {
    let keys = EphemeralKeys::default();
    keys.remember("ek_free", None, "east", MINUTE);
    keys.remember("ek_a", Some(Client::new("a")), "east", MINUTE);
    let layer = TerminateCredentialsLayer::without_clients().ephemeral_keys(keys.clone());
    let seen = service_fn(async |request: Request<Body>| {
        let key = request.extensions().get::<EphemeralKey>();
        assert!(request.headers().get(AUTHORIZATION).is_none() && request.extensions().get::<Target>().is_none());
        Ok::<_, BoxError>(Response::new(key.map(|key| key.backend().to_string())))
    });
    let service = tower::ServiceBuilder::new().layer(layer).service(seen);
    let lead = async |key: &str| service.clone().oneshot(call(key)).await.unwrap().into_body();
    assert_eq!(lead("ek_free").await.as_deref(), Some("east"));
    assert_eq!(lead("ek_a").await, None, "somebody's key");
    assert_eq!(lead("ek_other").await, None);
    let estate = Estate::with(keys, |session| session);
    assert_eq!(estate.status(call("ek_free")).await, StatusCode::UNAUTHORIZED, "nobody's key, where clients are known");
}
