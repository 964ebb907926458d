//! Readiness, as every layer keeps to it: a service below is called when it was polled ready and not otherwise, by the clone that was;
//! nobody waits for it without an end; and what is dropped gives back what it held.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::limit::ConcurrencyLimit;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_azure_openai::api_version::ApiVersionLayer;
use tower_azure_openai::authorize::AuthorizeLayer;
use tower_azure_openai::body::Body;
use tower_azure_openai::capture::{CaptureLayer, from_fn};
use tower_azure_openai::circuit::CircuitBreakerLayer;
use tower_azure_openai::context::{Client, Limits};
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::front_door::FrontDoorLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::limit::{ClientLimitLayer, MemoryLimits};
use tower_azure_openai::meter::MeterUsageLayer;
use tower_azure_openai::models::ListModelsLayer;
use tower_azure_openai::observe::ObserveLayer;
use tower_azure_openai::ownership::OwnershipLayer;
use tower_azure_openai::pool::{Backend, CircuitConfig, Deployment, Pool};
use tower_azure_openai::reissue::ReissueCredentialsLayer;
use tower_azure_openai::respond::{DrainLayer, RespondLayer};
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::session::{MemoryStore, StickySessionLayer};
use tower_azure_openai::shed::ShedLayer;
use tower_azure_openai::stream_commit::StreamCommitLayer;
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};
use tower_azure_openai::upgrade::UpgradeLayer;
use tower_test::mock::Spawn;

const KEY: &str = "key-of-the-client-0123456789";
const FRONT_DOOR: &str = "0f9e8d7c-6b5a-4321-8765-0123456789ab";
const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";

/// Longer than anything that a layer waits for.
const FOR_EVER: Duration = Duration::from_secs(3600);

type Boxed = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

// ===== what stands below =====

/// One place, and behind it a service that notices when it is called without having been polled ready.
type Below = ConcurrencyLimit<Strict>;

struct Strict {
    is_ready: bool,
    world: Arc<World>,
}

struct World {
    answer: fn(&Request<Body>) -> Response<Body>,
    calls: AtomicUsize,
    running: AtomicUsize,
    unready: AtomicUsize,
    /// Fails instead of becoming ready.
    is_gone: AtomicBool,
    /// Calls after which it never becomes ready again.
    stuck_after: AtomicUsize,
    /// A permit lets one answer go.
    answers: Semaphore,
}

impl World {
    fn new(answer: fn(&Request<Body>) -> Response<Body>) -> Arc<Self> {
        Arc::new(Self {
            answer,
            calls: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            unready: AtomicUsize::new(0),
            is_gone: AtomicBool::new(false),
            stuck_after: AtomicUsize::new(usize::MAX),
            answers: Semaphore::new(0),
        })
    }

    fn below(self: &Arc<Self>) -> Below {
        ConcurrencyLimit::new(Strict { is_ready: false, world: self.clone() }, 1)
    }

    /// Answers from now on.
    fn open(&self) {
        self.answers.add_permits(1000);
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    fn assert_only_ready_is_called(&self, name: &str) {
        assert_eq!(self.unready.load(SeqCst), 0, "{name} calls a service that was not polled ready");
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { is_ready: false, world: self.world.clone() }
    }
}

struct Running(Arc<World>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Service<Request<Body>> for Strict {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.world.is_gone.load(SeqCst) {
            return Poll::Ready(Err("gone".into()));
        }
        if self.world.calls() >= self.world.stuck_after.load(SeqCst) {
            return Poll::Pending;
        }
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let world = self.world.clone();
        world.calls.fetch_add(1, SeqCst);
        if !std::mem::take(&mut self.is_ready) {
            world.unready.fetch_add(1, SeqCst);
        }
        world.running.fetch_add(1, SeqCst);
        let running = Running(world);
        Box::pin(async move {
            running.0.answers.acquire().await?.forget();
            Ok((running.0.answer)(&request))
        })
    }
}

// ===== the layers, each with what makes it work rather than pass =====

struct Case {
    name: &'static str,
    layer: Box<dyn Fn(Below) -> Boxed>,
    request: fn() -> Request<Body>,
    answer: fn(&Request<Body>) -> Response<Body>,
    /// It answers what becomes of readiness instead of failing.
    answers_errors: bool,
}

impl Case {
    fn new<B>(name: &'static str, layer: impl Fn(Below) -> B + 'static) -> Self
    where
        B: Boxable,
    {
        let layer = Box::new(move |below| Boxable::boxed(layer(below)));
        Self { name, layer, request: chat, answer: |_| answer(200, &json!({})), answers_errors: false }
    }

    fn request(mut self, request: fn() -> Request<Body>) -> Self {
        self.request = request;
        self
    }

    fn answer(mut self, answer: fn(&Request<Body>) -> Response<Body>) -> Self {
        self.answer = answer;
        self
    }

    const fn answers_errors(mut self) -> Self {
        self.answers_errors = true;
        self
    }
}

trait Boxable {
    fn boxed(self) -> Boxed;
}

impl<S, B> Boxable for S
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send + 'static>,
    S: Clone + Send + Sync + 'static,
    B: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + 'static,
{
    fn boxed(self) -> Boxed {
        Boxed::new(self.map_response(|answer| answer.map(Body::new)).map_err(Into::into))
    }
}

/// Two backends, the first of which is preferred.
fn pool() -> Pool {
    let backend = |i: u32| Backend::new(format!("b{i}"), format!("https://b{i}.example")).priority(i);
    let add = |pool: tower_azure_openai::pool::PoolBuilder, i| {
        pool.add_backend(backend(i).add_deployment(Deployment::new("gpt-4o")))
    };
    (0..2).fold(Pool::builder(), add).build().unwrap()
}

fn attempts(below: Below) -> impl Boxable + Clone {
    let attempts = SelectBackendLayer::new(pool()).layer(ForwardLayer::new().layer(below));
    attempts.map_request(|request: Request<Body>| request)
}

fn cases() -> Vec<Case> {
    let clients = || ClientRegistry::builder().add_key(client(), KEY).build().unwrap();
    let throttled = |_: &Request<Body>| answer(429, &json!({"error": {"code": "429", "message": "slow down"}}));
    let others_only = |_: &Request<Body>| {
        answer(200, &json!({"object": "list", "data": [{"id": "file-1"}], "has_more": true, "last_id": "file-1"}))
    };
    vec![
        Case::new("ApiVersionLayer", |below| ApiVersionLayer::new().layer(below)),
        Case::new("AuthorizeLayer", |below| AuthorizeLayer::new().layer(below)),
        Case::new("CaptureLayer", |below| CaptureLayer::new(from_fn(|_| {})).layer(below)),
        Case::new("CircuitBreakerLayer", |below| {
            CircuitBreakerLayer::new("alone", CircuitConfig::default()).layer(below)
        }),
        Case::new("ClientLimitLayer", |below| ClientLimitLayer::new(MemoryLimits::new()).layer(below)).request(limited),
        Case::new("DrainLayer", |below| DrainLayer::new().layer(below)),
        Case::new("FailoverLayer", |below| FailoverLayer::new().layer(Boxable::boxed(attempts(below))))
            .answer(throttled),
        Case::new("ForwardLayer", |below| ForwardLayer::new().layer(below)),
        Case::new("FrontDoorLayer", |below| FrontDoorLayer::new([FRONT_DOOR]).layer(below)).request(through_front_door),
        Case::new("InspectLayer", |below| InspectLayer::new().layer(below)),
        Case::new("ListModelsLayer", |below| ListModelsLayer::new(pool()).layer(below)),
        Case::new("MeterUsageLayer", |below| MeterUsageLayer::new().layer(below)),
        Case::new("ObserveLayer", |below| ObserveLayer::new().layer(below)),
        Case::new("OwnershipLayer", |below| OwnershipLayer::new(MemoryStore::new(10)).layer(below))
            .request(list_of_files)
            .answer(others_only),
        Case::new("ReissueCredentialsLayer", |below| ReissueCredentialsLayer::new().layer(below)),
        Case::new("RespondLayer", |below| RespondLayer::new().layer(below)).answers_errors(),
        Case::new("SelectBackendLayer", attempts),
        Case::new("ShedLayer", |below| ShedLayer::new().in_flight(10).layer(below)),
        Case::new("StickySessionLayer", |below| StickySessionLayer::new(pool()).layer(below)).request(in_a_session),
        Case::new("StreamCommitLayer", |below| StreamCommitLayer::new().layer(below)),
        Case::new("TerminateCredentialsLayer", move |below| TerminateCredentialsLayer::new(clients()).layer(below))
            .request(with_key),
        Case::new("UpgradeLayer", |below| UpgradeLayer::new().layer(below)),
    ]
}

fn client() -> Client {
    Client::new("team-a").limits(Limits::new().requests_per_minute(100))
}

fn chat() -> Request<Body> {
    Request::post(CHAT).header("content-type", "application/json").body(Body::from(r#"{"messages":[]}"#)).unwrap()
}

fn with(change: impl FnOnce(&mut Request<Body>)) -> Request<Body> {
    let mut request = chat();
    change(&mut request);
    request
}

fn limited() -> Request<Body> {
    with(|request| drop(request.extensions_mut().insert(client())))
}

fn through_front_door() -> Request<Body> {
    with(|request| drop(request.headers_mut().insert("x-azure-fdid", FRONT_DOOR.parse().unwrap())))
}

fn with_key() -> Request<Body> {
    with(|request| drop(request.headers_mut().insert("api-key", KEY.parse().unwrap())))
}

fn in_a_session() -> Request<Body> {
    with(|request| drop(request.headers_mut().insert("x-session-affinity", "s1".parse().unwrap())))
}

fn list_of_files() -> Request<Body> {
    let mut request = Request::get("/openai/files?api-version=2024-10-21").body(Body::empty()).unwrap();
    request.extensions_mut().insert(client());
    request
}

fn answer(status: u16, body: &Value) -> Response<Body> {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Body::from(body.to_string())).unwrap()
}

// ===== what is asserted =====

/// Polls a request until it is with the service below.
async fn reaches_below(
    world: &World,
    request: &mut task::Spawn<impl Future<Output = Result<Response<Body>, BoxError>>>,
) {
    for _ in 0..100 {
        assert_pending!(request.poll());
        if world.running.load(SeqCst) > 0 {
            return;
        }
        yield_now().await;
    }
    panic!("the request does not come through");
}

async fn assert_ready_and_cloned_as_it_should(case: &Case) {
    let (name, world) = (case.name, World::new(case.answer));
    let below = world.below();
    let mut other = Spawn::new(below.clone());
    assert_ready_ok!(other.poll_ready::<Request<Body>>());
    let mut service = Spawn::new((case.layer)(below));
    assert_pending!(service.poll_ready(), "{name} is ready before what is below");
    drop(other);
    assert!(service.is_woken(), "{name} is not told of readiness below");
    assert_ready_ok!(service.poll_ready(), "{name}");

    let mut clone = service.clone();
    assert_pending!(clone.poll_ready(), "a clone of {name} is ready with the place of another");
    let mut request = task::spawn(service.call((case.request)()));
    reaches_below(&world, &mut request).await;
    assert_pending!(clone.poll_ready(), "{name}: the place is with the request");
    drop(request);
    assert_eq!(world.running.load(SeqCst), 0, "{name} goes on with what nobody waits for");
    assert_ready_ok!(clone.poll_ready(), "{name} keeps the place of a request that was dropped");

    world.open();
    let answered = timeout(FOR_EVER, clone.call((case.request)())).await;
    drop(answered.unwrap_or_else(|_| panic!("{name} gives no answer")));
    assert_ready_ok!(service.poll_ready(), "{name} keeps the place of a request that was answered");
    world.assert_only_ready_is_called(name);
}

#[tokio::test(start_paused = true)]
async fn every_layer_calls_what_was_polled_ready_and_gives_it_back() {
    for case in cases() {
        assert_ready_and_cloned_as_it_should(&case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_layer_tells_why_what_is_below_is_not_ready() {
    for Case { name, layer, request, answer, answers_errors } in cases() {
        let world = World::new(answer);
        world.is_gone.store(true, SeqCst);
        let mut service = layer(world.below());
        match service.ready().await {
            Err(error) => assert_eq!(error.to_string(), "gone", "{name}"),
            Ok(_) => assert!(answers_errors, "{name} is ready with what is gone"),
        }
        if answers_errors {
            let answer = service.call(request()).await.unwrap();
            assert!(answer.status().is_server_error(), "{name}: {}", answer.status());
        }
        assert_eq!(world.calls(), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_layer_waits_for_readiness_for_ever() {
    for Case { name, layer, request, answer, .. } in cases() {
        let world = World::new(answer);
        world.open();
        world.stuck_after.store(1, SeqCst);
        let came = timeout(FOR_EVER, layer(world.below()).oneshot(request())).await;
        drop(came.unwrap_or_else(|_| panic!("{name} waits for what never becomes ready")));
        assert_eq!(world.calls(), 1, "{name}");
        world.assert_only_ready_is_called(name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_search_holds_no_place_that_it_needs() {
    let world = World::new(|request| match request.uri().path() {
        "/openai/v1/responses" => answer(200, &json!({"id": "resp_2", "object": "response"})),
        _ => answer(404, &json!({"error": {"code": "not_found", "message": "No such response"}})),
    });
    world.open();
    let body = Body::from(json!({"model": "gpt-4o", "previous_response_id": "resp_1"}).to_string());
    let request = Request::post("/openai/v1/responses").header("content-type", "application/json");
    let (service, begun) = (StickySessionLayer::new(pool()).layer(world.below()), Instant::now());
    let error = service.oneshot(request.body(body).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("resp_1"), "{error}");
    assert_eq!((world.calls(), begun.elapsed()), (2, Duration::ZERO), "both backends are asked, and at once");
    world.assert_only_ready_is_called("StickySessionLayer");
}

#[tokio::test(start_paused = true)]
async fn a_search_does_not_cost_the_request_its_turn() {
    let world = World::new(|request| match request.method().as_str() {
        "GET" => answer(200, &json!({"id": "resp_1", "object": "response"})),
        _ => answer(200, &json!({"id": "resp_2", "object": "response"})),
    });
    world.open();
    let body = Body::from(json!({"model": "gpt-4o", "previous_response_id": "resp_1"}).to_string());
    let request = Request::post("/openai/v1/responses").header("content-type", "application/json");
    let service = StickySessionLayer::new(pool()).layer(world.below());
    let answer = service.oneshot(request.body(body).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    world.assert_only_ready_is_called("StickySessionLayer");
}

/// Content that only the backend that made it can read.
fn with_sealed_content() -> Request<Body> {
    let input = json!([{"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAAAABsealed", "summary": []}]);
    let body = json!({"model": "gpt-4o", "store": false, "input": input});
    let request = Request::post("/openai/v1/responses").header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_sent_elsewhere_waits_for_no_readiness_for_ever() {
    static REFUSES: AtomicBool = AtomicBool::new(false);
    let world = World::new(|_| match REFUSES.load(SeqCst) {
        true => answer(400, &json!({"error": {"code": "invalid_encrypted_content", "message": "not ours"}})),
        false => answer(200, &json!({"id": "resp_1", "object": "response"})),
    });
    world.open();
    let session = StickySessionLayer::new(pool()).layer(Boxable::boxed(attempts(world.below())));
    let service = InspectLayer::new().layer(session);
    let first = service.clone().oneshot(with_sealed_content()).await.unwrap();
    assert_eq!(first.status(), 200);
    drop(first);
    REFUSES.store(true, SeqCst);
    world.stuck_after.store(world.calls() + 1, SeqCst);
    let error = timeout(FOR_EVER, service.oneshot(with_sealed_content())).await.expect("an end").unwrap_err();
    assert!(error.to_string().contains("busy"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_granted_holds_no_place() {
    let handshake = || {
        let mut request = Request::get("/openai/v1/responses")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Body::empty())
            .unwrap();
        // That of a client that is gone by now.
        let connection = hyper::upgrade::on(Request::new(()));
        request.extensions_mut().insert(connection);
        request
    };
    let world = World::new(|_| answer(200, &json!({})));
    let mut service = Spawn::new(Boxable::boxed(UpgradeLayer::new().layer(world.below())));
    assert_ready_ok!(service.poll_ready());
    let mut clone = service.clone();
    assert_pending!(clone.poll_ready());
    assert_eq!(service.call(handshake()).await.unwrap().status(), 101);
    assert_ready_ok!(clone.poll_ready(), "while nobody has said anything");
}

// ===== that none is left out =====

/// The names that `impl … Layer<…> for …` stands before, below a folder.
fn layers(folder: &Path, found: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            layers(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let of = source.lines().filter(|line| line.starts_with("impl<") && line.contains(" Layer<"));
            let names = of.filter_map(|line| line.split_once(" for ")?.1.split(['<', ' ']).next().map(str::to_owned));
            found.extend(names);
        }
    }
}

#[test]
fn no_layer_is_left_out() {
    let mut there = BTreeSet::new();
    layers(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut there);
    let tried: BTreeSet<_> = cases().iter().map(|case| case.name.to_owned()).collect();
    assert_eq!(there, tried);
}
