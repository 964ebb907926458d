//! A Redis that answers late, or not at all.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, Limits};
use tower_azure_openai::directory::{ObjectKey, Remembered};
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::limit::{ClientLimitLayer, Decision, LimitStore};
use tower_azure_openai::meter::{CountOnce, MeterUsageLayer};
use tower_azure_openai::pool::{Backend, Credential, Deployment, Pool};
use tower_azure_openai::session::{MemoryStore, SessionStore, StickySessionLayer};
use tower_azure_openai::shared::{Login, OnFailure, Shared};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};

use crate::redis::{Redis, Slow};
use crate::until;

/// What no request waits longer for.
const LONGEST: Duration = Duration::from_millis(50);

/// How late it answers; one that is just not late, too.
const DELAYS: [Option<Duration>; 4] =
    [Some(Duration::from_millis(7)), Some(Duration::from_millis(200)), Some(Duration::from_secs(5)), None];

async fn replica(slow: &Slow) -> Shared {
    let shared = Shared::new(slow.url().parse().unwrap(), Login::Nobody).unwrap();
    until("it is there", || shared.is_up()).await;
    shared
}

/// Runs something by a clock that stands still while anybody works, and jumps while all wait; how long all of it waited.
async fn waited<T>(run: impl Future<Output = T>) -> (T, Duration) {
    tokio::time::pause();
    let begun = Instant::now();
    let done = run.await;
    let waited = begun.elapsed();
    tokio::time::resume();
    (done, waited)
}

#[tokio::test]
async fn all_that_one_request_asks_is_waited_for_once() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (account, limits) = (Arc::<str>::from("team"), Limits::new().requests_per_minute(1_000));
    let keys: Vec<_> = (0..300).map(|i| ObjectKey::of(&format!("resp_{i}"))).collect();
    for delay in DELAYS {
        let slow = Slow::before(&redis).await;
        let shared = replica(&slow).await;
        let (store, once) = (shared.limits(OnFailure::Local), shared.count_once());
        let ids = shared.ids(MemoryStore::new(1_000));
        slow.answers_after(delay);
        let request = async {
            let decision = store.reserve(&account, limits, Some(5)).await.unwrap();
            let Decision::Admitted { reservation, .. } = decision else { panic!("{decision:?}") };
            assert_eq!(ids.look_up_all(keys.clone()).await.unwrap().len(), keys.len());
            let minute = Duration::from_secs(60);
            let objects = keys.iter().map(|key| (*key, Remembered::on("east"), minute)).collect();
            ids.remember_all(objects).await.unwrap();
            assert!(once.is_first(ObjectKey::of("run_1")).await);
            store.settle(&account, limits, reservation, Some(7)).await.unwrap();
        };
        let ((), waited) = waited(request).await;
        assert!(waited <= LONGEST, "{waited:?} for one that answers after {delay:?}");
        assert!(ids.look_up(keys[299]).await.unwrap().is_some(), "this replica remembers all the same");
    }
}

/// Everything of the usual stack whose state is shared, in front of backends that answer at once, and how often they were asked.
fn stack(shared: &Shared) -> (Gateway, Arc<AtomicUsize>) {
    let backend = |name: &str| {
        let credential = Credential::api_key("fedcba9876543210fedcba9876543210").unwrap();
        let deployment = Deployment::new("gpt-4o");
        Backend::new(name, format!("https://{name}.openai.azure.com")).credential(credential).add_deployment(deployment)
    };
    let pool = Pool::builder().add_backend(backend("east")).add_backend(backend("west")).build().unwrap();
    let limits = Limits::new().requests_per_minute(1_000).tokens_per_minute(1_000_000);
    let clients = ClientRegistry::builder().add_key(Client::new("team").limits(limits), KEY).build().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let backends = service_fn(move |request: Request<Body>| {
        counter.fetch_add(1, Relaxed);
        let id = request.uri().path().rsplit('/').next().filter(|last| last.starts_with("resp_")).unwrap_or("resp_new");
        let answer = format!(
            r#"{{"id":"{id}","object":"response","background":true,"status":"completed","output":[{{"type":"reasoning","id":"rs_1","encrypted_content":"gAAAA-new"}}],"usage":{{"input_tokens":9,"output_tokens":3}}}}"#
        );
        async move {
            let answer = Response::builder().header("content-type", "application/json").body(Body::from(answer));
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    let session = StickySessionLayer::new(pool.clone()).store(shared.ids(MemoryStore::new(1_000)));
    let gateway = gateway::builder(pool, TerminateCredentialsLayer::new(clients))
        .limits(ClientLimitLayer::new(shared.limits(OnFailure::Local)))
        .meter(MeterUsageLayer::new().count_once(shared.count_once()).on_usage(|_| {}))
        .session(session)
        .build(backends);
    (gateway, asked)
}

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A turn of a conversation whose reasoning nobody here has seen.
fn turn() -> Request<Full<Bytes>> {
    let reasoning: Vec<_> =
        (0..40).map(|i| format!(r#"{{"type":"reasoning","id":"rs_{i}","encrypted_content":"gAAAA-{i}"}}"#)).collect();
    let body =
        format!(r#"{{"model":"gpt-4o","previous_response_id":"resp_before","input":[{}]}}"#, reasoning.join(","));
    let request = Request::post("/openai/v1/responses").header("host", "gateway.example").header("api-key", KEY);
    request.header("content-type", "application/json").body(Full::from(body)).unwrap()
}

#[tokio::test]
async fn no_request_waits_long_for_a_redis_that_is_slow() {
    let Some(redis) = Redis::start(&[]) else { return };
    for delay in DELAYS {
        let slow = Slow::before(&redis).await;
        let shared = replica(&slow).await;
        let (gateway, asked) = stack(&shared);
        slow.answers_after(delay);
        let exchange = async {
            let answer = gateway.oneshot(turn()).await.unwrap();
            let status = answer.status();
            (status, answer.into_body().collect().await.unwrap().to_bytes())
        };
        let ((status, body), waited) = waited(exchange).await;
        assert_eq!(status, 200, "{body:?}");
        assert!(waited <= LONGEST, "{waited:?} for one that answers after {delay:?}");
        assert!(asked.load(Relaxed) <= 3, "the request, and at most a search at each backend");
    }
}

#[tokio::test]
async fn a_slow_redis_multiplies_no_limit() {
    let Some(redis) = Redis::start(&[]) else { return };
    let slow = [Slow::before(&redis).await, Slow::before(&redis).await];
    let replicas = [replica(&slow[0]).await, replica(&slow[1]).await];
    until("both know of each other", || replicas.iter().all(|replica| replica.replicas() == 2)).await;
    let (account, limits) = (Arc::<str>::from("team"), Limits::new().requests_per_minute(8));
    let stores = replicas.each_ref().map(|replica| replica.limits(OnFailure::Local));
    slow.iter().for_each(|slow| slow.answers_after(Some(Duration::from_millis(200))));
    let crowd = async {
        let mut admitted = [0, 0];
        for i in 0..40 {
            let decision = stores[i % 2].reserve(&account, limits, None).await.unwrap();
            admitted[i % 2] += u32::from(matches!(decision, Decision::Admitted { .. }));
        }
        admitted
    };
    let (admitted, _) = waited(crowd).await;
    assert!(
        admitted.iter().all(|admitted| (1..=5).contains(admitted)),
        "four for each, and what flows in: {admitted:?}"
    );
    for replica in &replicas {
        let why = replica.problem().unwrap();
        assert!(why.contains("1/2 of each limit"), "{why}");
    }
}
