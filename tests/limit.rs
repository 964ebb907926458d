//! Client limits from outside: who is admitted, what a request costs in the end, and what its client is told.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use tokio::time::{Instant, advance};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, Limits, Route};
use tower_azure_openai::limit::{
    Balance, ClientLimitLayer, Decision, LimitFuture, LimitStore, MemoryLimits, Reservation, Unavailable, conformance,
};
use tower_azure_openai::meter::MeterUsageLayer;
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::{Error, ErrorKind};

const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
const MINUTE: Duration = Duration::from_secs(60);
const A_MINUTE_OF_100: Limits = Limits::new().tokens_per_minute(100);

type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// The layers over a backend that gives the same answer each time, and how often it was asked.
fn stack(
    store: &MemoryLimits,
    answer: impl Fn() -> Response<Body> + Send + Sync + 'static,
) -> (Stack, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, answer) = (asked.clone(), Arc::new(answer));
    let backend = service_fn(move |_: Request<Body>| {
        counter.fetch_add(1, SeqCst);
        let answer = answer();
        async move { Ok::<_, BoxError>(answer) }
    });
    let layers = ServiceBuilder::new().layer(ClientLimitLayer::new(store.clone())).layer(MeterUsageLayer::new());
    (BoxCloneSyncService::new(layers.service(backend)), asked)
}

fn using(input: u64, output: u64) -> impl Fn() -> Response<Body> {
    move || json(200, format!(r#"{{"usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}}}"#))
}

fn json(status: u16, body: impl Into<String>) -> Response<Body> {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Body::from(body.into())).unwrap()
}

fn chat(limits: Limits) -> Request<Body> {
    let mut request = Request::post(CHAT).body(Body::from(r#"{"messages":[]}"#)).unwrap();
    request.extensions_mut().insert(Client::new("team-a").limits(limits));
    request
}

async fn ask(stack: &Stack, request: Request<Body>) -> Result<Response<Body>, BoxError> {
    stack.clone().oneshot(request).await
}

async fn served(stack: &Stack, limits: Limits) {
    ask(stack, chat(limits)).await.unwrap().into_body().collect().await.unwrap();
}

async fn left(store: &MemoryLimits, limits: Limits) -> Balance {
    store.balance(&Arc::from("team-a"), limits).await.unwrap()
}

async fn tokens_left(store: &MemoryLimits) -> u64 {
    left(store, A_MINUTE_OF_100).await.tokens.unwrap().count
}

fn refusal(answer: Result<Response<Body>, BoxError>) -> (ErrorKind, Duration) {
    let error = answer.expect_err("must be refused");
    let cause = Error::find(error.as_ref()).expect("a cause of the crate");
    (cause.kind(), cause.retry_after().expect("a time to wait"))
}

#[tokio::test(start_paused = true)]
async fn memory_conforms() {
    conformance::check(&MemoryLimits::new(), advance).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_pays_what_it_used_and_the_next_waits_for_what_is_owed() {
    let store = MemoryLimits::new();
    let (stack, asked) = stack(&store, using(60, 100));
    served(&stack, A_MINUTE_OF_100).await;
    let (kind, wait) = refusal(ask(&stack, chat(A_MINUTE_OF_100)).await);
    assert_eq!((kind, wait), (ErrorKind::RateLimitExceeded, MINUTE * 61 / 100), "60 are owed, and one must be left");
    assert_eq!(asked.load(SeqCst), 1, "a refused request reaches nothing");
    advance(wait).await;
    served(&stack, A_MINUTE_OF_100).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_processed_costs_nothing_and_what_is_wrong_costs_a_request() {
    let limits = A_MINUTE_OF_100.requests_per_minute(10);
    for (status, requests) in [(200, 9), (400, 9), (404, 9), (429, 10), (500, 10), (503, 10)] {
        let store = MemoryLimits::new();
        let (stack, _) = stack(&store, move || json(status, "{}"));
        let mut request = chat(limits);
        *request.body_mut() = Body::from(r#"{"max_tokens":50}"#);
        ask(&stack, request).await.unwrap().into_body().collect().await.unwrap();
        let left = left(&store, limits).await;
        let tokens = if status == 200 { 50 } else { 100 };
        assert_eq!((left.requests.unwrap().count, left.tokens.unwrap().count), (requests, tokens), "{status}");
    }
    let store = MemoryLimits::new();
    let broken = service_fn(async |_: Request<Body>| Err::<Response<Body>, _>(BoxError::from("reset")));
    let stack = ServiceBuilder::new().layer(ClientLimitLayer::new(store.clone())).service(broken);
    stack.oneshot(chat(limits)).await.unwrap_err();
    assert_eq!(left(&store, limits).await.requests.unwrap().count, 10, "an error");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_before_an_answer_has_paid_for_nothing_it_can_get_back() {
    let store = MemoryLimits::new();
    let silent = service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, BoxError>>());
    let stack = ServiceBuilder::new().layer(ClientLimitLayer::new(store.clone())).service(silent);
    let mut request = chat(A_MINUTE_OF_100);
    *request.body_mut() = Body::from(r#"{"max_tokens":30}"#);
    let left = tokio::time::timeout(Duration::from_millis(1), stack.oneshot(request)).await;
    assert!(left.is_err(), "no answer came");
    assert_eq!(tokens_left(&store).await, 70, "the backend may well have processed it");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_settled_before_the_event_that_tells_its_usage_is_handed_on() {
    let store = MemoryLimits::new();
    let events = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":15}}\n\n",
        "data: [DONE]\n\n",
    ];
    let (stack, _) = stack(&store, move || streamed(events.to_vec()));
    let mut request = chat(A_MINUTE_OF_100);
    *request.body_mut() = Body::from(r#"{"stream":true,"stream_options":{"include_usage":true},"max_tokens":80}"#);
    let mut body = ask(&stack, request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(tokens_left(&store).await, 20, "reserved");
    body.frame().await.unwrap().unwrap();
    assert_eq!(tokens_left(&store).await, 75, "settled, although its client may leave now");
    drop(body);
    assert_eq!(tokens_left(&store).await, 75, "once");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_a_stream_pays_for_what_it_got() {
    let store = MemoryLimits::new();
    let word = "data: {\"choices\":[{\"delta\":{\"content\":\"abcdefghijklmnop\"}}]}\n\n";
    let (stack, _) = stack(&store, move || streamed(vec![word; 50]));
    let mut request = chat(A_MINUTE_OF_100);
    *request.body_mut() = Body::from(r#"{"stream":true,"prompt":"abcdefgh","max_tokens":80}"#);
    let route = Route::parse(request.method(), request.uri()).unwrap().with_streaming(true);
    request.extensions_mut().insert(route);
    let mut body = ask(&stack, request).await.unwrap().into_body();
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    drop(body);
    assert_eq!(tokens_left(&store).await, 100 - 2 - 3 * 4, "the prompt, and three words of four tokens");
}

fn streamed(events: Vec<&'static str>) -> Response<Body> {
    let frames = stream::iter(events).map(|event| Ok::<_, BoxError>(Frame::data(event.as_bytes().into())));
    let answer = Response::builder().header("content-type", "text/event-stream");
    answer.body(Body::new(StreamBody::new(frames))).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_crowd_shares_no_last_request() {
    let store = MemoryLimits::new();
    let (stack, asked) = stack(&store, using(0, 0));
    let limits = Limits::new().requests_per_minute(100);
    let answers = join_all((0..1_000).map(|_| ask(&stack, chat(limits)))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 100);
    assert_eq!(asked.load(SeqCst), 100);
    advance(MINUTE / 2).await;
    let answers = join_all((0..1_000).map(|_| ask(&stack, chat(limits)))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 50, "half a minute brings half");
}

#[tokio::test(start_paused = true)]
async fn limited_clients_are_told_their_own_limits_and_others_the_backends() {
    let store = MemoryLimits::new();
    let (stack, _) = stack(&store, || {
        let mut answer = json(200, "{}");
        for name in ["x-ratelimit-remaining-tokens", "x-ratelimit-limit-requests", "x-ratelimit-reset-requests"] {
            answer.headers_mut().insert(name, 7.into());
        }
        answer
    });
    let mut request = chat(A_MINUTE_OF_100);
    *request.body_mut() = Body::from(r#"{"max_tokens":40}"#);
    let answer = ask(&stack, request).await.unwrap();
    let told: Vec<_> = answer.headers().iter().filter(|(name, _)| name.as_str().starts_with("x-ratelimit")).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(answer.headers()["x-ratelimit-limit-tokens"], "100");
    assert_eq!(answer.headers()["x-ratelimit-remaining-tokens"], "60");
    assert_eq!(answer.headers()["x-ratelimit-reset-tokens"], "24", "seconds, as Azure tells them");
    let unlimited = ask(&stack, chat(Limits::NONE)).await.unwrap();
    assert_eq!(unlimited.headers()["x-ratelimit-remaining-tokens"], "7");
}

#[tokio::test(start_paused = true)]
async fn refusals_are_answered_as_a_rate_and_as_a_quota() {
    let evening = Duration::from_secs(20_000 * 86_400 - 600);
    let store = MemoryLimits::since(evening);
    let (stack, _) = stack(&store, using(5, 5));
    let answers = ServiceBuilder::new().layer(RespondLayer::new()).service(stack);
    let daily = Limits::new().tokens_per_day(10);
    let served = answers.clone().oneshot(chat(daily)).await.unwrap();
    assert_eq!(served.headers()["x-ratelimit-limit-tokens"], "10");
    served.into_body().collect().await.unwrap();
    let refused = answers.clone().oneshot(chat(daily)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(refused.headers()["retry-after"], "600", "the true time until midnight");
    assert!(!refused.headers().contains_key("retry-after-ms"));
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["type"]), (&"quota_exceeded".into(), &"quota_error".into()));
    advance(Duration::from_secs(600)).await;
    assert_eq!(answers.clone().oneshot(chat(daily)).await.unwrap().status(), StatusCode::OK, "another day");

    let limits = Limits::new().requests_per_minute(1);
    answers.clone().oneshot(chat(limits)).await.unwrap();
    let refused = answers.oneshot(chat(limits)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        (&refused.headers()["retry-after"], &refused.headers()["retry-after-ms"]),
        (&"59".parse().unwrap(), &"59000".parse().unwrap())
    );
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(body.windows(19).any(|window| window == b"rate_limit_exceeded"));
}

#[tokio::test(start_paused = true)]
async fn reading_costs_no_tokens_and_is_possible_in_debt() {
    let store = MemoryLimits::new();
    let (stack, _) = stack(&store, using(500, 500));
    served(&stack, A_MINUTE_OF_100).await;
    for path in ["/openai/v1/files", "/openai/v1/responses/resp_1", "/openai/threads/thread_1/runs/run_1"] {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(Client::new("team-a").limits(A_MINUTE_OF_100));
        assert!(ask(&stack, request).await.is_ok(), "{path}");
    }
    refusal(ask(&stack, chat(A_MINUTE_OF_100)).await);
}

#[tokio::test(start_paused = true)]
async fn another_limit_changes_nothing_of_what_was_spent() {
    let store = MemoryLimits::new();
    let (stack, _) = stack(&store, using(60, 30));
    served(&stack, A_MINUTE_OF_100).await;
    assert_eq!(tokens_left(&store).await, 10);
    let wider = A_MINUTE_OF_100.tokens_per_minute(200);
    assert_eq!(left(&store, wider).await.tokens.unwrap().count, 110);
    let tighter = A_MINUTE_OF_100.tokens_per_minute(50);
    assert_eq!(left(&store, tighter).await.tokens.unwrap().count, 0);
}

/// A store that is out of reach, in one way or the other.
#[derive(Debug)]
struct Gone {
    hangs: bool,
}

impl LimitStore for Gone {
    fn reserve(&self, _: &Arc<str>, _: Limits, _: Option<u64>) -> LimitFuture<'_, Decision> {
        let hangs = self.hangs;
        Box::pin(async move { if hangs { std::future::pending().await } else { Err("connection refused".into()) } })
    }

    fn settle(&self, _: &Arc<str>, _: Limits, _: Reservation, _: Option<u64>) -> LimitFuture<'_, Balance> {
        Box::pin(async { unreachable!("nothing was reserved") })
    }

    fn balance(&self, _: &Arc<str>, _: Limits) -> LimitFuture<'_, Balance> {
        Box::pin(async { unreachable!("nobody asks") })
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_a_store_that_is_out_of_reach() {
    for hangs in [false, true] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let backend = service_fn(move |_: Request<Body>| {
            counter.fetch_add(1, SeqCst);
            async { Ok::<_, BoxError>(json(200, "{}")) }
        });
        let layer = ClientLimitLayer::new(Gone { hangs });
        let start = Instant::now();
        let admitted =
            ServiceBuilder::new().layer(layer.clone()).service(backend.clone()).oneshot(chat(A_MINUTE_OF_100)).await;
        assert!(admitted.is_ok(), "it is admitted uncounted");
        let refused = layer.when_unavailable(Unavailable::Refuse);
        let refused = ServiceBuilder::new().layer(refused).service(backend).oneshot(chat(A_MINUTE_OF_100)).await;
        assert_eq!(Error::find(refused.unwrap_err().as_ref()).unwrap().kind(), ErrorKind::Overloaded);
        assert_eq!(asked.load(SeqCst), 1, "what is refused reaches nothing below");
        assert!(start.elapsed() <= 2 * Duration::from_millis(51), "{:?}", start.elapsed());
    }
}

#[test]
fn a_request_without_limits_is_not_slowed_by_allocations() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let backend = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
        let mut bare = backend;
        let mut limited = ServiceBuilder::new().layer(ClientLimitLayer::new(MemoryLimits::new())).service(backend);
        let requests = [chat(Limits::NONE), chat(Limits::NONE)];
        let [first, second] = requests;
        let count = async |service: &mut dyn FnMut(Request<Body>) -> _, request| {
            let mut future: std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>>>> =
                service(request);
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            allocation_counter::measure(|| assert!(future.as_mut().poll(&mut cx).is_ready())).count_total
        };
        let without = count(&mut |request| Box::pin(bare.call(request)), first).await;
        let with = count(&mut |request| Box::pin(limited.call(request)), second).await;
        assert_eq!(with, without);
    });
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(u64),
    Settle(usize, Option<u64>),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..400_u64).prop_map(Step::Reserve),
        4 => (any::<usize>(), prop::option::of(0..800_u64)).prop_map(|(which, used)| Step::Settle(which, used)),
        3 => (1..40_000_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is reserved, settled, given back or abandoned in any order: in any span, what is spent is at most the limit once, what
    /// flowed in meanwhile, one reservation, and what answers exceeded their reservations by; and whoever owes waits until it is repaid.
    #[test]
    fn no_span_sees_more_than_its_bound(steps in steps(), limit in 1..600_u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (store, limits, account) = (MemoryLimits::new(), Limits::new().tokens_per_minute(limit), Arc::from("a"));
            let start = Instant::now();
            // (when, net tokens, reserved, excess) of each request that was not given back
            let mut open: Vec<(Instant, u64, Reservation)> = Vec::new();
            let mut spent: Vec<(Instant, u64, u64, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Pass(ms) => advance(Duration::from_millis(ms)).await,
                    Step::Reserve(tokens) => match store.reserve(&account, limits, Some(tokens)).await.unwrap() {
                        Decision::Admitted { reservation, .. } => open.push((Instant::now(), tokens, reservation)),
                        Decision::Refused { wait, .. } => {
                            prop_assert!(!wait.is_zero());
                            advance(wait).await;
                            let again = store.reserve(&account, limits, Some(0)).await.unwrap();
                            let admitted = matches!(again, Decision::Admitted { .. });
                            prop_assert!(admitted, "whoever waits as long as it was told is admitted");
                        }
                        _ => unreachable!("a store admits or refuses"),
                    },
                    Step::Settle(which, used) => {
                        if open.is_empty() {
                            continue;
                        }
                        let (at, reserved, reservation) = open.swap_remove(which % open.len());
                        store.settle(&account, limits, reservation, used).await.unwrap();
                        if let Some(used) = used {
                            spent.push((at, used, reserved, used.saturating_sub(reserved)));
                        }
                    }
                }
            }
            // Abandoned requests keep what they reserved.
            spent.extend(open.into_iter().map(|(at, reserved, _)| (at, reserved, reserved, 0)));
            spent.sort_by_key(|(at, ..)| *at);
            for first in 0..spent.len() {
                let (from, mut sum, mut largest, mut excess) = (spent[first].0, 0, 0, 0);
                for (at, used, reserved, beyond) in &spent[first..] {
                    sum += used;
                    largest = largest.max(*reserved);
                    excess += beyond;
                    let flowed_in = (at.duration_since(from).as_secs_f64() * limit as f64 / 60.0).ceil() as u64;
                    prop_assert!(
                        sum <= limit + flowed_in + largest + excess,
                        "{sum} since {:?} for {:?}", from.duration_since(start), at.duration_since(from)
                    );
                }
            }
            Ok(())
        })?;
    }
}
