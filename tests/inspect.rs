//! `InspectLayer` from outside.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, Route};
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::{Error, ErrorKind};
use tower_test::mock::{self, Mock};

const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions";

type Sent = Result<Frame<Bytes>, BoxError>;

/// An upload that the test sends frame by frame.
struct Wire {
    frames: mpsc::UnboundedReceiver<Sent>,
    length: Option<u64>,
}

impl Wire {
    fn open(length: Option<u64>) -> (Sender, Self) {
        let (send, frames) = mpsc::unbounded_channel();
        (Sender(send), Self { frames, length })
    }
}

impl HttpBody for Wire {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Sent>> {
        let sent = self.frames.poll_recv(cx);
        if let (Poll::Ready(Some(Ok(frame))), Some(left)) = (&sent, &mut self.length) {
            *left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        sent
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

struct Sender(mpsc::UnboundedSender<Sent>);

impl Sender {
    fn data(&self, bytes: impl Into<Bytes>) {
        let _ = self.0.send(Ok(Frame::data(bytes.into())));
    }

    fn break_off(&self) {
        let _ = self.0.send(Err("connection reset".into()));
    }

    fn is_dropped(&self) -> bool {
        self.0.is_closed()
    }
}

/// What the service below was given.
#[derive(Clone, Default)]
struct Backend(Arc<Mutex<VecDeque<Request<Body>>>>);

impl Backend {
    fn take(&self) -> Option<Request<Body>> {
        self.0.lock().expect("no panic inside").pop_front()
    }
}

impl Service<Request<Body>> for Backend {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.lock().expect("no panic inside").push_back(request);
        std::future::ready(Ok(Response::new(Body::empty())))
    }
}

fn post<B>(body: B) -> Request<B> {
    Request::post(CHAT).header(CONTENT_TYPE, "application/json").body(body).expect("a request")
}

fn kind(error: &BoxError) -> ErrorKind {
    Error::find(error.as_ref()).expect("a cause of the crate").kind()
}

async fn pass<B>(layer: &InspectLayer, request: Request<B>) -> Result<Request<Body>, ErrorKind>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let backend = Backend::default();
    match layer.layer(backend.clone()).oneshot(request).await {
        Ok(_) => Ok(backend.take().expect("one request")),
        Err(error) => {
            assert!(backend.take().is_none(), "nothing is sent");
            Err(kind(&error))
        }
    }
}

async fn read(body: Body) -> Result<Bytes, ErrorKind> {
    body.collect().await.map(|whole| whole.to_bytes()).map_err(|error| kind(&error))
}

fn route(request: &Request<Body>) -> &Route {
    request.extensions().get().expect("a route")
}

fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i % 251) as u8).collect()
}

// ===== what arrives =====

#[tokio::test]
async fn bodies_arrive_byte_identical_and_can_be_sent_again() {
    let layer = InspectLayer::new();
    for length in [0, 1, 2 << 20] {
        for chunk in [1_000, 70_000, 4 << 20] {
            for known in [Some(length as u64), None] {
                let sent = pattern(length);
                let (send, wire) = Wire::open(known);
                sent.chunks(chunk).for_each(|chunk| send.data(Bytes::copy_from_slice(chunk)));
                drop(send);
                let body = pass(&layer, post(wire)).await.unwrap().into_body();
                let again = body.try_clone().expect("collected");
                assert_eq!(layer.replay_memory_in_use(), length);
                assert_eq!(read(body).await.unwrap(), sent);
                assert_eq!(layer.replay_memory_in_use(), length, "still held for a repeat");
                assert_eq!(read(again).await.unwrap(), sent);
                assert_eq!(layer.replay_memory_in_use(), 0, "given back with the last clone");
            }
        }
    }
}

#[tokio::test]
async fn a_body_of_one_frame_is_not_copied() {
    let sent = Bytes::from(vec![b'x'; 500]);
    let body = pass(&InspectLayer::new(), post(Full::new(sent.clone()))).await.unwrap().into_body();
    assert_eq!(body.as_bytes().unwrap().as_ptr(), sent.as_ptr());
}

#[tokio::test]
async fn trailers_of_a_collected_body_are_dropped() {
    let (send, wire) = Wire::open(None);
    send.data("{}");
    send.0.send(Ok(Frame::trailers(HeaderMap::new()))).unwrap();
    drop(send);
    let body = pass(&InspectLayer::new(), post(wire)).await.unwrap().into_body();
    assert_eq!(body.as_bytes().unwrap(), "{}");
}

#[tokio::test]
async fn the_route_is_inserted_and_one_that_is_there_is_kept() {
    let request = pass(&InspectLayer::new(), post(Full::from("{}"))).await.unwrap();
    assert_eq!((route(&request).alias(), route(&request).is_streaming()), (Some("gpt-4o"), false));

    let mut embedded = Request::post("/mine").header(CONTENT_TYPE, "application/json");
    let theirs = Route::parse(&Method::POST, &CHAT.parse().unwrap()).unwrap();
    embedded.extensions_mut().unwrap().insert(theirs);
    let request = embedded.body(Full::from(r#"{"stream":true}"#)).unwrap();
    let request = pass(&InspectLayer::new(), request).await.unwrap();
    assert_eq!((route(&request).alias(), route(&request).is_streaming()), (Some("gpt-4o"), true));
}

#[tokio::test]
async fn a_path_that_cannot_be_served_is_refused_before_the_body() {
    for (path, expected) in [("/elsewhere", ErrorKind::PathNotFound), ("/openai//files", ErrorKind::AmbiguousRequest)] {
        let (send, wire) = Wire::open(None);
        let refused = pass(&InspectLayer::new(), Request::post(path).body(wire).unwrap()).await;
        assert_eq!(refused.unwrap_err(), expected);
        assert!(send.is_dropped());
    }
}

#[tokio::test]
async fn streaming_is_read_from_the_top_level_only() {
    let layer = InspectLayer::new();
    let json = "application/json";
    for (path, content_type, body, expected) in [
        (CHAT, json, r#"{"stream":true}"#, true),
        (CHAT, "Application/JSON; charset=utf-8", r#"{"messages":[{"a":[1,{"b":"\"}"}]}],"stream" : true }"#, true),
        (CHAT, json, r#"{"\u0073tream":true}"#, true),
        (CHAT, json, r#"{"stream":false}"#, false),
        (CHAT, json, r#"{"stream":null}"#, false),
        (CHAT, json, r#"{"stream":"true"}"#, false),
        (CHAT, json, r#"{"x":{"stream":true}}"#, false),
        (CHAT, json, r#"{"x":"\"stream\":true"}"#, false),
        (CHAT, json, r#"{"stream":true"#, false),
        (CHAT, json, "", false),
        (CHAT, json, "nonsense", false),
        (CHAT, "text/plain", r#"{"stream":true}"#, false),
        ("/openai/threads/thread_1/runs", json, r#"{"stream":true}"#, true),
        ("/openai/responses", json, r#"{"stream":true,"model":"m"}"#, true),
        ("/openai/v1/chat/completions", json, r#"{"stream":true,"model":"m"}"#, true),
        ("/openai/deployments/e/embeddings", json, r#"{"stream":true}"#, false),
        ("/openai/deployments/w/audio/transcriptions", "multipart/form-data", r#"{"stream":true}"#, false),
    ] {
        let request = Request::post(path).header(CONTENT_TYPE, content_type).body(Full::from(body)).unwrap();
        let request = pass(&layer, request).await.unwrap();
        assert_eq!(route(&request).is_streaming(), expected, "{path} {body}");
        assert_eq!(request.body().as_bytes().unwrap(), body, "unchanged");
    }
}

// ===== bounds =====

#[tokio::test]
async fn a_body_above_the_limit_is_refused_at_once_when_its_length_is_known() {
    let layer = InspectLayer::new().request_body(10);
    let (send, wire) = Wire::open(Some(11));
    assert_eq!(pass(&layer, post(wire)).await.unwrap_err(), ErrorKind::RequestTooLarge);
    assert!(send.is_dropped());

    let (_send, wire) = Wire::open(None);
    let mut request = post(wire);
    request.headers_mut().insert(CONTENT_LENGTH, "11".parse().unwrap());
    assert_eq!(pass(&layer, request).await.unwrap_err(), ErrorKind::RequestTooLarge);

    assert!(pass(&layer, post(Full::from("0123456789"))).await.is_ok(), "the limit itself is allowed");
}

#[tokio::test]
async fn a_body_that_grows_above_the_limit_is_refused_while_collected_and_cut_while_streamed() {
    let layer = InspectLayer::new().request_body(10);
    let (send, wire) = Wire::open(None);
    send.data("0123456789");
    send.data("a");
    assert_eq!(pass(&layer, post(wire)).await.unwrap_err(), ErrorKind::RequestTooLarge);
    assert_eq!(layer.replay_memory_in_use(), 0);

    let layer = layer.replay_limit(5);
    let (send, wire) = Wire::open(None);
    send.data("012345");
    send.data("6789");
    send.data("a");
    let mut body = pass(&layer, post(wire)).await.unwrap().into_body();
    let mut seen = Vec::new();
    let error = loop {
        match body.frame().await.expect("an error comes first") {
            Ok(frame) => seen.extend_from_slice(frame.data_ref().unwrap()),
            Err(error) => break error,
        }
    };
    assert_eq!(kind(&error), ErrorKind::RequestTooLarge);
    assert_eq!(seen, b"0123456789");
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_is_refused_when_its_time_is_over() {
    let layer = InspectLayer::new().request_timeout(Duration::from_secs(7));
    let started = tokio::time::Instant::now();
    let (send, wire) = Wire::open(Some(100));
    let dribble = async {
        loop {
            send.data("x");
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    let refused = tokio::select! {
        refused = pass(&layer, post(wire)) => refused,
        never = dribble => never,
    };
    assert_eq!(refused.unwrap_err(), ErrorKind::RequestTimeout, "a byte now and then does not help");
    assert_eq!(started.elapsed(), Duration::from_secs(7));
    assert_eq!(layer.replay_memory_in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_streamed_upload_counts_from_its_head() {
    let layer = InspectLayer::new().replay_limit(3).request_timeout(Duration::from_secs(7));
    let started = tokio::time::Instant::now();
    let (send, wire) = Wire::open(None);
    send.data("ab");
    let first = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        send.data("cd");
    };
    let (request, ()) = tokio::join!(pass(&layer, post(wire)), first);
    assert_eq!(read(request.unwrap().into_body()).await.unwrap_err(), ErrorKind::RequestTimeout);
    assert_eq!(started.elapsed(), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_limit_beyond_all_time_is_none() {
    let layer = InspectLayer::new().request_timeout(Duration::MAX);
    let (send, wire) = Wire::open(None);
    let late = async {
        tokio::time::sleep(Duration::from_secs(1_000_000)).await;
        send.data("x");
        drop(send);
    };
    let (request, ()) = tokio::join!(pass(&layer, post(wire)), late);
    assert!(request.is_ok());
}

#[tokio::test]
async fn a_client_that_breaks_off_fails_its_upload() {
    let layer = InspectLayer::new();
    let (send, wire) = Wire::open(Some(10));
    send.data("abc");
    send.break_off();
    let backend = Backend::default();
    let error = layer.layer(backend.clone()).oneshot(post(wire)).await.unwrap_err();
    let cause = Error::find(error.as_ref()).unwrap();
    assert_eq!(cause.kind(), ErrorKind::UploadFailed);
    assert_eq!(std::error::Error::source(cause).unwrap().to_string(), "connection reset");
    assert!(backend.take().is_none());

    let (send, wire) = Wire::open(None);
    send.data("abcd");
    send.break_off();
    let body = pass(&layer.clone().replay_limit(3), post(wire)).await.unwrap().into_body();
    assert_eq!(read(body).await.unwrap_err(), ErrorKind::UploadFailed);
    assert_eq!(layer.replay_memory_in_use(), 0);
}

// ===== memory =====

#[tokio::test]
async fn a_body_above_the_replay_limit_streams_what_was_read_and_then_the_rest() {
    let layer = InspectLayer::new().replay_limit(100_000);
    let sent = pattern(300_000);
    for known in [Some(300_000), None] {
        let (send, wire) = Wire::open(known);
        sent.chunks(30_000).for_each(|chunk| send.data(Bytes::copy_from_slice(chunk)));
        drop(send);
        let request = pass(&layer, post(wire)).await.unwrap();
        assert!(request.body().try_clone().is_none(), "a stream");
        assert_eq!(layer.replay_memory_in_use(), 90_000, "what is searched for names");
        assert_eq!(request.body().size_hint().exact(), known);
        assert_eq!(read(request.into_body()).await.unwrap(), sent);
        assert_eq!(layer.replay_memory_in_use(), 0);
    }
}

#[tokio::test]
async fn the_prefix_is_paid_for_until_it_was_handed_on() {
    let layer = InspectLayer::new().replay_limit(5);
    let (send, wire) = Wire::open(None);
    send.data("abcd");
    send.data("efgh");
    let mut body = pass(&layer, post(wire)).await.unwrap().into_body();
    assert_eq!(layer.replay_memory_in_use(), 4);
    let prefix = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!((&prefix[..], layer.replay_memory_in_use()), (b"abcd".as_slice(), 4));
    drop(prefix);
    assert_eq!(layer.replay_memory_in_use(), 0);
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "efgh");
}

#[tokio::test]
async fn while_the_account_is_spent_large_bodies_stream_and_small_ones_are_collected() {
    let layer = InspectLayer::new().replay_memory(2 << 20);
    let clone = layer.clone();
    let held = pass(&clone, post(Full::new(pattern(900_000)))).await.unwrap();
    assert_eq!(layer.replay_memory_in_use(), 900_000, "one account for all clones");

    for known in [true, false] {
        for (length, collected) in [(64 << 10, true), ((64 << 10) + 1, false)] {
            let (send, wire) = Wire::open(known.then_some(length as u64));
            pattern(length).chunks(10_000).for_each(|chunk| send.data(Bytes::copy_from_slice(chunk)));
            drop(send);
            let body = pass(&layer, post(wire)).await.unwrap().into_body();
            assert_eq!(body.try_clone().is_some(), collected, "{length} known: {known}");
            assert_eq!(read(body).await.unwrap(), pattern(length));
        }
    }
    drop(held);
    assert_eq!(layer.replay_memory_in_use(), 0);
    let body = pass(&layer, post(Full::new(pattern(900_000)))).await.unwrap().into_body();
    assert!(body.try_clone().is_some(), "there is room again");
}

#[tokio::test]
async fn what_is_announced_is_charged_to_nobody() {
    let layer = InspectLayer::new().replay_memory(10 << 20);
    let mut service = layer.layer(Backend::default());
    let mut uploads = Vec::new();
    for _ in 0..200 {
        let (send, wire) = Wire::open(Some(2 << 20));
        let mut answer = task::spawn(service.call(post(wire)));
        if answer.poll().is_pending() {
            send.data(vec![1; 1_000]);
            assert_pending!(answer.poll());
        }
        tokio::task::yield_now().await;
        uploads.push((send, answer));
    }
    assert_eq!(layer.replay_memory_in_use(), 200 * 1_000, "what has arrived");
    for (send, answer) in &mut uploads {
        send.data(vec![1; 100_000]);
        let _ = answer.poll();
        tokio::task::yield_now().await;
        assert!(layer.replay_memory_in_use() <= (10 << 20) / 2);
    }
    assert!(layer.replay_memory_in_use() > 4 << 20, "{}", layer.replay_memory_in_use());
    assert!(pass(&layer, post(Full::from("{}"))).await.unwrap().body().try_clone().is_some());
    drop(uploads);
    drop(service);
    assert_eq!(layer.replay_memory_in_use(), 0);
}

#[tokio::test]
async fn one_client_leaves_half_to_the_others() {
    let layer = InspectLayer::new().replay_memory(4 << 20);
    let of = |client: Option<&str>, length| {
        let mut request = post(Full::new(pattern(length)));
        if let Some(id) = client {
            request.extensions_mut().insert(Client::new(id));
        }
        pass(&layer, request)
    };
    let collected = |request: &Request<Body>| request.body().try_clone().is_some();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(of(Some("greedy"), 600_000).await.unwrap());
    }
    assert!(held.iter().all(collected));
    assert!(!collected(&of(Some("greedy"), 600_000).await.unwrap()), "above its half");
    assert!(collected(&of(Some("greedy"), 100).await.unwrap()), "a small one still fits");
    for other in [Some("modest"), None] {
        assert!(collected(&of(other, 600_000).await.unwrap()), "{other:?}");
    }
    drop(held);
    assert!(collected(&of(Some("greedy"), 600_000).await.unwrap()));
}

#[tokio::test]
async fn a_slow_first_frame_does_not_keep_its_read_buffer() {
    let read_buffer = Bytes::from(vec![b' '; 400_000]);
    let (send, wire) = Wire::open(Some(20));
    let mut service = InspectLayer::new().layer(Backend::default());
    let mut answer = task::spawn(service.call(post(wire)));
    send.data(read_buffer.slice(..10));
    assert_pending!(answer.poll());
    assert!(read_buffer.is_unique());
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize, usize),
    Finish(usize),
    Break(usize),
    Poll(usize),
    Drop(usize),
    Read,
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_usize, 0..50_000_usize).prop_map(|(which, length)| Step::Send(which, length)),
        2 => (0..6_usize).prop_map(Step::Finish),
        1 => (0..6_usize).prop_map(Step::Break),
        4 => (0..6_usize).prop_map(Step::Poll),
        1 => (0..6_usize).prop_map(Step::Drop),
        2 => Just(Step::Read),
        1 => Just(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_account_returns_to_zero_after_any_interleaving(steps in proptest::collection::vec(step(), 0..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let layer = InspectLayer::new().replay_memory(250_000).replay_limit(90_000).request_body(200_000);
        let backend = Backend::default();
        let mut service = layer.layer(backend.clone());
        let mut open: Vec<_> = (0..6_u64).map(|i| {
            let (send, wire) = Wire::open((i % 2 == 0).then_some(40_000 * i));
            (Some(send), Some(task::spawn(service.call(post(wire)))))
        }).collect();
        for step in steps {
            match step {
                Step::Send(which, length) => if let Some(send) = &open[which].0 { send.data(vec![0; length]) },
                Step::Finish(which) => open[which].0 = None,
                Step::Break(which) => if let Some(send) = &open[which].0 { send.break_off() },
                Step::Poll(which) => if open[which].1.as_mut().is_some_and(|answer| answer.poll().is_ready()) {
                    open[which].1 = None;
                },
                Step::Drop(which) => open[which].1 = None,
                Step::Read => if let Some(mut request) = backend.take() {
                    let _ = task::spawn(request.body_mut().frame()).poll();
                },
                Step::Forget => drop(backend.take()),
            }
            prop_assert!(layer.replay_memory_in_use() <= 250_000);
        }
        drop(open);
        while backend.take().is_some() {}
        prop_assert_eq!(layer.replay_memory_in_use(), 0);
    }
}

// ===== contract =====

#[tokio::test]
async fn calls_the_service_that_was_ready() {
    let layer = InspectLayer::new();
    let (mut service, mut handle) = mock::spawn_layer::<Request<Body>, Response<Body>, _>(layer);
    let ready = |service: &mut mock::Spawn<_>| service.poll_ready::<Request<Full<Bytes>>>();
    handle.allow(0);
    assert_pending!(ready(&mut service));
    handle.allow(1);
    assert_ready_ok!(ready(&mut service));

    let (send, wire) = Wire::open(Some(2));
    let mut answer = task::spawn(service.call(post(wire)));
    assert_pending!(answer.poll());
    assert_pending!(handle.poll_request(), "not before the body is there");
    send.data("{}");
    drop(send);
    assert_pending!(answer.poll());
    let (request, respond) = assert_ready!(handle.poll_request()).unwrap();
    assert_eq!(request.body().as_bytes().unwrap(), "{}");
    assert_pending!(ready(&mut service), "what is left is not ready");
    respond.send_error("down");
    assert_eq!(assert_ready_err!(answer.poll()).to_string(), "down");
}

#[tokio::test]
async fn a_service_that_cannot_become_ready_says_why() {
    let (mut service, mut handle) = mock::spawn_layer::<Request<Body>, Response<Body>, _>(InspectLayer::new());
    handle.send_error("gone");
    let error = assert_ready_err!(service.poll_ready::<Request<Full<Bytes>>>());
    assert_eq!(error.to_string(), "gone");
}

#[tokio::test]
async fn dropping_the_future_drops_the_upload_and_gives_everything_back() {
    let layer = InspectLayer::new();
    let (mock, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    handle.allow(2);
    let mut service: tower_azure_openai::inspect::Inspect<Mock<_, _>> = layer.layer(mock);

    let (send, wire) = Wire::open(Some(1_000));
    ready(&mut service).await;
    let mut answer = task::spawn(service.call(post(wire)));
    send.data("abc");
    assert_pending!(answer.poll());
    assert_eq!(layer.replay_memory_in_use(), 3);
    drop(answer);
    assert!(send.is_dropped());
    assert_eq!(layer.replay_memory_in_use(), 0, "while it was collected");

    ready(&mut service).await;
    let mut answer = task::spawn(service.call(post(Full::from("{}"))));
    assert_pending!(answer.poll());
    let request = handle.next_request().await.unwrap();
    assert_eq!(layer.replay_memory_in_use(), 2);
    drop(answer);
    drop(request);
    assert_eq!(layer.replay_memory_in_use(), 0, "while it was answered");
}

async fn ready(service: &mut tower_azure_openai::inspect::Inspect<Mock<Request<Body>, Response<Body>>>) {
    let ready = ServiceExt::<Request<Full<Bytes>>>::ready(service).await;
    assert!(ready.is_ok());
}

#[tokio::test]
async fn a_streamed_body_that_is_dropped_early_drops_the_upload() {
    let layer = InspectLayer::new().replay_limit(3);
    let (send, wire) = Wire::open(None);
    send.data("abc");
    send.data("def");
    let request = pass(&layer, post(wire)).await.unwrap();
    assert!(!send.is_dropped());
    drop(request);
    assert!(send.is_dropped());
    assert_eq!(layer.replay_memory_in_use(), 0);
}

#[tokio::test]
async fn debug_shows_no_content() {
    let (send, wire) = Wire::open(None);
    let layer = InspectLayer::new();
    let mut service = layer.layer(tower::service_fn(never));
    let mut answer = task::spawn(service.call(post(wire)));
    send.data("a secret prompt");
    assert_pending!(answer.poll());
    assert!(!format!("{answer:?} {layer:?}").contains("secret"));
}

async fn never(_: Request<Body>) -> Result<Response<Body>, BoxError> {
    std::future::pending().await
}

#[test]
fn is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    fn future<T: Send>(_: &T) {}
    check::<InspectLayer>();
    check::<tower_azure_openai::inspect::Inspect<Backend>>();
    future(&InspectLayer::new().layer(Backend::default()).call(post(Full::from(""))));
}

// ===== large bodies that name their model =====

const RESPONSES: &str = "/openai/v1/responses";
const IMAGES: &str = "/openai/v1/images/edits";
const FORM: &str = "multipart/form-data; charset=utf-8; boundary=\"BB\"";

fn large_json(padding: usize, is_last: bool) -> String {
    let padding = "x".repeat(padding);
    if is_last {
        format!(r#"{{"input":"{padding}","model":"m"}}"#)
    } else {
        format!(r#"{{"model":"m","input":"{padding}"}}"#)
    }
}

fn large_form(padding: usize, is_last: bool) -> String {
    let part =
        |name: &str, value: &str| format!("--BB\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let mut parts = [part("model", "m"), part("image", &"x".repeat(padding))];
    if is_last {
        parts.reverse();
    }
    format!("{}--BB--\r\n", parts.concat())
}

/// Sends a body in frames of 10,000 bytes.
fn in_frames(path: &str, content_type: &str, body: &str, known: bool) -> (Sender, Request<Wire>) {
    let (send, wire) = Wire::open(known.then_some(body.len() as u64));
    body.as_bytes().chunks(10_000).for_each(|chunk| send.data(Bytes::copy_from_slice(chunk)));
    (send, Request::post(path).header(CONTENT_TYPE, content_type).body(wire).expect("a request"))
}

#[tokio::test]
async fn a_large_body_that_names_its_model_is_served_wherever_the_name_stands() {
    let layer = InspectLayer::new().replay_limit(50_000).replay_memory(1 << 20);
    for known in [true, false] {
        for is_last in [true, false] {
            for (path, content_type, body, sent_as) in [
                (RESPONSES, "text/plain", large_json(200_000, is_last), "application/json"),
                (IMAGES, FORM, large_form(200_000, is_last), "multipart/form-data; boundary=BB"),
            ] {
                let (send, request) = in_frames(path, content_type, &body, known);
                drop(send);
                let request = pass(&layer, request).await.unwrap();
                assert_eq!(route(&request).alias(), Some("m"), "{path} {is_last}");
                assert_eq!(request.headers()[CONTENT_TYPE], sent_as);
                assert!(request.body().try_clone().is_none(), "streamed once");
                let held = layer.replay_memory_in_use();
                assert!(if is_last { held > 200_000 } else { held <= 50_000 }, "{path} {is_last}: {held}");
                assert_eq!(read(request.into_body()).await.unwrap(), body);
                assert_eq!(layer.replay_memory_in_use(), 0);
            }
        }
    }
}

#[tokio::test]
async fn a_name_that_stands_behind_the_share_of_a_client_is_refused_and_one_that_finds_no_room_now_waits() {
    let layer = InspectLayer::new().replay_limit(50_000).replay_memory(1 << 20);
    for (path, content_type, body) in
        [(RESPONSES, "application/json", large_json(700_000, true)), (IMAGES, FORM, large_form(700_000, true))]
    {
        let (_send, request) = in_frames(path, content_type, &body, true);
        let error = layer.layer(Backend::default()).oneshot(request).await.unwrap_err();
        let error = Error::find(error.as_ref()).unwrap();
        assert_eq!(error.kind(), ErrorKind::RequestTooLarge);
        assert!(error.message().contains("first 458752 bytes"), "{}", error.message());
        assert_eq!(layer.replay_memory_in_use(), 0);
    }

    let layer = layer.replay_limit(1 << 20).replay_memory(1 << 20);
    let held = pass(&layer, post(Full::new(pattern(400_000)))).await.unwrap();
    let body = large_json(200_000, true);
    let (_send, request) = in_frames(RESPONSES, "application/json", &body, true);
    let error = layer.layer(Backend::default()).oneshot(request).await.unwrap_err();
    let error = Error::find(error.as_ref()).unwrap();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Overloaded, Some(Duration::from_secs(1))));
    let body = large_json(200_000, false);
    let (send, request) = in_frames(RESPONSES, "application/json", &body, true);
    drop(send);
    let request = pass(&layer, request).await.unwrap();
    assert_eq!((route(&request).alias(), request.body().try_clone().is_none()), (Some("m"), true), "named first");
    assert_eq!(read(request.into_body()).await.unwrap(), body);
    drop(held);
}

#[tokio::test]
async fn the_rest_of_a_large_body_cannot_take_back_what_its_beginning_said() {
    let layer = InspectLayer::new().replay_limit(50_000);
    for end in [r#","model":"other"}"#, r#","Model":"other"}"#, r#","\u006dodel":"other"}"#, "}{"] {
        let body = format!("{}{end}", large_json(200_000, false).trim_end_matches('}'));
        let (send, request) = in_frames(RESPONSES, "application/json", &body, false);
        drop(send);
        let request = pass(&layer, request).await.unwrap();
        assert_eq!(route(&request).alias(), Some("m"));
        assert_eq!(read(request.into_body()).await.unwrap_err(), ErrorKind::UploadFailed, "{end}");
    }
    let twice = large_form(200_000, false)
        .replace("--BB--", "--BB\r\nContent-Disposition: form-data; name=model\r\n\r\no\r\n--BB--");
    let (send, request) = in_frames(IMAGES, FORM, &twice, false);
    drop(send);
    let request = pass(&layer, request).await.unwrap();
    assert_eq!(read(request.into_body()).await.unwrap_err(), ErrorKind::UploadFailed);
}

#[tokio::test]
async fn a_large_body_under_a_deployment_in_the_path_is_sent_on_whether_it_names_a_model_or_not() {
    let layer = InspectLayer::new().replay_limit(50_000).replay_memory(200_000);
    let path = "/openai/deployments/d/responses";
    for (body, expected) in [
        (large_json(300_000, false), None),
        (format!(r#"{{"input":"{}"}}"#, "x".repeat(300_000)), None),
        (large_json(300_000, true), Some(ErrorKind::RequestTooLarge)),
    ] {
        let (send, request) = in_frames(path, "application/json", &body, true);
        drop(send);
        let request = pass(&layer, request).await.unwrap();
        assert_eq!(route(&request).alias(), Some("d"));
        assert_eq!(read(request.into_body()).await.err(), expected);
    }
}

#[tokio::test]
async fn a_kind_of_body_that_can_be_read_in_two_ways_is_refused() {
    for lines in [
        &["multipart/form-data; boundary=a; boundary=b"][..],
        &["multipart/form-data; boundary=a; boundary*=utf-8''b"],
        &["multipart/mixed; boundary*0=a; boundary*1=b"],
        &["multipart/form-data; boundary=a; x=\"; boundary=b"],
        &["application/json", "multipart/form-data; boundary=a"],
        &["application/json", "application/json"],
    ] {
        for path in [IMAGES, "/openai/v1/files", CHAT] {
            let request = lines.iter().fold(Request::post(path), |request, line| request.header(CONTENT_TYPE, *line));
            let refused = pass(&InspectLayer::new(), request.body(Full::from("--a--")).unwrap()).await;
            assert_eq!(refused.unwrap_err(), ErrorKind::AmbiguousRequest, "{path} {lines:?}");
        }
    }
}

// ===== encodings =====

mod encodings {
    use async_compression::tokio::write::{GzipEncoder, ZlibEncoder, ZstdEncoder};
    use http::header::CONTENT_ENCODING;
    use tokio::io::{AsyncWrite, AsyncWriteExt};

    use super::*;

    async fn finished<E: AsyncWrite + Unpin>(mut encoder: E, body: &[u8], into: impl FnOnce(E) -> Vec<u8>) -> Vec<u8> {
        encoder.write_all(body).await.expect("memory takes all");
        encoder.shutdown().await.expect("memory takes all");
        into(encoder)
    }

    async fn encoded(coding: &str, body: &[u8]) -> Vec<u8> {
        match coding {
            "gzip" | "x-gzip" => finished(GzipEncoder::new(Vec::new()), body, GzipEncoder::into_inner).await,
            "deflate" => finished(ZlibEncoder::new(Vec::new()), body, ZlibEncoder::into_inner).await,
            _ => finished(ZstdEncoder::new(Vec::new()), body, ZstdEncoder::into_inner).await,
        }
    }

    fn request(path: &str, coding: &str, body: &[u8], piece: usize) -> Request<Wire> {
        let (send, wire) = Wire::open(Some(body.len() as u64));
        body.chunks(piece).for_each(|chunk| send.data(Bytes::copy_from_slice(chunk)));
        let request = Request::post(path).header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, body.len());
        request.header(CONTENT_ENCODING, coding).body(wire).expect("a request")
    }

    #[tokio::test]
    async fn what_comes_encoded_is_read_and_sent_on_decoded() {
        let layer = InspectLayer::new().replay_memory(64 << 20);
        let body = large_json(300_000, true);
        for coding in ["gzip", "x-gzip", "deflate", "zstd", "GZIP", "identity, gzip"] {
            let whole =
                encoded(coding.trim_start_matches("identity, ").to_ascii_lowercase().as_str(), body.as_bytes()).await;
            for path in [RESPONSES, CHAT] {
                let request = pass(&layer, request(path, coding, &whole, 100)).await.unwrap();
                let headers = request.headers();
                assert!(!headers.contains_key(CONTENT_ENCODING) && !headers.contains_key(CONTENT_LENGTH), "{coding}");
                assert_eq!(request.body().as_bytes().unwrap(), body.as_bytes());
                assert_eq!(layer.replay_memory_in_use(), body.len(), "decoding is paid for while it lasts");
            }
            let small = layer.clone().replay_limit(50_000);
            let request = pass(&small, request(RESPONSES, coding, &whole, 100)).await.unwrap();
            assert_eq!(route(&request).alias(), Some("m"));
            assert_eq!(read(request.into_body()).await.unwrap(), body);
        }
        assert_eq!(layer.replay_memory_in_use(), 0);
    }

    #[tokio::test]
    async fn a_bomb_is_too_large_and_what_is_broken_is_invalid() {
        let layer = InspectLayer::new().request_body(1 << 20).replay_memory(64 << 20);
        for coding in ["gzip", "deflate", "zstd"] {
            let bomb = encoded(coding, &vec![b' '; 20 << 20]).await;
            assert!(bomb.len() < 100_000);
            for path in [RESPONSES, CHAT] {
                let refused = pass(&layer, request(path, coding, &bomb, 1_000)).await.unwrap_err();
                assert_eq!(refused, ErrorKind::RequestTooLarge, "{coding}");
                let refused = pass(&layer, request(path, coding, b"{\"model\":\"m\"}", 1_000)).await.unwrap_err();
                assert_eq!(refused, ErrorKind::UploadFailed, "{coding}");
            }
            let cut = encoded(coding, large_json(9_000, false).as_bytes()).await;
            let refused = pass(&layer, request(RESPONSES, coding, &cut[..cut.len() / 2], 10)).await.unwrap_err();
            assert_eq!(refused, ErrorKind::UploadFailed, "{coding}");
        }
        for other in ["br", "compress", "gzip, gzip", "gzip;q=1", "x"] {
            let refused = pass(&layer, request(CHAT, other, b"{}", 10)).await.unwrap_err();
            assert_eq!(refused, ErrorKind::UnsupportedEncoding, "{other}");
        }
        assert_eq!(layer.replay_memory_in_use(), 0);
    }

    #[tokio::test]
    async fn one_client_cannot_have_more_decoded_at_once_than_its_share() {
        let layer = InspectLayer::new().replay_memory(64 << 20);
        let mut service = layer.layer(Backend::default());
        let mut open = Vec::new();
        for number in 0..10 {
            let (send, wire) = Wire::open(None);
            let slow = Request::post(CHAT).header(CONTENT_ENCODING, "zstd").body(wire).unwrap();
            let mut answer = task::spawn(service.call(slow));
            match answer.poll() {
                Poll::Pending => assert!(number < 3),
                Poll::Ready(answer) => assert_eq!(kind(&answer.unwrap_err()), ErrorKind::Overloaded, "{number}"),
            }
            open.push((send, answer));
        }
        drop(open);
        assert_eq!(layer.replay_memory_in_use(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_body_in_any_pieces_comes_out_as_it_was(
            opening in proptest::option::of(Just(b'{')),
            body in proptest::collection::vec(any::<u8>(), 1..5_000),
            repeated in 1_usize..40,
            piece in 1_usize..5_000,
            coding in proptest::sample::select(vec!["gzip", "deflate", "zstd"]),
        ) {
            let body = [opening.into_iter().collect(), body].concat().repeat(repeated);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let read = runtime.block_on(async {
                let whole = encoded(coding, &body).await;
                pass(&InspectLayer::new(), request(CHAT, coding, &whole, piece)).await.unwrap().into_body()
            });
            prop_assert_eq!(read.as_bytes().unwrap(), &body);
        }
    }
}
