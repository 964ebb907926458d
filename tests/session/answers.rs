//! What is taken from an answer as it passes, and what is not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::session::{MemoryStore, ObjectKey, Remembered, SessionStore, StoreFuture};

use super::estate::Estate;
use super::support::{Service, broken, chunked, stalled};

const CREATED: &str = "event: response.created\ndata: {\"response\":{\"id\":\"resp_1\"}}\n\n";
const DELTA: &str = "event: response.output_text.delta\ndata: {\"delta\":\"Hi\"}\n\n";

/// The layer over selection over a service that always gives this answer.
fn over<S: SessionStore + 'static>(
    store: S,
    headers: &'static [(&str, &str)],
    body: impl Fn() -> Body + Clone + Send + Sync + 'static,
) -> Service {
    let estate = Estate::new();
    let backend = service_fn(move |_: Request<Body>| {
        let mut answer = Response::new(body());
        for (name, value) in headers {
            answer.headers_mut().insert(*name, value.parse().unwrap());
        }
        std::future::ready(Ok::<_, BoxError>(answer))
    });
    let stack = ServiceBuilder::new()
        .layer(estate.layer().store(store))
        .layer(SelectBackendLayer::new(estate.pool))
        .layer(ForwardLayer::new());
    Service::new(stack.service(backend))
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json; charset=utf-8")];
const EVENTS: &[(&str, &str)] = &[("content-type", "text/event-stream")];

async fn respond(service: Service) -> Response<Body> {
    service.oneshot(Request::post("/openai/v1/responses").body(Body::from("{}")).unwrap()).await.unwrap()
}

async fn knows(store: &MemoryStore, id: &str) -> bool {
    store.look_up(ObjectKey::of(id)).await.unwrap().is_some()
}

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(100))
}

#[tokio::test(start_paused = true)]
async fn the_bytes_are_those_of_the_backend() {
    let json = r#"{"id":"resp_1", "output" : []}"#.to_owned();
    for (headers, text) in [(JSON, json), (EVENTS, format!("{CREATED}{DELTA}"))] {
        for size in [1, 5, 1_000] {
            let (store, whole) = (store(), text.clone());
            let body = move || chunked(whole.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect::<Vec<_>>());
            let answer = respond(over(store.clone(), headers, body)).await;
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), text);
            assert!(knows(&store, "resp_1").await, "in chunks of {size}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_length_stays_known() {
    let body = || Body::from(r#"{"id":"resp_1"}"#);
    let answer = respond(over(store(), JSON, body)).await;
    assert_eq!(http_body::Body::size_hint(answer.body()).exact(), Some(15));
}

#[tokio::test(start_paused = true)]
async fn the_front_of_a_large_answer_is_enough() {
    let store = store();
    let image = format!(r#"{{"id":"resp_1","output":[{{"result":"{}"}}]}}"#, "A".repeat(3 << 20));
    let size = image.len();
    let body = move || chunked(image.as_bytes().chunks(16 << 10).map(Bytes::copy_from_slice).collect::<Vec<_>>());
    let answer = respond(over(store.clone(), JSON, body)).await;
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), size);
    assert!(knows(&store, "resp_1").await);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_teaches_nothing() {
    let store = store();
    let answer = respond(over(store.clone(), JSON, || broken([r#"{"id":"resp_1","#], "cut"))).await;
    assert!(answer.into_body().collect().await.is_err());
    assert!(!knows(&store, "resp_1").await);
}

#[tokio::test(start_paused = true)]
async fn what_is_encoded_or_no_json_passes_unread() {
    let encoded: &[_] = &[("content-type", "application/json"), ("content-encoding", "gzip")];
    let text: &[_] = &[("content-type", "text/plain")];
    for headers in [encoded, text, &[]] {
        let store = store();
        let answer = respond(over(store.clone(), headers, || chunked([r#"{"id":"resp_1"}"#]))).await;
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), r#"{"id":"resp_1"}"#);
        assert!(store.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_known_from_its_first_event_and_may_be_left() {
    let store = store();
    let mut body = respond(over(store.clone(), EVENTS, || stalled([CREATED]))).await.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), CREATED);
    assert!(knows(&store, "resp_1").await, "before the client can come back with it");
    drop(body);
}

/// Writes take their time.
#[derive(Debug)]
struct Slow(Arc<MemoryStore>, Duration);

impl SessionStore for Slow {
    fn look_up(&self, key: ObjectKey) -> StoreFuture<'_, Option<Remembered>> {
        self.0.look_up(key)
    }

    fn remember(&self, key: ObjectKey, object: Remembered, lifetime: Duration) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move {
            tokio::time::sleep(self.1).await;
            self.0.remember(key, object, lifetime).await
        })
    }

    fn forget(&self, key: ObjectKey) -> StoreFuture<'_, ()> {
        self.0.forget(key)
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_frame_that_tells_an_id_waits_for_the_store() {
    let inner = store();
    let slow = Slow(inner.clone(), Duration::from_millis(40));
    let mut body = respond(over(slow, EVENTS, || chunked([DELTA, CREATED, DELTA]))).await.into_body();
    let mut waits = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        body.frame().await.unwrap().unwrap();
        waits.push(start.elapsed().as_millis());
    }
    assert!(waits[0] == 0 && (40..45).contains(&waits[1]) && waits[2] == 0, "{waits:?}");
    assert!(knows(&inner, "resp_1").await && body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_nothing_up_for_long() {
    let slow = Slow(store(), Duration::from_secs(3_600));
    let start = Instant::now();
    let answer = respond(over(slow, JSON, || chunked([r#"{"id":"resp_1","#, r#""output":[{"id":"rs_1"}]}"#]))).await;
    answer.into_body().collect().await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(1005));
}
