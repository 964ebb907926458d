//! The signed cookie, through the layer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Request, Response};
use serde_json::{Value, json};
use tower::{BoxError, Layer as _, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::pool::Target;
use tower_azure_openai::session::{COOKIE_NAME, SessionCookie};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};

use super::estate::{Estate, Trouble, call, call_as, id, ok};
use super::support::{Stack, header, send};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=1";
const NONE: Value = Value::Null;

fn gateway(estate: &Estate) -> Stack {
    estate.with(estate.layer().cookie(SessionCookie::new(KEY).unwrap()))
}

fn create(client: &str) -> Request<Body> {
    call_as(client, "POST", "/openai/threads", &json!({}))
}

fn with_cookie(mut request: Request<Body>, cookie: &str) -> Request<Body> {
    request.headers_mut().insert("cookie", HeaderValue::try_from(cookie).unwrap());
    request
}

/// Name and value of the cookie that an answer sets.
fn set<B>(answer: &Response<B>) -> Option<String> {
    header(answer, "set-cookie").map(|cookie| cookie.split(';').next().unwrap().to_owned())
}

fn backend<B>(answer: &Response<B>) -> String {
    answer.extensions().get::<Target>().unwrap().backend().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_returns_it_stays() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    let first = send(&gateway, create("team-a")).await;
    let (home, cookie) = (backend(&first), set(&first).unwrap());
    assert!(cookie.starts_with(COOKIE_NAME), "{cookie}");
    // In its letters alone a short name stands by chance.
    let sealed = URL_SAFE_NO_PAD.decode(cookie.split(['=', ';']).nth(1).unwrap()).unwrap();
    assert!(!sealed.windows(home.len()).any(|part| part == home.as_bytes()), "{cookie}");
    for client in 0..10 {
        let answer = send(&gateway, with_cookie(create(&format!("client-{client}")), &cookie)).await;
        assert_eq!(backend(&answer), home, "whatever its home were");
        assert_eq!(set(&answer), None, "one is enough");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_without_state_neither_set_nor_follow_it() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    let cookie = set(&send(&gateway, create("team-a")).await).unwrap();
    estate.forget_seen();
    for path in [CHAT, "/openai/v1/responses"] {
        for _ in 0..6 {
            let answer = send(&gateway, with_cookie(call("POST", path, &json!({"messages": []})), &cookie)).await;
            assert_eq!(set(&answer), None);
        }
    }
    assert_eq!(estate.counts(), [4, 4, 4]);
}

#[tokio::test(start_paused = true)]
async fn it_never_reaches_a_backend_and_other_cookies_are_left_alone() {
    let layer = Estate::new().layer().cookie(SessionCookie::new(KEY).unwrap());
    let below = service_fn(async |request: Request<Body>| {
        assert_eq!(request.headers()["cookie"], "x=1; y=2");
        Ok::<_, BoxError>(Response::new(Body::empty()))
    });
    let request = with_cookie(create("a"), &format!("x=1; {COOKIE_NAME}=tampered; y=2"));
    layer.layer(below).oneshot(request).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_it_makes_it_worthless() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    let plain = backend(&send(&gateway, create("team-a")).await);
    let elsewhere = format!("b{}", (0..3).find(|i| format!("b{i}") != plain).unwrap());
    // A good cookie that leads elsewhere, made by following an object.
    estate.plant(elsewhere[1..].parse().unwrap(), "threads", "thread_there");
    let there = send(&gateway, call("GET", "/openai/threads/thread_there", &NONE)).await;
    let good = set(&there).unwrap();
    let followed = async |cookie: &str| backend(&send(&gateway, with_cookie(create("team-a"), cookie)).await);
    assert_eq!(followed(&good).await, elsewhere);

    let foreign = SessionCookie::new(b"fedcba9876543210fedcba9876543210").unwrap();
    let foreign = estate.with(estate.layer().cookie(foreign));
    let foreign = set(&send(&foreign, call("GET", "/openai/threads/thread_there", &NONE)).await).unwrap();
    let (value, last) = good.split_at(good.len() - 1);
    let tampered = format!("{value}{}", if last == "A" { "B" } else { "A" });
    for bad in [foreign, tampered, format!("{good}; {good}"), format!("{COOKIE_NAME}={}", "x".repeat(20_000))] {
        assert_eq!(followed(&bad).await, plain, "{bad:.60}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cookie_of_a_drained_backend_places_nothing_there() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    let first = send(&gateway, create("team-a")).await;
    let (home, cookie) = (backend(&first), set(&first).unwrap());
    estate.pool.drain(&home).unwrap();
    let answer = send(&gateway, with_cookie(create("team-a"), &cookie)).await;
    assert_ne!(backend(&answer), home);
    assert_ne!(set(&answer).unwrap(), cookie, "and another is set");
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_followed_is_refused() {
    for trouble in [Trouble::Throttled(7), Trouble::Down] {
        let estate = Estate::new();
        let gateway = gateway(&estate);
        let first = send(&gateway, create("team-a")).await;
        let (home, cookie) = (backend(&first), set(&first).unwrap());
        estate.trouble(home[1..].parse().unwrap(), Some(trouble));
        assert_eq!(send(&gateway, with_cookie(create("team-a"), &cookie)).await.status(), 429, "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_set_none() {
    let estate = Estate::new();
    (0..3).for_each(|i| estate.trouble(i, Some(Trouble::Throttled(1))));
    assert_eq!(set(&send(&gateway(&estate), create("team-a")).await), None);
}

#[tokio::test(start_paused = true)]
async fn it_passes_a_layer_that_strips_cookies() {
    let estate = Estate::new();
    let clients =
        ClientRegistry::builder().add_key(Client::new("team-a"), "a-long-random-key-0123456789").build().unwrap();
    let terminate = TerminateCredentialsLayer::new(clients);
    let stack = ServiceBuilder::new().layer(tower_azure_openai::respond::RespondLayer::new()).layer(terminate);
    let gateway = Stack::new(stack.service(gateway(&estate)));
    estate.plant(0, "threads", "thread_0");
    estate.plant(1, "threads", "thread_1");
    for i in 0..2 {
        let keyed = |mut request: Request<Body>| {
            request.headers_mut().insert("api-key", "a-long-random-key-0123456789".parse().unwrap());
            request
        };
        let read = call("GET", &format!("/openai/threads/thread_{i}"), &NONE);
        let cookie = set(&send(&gateway, keyed(read)).await).unwrap();
        let answer = send(&gateway, with_cookie(keyed(create("")), &cookie)).await;
        assert_eq!(backend(&answer), format!("b{i}"));
    }
    assert!(estate.seen().iter().all(|seen| !seen.headers.contains_key("cookie")));
}

#[tokio::test(start_paused = true)]
async fn it_is_secure_when_the_client_came_over_https() {
    let estate = Estate::new();
    let secure = async |cookie: SessionCookie, forwarded: &str| {
        let gateway = estate.with(estate.layer().cookie(cookie));
        let mut request = create("team-a");
        request.headers_mut().insert("x-forwarded-proto", HeaderValue::try_from(forwarded).unwrap());
        header(&send(&gateway, request).await, "set-cookie").unwrap().contains("Secure")
    };
    let cookie = || SessionCookie::new(KEY).unwrap();
    assert!(!secure(cookie(), "https").await, "anybody can send a header");
    assert!(secure(cookie().trust_forwarded_proto(), "https").await);
    assert!(!secure(cookie().trust_forwarded_proto(), "http").await);
    assert!(secure(cookie().secure(), "http").await);
}

#[tokio::test(start_paused = true)]
async fn a_layer_shares_what_it_knows_with_its_clones() {
    let estate = Estate::new();
    let layer = estate.layer();
    let (one, other) = (estate.with(layer.clone()), estate.with(layer.clone()));
    let thread = id(&ok(&one, create("team-a")).await);
    estate.forget_seen();
    ok(&other, call_as("b", "GET", &format!("/openai/threads/{thread}"), &NONE)).await;
    assert_eq!(estate.counts().into_iter().sum::<usize>(), 1);
    drop(layer.layer(estate.network()));
}
