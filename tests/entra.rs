//! Entra ID tokens in, from outside: `TerminateCredentialsLayer` over a fake tenant.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

#[path = "support/tokens.rs"]
mod tokens;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, advance};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::terminate::entra::{Caller, Entra, EntraBuilder, KeySet};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};

use tokens::{APP, AUDIENCE, OBJECT, Signer, TENANT, at, claims, claims_with, encoded, jwks, message};

const MAX_TOKEN: usize = 16 << 10;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_KEYS_INTERVAL: Duration = Duration::from_secs(5);
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);
const REFRESH_AFTER: Duration = Duration::from_secs(3_600);
const MAX_AGE: Duration = Duration::from_secs(24 * 3_600);

/// Made once: it takes a moment.
fn signer(id: &'static str) -> &'static Signer {
    static SIGNERS: OnceLock<BTreeMap<&str, Signer>> = OnceLock::new();
    let made = SIGNERS.get_or_init(|| ["first", "second"].into_iter().map(|id| (id, Signer::new(id))).collect());
    &made[id]
}

fn token() -> String {
    signer("first").token(&claims())
}

/// What the endpoint does when it is asked.
#[derive(Clone)]
enum Endpoint {
    Answers(u16, String),
    Breaks,
    Hangs,
    Waits(Arc<Notify>, String),
}

/// A tenant and the gateway before which it stands.
#[derive(Clone)]
struct Tenant {
    endpoint: Arc<Mutex<Endpoint>>,
    fetches: Arc<AtomicUsize>,
    entra: Entra,
}

impl Tenant {
    fn new(endpoint: Endpoint) -> Self {
        Self::with(endpoint, |clients| clients)
    }

    fn publishing(document: &Value) -> Self {
        Self::new(Endpoint::Answers(200, document.to_string()))
    }

    fn with(endpoint: Endpoint, change: impl FnOnce(EntraBuilder) -> EntraBuilder) -> Self {
        let (endpoint, fetches) = (Arc::new(Mutex::new(endpoint)), Arc::new(AtomicUsize::new(0)));
        let (answers, count) = (endpoint.clone(), fetches.clone());
        let http = service_fn(move |request: Request<Body>| {
            assert_eq!(request.uri().path(), format!("/{TENANT}/discovery/v2.0/keys"));
            count.fetch_add(1, SeqCst);
            let endpoint = answers.lock().unwrap().clone();
            async move {
                let (status, document) = match endpoint {
                    Endpoint::Answers(status, document) => (status, document),
                    Endpoint::Breaks => return Err(BoxError::from("refused")),
                    Endpoint::Hangs => std::future::pending().await,
                    Endpoint::Waits(released, document) => {
                        released.notified().await;
                        (200, document)
                    }
                };
                Ok(Response::builder().status(status).body(Body::from(document)).unwrap())
            }
        });
        let entra = Entra::builder(TENANT, KeySet::of_tenant(TENANT, http).unwrap())
            .add_audience("another")
            .add_audience(AUDIENCE)
            .add_client(Caller::app_id(APP), Client::new("app"));
        Self { endpoint, fetches, entra: change(entra).build().unwrap() }
    }

    fn becomes(&self, endpoint: Endpoint) {
        *self.endpoint.lock().unwrap() = endpoint;
    }

    fn publishes(&self, signers: &[&Signer]) {
        self.becomes(Endpoint::Answers(200, jwks(signers.iter().copied()).to_string()));
    }

    fn fetches(&self) -> usize {
        self.fetches.load(SeqCst)
    }

    /// The client that a bearer value identifies.
    async fn client(&self, bearer: &str) -> Option<String> {
        self.of(Request::get("/").header("authorization", format!("Bearer {bearer}"))).await
    }

    async fn of(&self, request: http::request::Builder) -> Option<String> {
        let keys = ClientRegistry::builder().add_key(Client::new("key"), "a-key").build().unwrap();
        let inner = service_fn(async |request: Request<()>| {
            assert!(request.headers().is_empty(), "no credential goes on");
            Ok::<_, BoxError>(request.extensions().get::<Client>().unwrap().id().to_owned())
        });
        let layer = TerminateCredentialsLayer::new((keys, Some(self.entra.clone())));
        layer.layer(inner).oneshot(request.body(()).unwrap()).await.ok()
    }
}

fn first() -> Value {
    jwks([signer("first")])
}

/// Lets fetches that run beside the requests get on.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

fn some(id: &str) -> Option<String> {
    Some(id.to_owned())
}

#[tokio::test]
async fn a_valid_token_of_either_version_is_its_client() {
    let tenant = Tenant::publishing(&first());
    assert_eq!(tenant.client(&token()).await, some("app"));
    let mut v1 = claims_with("iss", format!("https://sts.windows.net/{TENANT}/"));
    v1.as_object_mut().unwrap().remove("azp");
    v1["appid"] = APP.to_uppercase().into();
    v1["ver"] = "1.0".into();
    assert_eq!(tenant.client(&signer("first").token(&v1)).await, some("app"));
    let several = claims_with("aud", json!(["x", AUDIENCE]));
    assert_eq!(tenant.client(&signer("first").token(&several)).await, some("app"));
    assert_eq!(tenant.fetches(), 1);
}

#[tokio::test]
async fn every_claim_must_be_there_and_right() {
    let tenant = Tenant::publishing(&first());
    for (name, value) in [
        ("exp", json!(at(-61))),
        ("exp", json!("never")),
        ("exp", json!(-1)),
        ("exp", Value::Null),
        ("nbf", json!(at(70))),
        ("nbf", json!([])),
        ("nbf", Value::Null),
        ("aud", json!("api://other")),
        ("aud", json!("api://contoso-gateway/")),
        ("aud", json!([])),
        ("aud", json!([["api://contoso-gateway"]])),
        ("aud", Value::Null),
        ("iss", json!("https://login.microsoftonline.com/other/v2.0")),
        ("iss", json!("https://sts.windows.net/other/")),
        ("iss", json!([format!("https://sts.windows.net/{TENANT}/")])),
        ("iss", Value::Null),
        ("tid", json!("11111111-9c43-4f0c-8d6b-0d2f1c3b5a77")),
        ("tid", json!([TENANT])),
        ("tid", Value::Null),
        ("azp", Value::Null),
        ("azp", json!(OBJECT)),
        ("azp", json!([APP])),
        ("azp", json!(1)),
    ] {
        let claims = claims_with(name, value.clone());
        assert_eq!(tenant.client(&signer("first").token(&claims)).await, None, "{name}: {value}");
    }
    for (name, value) in [("exp", at(-50)), ("nbf", at(50))] {
        let claims = claims_with(name, value);
        assert_eq!(tenant.client(&signer("first").token(&claims)).await, some("app"), "{name} within the leeway");
    }
    assert_eq!(tenant.fetches(), 1);
}

#[tokio::test]
async fn only_the_keys_of_the_tenant_sign_and_only_with_rs256() {
    let tenant = Tenant::publishing(&first());
    let (known, other) = (signer("first"), signer("second"));
    let header = |alg: &str| json!({ "typ": "JWT", "alg": alg, "kid": known.id });

    assert_eq!(tenant.client(&other.sign(&header("RS256"), &claims())).await, None, "signed by another key");
    for alg in ["none", "None", "HS256", "HS512", "PS256", "RS384", "ES256", "EdDSA", "", "rs256"] {
        assert_eq!(tenant.client(&known.sign(&header(alg), &claims())).await, None, "{alg}");
        let unsigned = message(&header(alg), &claims());
        assert_eq!(tenant.client(&format!("{unsigned}.")).await, None, "{alg} without a signature");
    }
    // HMAC with what everybody can read.
    for secret in [known.public(), known.jwk().to_string().as_bytes(), &[]] {
        let message = message(&header("HS256"), &claims());
        let forged = format!("{message}.{}", encoded(hmac_sha256(secret, message.as_bytes())));
        assert_eq!(tenant.client(&forged).await, None);
    }
    // A key of the sender's own inside the header.
    let own = json!({ "alg": "RS256", "kid": known.id, "jwk": other.jwk(), "jku": "https://evil.example/keys" });
    assert_eq!(tenant.client(&other.sign(&own, &claims())).await, None);
    let critical = json!({ "alg": "RS256", "kid": known.id, "crit": ["b64"], "b64": false });
    assert_eq!(tenant.client(&known.sign(&critical, &claims())).await, None);
    assert_eq!(tenant.fetches(), 1);
}

/// RFC 2104, for keys of any length.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut block = [0; 64];
    let key = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
    block[..key.len()].copy_from_slice(&key);
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

#[tokio::test]
async fn what_cannot_be_a_token_fetches_nothing() {
    let tenant = Tenant::publishing(&first());
    let known = signer("first");
    let mut padded = claims();
    padded["padding"] = "x".repeat(100 << 10).into();
    let large = known.token(&padded);
    assert!(large.len() > MAX_TOKEN);
    let long = "k".repeat(300);
    let kids =
        [json!({ "alg": "RS256" }), json!({ "alg": "RS256", "kid": "" }), json!({ "alg": "RS256", "kid": long })];
    let kids = kids.map(|header| known.sign(&header, &claims()));
    for odd in [
        &*large,
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "eyJhbGciOiJSUzI1NiJ9",
        "eyJhbGciOiJSUzI1NiJ9..",
        "not-a-token",
        &token().replace('.', ".."),
        &kids[0],
        &kids[1],
        &kids[2],
    ] {
        assert_eq!(tenant.client(odd).await, None, "{}", &odd[..odd.len().min(40)]);
    }
    assert_eq!(tenant.fetches(), 0);
}

#[tokio::test]
async fn a_bearer_value_that_is_no_token_may_be_a_key_and_tokens_come_as_bearer_only() {
    let tenant = Tenant::publishing(&first());
    assert_eq!(tenant.client("a-key").await, some("key"));
    assert_eq!(tenant.of(Request::get("/").header("api-key", token())).await, None);
    assert_eq!(tenant.of(Request::get(format!("/?api-key={}", token()))).await, None);
    assert_eq!(tenant.fetches(), 0);
    let both = Request::get("/").header("api-key", "a-key").header("authorization", format!("Bearer {}", token()));
    assert_eq!(tenant.of(both).await, some("key"), "the first form that identifies a client");
    let wrong_key = Request::get("/").header("api-key", "wrong").header("authorization", format!("bearer {}", token()));
    assert_eq!(tenant.of(wrong_key).await, some("app"));
}

#[tokio::test]
async fn the_first_client_that_a_token_names_is_it() {
    let tenant = Tenant::with(Endpoint::Answers(200, first().to_string()), |entra| {
        entra
            .add_client(Caller::role("Chat"), Client::new("role"))
            .add_client(Caller::object_id(OBJECT), Client::new("object"))
            .add_client(Caller::role("Admin"), Client::new("admin"))
    });
    let of = async |app: &str, oid: &str, roles: Value| {
        let mut claims = claims_with("azp", app);
        claims["oid"] = oid.into();
        claims["roles"] = roles;
        tenant.client(&signer("first").token(&claims)).await
    };
    assert_eq!(of(APP, OBJECT, json!(["Chat", "Admin"])).await, some("app"));
    assert_eq!(of("x", OBJECT, json!(["Admin", "Chat"])).await, some("role"));
    assert_eq!(of("x", &OBJECT.to_uppercase(), json!(["Admin"])).await, some("object"));
    assert_eq!(of("x", "y", json!(["Other", "Admin"])).await, some("admin"));
    assert_eq!(of("x", "y", json!(["chat", ""])).await, None, "roles are compared as they are");
    assert_eq!(of(OBJECT, APP, json!([])).await, None, "an object is no application");
    assert_eq!(of("x", "y", json!("Admin")).await, None);
}

mod keys {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hundred_tokens_at_once_make_one_fetch() {
        let released = Arc::new(Notify::new());
        let tenant = Tenant::new(Endpoint::Waits(released.clone(), first().to_string()));
        let waiting = join_all((0..100).map(|_| async { tenant.client(&token()).await }));
        let release = async {
            advance(Duration::from_secs(1)).await;
            released.notify_one();
        };
        let (clients, ()) = tokio::join!(waiting, release);
        assert_eq!(clients, vec![some("app"); 100]);
        assert_eq!(tenant.fetches(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn are_looked_for_again_at_most_once_a_minute() {
        let tenant = Tenant::publishing(&first());
        assert_eq!(tenant.client(&token()).await, some("app"));
        let unknown = |kid: &str| signer("second").sign(&json!({ "alg": "RS256", "kid": kid }), &claims());
        for kid in ["second", "../../etc/passwd", "https://evil.example/k?a=b#c", "\u{0}\n%2f", "x", "y"] {
            assert_eq!(tenant.client(&unknown(kid)).await, None, "{kid}");
        }
        assert_eq!(tenant.fetches(), 2, "one at first, one for all the unknown ids");
        advance(SEARCH_INTERVAL - Duration::from_millis(1)).await;
        assert_eq!(tenant.client(&unknown("z")).await, None);
        assert_eq!(tenant.fetches(), 2);
        advance(Duration::from_millis(1)).await;
        assert_eq!(tenant.client(&unknown("z")).await, None);
        assert_eq!(tenant.fetches(), 3);
        assert_eq!(tenant.client(&token()).await, some("app"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_id_fetches_once_when_there_are_none() {
        let tenant = Tenant::publishing(&first());
        let unknown = signer("second").token(&claims());
        assert_eq!(tenant.client(&unknown).await, None);
        assert_eq!(tenant.fetches(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotation_is_noticed_with_the_first_token_of_the_new_key() {
        let tenant = Tenant::publishing(&first());
        let (old, new) = (token(), signer("second").token(&claims()));
        assert_eq!(tenant.client(&old).await, some("app"));
        tenant.publishes(&[signer("first"), signer("second")]);
        assert_eq!(tenant.client(&new).await, some("app"));
        tenant.publishes(&[signer("second")]);
        assert_eq!(tenant.client(&old).await, some("app"), "not noticed yet");
        advance(REFRESH_AFTER).await;
        assert_eq!(tenant.client(&old).await, some("app"), "the refresh runs beside the request");
        settle().await;
        assert_eq!(tenant.client(&old).await, None);
        assert_eq!(tenant.client(&new).await, some("app"));
        assert_eq!(tenant.fetches(), 4, "at first, for the new key, after an hour, for the withdrawn one");
    }

    #[tokio::test(start_paused = true)]
    async fn are_refreshed_without_holding_anybody_up() {
        let tenant = Tenant::publishing(&first());
        assert_eq!(tenant.client(&token()).await, some("app"));
        tenant.becomes(Endpoint::Hangs);
        advance(REFRESH_AFTER).await;
        for _ in 0..10 {
            assert_eq!(tenant.client(&token()).now_or_never(), Some(some("app")));
        }
        settle().await;
        assert_eq!(tenant.fetches(), 2, "one refresh for all");
    }

    #[tokio::test(start_paused = true)]
    async fn that_are_very_old_are_fetched_first() {
        let tenant = Tenant::publishing(&first());
        assert_eq!(tenant.client(&token()).await, some("app"));
        tenant.publishes(&[signer("second")]);
        advance(MAX_AGE).await;
        assert_eq!(tenant.client(&token()).await, None, "withdrawn long ago");

        tenant.becomes(Endpoint::Breaks);
        advance(MAX_AGE).await;
        assert_eq!(tenant.client(&signer("second").token(&claims())).await, some("app"), "better than nobody");
        assert_eq!(tenant.client(&signer("second").token(&claims())).now_or_never(), Some(some("app")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_ones_stay_while_the_endpoint_is_down() {
        let tenant = Tenant::publishing(&first());
        assert_eq!(tenant.client(&token()).await, some("app"));
        let endpoints = [
            Endpoint::Breaks,
            Endpoint::Hangs,
            Endpoint::Answers(500, first().to_string()),
            Endpoint::Answers(302, String::new()),
            Endpoint::Answers(200, "<html>".to_owned()),
            Endpoint::Answers(200, r#"{"keys":[]}"#.to_owned()),
            Endpoint::Answers(200, json!({ "keys": [{ "kty": "oct", "kid": "first", "k": "AQAB" }] }).to_string()),
            Endpoint::Answers(200, format!("{}{}", " ".repeat(300 << 10), jwks([signer("second")]))),
        ];
        for (before, down) in (1..).zip(endpoints) {
            tenant.becomes(down);
            advance(REFRESH_AFTER).await;
            assert_eq!(tenant.client(&token()).await, some("app"));
            settle().await;
            advance(FETCH_TIMEOUT).await;
            settle().await;
            for _ in 0..10 {
                assert_eq!(tenant.client(&token()).now_or_never(), Some(some("app")));
            }
            assert_eq!(tenant.fetches(), before + 1, "and no more than one try a minute");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_any_nobody_gets_in_and_waiting_has_an_end() {
        let tenant = Tenant::new(Endpoint::Hangs);
        let started = Instant::now();
        assert_eq!(tenant.client(&token()).await, None);
        assert_eq!(started.elapsed(), FETCH_TIMEOUT);
        tenant.becomes(Endpoint::Breaks);
        assert_eq!(tenant.client(&token()).await, None);
        for _ in 0..10 {
            assert_eq!(tenant.client(&token()).now_or_never(), Some(None), "refused at once until it is tried again");
        }
        assert_eq!(tenant.client("a-key").now_or_never(), Some(some("key")), "keys do not wait for tokens");
        assert_eq!(tenant.fetches(), 2);
        tenant.publishes(&[signer("first")]);
        advance(FIRST_KEYS_INTERVAL).await;
        assert_eq!(tenant.client(&token()).await, some("app"));
    }

    #[tokio::test]
    async fn other_keys_of_the_document_sign_nothing() {
        let secret = json!({ "kty": "oct", "kid": "shared", "k": encoded("secret"), "alg": "HS256", "use": "sig" });
        let mut encrypts = signer("second").jwk();
        encrypts["use"] = "enc".into();
        let tenant = Tenant::publishing(&json!({ "keys": [secret, encrypts, signer("first").jwk()] }));
        let message = message(&json!({ "alg": "HS256", "kid": "shared" }), &claims());
        let forged = format!("{message}.{}", encoded(hmac_sha256(b"secret", message.as_bytes())));
        assert_eq!(tenant.client(&forged).await, None);
        assert_eq!(tenant.client(&signer("second").token(&claims())).await, None);
        assert_eq!(tenant.client(&token()).await, some("app"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_dropped_takes_the_fetch_from_nobody() {
        let released = Arc::new(Notify::new());
        let tenant = Tenant::new(Endpoint::Waits(released.clone(), first().to_string()));
        let token = token();
        let (mut waits, mut leaves) = (Box::pin(tenant.client(&token)), Box::pin(tenant.client(&token)));
        assert!((&mut leaves).now_or_never().is_none());
        assert!((&mut waits).now_or_never().is_none());
        drop(leaves);
        settle().await;
        released.notify_one();
        assert_eq!(waits.await, some("app"));
        assert_eq!(tenant.fetches(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_ends_with_those_who_need_it() {
        let held = Arc::new(());
        let http = service_fn({
            let held = held.clone();
            move |_: Request<Body>| {
                let held = held.clone();
                async move {
                    std::future::pending::<()>().await;
                    drop(held);
                    Ok::<_, BoxError>(Response::new(Body::empty()))
                }
            }
        });
        let entra = Entra::builder(TENANT, KeySet::of_tenant(TENANT, http).unwrap()).add_audience("a").build().unwrap();
        let layer = TerminateCredentialsLayer::new(entra);
        let inner = service_fn(async |_: Request<()>| Ok::<_, BoxError>(()));
        let request = Request::get("/").header("authorization", format!("Bearer {}", token())).body(()).unwrap();
        let asked = tokio::spawn(layer.layer(inner).oneshot(request));
        advance(Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&held), 3);
        asked.abort();
        drop((asked.await, layer));
        settle().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn come_over_https_or_stay_on_the_machine() {
        let http = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
        for url in
            ["https://login.example/keys", "http://127.0.0.1:1/keys", "http://[::1]/keys", "http://localhost/keys"]
        {
            assert!(KeySet::new(url, http).is_ok(), "{url}");
        }
        for url in
            ["", "keys", "/keys", "http://login.example/keys", "ftp://login.example", "https://a:b@login.example/"]
        {
            let error = KeySet::new(url, http).unwrap_err().to_string();
            assert!(error.starts_with("the URL of the signing keys "), "{error}");
        }
        assert!(KeySet::of_tenant("a b", http).is_err());
    }
}

#[test]
fn a_description_names_all_its_problems() {
    let http = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
    let keys = KeySet::of_tenant(TENANT, http).unwrap();
    let (a, b) = (Client::new("a"), Client::new("b"));
    let error = Entra::builder("", keys.clone())
        .add_client(Caller::app_id("X"), a.clone())
        .add_client(Caller::app_id("x"), b.clone())
        .add_client(Caller::object_id("x"), b.clone())
        .add_client(Caller::role(""), b)
        .build()
        .unwrap_err();
    let problems: Vec<_> = error.problems().collect();
    assert_eq!(
        problems,
        [
            "tenant and issuer must not be empty",
            "at least one audience is needed, and none may be empty",
            "clients `a` and `b` are the same application `x`",
            "the caller of client `b` is empty",
        ]
    );
    let twice = Entra::builder(TENANT, keys).add_audience("a");
    assert!(twice.add_client(Caller::role("r"), a.clone()).add_client(Caller::role("r"), a).build().is_ok());
}

#[tokio::test]
async fn nothing_of_a_token_is_shown() {
    let tenant = Tenant::publishing(&first());
    assert_eq!(tenant.client(&token()).await, some("app"));
    let shown = format!("{:?}", tenant.entra);
    assert_eq!(shown, "Entra { keys: KeySet { keys: 1, .. }, .. }");
}
