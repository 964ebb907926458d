//! Every order of the layers: it serves as the documented order of the same layers does, or fails with an error that names the layers.
//! In no order does a credential of the client reach a target.

#![cfg(feature = "client")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::api_version::ApiVersionLayer;
use tower_azure_openai::authorize::AuthorizeLayer;
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::capture::{self, CaptureLayer};
use tower_azure_openai::circuit::CircuitBreakerLayer;
use tower_azure_openai::client::HttpClient;
use tower_azure_openai::context::{AttemptFailed, ClassifyError, Client, DefaultClassify, Limits};
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::front_door::FrontDoorLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::limit::{ClientLimitLayer, MemoryLimits};
use tower_azure_openai::meter::MeterUsageLayer;
use tower_azure_openai::models::ListModelsLayer;
use tower_azure_openai::observe::{ObserveLayer, Record, from_fn};
use tower_azure_openai::ownership::OwnershipLayer;
use tower_azure_openai::pool::{Backend, CircuitConfig, Credential, Deployment, Pool, Target};
use tower_azure_openai::reissue::ReissueCredentialsLayer;
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::session::{MemoryStore, StickySessionLayer};
use tower_azure_openai::shed::ShedLayer;
use tower_azure_openai::stream_commit::StreamCommitLayer;
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};
use tower_azure_openai::upgrade::UpgradeLayer;
use tower_azure_openai::{Error, ErrorKind};
use tower_layer::Identity;

use self::support::Service;

const CLIENT_KEY: &str = "key-of-the-client-0123456789";
const FRONT_DOOR: &str = "0f9e8d7c-6b5a-4321-8765-0123456789ab";

/// The layers, in the documented order.
const LAYERS: [&str; 21] = [
    "ObserveLayer",
    "RespondLayer",
    "UpgradeLayer",
    "FrontDoorLayer",
    "TerminateCredentialsLayer",
    "CaptureLayer",
    "ShedLayer",
    "InspectLayer",
    "ApiVersionLayer",
    "AuthorizeLayer",
    "ClientLimitLayer",
    "MeterUsageLayer",
    "ListModelsLayer",
    "OwnershipLayer",
    "StickySessionLayer",
    "CircuitBreakerLayer",
    "FailoverLayer",
    "SelectBackendLayer",
    "StreamCommitLayer",
    "ForwardLayer",
    "ReissueCredentialsLayer",
];

// ===== the world: three backends, of which the first is throttled and the second cannot be reached =====

#[derive(Clone)]
struct World {
    pool: Pool,
    store: Arc<MemoryStore>,
    /// Who was asked for what, and with which key.
    seen: Arc<Mutex<Vec<String>>>,
    records: Arc<Mutex<Vec<Record>>>,
    captured: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new() -> Self {
        let backend = |i: usize| {
            Backend::new(format!("b{i}"), format!("https://b{i}.example"))
                .credential(Credential::api_key(format!("key-of-b{i}")).unwrap())
                .priority(i as u32)
                .add_deployment(Deployment::new(format!("d{i}")).alias("gpt-4o"))
        };
        let pool = (0..3).fold(Pool::builder(), |pool, i| pool.add_backend(backend(i)));
        Self {
            pool: pool.build().unwrap(),
            store: Arc::new(MemoryStore::new(100)),
            seen: Arc::default(),
            records: Arc::default(),
            captured: Arc::default(),
        }
    }

    fn layer(&self, layer: &str, inner: Service) -> Service {
        let pool = || self.pool.clone();
        match layer {
            "ObserveLayer" => {
                let records = self.records.clone();
                let recorder = from_fn(move |record: &Record| records.lock().unwrap().push(record.clone()));
                boxed(ObserveLayer::new().add_recorder(recorder).layer(inner))
            }
            "CaptureLayer" => {
                let captured = self.captured.clone();
                let sink = capture::from_fn(move |what| captured.lock().unwrap().push(format!("{what:?}")));
                boxed(CaptureLayer::new(sink).body(10_000).layer(inner))
            }
            "ShedLayer" => boxed(ShedLayer::new().in_flight(10).layer(inner)),
            "RespondLayer" => Service::new(RespondLayer::new().layer(inner).map_err(|never| match never {})),
            "UpgradeLayer" => boxed(UpgradeLayer::new().layer(inner)),
            "FrontDoorLayer" => boxed(FrontDoorLayer::new([FRONT_DOOR]).layer(inner)),
            "TerminateCredentialsLayer" => {
                let limits = Limits::new().requests_per_minute(100).tokens_per_minute(1_000_000);
                let client = Client::new("team-a").allow(["gpt-4o"]).limits(limits);
                let clients = ClientRegistry::builder().add_key(client, CLIENT_KEY).build().unwrap();
                boxed(TerminateCredentialsLayer::new(clients).layer(inner))
            }
            "InspectLayer" => boxed(InspectLayer::new().layer(inner)),
            "ApiVersionLayer" => boxed(ApiVersionLayer::new().allow(["2024-10-21"]).layer(inner)),
            "AuthorizeLayer" => boxed(AuthorizeLayer::new().layer(inner)),
            "ListModelsLayer" => boxed(ListModelsLayer::new(pool()).layer(inner)),
            "ClientLimitLayer" => boxed(ClientLimitLayer::new(MemoryLimits::new()).layer(inner)),
            "MeterUsageLayer" => boxed(MeterUsageLayer::new().layer(inner)),
            "OwnershipLayer" => boxed(OwnershipLayer::new(self.store.clone()).layer(inner)),
            "StickySessionLayer" => boxed(StickySessionLayer::new(pool()).store(self.store.clone()).layer(inner)),
            "FailoverLayer" => boxed(FailoverLayer::new().layer(inner)),
            "SelectBackendLayer" => boxed(SelectBackendLayer::new(pool()).layer(inner)),
            "CircuitBreakerLayer" => boxed(CircuitBreakerLayer::new("alone", CircuitConfig::default()).layer(inner)),
            "StreamCommitLayer" => boxed(StreamCommitLayer::new().layer(inner)),
            "ForwardLayer" => boxed(ForwardLayer::new().layer(inner)),
            "ReissueCredentialsLayer" => boxed(ReissueCredentialsLayer::new().layer(inner)),
            unknown => panic!("{unknown}"),
        }
    }

    /// Layers around what stands for the network, outermost first.
    fn stack(&self, layers: &[&str]) -> Service {
        layers.iter().rev().fold(self.network(), |inner, layer| self.layer(layer, inner))
    }

    fn network(&self) -> Service {
        let seen = self.seen.clone();
        Service::new(service_fn(move |request: Request<Body>| {
            let answer = receive(&request, &seen);
            async { answer }
        }))
    }

    /// What the pool has learned.
    fn learned(&self) -> Vec<(String, u64, u64, u64)> {
        let status = self.pool.status();
        let of = status.backends.iter().flat_map(|backend| &backend.deployments);
        of.map(|of| (of.circuit.to_owned(), of.requests, of.throttled, of.failures)).collect()
    }
}

fn boxed<S, B>(service: S) -> Service
where
    S: tower::Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Service::new(service.map_response(|answer| answer.map(Body::new)).map_err(Into::into))
}

/// One request on the wire.
fn receive(request: &Request<Body>, seen: &Mutex<Vec<String>>) -> Result<Response<Body>, BoxError> {
    let headers = request.headers();
    let shown: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    if let Some(target) = request.extensions().get::<Target>() {
        let leaked = shown.iter().find(|header| header.contains("key-of-the-client"));
        assert_eq!(leaked, None, "a credential of the client on its way to {target:?}");
        assert!(!request.uri().to_string().contains("key-of-the-client"), "{}", request.uri());
    }
    let host = request.uri().host().ok_or("no host")?.to_owned();
    let key = headers.get("api-key").map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    seen.lock().unwrap().push(format!("{} {host}{} {key:?}", request.method(), request.uri().path()));
    let name = host.strip_suffix(".example").ok_or("an unknown host")?;
    if key.as_deref().is_some_and(|key| key.starts_with("key-of-b") && !key.ends_with(name)) {
        panic!("the key of another backend at {name}");
    }
    if key.is_none_or(|key| key != format!("key-of-{name}")) {
        return Ok(answer(401, &json!({"error": {"code": "401", "message": "Access denied"}})));
    }
    let body = request.body().as_bytes().cloned().unwrap_or_default();
    let is_streamed = serde_json::from_slice::<Value>(&body).is_ok_and(|body| body["stream"] == true);
    Ok(match name {
        "b0" if is_streamed => {
            events(r#"data: {"error":{"code":"rate_limit_exceeded","message":"Retry after 20 seconds."}}"#)
        }
        "b0" => {
            let mut throttled = answer(429, &json!({"error": {"code": "429", "message": "slow down"}}));
            throttled.headers_mut().insert("retry-after-ms", "20000".parse().unwrap());
            throttled
        }
        "b1" => return Err(AttemptFailed::new(Outcome::Unreachable, "refused").into()),
        _ if is_streamed => {
            events("data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]")
        }
        _ if request.uri().path().ends_with("/threads") => answer(200, &json!({"id": "thread_1", "object": "thread"})),
        _ => answer(200, &json!({"object": "chat.completion", "path": request.uri().path()})),
    })
}

fn answer(status: u16, body: &Value) -> Response<Body> {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Body::from(body.to_string())).unwrap()
}

fn events(events: &'static str) -> Response<Body> {
    let answer = Response::builder().header("content-type", "text/event-stream");
    answer.body(support::chunked([format!("{events}\n\n")])).unwrap()
}

// ===== what is asked =====

/// Requests, each with at most one thing that somebody objects to.
const REQUESTS: [&str; 9] = [
    "chat",
    "chat by v1",
    "stream",
    "nobody",
    "another's alias",
    "another's alias by v1",
    "a version",
    "aside",
    "models",
];

fn request(which: &str) -> Request<Body> {
    let version = if which == "a version" { "2023-01-01" } else { "2024-10-21" };
    let alias = if which.starts_with("another's alias") { "o3" } else { "gpt-4o" };
    let (method, path) = match which {
        "chat by v1" | "another's alias by v1" => {
            ("POST", "/openai/v1/chat/completions?subscription-key=key-of-the-client-9".to_owned())
        }
        "models" => ("GET", "/openai/v1/models".to_owned()),
        _ => {
            ("POST", format!("/openai/deployments/{alias}/chat/completions?api-version={version}&api-key={CLIENT_KEY}"))
        }
    };
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    if which != "nobody" {
        request = request
            .header("authorization", format!("Bearer {CLIENT_KEY}"))
            .header("cookie", "session=key-of-the-client-1")
            .header("x-api-key", "key-of-the-client-2")
            .header("proxy-authorization", "Basic key-of-the-client-3")
            .header("sec-websocket-protocol", "realtime, openai-insecure-api-key.key-of-the-client-4");
    }
    if which != "aside" {
        request = request.header("x-azure-fdid", FRONT_DOOR);
    }
    let body = json!({"model": alias, "stream": which == "stream", "messages": [{"role": "user", "content": "Hi"}]});
    let body = if method == "GET" { String::new() } else { body.to_string() };
    let mut request = request.body(Body::from(body)).unwrap();
    if which == "nobody" {
        *request.uri_mut() = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21".parse().unwrap();
    }
    request
}

#[derive(Debug, PartialEq)]
struct Served {
    status: StatusCode,
    body: String,
    seen: Vec<String>,
    learned: Vec<(String, u64, u64, u64)>,
    records: usize,
}

impl Served {
    fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

async fn run(layers: &[&str], which: &str) -> Served {
    let world = World::new();
    let answer = match world.stack(layers).oneshot(request(which)).await {
        Ok(answer) => answer,
        Err(error) => answered(error).await,
    };
    let status = answer.status();
    let body = String::from_utf8_lossy(&support::bytes(answer).await).into_owned();
    let seen = world.seen.lock().unwrap().clone();
    let captured = world.captured.lock().unwrap();
    assert!(!captured.iter().any(|written| written.contains("key-of-")), "{captured:?}");
    assert!(captured.len() <= 1, "{captured:?}");
    let records = world.records.lock().unwrap().len();
    Served { status, body, seen, learned: world.learned(), records }
}

/// An error as the outermost layer would answer it.
async fn answered(error: BoxError) -> Response<Body> {
    let error = Mutex::new(Some(error));
    let fails = service_fn(move |_: Request<Body>| {
        let error = error.lock().unwrap().take().unwrap();
        async { Err::<Response<Body>, _>(error) }
    });
    RespondLayer::new().layer(fails).oneshot(Request::new(Body::empty())).await.unwrap()
}

fn documented(layers: &[&'static str]) -> Vec<&'static str> {
    LAYERS.into_iter().filter(|layer| layers.contains(layer)).collect()
}

/// Asserts that an order serves as the documented one does, or says what is wrong with it; then a request that a layer above refuses
/// may not get so far as to find it out.
async fn check(layers: &[&'static str]) {
    let usual = documented(layers);
    let mut others = Vec::new();
    for which in REQUESTS {
        let found = run(layers, which).await;
        if found.code() != "misordered_layers" {
            others.push((which, found));
            continue;
        }
        assert_eq!(found.status, StatusCode::INTERNAL_SERVER_ERROR);
        let named = LAYERS.iter().filter(|layer| found.body.contains(*layer)).count();
        let is_twice = usual.len() < layers.len() && found.body.contains("there are two of");
        assert!(named >= 2 || is_twice, "{which}: {}", found.body);
        assert_eq!(found.seen, [""; 0], "nothing is sent: {which}, {layers:#?}");
        let blames = |(circuit, _, throttled, failures): &(String, u64, u64, u64)| {
            circuit != "closed" || throttled + failures > 0
        };
        assert!(!found.learned.iter().any(blames), "nobody is to blame: {which}, {layers:#?}");
    }
    let is_found_out = others.len() < REQUESTS.len();
    for (which, found) in others {
        let is_refused = found.status.as_u16() >= 400 && found.seen.is_empty();
        if !(is_found_out && is_refused) {
            let mut expected = run(&usual, which).await;
            // What a layer above answers comes to no record; where nothing is below, the crate's client would find it out.
            if is_found_out || layers.last() == Some(&"ObserveLayer") {
                expected.records = found.records;
            }
            assert_eq!(found, expected, "{which}: {layers:#?}");
        }
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future);
}

// ===== orders =====

#[tokio::test(start_paused = true)]
async fn the_documented_order_serves() {
    for (which, status) in REQUESTS.into_iter().zip([200, 200, 200, 401, 403, 403, 400, 403, 200]) {
        let found = run(&LAYERS, which).await;
        assert_eq!(found.status, status, "{which}: {found:?}");
        if status == 200 && which != "models" {
            let keys: Vec<_> = found.seen.iter().map(|seen| seen.rsplit_once(' ').unwrap().1).collect();
            assert_eq!(keys, ["Some(\"key-of-b0\")", "Some(\"key-of-b1\")", "Some(\"key-of-b2\")"], "{which}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn any_layer_may_be_left_out() {
    for left_out in LAYERS {
        let layers: Vec<_> = LAYERS.into_iter().filter(|layer| *layer != left_out).collect();
        check(&layers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn any_two_layers() {
    for one in LAYERS {
        for other in LAYERS {
            check(&[one, other]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn any_layer_at_any_place() {
    for from in 0..LAYERS.len() {
        for to in 0..LAYERS.len() {
            let mut layers = LAYERS.to_vec();
            let moved = layers.remove(from);
            layers.insert(to, moved);
            check(&layers).await;
        }
    }
}

// ===== where the order ends =====

fn misordered(error: &BoxError) -> Option<&str> {
    let cause = Error::find(error.as_ref()).filter(|cause| cause.kind() == ErrorKind::Misordered);
    cause.map(Error::message)
}

/// What the crate's own client says to a request, which it sends to nobody.
async fn refused(
    request: Request<Body>,
    layers: impl Layer<HttpClient, Service: tower::Service<Request<Body>, Error: Into<BoxError>>>,
) -> String {
    let service = layers.layer(HttpClient::builder().build().unwrap());
    let error = service.oneshot(request).await.map(drop).unwrap_err().into();
    assert_eq!(DefaultClassify::default().classify(error.as_ref()), Outcome::Abandoned, "nobody is to blame: {error}");
    misordered(&error).unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_client_sends_no_request_that_leads_nowhere() {
    let pool = World::new().pool;
    let unpointed = refused(request("chat"), Identity::new()).await;
    assert!(unpointed.contains("SelectBackendLayer") && unpointed.contains("ForwardLayer"), "{unpointed}");
    let alone = refused(request("chat"), FailoverLayer::new()).await;
    assert_eq!(alone, unpointed);
    let unforwarded = refused(request("chat"), SelectBackendLayer::new(pool.clone())).await;
    assert!(unforwarded.contains("no ForwardLayer"), "{unforwarded}");
    let unshown = refused(request("chat"), (SelectBackendLayer::new(pool), ForwardLayer::new())).await;
    assert!(unshown.contains("no ReissueCredentialsLayer"), "{unshown}");
}

#[tokio::test(start_paused = true)]
async fn an_embedder_may_point_requests_at_their_targets_itself() {
    let world = World::new();
    let point = tower::util::MapRequestLayer::new(|mut request: Request<Body>| {
        let target = request.extensions().get::<Target>().unwrap();
        let uri = format!("https://{}.example/elsewhere", target.backend());
        *request.uri_mut() = uri.parse().unwrap();
        request
    });
    let astray = tower::util::MapRequestLayer::new(|mut request: Request<Body>| {
        *request.uri_mut() = "https://b2.example/".parse().unwrap();
        request
    });
    let select = SelectBackendLayer::new(world.pool.clone());
    let served = boxed((select.clone(), point, ReissueCredentialsLayer::new()).layer(world.network()));
    assert_eq!(served.oneshot(request("chat")).await.unwrap().status(), 429, "b0 is asked, with its own key");
    let astray = boxed((select, ForwardLayer::new(), astray, ReissueCredentialsLayer::new()).layer(world.network()));
    let error = astray.oneshot(request("chat")).await.unwrap_err();
    assert!(misordered(&error).is_some(), "{error}");
    assert_eq!(*world.seen.lock().unwrap(), ["POST b0.example/elsewhere Some(\"key-of-b0\")"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_reads_errors_otherwise_does_not_blame_a_backend() {
    let world = World::new();
    let unknown = |_: &(dyn std::error::Error + 'static)| Outcome::Unknown;
    let inner = world.layer("TerminateCredentialsLayer", world.network());
    let select = SelectBackendLayer::new(world.pool.clone()).classify(unknown);
    let layers = (FailoverLayer::new().classify(unknown), select);
    let stack = boxed(layers.layer(inner));
    for _ in 0..30 {
        let error = stack.clone().oneshot(request("chat")).await.unwrap_err();
        assert!(misordered(&error).is_some_and(|message| message.contains("TerminateCredentialsLayer stands below")));
    }
    assert!(world.learned().iter().all(|(circuit, _, _, failures)| circuit == "closed" && *failures == 0));
    assert_eq!(world.learned().iter().map(|(_, requests, ..)| requests).sum::<u64>(), 30, "nothing is repeated");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_layers_in_any_order(
        layers in proptest::sample::subsequence(LAYERS.to_vec(), 1..=LAYERS.len()).prop_shuffle(),
    ) {
        block_on(check(&layers));
    }

    /// Mostly right orders, which get further.
    #[test]
    fn a_few_exchanges(swaps in proptest::collection::vec((0..LAYERS.len(), 0..LAYERS.len()), 1..4)) {
        let mut layers = LAYERS.to_vec();
        for (one, other) in swaps {
            layers.swap(one, other);
        }
        block_on(check(&layers));
    }
}
