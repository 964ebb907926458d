//! Circuits from outside: those of targets, which selection keeps, and the breaker alone around one service.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::limit::ConcurrencyLimit;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::azure::{Outcome, Phase};
use tower_azure_openai::body::Body;
use tower_azure_openai::circuit::{self, CircuitBreakerLayer};
use tower_azure_openai::context::{Attempt, AttemptFailed};
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::pool::{Backend, CircuitConfig, Deployment, Pool, PoolBuilder, Target};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::{self, SelectBackendLayer};
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment};
use tower_azure_openai::{Error, ErrorKind};
use tower_test::mock;

type Answer = Result<Response<Body>, BoxError>;
type Script = Arc<dyn Fn(&Target) -> Answer + Send + Sync>;
type Gateway = tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;
type Handle = mock::Handle<Request<Body>, Response<Body>>;

fn serving<const N: usize>(name: &str, deployments: [&str; N]) -> Backend {
    let backend = Backend::new(name, format!("https://{name}.example"));
    deployments.into_iter().fold(backend, |backend, name| backend.add_deployment(Deployment::new(name)))
}

fn pool(backends: impl IntoIterator<Item = Backend>) -> Pool {
    backends.into_iter().fold(Pool::builder(), PoolBuilder::add_backend).build().unwrap()
}

/// Selection above a service.
fn above<S, B>(pool: &Pool, service: S) -> Gateway
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let stack = ServiceBuilder::new()
        .map_response(|answer: Response<select::ResponseBody>| answer.map(Body::new))
        .layer(SelectBackendLayer::new(pool.clone()))
        .layer(ForwardLayer::new())
        .service(service);
    Gateway::new(stack)
}

fn chat(alias: &str) -> Request<Body> {
    Request::post(format!("/openai/deployments/{alias}/chat/completions?api-version=1")).body(Body::from("{}")).unwrap()
}

async fn send(gateway: &Gateway, alias: &str) -> Answer {
    gateway.clone().oneshot(chat(alias)).await
}

/// Sends a request and reads its answer to the end.
async fn finish(gateway: &Gateway, alias: &str) -> Result<StatusCode, BoxError> {
    let answer = send(gateway, alias).await?;
    let status = answer.status();
    answer.into_body().collect().await?;
    Ok(status)
}

fn kind(error: &BoxError) -> Option<ErrorKind> {
    Error::find(error.as_ref()).map(Error::kind)
}

fn wait_of(error: &BoxError) -> Option<u128> {
    Error::find(error.as_ref()).and_then(Error::retry_after).map(|wait| wait.as_millis())
}

/// A backend that does what it is told, and counts.
#[derive(Clone)]
struct Scripted {
    script: Arc<Mutex<Script>>,
    calls: Arc<AtomicUsize>,
}

impl Scripted {
    fn new(script: impl Fn(&Target) -> Answer + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(Mutex::new(Arc::new(script))), calls: Arc::default() }
    }

    fn now(&self, script: impl Fn(&Target) -> Answer + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    fn behind(&self, pool: &Pool) -> Gateway {
        let this = self.clone();
        above(
            pool,
            service_fn(move |request: Request<Body>| {
                this.calls.fetch_add(1, SeqCst);
                let script = this.script.lock().unwrap().clone();
                let answer = script(request.extensions().get::<Target>().unwrap());
                async move { answer }
            }),
        )
    }
}

fn ok() -> Answer {
    Ok(Response::new(Body::from("fine")))
}

fn status(code: u16) -> Answer {
    with(code, &[], "")
}

fn with(code: u16, headers: &[(&str, &str)], body: &'static str) -> Answer {
    let answer =
        headers.iter().fold(Response::builder().status(code), |answer, (name, value)| answer.header(*name, *value));
    Ok(answer.body(Body::from(body))?)
}

fn throttled(ms: &str) -> Answer {
    with(429, &[("retry-after-ms", ms)], "")
}

fn refused() -> Answer {
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, "refused").into())
}

fn state(pool: &Pool, backend: &str, deployment: &str) -> &'static str {
    let status = pool.status();
    let backend = status.backends.iter().find(|b| b.name == backend).unwrap();
    backend.deployments.iter().find(|d| d.name == deployment).unwrap().circuit
}

fn in_flight(pool: &Pool) -> u32 {
    pool.status().backends.iter().map(|b| b.in_flight + b.deployments.iter().map(|d| d.in_flight).sum::<u32>()).sum()
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

// ===== with a pool =====

#[tokio::test(start_paused = true)]
async fn no_request_until_the_hint_has_passed_then_traffic_at_once() {
    let pool = pool([serving("east", ["a"])]);
    let backend = Scripted::new(|_| throttled("300"));
    let gateway = backend.behind(&pool);
    let answer = send(&gateway, "a").await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["retry-after-ms"]),
        (StatusCode::TOO_MANY_REQUESTS, &"300".parse().unwrap())
    );
    assert_eq!(Attempt::of(&answer).outcome, Some(Outcome::Throttled { hint: Some(ms(300)) }));
    backend.now(|_| ok());

    advance(ms(299)).await;
    for _ in 0..10 {
        let error = send(&gateway, "a").await.unwrap_err();
        assert_eq!((kind(&error), wait_of(&error)), (Some(ErrorKind::NoTargetThrottled), Some(1)));
    }
    assert_eq!(backend.calls(), 1);
    advance(ms(1)).await;
    let all = join_all((0..100).map(|_| finish(&gateway, "a"))).await;
    assert!(all.iter().all(Result::is_ok), "no probing after a hint that was obeyed");
    assert_eq!(backend.calls(), 101);
}

fn crowd(gateway: &Gateway, n: usize) -> Vec<JoinHandle<Result<StatusCode, BoxError>>> {
    (0..n)
        .map(|_| {
            let gateway = gateway.clone();
            tokio::spawn(async move { finish(&gateway, "a").await })
        })
        .collect()
}

/// What has reached the backend since this was asked last.
fn reached(handle: &mut Handle) -> Vec<mock::SendResponse<Response<Body>>> {
    let mut reached = Vec::new();
    while let Poll::Ready(Some((_, answer))) = handle.poll_request() {
        reached.push(answer);
    }
    reached
}

async fn settle() {
    for _ in 0..10 {
        yield_now().await;
    }
}

/// Of a hundred requests one goes through, and one more after each interval, until a success closes the circuit.
async fn probes_one_by_one(gateway: &Gateway, handle: &mut Handle, pool: &Pool, refusal: ErrorKind) {
    assert_eq!(state(pool, "east", "a"), "half-open");
    let first = crowd(gateway, 100);
    settle().await;
    let mut probes = reached(handle);
    assert_eq!(probes.len(), 1, "one probe among 100 concurrent requests");
    let refused = first.iter().filter(|request| request.is_finished()).count();
    assert_eq!(refused, 99, "the others are refused at once");
    for request in first.into_iter().filter(JoinHandle::is_finished) {
        let error = request.await.unwrap().unwrap_err();
        assert_eq!((kind(&error), wait_of(&error)), (Some(refusal), Some(250)));
    }

    advance(ms(249)).await;
    crowd(gateway, 100);
    settle().await;
    assert!(reached(handle).is_empty(), "not before the interval has passed");
    advance(ms(1)).await;
    crowd(gateway, 100);
    settle().await;
    let second = reached(handle);
    assert_eq!(second.len(), 1, "one more after the interval");
    assert_eq!(in_flight(pool), 4, "two probes, counted for the target and for its backend");

    probes.remove(0).send_response(ok().unwrap());
    settle().await;
    assert_eq!(state(pool, "east", "a"), "closed");
    crowd(gateway, 100);
    settle().await;
    assert_eq!(reached(handle).len(), 100);
    drop(second);
    settle().await;
    assert_eq!(in_flight(pool), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_was_cut_is_followed_by_probes() {
    let pool = pool([serving("east", ["a"])]);
    let (service, mut handle) = mock::pair();
    let gateway = above(&pool, service);
    let request = crowd(&gateway, 1);
    settle().await;
    reached(&mut handle).remove(0).send_response(with(429, &[("retry-after", "86400")], "").unwrap());
    request.into_iter().next().unwrap().await.unwrap().unwrap();

    advance(ms(59_999)).await;
    assert_eq!(state(&pool, "east", "a"), "open");
    advance(ms(1)).await;
    probes_one_by_one(&gateway, &mut handle, &pool, ErrorKind::NoTargetThrottled).await;
}

async fn open_by_failure(gateway: &Gateway, handle: &mut Handle) {
    for _ in 0..5 {
        crowd(gateway, 1);
        settle().await;
        reached(handle).remove(0).send_error(io::Error::new(io::ErrorKind::ConnectionRefused, "refused"));
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_opening_by_failures_is_followed_by_probes() {
    let pool = pool([serving("east", ["a"])]);
    let (service, mut handle) = mock::pair();
    let gateway = above(&pool, service);
    open_by_failure(&gateway, &mut handle).await;
    assert_eq!(state(&pool, "east", "a"), "open");
    let error = send(&gateway, "a").await.unwrap_err();
    let soon = (Some(ErrorKind::NoTargetDown), Some(250));
    assert_eq!((kind(&error), wait_of(&error)), soon, "nobody else is left, so it is probed before its time");
    advance(ms(10_000)).await;
    probes_one_by_one(&gateway, &mut handle, &pool, ErrorKind::NoTargetDown).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_frees_its_place() {
    let pool = pool([serving("east", ["a"])]);
    let (service, mut handle) = mock::pair();
    let gateway = above(&pool, service);
    open_by_failure(&gateway, &mut handle).await;
    advance(ms(10_000)).await;

    let mut probe = task::spawn(send(&gateway, "a"));
    assert_pending!(probe.poll());
    assert!(send(&gateway, "a").await.is_err(), "the place is taken");
    drop(probe);
    assert_eq!(in_flight(&pool), 0);

    let mut probe = task::spawn(send(&gateway, "a"));
    assert_pending!(probe.poll());
    reached(&mut handle).pop().unwrap().send_response(ok().unwrap());
    let answer = assert_ready_ok!(probe.poll());
    assert_eq!(state(&pool, "east", "a"), "half-open", "a head is not yet a success");
    let mut next = task::spawn(send(&gateway, "a"));
    assert_pending!(next.poll(), "the place is free once the head is there");
    drop(answer);
    assert_eq!(state(&pool, "east", "a"), "half-open", "a client that goes away teaches nothing");
}

#[tokio::test(start_paused = true)]
async fn a_later_hint_extends_and_never_shortens() {
    let pool = pool([serving("east", ["a"])]);
    let (service, mut handle) = mock::pair();
    let gateway = above(&pool, service);
    let mut requests = crowd(&gateway, 3);
    settle().await;
    let mut answers = reached(&mut handle).into_iter();
    for (hint, opens_for) in [("1000", 1000), ("100", 1000), ("2000", 2000)] {
        answers.next().unwrap().send_response(throttled(hint).unwrap());
        requests.remove(0).await.unwrap().unwrap();
        let reopens_in_ms = pool.status().backends[0].deployments[0].reopens_in_ms;
        assert_eq!(reopens_in_ms, Some(opens_for), "after a hint of {hint} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_success_does_not_close() {
    let pool = pool([serving("east", ["a"])]);
    let (service, mut handle) = mock::pair();
    let gateway = above(&pool, service);
    let old = crowd(&gateway, 1);
    settle().await;
    let answer = reached(&mut handle).pop().unwrap();
    open_by_failure(&gateway, &mut handle).await;
    advance(ms(10_000)).await;
    let probe = crowd(&gateway, 1);
    settle().await;

    answer.send_response(ok().unwrap());
    assert_eq!(old.into_iter().next().unwrap().await.unwrap().unwrap(), StatusCode::OK);
    assert_eq!(state(&pool, "east", "a"), "half-open");
    assert!(send(&gateway, "a").await.is_err(), "it frees no place either");
    drop(probe);
}

#[tokio::test(start_paused = true)]
async fn a_429_of_one_deployment_leaves_the_others_alone() {
    let pool = pool([serving("east", ["a", "b"])]);
    let gateway =
        Scripted::new(|target| if target.alias() == Some("a") { throttled("300") } else { ok() }).behind(&pool);
    send(&gateway, "a").await.unwrap();
    assert_eq!((state(&pool, "east", "a"), state(&pool, "east", "b")), ("open", "closed"));
    assert_eq!(finish(&gateway, "b").await.unwrap(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_quota_group_trips_together_for_one_model() {
    let pool = pool([
        serving("east", ["gpt", "mini"]).quota_group("eu"),
        serving("west", ["gpt", "mini"]).quota_group("eu"),
        serving("north", ["gpt"]).quota_group("us"),
        serving("south", ["gpt"]),
    ]);
    let gateway = Scripted::new(|_| throttled("300")).behind(&pool);
    let answer = send(&gateway, "gpt").await.unwrap();
    assert_eq!(answer.extensions().get::<Target>().map(Target::backend), Some("east"));
    for (backend, deployment, expected) in [
        ("east", "gpt", "open"),
        ("west", "gpt", "open"),
        ("east", "mini", "closed"),
        ("west", "mini", "closed"),
        ("north", "gpt", "closed"),
        ("south", "gpt", "closed"),
    ] {
        assert_eq!(state(&pool, backend, deployment), expected, "{backend}/{deployment}");
    }
    let counted: Vec<_> = pool.status().backends.iter().map(|b| b.deployments[0].throttled).collect();
    assert_eq!(counted, [1, 0, 0, 0], "counted where it was answered");
    advance(ms(300)).await;
    assert_eq!(state(&pool, "west", "gpt"), "closed");
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_counts_for_all_targets_of_the_backend() {
    let pool = pool([serving("east", ["a", "b"]), serving("west", ["b"])]);
    let gateway = Scripted::new(|target| if target.backend() == "east" { refused() } else { ok() }).behind(&pool);
    for _ in 0..5 {
        let error = send(&gateway, "a").await.unwrap_err();
        assert_eq!(error.downcast_ref::<AttemptFailed>().unwrap().outcome(), Outcome::Unreachable);
    }
    assert_eq!((state(&pool, "east", "a"), state(&pool, "east", "b")), ("open", "open"));
    assert_eq!(state(&pool, "west", "b"), "closed");
    let models = Request::get("/openai/models?api-version=1").body(Body::empty()).unwrap();
    let answer = gateway.clone().oneshot(models).await.unwrap();
    let at = answer.extensions().get::<Target>().unwrap();
    assert_eq!((at.backend(), at.deployment()), ("west", None), "calls without a model avoid it too");
    assert_eq!(pool.status().backends[1].in_flight, 1, "the answer is not read yet");
    drop(answer);
    assert_eq!(in_flight(&pool), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_admitting_target_is_not_opened_by_5xx_answers() {
    let pool = pool([serving("east", ["a"]), serving("west", ["a"]).priority(1)]);
    let backend = Scripted::new(|_| status(500));
    let gateway = backend.behind(&pool);
    for _ in 0..100 {
        assert_eq!(send(&gateway, "a").await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!((state(&pool, "east", "a"), state(&pool, "west", "a")), ("open", "closed"));

    backend.now(|_| refused());
    send(&gateway, "a").await.unwrap_err();
    assert_eq!(state(&pool, "west", "a"), "open", "a refused connection may open it, after all those failures at once");
    assert_eq!(pool.status().backends[1].deployments[0].failures, 96);
}

#[tokio::test(start_paused = true)]
async fn a_drained_target_is_no_other_target() {
    let pool = pool([serving("east", ["a"]), serving("west", ["a"])]);
    pool.drain("west").unwrap();
    let gateway = Scripted::new(|_| status(500)).behind(&pool);
    for _ in 0..30 {
        send(&gateway, "a").await.unwrap();
    }
    assert_eq!(state(&pool, "east", "a"), "closed");
}

#[tokio::test(start_paused = true)]
async fn a_503_with_a_hint_opens_for_the_hint() {
    let pool = pool([serving("east", ["a"])]);
    let backend = Scripted::new(|_| with(503, &[("retry-after", "2")], ""));
    let gateway = backend.behind(&pool);
    let answer = send(&gateway, "a").await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["retry-after-ms"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"2000".parse().unwrap())
    );
    backend.now(|_| ok());
    advance(ms(1_999)).await;
    send(&gateway, "a").await.unwrap_err();
    advance(ms(1)).await;
    assert_eq!(finish(&gateway, "a").await.unwrap(), StatusCode::OK);
    assert_eq!(state(&pool, "east", "a"), "closed");
}

#[tokio::test(start_paused = true)]
async fn the_body_gives_the_hint_that_the_headers_lack() {
    const BODY: &str = r#"{"error":{"code":"429","message":"Rate limit is exceeded. Please retry after 7 seconds."}}"#;
    for code in [429, 503] {
        let pool = pool([serving("east", ["a"])]);
        let gateway = Scripted::new(move |_| with(code, &[], BODY)).behind(&pool);
        let answer = send(&gateway, "a").await.unwrap();
        assert_eq!(pool.status().backends[0].deployments[0].reopens_in_ms, Some(7_000));
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), BODY, "the body is whole");
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_without_any_hint_opens_for_the_default() {
    let pool = pool([serving("east", ["a"])]);
    let backend = SimulatedBackend::builder("east").deployment(SimulatedDeployment::standard("a")).build();
    backend.faults().push(Fault::throttled().body("{}"));
    let gateway = above(&pool, backend.clone());
    assert_eq!(finish(&gateway, "a").await.unwrap(), StatusCode::TOO_MANY_REQUESTS);
    advance(ms(9_999)).await;
    send(&gateway, "a").await.unwrap_err();
    advance(ms(1)).await;
    assert!(send(&gateway, "a").await.is_ok());
    assert_eq!(backend.request_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let pool = pool([serving("east", ["a"])]);
    let gateway = Scripted::new(|_| {
        let never = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>());
        Ok(Response::builder().status(429).body(Body::new(never))?)
    })
    .behind(&pool);
    let mut request = task::spawn(send(&gateway, "a"));
    assert_pending!(request.poll());
    advance(Duration::from_millis(100)).await;
    let answer = assert_ready_ok!(request.poll());
    assert_eq!(Attempt::of(&answer).outcome, Some(Outcome::Throttled { hint: None }));
    assert_eq!(in_flight(&pool), 2);
    drop(answer);
    assert_eq!(in_flight(&pool), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_request_whose_body_is_being_read_gives_the_place_back() {
    let pool = pool([serving("east", ["a"])]);
    let gateway = Scripted::new(|_| {
        let never = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>());
        Ok(Response::builder().status(404).body(Body::new(never))?)
    })
    .behind(&pool);
    let mut request = task::spawn(send(&gateway, "a"));
    assert_pending!(request.poll());
    assert_eq!(in_flight(&pool), 2);
    drop(request);
    assert_eq!((in_flight(&pool), state(&pool, "east", "a")), (0, "closed"));
}

#[tokio::test(start_paused = true)]
async fn the_body_of_a_404_decides_what_it_means() {
    let pool = pool([serving("east", ["a"])]);
    let backend =
        Scripted::new(|_| with(404, &[], r#"{"error":{"code":"DeploymentNotFound","message":"Not there."}}"#));
    let gateway = backend.behind(&pool);
    let outcome = async || Attempt::of(&send(&gateway, "a").await.unwrap()).outcome.unwrap();
    assert_eq!(outcome().await, Outcome::DeploymentMissing);
    backend.now(|_| with(404, &[], r#"{"error":{"code":"404","message":"Resource not found"}}"#));
    assert_eq!(outcome().await, Outcome::ClientFault);
    assert_eq!(pool.status().backends[0].deployments[0].failures, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_nobodys_failure_teaches_nothing() {
    let pool = pool([serving("east", ["a"])]);
    let backend = Scripted::new(|_| Err(Error::new(ErrorKind::UploadFailed, "broken off").into()));
    let gateway = backend.behind(&pool);
    for _ in 0..30 {
        send(&gateway, "a").await.unwrap_err();
    }
    for code in [401, 403, 424] {
        backend.now(move |_| status(code));
        for _ in 0..30 {
            send(&gateway, "a").await.unwrap();
        }
    }
    assert_eq!((state(&pool, "east", "a"), pool.status().backends[0].deployments[0].failures), ("closed", 0));
    assert_eq!(in_flight(&pool), 0);
}

// ===== alone =====

fn alone() -> CircuitBreakerLayer {
    CircuitBreakerLayer::new("resource", CircuitConfig::default())
}

/// A success head with a body that the test feeds.
fn fed() -> (Response<Body>, tokio::sync::mpsc::Sender<Result<Frame<Bytes>, BoxError>>) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let frames = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (Response::new(Body::new(StreamBody::new(frames))), sender)
}

/// Told is this time.
fn assert_outage<B>(refused: &Response<B>, wait: u64) {
    let told = |name| refused.headers()[name].to_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(told("retry-after-ms"), wait);
    assert_eq!(told("retry-after"), told("retry-after-ms").div_ceil(1_000));
}

#[tokio::test(start_paused = true)]
async fn alone_it_opens_refuses_and_half_opens() {
    let (service, mut handle) = mock::pair();
    let mut service = ServiceBuilder::new().layer(RespondLayer::new()).layer(alone()).service(service);
    let mut call = async || task::spawn(service.ready().await.unwrap().call(Request::new(Body::empty())));
    for _ in 0..5 {
        let mut request = call().await;
        assert_pending!(request.poll());
        reached(&mut handle).pop().unwrap().send_response(status(500).unwrap());
        assert_eq!(assert_ready_ok!(request.poll()).status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
    advance(ms(2_500)).await;
    let refused = assert_ready_ok!(call().await.poll());
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_outage(&refused, 7_500 + 618);
    assert!(reached(&mut handle).is_empty());

    advance(ms(7_500)).await;
    let mut probe = call().await;
    assert_pending!(probe.poll());
    let refused = assert_ready_ok!(call().await.poll());
    // One probe at a time.
    assert_outage(&refused, 1_000 + 236);
    reached(&mut handle).pop().unwrap().send_response(ok().unwrap());
    let answer = assert_ready_ok!(probe.poll());
    answer.into_body().collect().await.unwrap();
    for _ in 0..3 {
        assert_pending!(call().await.poll(), "closed");
    }
}

#[tokio::test(start_paused = true)]
async fn alone_it_refuses_with_429_while_it_is_throttled() {
    let service = service_fn(async |_: Request<Body>| with(429, &[("retry-after", "86400")], ""));
    let mut service = ServiceBuilder::new().layer(RespondLayer::new()).layer(alone()).service(service);
    let mut call = async || service.ready().await.unwrap().call(Request::new(Body::empty())).await.unwrap();
    call().await;
    let refused = call().await;
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"59".parse().unwrap())
    );
}

#[tokio::test(start_paused = true)]
async fn a_success_is_one_when_its_body_has_ended() {
    let (service, mut handle) = mock::pair();
    let mut service = alone().layer_on(service);
    for _ in 0..4 {
        answered(&mut service, &mut handle, status(500).unwrap()).await;
    }
    let (head, body) = fed();
    let answer = answered(&mut service, &mut handle, head).await;
    answered(&mut service, &mut handle, status(500).unwrap()).await;
    assert!(is_open(&mut service).await, "a head starts no run anew");

    advance(ms(10_000)).await;
    drop(body);
    answer.into_body().collect().await.unwrap();
    assert!(!is_open(&mut service).await, "half-open");
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_the_run_of_failures() {
    let (service, mut handle) = mock::pair();
    let mut service = alone().layer_on(service);
    for _ in 0..4 {
        answered(&mut service, &mut handle, status(500).unwrap()).await;
    }
    let answer = answered(&mut service, &mut handle, ok().unwrap()).await;
    answer.into_body().collect().await.unwrap();
    for _ in 0..4 {
        answered(&mut service, &mut handle, status(500).unwrap()).await;
    }
    assert!(!is_open(&mut service).await);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_cut_is_a_failure() {
    let (service, mut handle) = mock::pair();
    let mut service = alone().layer_on(service);
    for _ in 0..5 {
        let (head, body) = fed();
        let answer = answered(&mut service, &mut handle, head).await;
        body.send(Ok(Frame::data(Bytes::from("half")))).await.unwrap();
        body.send(Err("cut".into())).await.unwrap();
        let error = answer.into_body().collect().await.unwrap_err();
        assert_eq!(error.downcast_ref::<AttemptFailed>().unwrap().outcome(), Outcome::Reset);
    }
    assert!(is_open(&mut service).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_teaches_nothing() {
    let (service, mut handle) = mock::pair();
    let mut service = alone().layer_on(service);
    for _ in 0..30 {
        let (head, _body) = fed();
        drop(answered(&mut service, &mut handle, head).await);
        let mut early = task::spawn(service.ready().await.unwrap().call(Request::new(Body::empty())));
        assert_pending!(early.poll());
        drop(early);
        reached(&mut handle);
    }
    assert!(!is_open(&mut service).await);
}

#[tokio::test(start_paused = true)]
async fn errors_are_read_as_it_is_told() {
    let layer = alone().classify(|_: &(dyn std::error::Error + 'static)| Outcome::TimedOut(Phase::Answer));
    let mut service =
        layer.layer_on(service_fn(async |_: Request<Body>| Err::<Response<Body>, BoxError>("late".into())));
    for _ in 0..5 {
        let error = service.call(Request::new(Body::empty())).await.unwrap_err();
        let failed = error.downcast_ref::<AttemptFailed>().unwrap();
        assert_eq!(failed.outcome(), Outcome::TimedOut(Phase::Answer));
        assert_eq!(std::error::Error::source(failed).unwrap().to_string(), "late");
    }
    let error = service.call(Request::new(Body::empty())).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::NoTargetDown));
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_below_refuses_blames_nobody() {
    for refusal in [ErrorKind::OperationNotAllowed, ErrorKind::Unauthenticated, ErrorKind::InvalidBody] {
        let refuses = move |_: &Target| Err(Error::new(refusal, "not like this").into());
        let (pool, scripted) = (pool([serving("east", ["a"]), serving("west", ["a"])]), Scripted::new(refuses));
        let gateway = FailoverLayer::new().layer(scripted.behind(&pool));
        for _ in 0..30 {
            let error = gateway.clone().oneshot(chat("a")).await.unwrap_err();
            assert_eq!(kind(&error), Some(refusal));
        }
        assert_eq!(scripted.calls(), 30, "nothing is repeated");
        let status = pool.status();
        let deployments = status.backends.iter().flat_map(|backend| &backend.deployments);
        assert!(
            deployments.into_iter().all(|target| target.circuit == "closed" && target.failures == 0),
            "{refusal:?}"
        );

        let refuses =
            service_fn(move |_: Request<Body>| async move { Err::<Response<Body>, _>(Error::new(refusal, "no")) });
        let mut service = alone().layer_on(refuses);
        for _ in 0..30 {
            let error = service.call(Request::new(Body::empty())).await.unwrap_err();
            assert_eq!(kind(&error), Some(refusal), "and never that the circuit is open");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_gateway_below_says_of_its_backends_is_a_failure() {
    for failure in [ErrorKind::BackendFailed, ErrorKind::BackendTimeout] {
        let fails =
            service_fn(move |_: Request<Body>| async move { Err::<Response<Body>, _>(Error::new(failure, "no")) });
        let mut service = alone().layer_on(fails);
        for _ in 0..5 {
            let error = service.call(Request::new(Body::empty())).await.unwrap_err();
            assert_eq!(kind(&error), Some(failure));
        }
        let error = service.call(Request::new(Body::empty())).await.unwrap_err();
        assert_eq!(kind(&error), Some(ErrorKind::NoTargetDown));
    }
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_of_one_layer_share_the_circuit() {
    let layer = alone();
    let service = || layer.clone().layer_on(service_fn(async |_: Request<Body>| throttled("300")));
    service().call(Request::new(Body::empty())).await.unwrap();
    assert!(service().call(Request::new(Body::empty())).await.is_err());
}

#[tokio::test]
async fn calls_only_what_is_ready_and_a_clone_has_no_share_in_it() {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let service = ConcurrencyLimit::new(service, 1);
    let mut service = mock::Spawn::new(alone().layer_on(service));
    handle.allow(0);
    assert_pending!(service.poll_ready());
    handle.allow(9);
    assert_ready_ok!(service.poll_ready());
    let mut clone = service.clone();
    assert_pending!(clone.poll_ready(), "the one place belongs to the other");
    let mut request = task::spawn(service.call(Request::new(Body::empty())));
    assert_pending!(request.poll());
    assert_eq!(reached(&mut handle).len(), 1);
    drop(request);
    assert_ready_ok!(clone.poll_ready());
}

#[tokio::test]
async fn an_error_of_readiness_passes() {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let mut service = mock::Spawn::new(alone().layer_on(service));
    handle.send_error("gone");
    assert_eq!(tokio_test::assert_ready_err!(service.poll_ready()).to_string(), "gone");
}

trait LayerOn {
    fn layer_on<S>(&self, inner: S) -> circuit::CircuitBreaker<S>;
}

impl LayerOn for CircuitBreakerLayer {
    fn layer_on<S>(&self, inner: S) -> circuit::CircuitBreaker<S> {
        Layer::layer(self, inner)
    }
}

type Mocked = circuit::CircuitBreaker<mock::Mock<Request<Body>, Response<Body>>>;

async fn answered(
    service: &mut Mocked,
    handle: &mut Handle,
    answer: Response<Body>,
) -> Response<circuit::ResponseBody> {
    let mut request = task::spawn(service.ready().await.unwrap().call(Request::new(Body::empty())));
    assert_pending!(request.poll());
    reached(handle).pop().unwrap().send_response(answer);
    assert_ready_ok!(request.poll())
}

/// Whether a request is refused; one that is not is dropped.
async fn is_open(service: &mut Mocked) -> bool {
    task::spawn(service.ready().await.unwrap().call(Request::new(Body::empty()))).poll().is_ready()
}

#[tokio::test(start_paused = true)]
async fn an_error_in_a_stream_opens_a_circuit_of_its_own() {
    const EVENTS: &str =
        "data: {\"choices\":[]}\n\ndata: {\"error\":{\"code\":\"429\",\"message\":\"Try again in 7 seconds.\"}}\n\n";
    let streams = service_fn(async |_: Request<Body>| {
        let chunks =
            EVENTS.as_bytes().chunks(5).map(|chunk| Ok::<_, BoxError>(Frame::data(Bytes::copy_from_slice(chunk))));
        let body = Body::new(StreamBody::new(stream::iter(chunks.collect::<Vec<_>>())));
        Response::builder().header("content-type", "text/event-stream").body(body)
    });
    let layers = ServiceBuilder::new().layer(CircuitBreakerLayer::new("alone", CircuitConfig::default()));
    let service = layers.service(streams);
    let answer = service.clone().oneshot(Request::new(Body::empty())).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), EVENTS, "it passes unchanged");
    let refused = service.oneshot(Request::new(Body::empty())).await.unwrap_err();
    let refused = refused.downcast::<Error>().unwrap();
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(7)));
}
