//! Streams from outside: what is held, what commits, what an error before content becomes, and what the stack makes of it.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::azure::{Outcome, Phase};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Attempt, AttemptFailed};
use tower_azure_openai::failover::{Condition, FailoverLayer};
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::stream_commit::StreamCommitLayer;

use support::{Fleet, Service, Stack, broken, bytes, chat, chunked, json, post, send, stalled, waits};

const RESPONSES: &str = "/openai/deployments/gpt-4o/responses?api-version=2025-04-01-preview";
const RUNS: &str = "/openai/threads/thread_1/runs?api-version=2024-10-21";

const FILTERED: &str = "data: {\"id\":\"\",\"choices\":[],\"prompt_filter_results\":[]}\n\n";
const ROLE: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const WORD: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Grüß Gott\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const THROTTLED: &str = "data: {\"error\":{\"code\":\"429\",\"message\":\"Please retry after 7 seconds.\"}}\n\n";
const FAILED: &str = "data: {\"error\":{\"code\":\"server_error\",\"message\":\"oops\"}}\n\n";
const FILTER_ERROR: &str = "data: {\"error\":{\"code\":\"content_filter\",\"message\":\"filtered\",\"param\":\"prompt\",\
    \"innererror\":{\"code\":\"ResponsibleAIPolicyViolation\"}}}\n\n";

const CREATED: &str =
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n";
const DELTA: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\"}\n\n";
const BARE: &str = "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":null}}\n\n";
const NESTED: &str = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"too_many_requests\",\
    \"code\":\"rate_limit_exceeded\",\"message\":\"Try again in 7 seconds.\",\"param\":null}}\n\n";
const FLAT: &str = "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\
    \"message\":\"Try again in 7 seconds.\",\"param\":null}\n\n";

fn sse(body: Body) -> Response<Body> {
    Response::builder().header("content-type", "text/event-stream; charset=utf-8").body(body).unwrap()
}

/// The layer alone around one answer.
async fn alone(
    layer: StreamCommitLayer,
    answer: Response<Body>,
    request: Request<Body>,
) -> Result<Response<Body>, BoxError> {
    let mut answer = Some(answer);
    let inner = service_fn(move |_: Request<Body>| std::future::ready(answer.take().ok_or("asked twice")));
    layer.layer(inner).oneshot(request).await
}

async fn of_chat(stream: &'static str) -> Response<Body> {
    alone(StreamCommitLayer::new(), sse(chunked([stream])), chat()).await.unwrap()
}

/// A stream that is fed by hand, and tells when it is let go and how often it was asked.
struct Fed {
    frames: UnboundedReceiver<Frame<Bytes>>,
    probe: Arc<Probe>,
}

#[derive(Default)]
struct Probe {
    dropped: AtomicBool,
    given: AtomicUsize,
}

impl Probe {
    fn is_dropped(&self) -> bool {
        self.dropped.load(SeqCst)
    }
}

struct Feeder(UnboundedSender<Frame<Bytes>>);

impl Feeder {
    fn feed(&self, text: impl Into<Bytes>) {
        let _ = self.0.send(Frame::data(text.into()));
    }
}

fn fed() -> (Feeder, Body, Arc<Probe>) {
    let (sender, frames) = unbounded_channel();
    let probe = Arc::new(Probe::default());
    (Feeder(sender), Body::new(Fed { frames, probe: probe.clone() }), probe)
}

impl HttpBody for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = std::task::ready!(self.frames.poll_recv(cx));
        self.probe.given.fetch_add(1, SeqCst);
        Poll::Ready(frame.map(Ok))
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        self.probe.dropped.store(true, SeqCst);
    }
}

mod commit {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn comes_with_the_first_content_and_before_the_second_event() {
        let (feeder, body, probe) = fed();
        let mut answer = task::spawn(alone(StreamCommitLayer::new(), sse(body), chat()));
        for preamble in [": ping\n\n", FILTERED, ROLE] {
            feeder.feed(preamble);
            assert_pending!(answer.poll(), "held after {preamble:?}");
        }
        let (first, rest) = WORD.split_at(WORD.len() - 1);
        feeder.feed(first);
        assert_pending!(answer.poll(), "an event is whole with its empty line");
        feeder.feed(rest);
        let answer = assert_ready_ok!(answer.poll());
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream; charset=utf-8");

        let mut body = answer.into_body();
        let given = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(given, [": ping\n\n", FILTERED, ROLE, WORD].concat(), "untouched");
        assert_eq!(probe.given.load(SeqCst), 5, "nothing was asked for beyond the content");
    }

    #[tokio::test(start_paused = true)]
    async fn leaves_every_frame_as_it_comes() {
        let (feeder, body, _) = fed();
        feeder.feed([FILTERED, WORD, "data: {\"cho"].concat());
        let mut body = alone(StreamCommitLayer::new(), sse(body), chat()).await.unwrap().into_body();
        let mut next = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(next().await, [FILTERED, WORD, "data: {\"cho"].concat());
        for part in [&b"ices\":[]}\n"[..], b"\n", b"\xf0\x9f", b"\x98\x80", b"event: error\ndata: {}\n\n"] {
            feeder.feed(part);
            assert_eq!(next().await, part);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reads_nothing_ahead_of_a_slow_client() {
        let (feeder, body, probe) = fed();
        feeder.feed(WORD);
        let answer = alone(StreamCommitLayer::new(), sse(body), chat()).await.unwrap();
        (0..100).for_each(|_| feeder.feed(WORD));
        advance(Duration::from_secs(3_600)).await;
        assert_eq!(probe.given.load(SeqCst), 1);
        let mut body = answer.into_body();
        for given in [1, 2, 3] {
            body.frame().await.unwrap().unwrap();
            assert_eq!(probe.given.load(SeqCst), given);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_trailers() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trailer", "here".parse().unwrap());
        for stream in [[FILTERED, ROLE], [FILTERED, WORD]] {
            let frames = stream.map(|text| Frame::data(Bytes::from(text))).into_iter();
            let frames = frames.chain([Frame::trailers(trailers.clone())]).map(Ok::<_, BoxError>);
            let body = Body::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())));
            let answer = alone(StreamCommitLayer::new(), sse(body), chat()).await.unwrap();
            let collected = answer.into_body().collect().await.unwrap();
            assert_eq!(collected.trailers(), Some(&trailers));
            assert_eq!(collected.to_bytes(), stream.concat());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn leaves_a_cut_to_the_client() {
        let body = broken([FILTERED, WORD], AttemptFailed::new(Outcome::Reset, "cut"));
        let answer = alone(StreamCommitLayer::new(), sse(body), chat()).await.unwrap();
        let error = answer.into_body().collect().await.unwrap_err();
        assert!(!error.downcast::<AttemptFailed>().unwrap().is_in_preamble());
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_without_content_passes() {
        for stream in ["", FILTERED, ": bye", "data: {\"choices\""] {
            let answer = of_chat(stream).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(bytes(answer).await, stream);
        }
    }
}

mod keep_alive {
    use super::*;

    const COMMENT: &str = ": keep-alive\n\n";
    const SECOND: Duration = Duration::from_secs(1);

    fn layer() -> StreamCommitLayer {
        StreamCommitLayer::new().keep_alive(SECOND * 15)
    }

    /// Polls until nothing more comes.
    fn rest(body: &mut Body) -> String {
        let mut text = String::new();
        while let Poll::Ready(Some(frame)) = task::spawn(body.frame()).poll() {
            text.push_str(str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
        text
    }

    #[tokio::test(start_paused = true)]
    async fn comes_between_two_events_and_never_inside_one() {
        let (feeder, body, _) = fed();
        feeder.feed([FILTERED, WORD].concat());
        let mut body = alone(layer(), sse(body), chat()).await.unwrap().into_body();
        assert_eq!(rest(&mut body), [FILTERED, WORD].concat());
        for _ in 0..3 {
            advance(SECOND * 14).await;
            assert_eq!(rest(&mut body), "");
            advance(SECOND).await;
            assert_eq!(rest(&mut body), COMMENT);
        }
        for (part, follows) in [("data: {}", ""), ("\n", ""), ("\r", COMMENT), ("\n", COMMENT), ("event: x\r\n", "")] {
            feeder.feed(part);
            assert_eq!(rest(&mut body), part);
            advance(SECOND * 15).await;
            assert_eq!(rest(&mut body), follows, "after {part:?}");
        }
        feeder.feed("\r\n");
        assert_eq!(rest(&mut body), "\r\n");
        drop(feeder);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn is_off_before_the_commit_by_default_and_where_a_length_is_told() {
        let (_feeder, body, _) = fed();
        let mut held = task::spawn(alone(layer(), sse(body), chat()));
        assert_pending!(held.poll());
        advance(SECOND * 20).await;
        assert_pending!(held.poll(), "a head that may become another is no comment's place");

        let measured = Response::builder().header("content-type", "text/event-stream").header("content-length", "999");
        let answers = [
            (layer(), measured.body(stalled([WORD])).unwrap()),
            (layer(), Response::new(stalled(["{"]))),
            (StreamCommitLayer::new(), sse(stalled([WORD]))),
            (layer().keep_alive(Duration::ZERO), sse(stalled([WORD]))),
        ];
        for (layer, answer) in answers {
            let mut body = alone(layer, answer, chat()).await.unwrap().into_body();
            rest(&mut body);
            advance(SECOND * 3_600).await;
            assert_eq!(rest(&mut body), "");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn is_sent_in_every_stream_of_events() {
        let speech = "/openai/deployments/gpt-4o/audio/speech";
        for (layer, uri) in [(layer(), speech), (layer().preamble_events(0), support::CHAT)] {
            let mut body = alone(layer, sse(stalled([FILTERED])), post(uri, "")).await.unwrap().into_body();
            assert_eq!(rest(&mut body), FILTERED);
            advance(SECOND * 15).await;
            assert_eq!(rest(&mut body), COMMENT);
        }
    }
}

mod passes_at_once {
    use super::*;

    async fn assert_not_held(answer: Response<Body>, request: Request<Body>, layer: StreamCommitLayer) {
        let what = format!("{answer:?} {request:?}");
        let mut passing = task::spawn(alone(layer, answer, request));
        let Poll::Ready(answer) = passing.poll() else { panic!("{what} is held") };
        drop(answer.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_stream() {
        let kind = |kind: &'static str| Response::builder().header("content-type", kind);
        for answer in [
            Response::builder(),
            kind("application/json"),
            kind("text/event-streams"),
            kind("text/event-stream").header("content-encoding", "gzip"),
            kind("text/event-stream").status(201),
            kind("text/event-stream").status(429),
        ] {
            assert_not_held(answer.body(stalled([FILTERED])).unwrap(), chat(), StreamCommitLayer::new()).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_other_calls_get() {
        for uri in
            ["/openai/deployments/whisper/audio/transcriptions", "/openai/files/file-1", "/healthz", "/openai//x"]
        {
            assert_not_held(sse(stalled([FILTERED])), post(uri, ""), StreamCommitLayer::new()).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_under_a_bound_of_zero() {
        let layer = StreamCommitLayer::new();
        for layer in
            [layer.clone().preamble_events(0), layer.clone().preamble_bytes(0), layer.preamble_time(Duration::ZERO)]
        {
            assert_not_held(sse(stalled([FILTERED])), chat(), layer).await;
        }
    }
}

mod bounds {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn in_events() {
        for chunks in [vec![": 1\n\n: 2\n\n: 3\n\n"], vec![": 1\n\n", ": 2\n", "\n: 3\n", "\n"]] {
            let held = StreamCommitLayer::new().preamble_events(4);
            assert_pending!(task::spawn(alone(held, sse(stalled(chunks.clone())), chat())).poll());
            let committed = StreamCommitLayer::new().preamble_events(3);
            assert_ready_ok!(task::spawn(alone(committed, sse(stalled(chunks)), chat())).poll());
        }
        let stream = [": ping\n\n".repeat(64), THROTTLED.to_owned()];
        let answer = alone(StreamCommitLayer::new(), sse(chunked([stream.concat()])), chat()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "the error comes too late");
        assert_eq!(bytes(answer).await, stream.concat());
        let stream = [": ping\n\n".repeat(63), THROTTLED.to_owned()];
        let answer = alone(StreamCommitLayer::new(), sse(chunked([stream.concat()])), chat()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    }

    #[tokio::test(start_paused = true)]
    async fn in_bytes() {
        let layer = StreamCommitLayer::new().preamble_bytes(FILTERED.len() + 10);
        let early = alone(layer.clone(), sse(stalled([FILTERED, ": 3456789"])), chat());
        assert_pending!(task::spawn(early).poll());
        let full = alone(layer, sse(stalled([FILTERED, ": 34567890"])), chat());
        assert_ready_ok!(task::spawn(full).poll());
    }

    #[tokio::test(start_paused = true)]
    async fn in_time() {
        let (feeder, body, _) = fed();
        let mut held = task::spawn(alone(StreamCommitLayer::new(), sse(body), chat()));
        feeder.feed(FILTERED);
        assert_pending!(held.poll());
        advance(Duration::from_millis(29_999)).await;
        feeder.feed(": ping\n\n");
        assert_pending!(held.poll());
        advance(Duration::from_millis(1)).await;
        assert!(held.is_woken());
        let answer = assert_ready_ok!(held.poll());
        feeder.feed(THROTTLED);
        drop(feeder);
        assert_eq!(
            bytes(answer).await,
            [FILTERED, ": ping\n\n", THROTTLED].concat(),
            "what comes then is the client's"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn let_a_longer_event_pass() {
        let long = format!("data: {{\"choices\":[],\"x\":\"{}\"}}\n\n", "é".repeat(256 << 10));
        for chunk in [1_000, 100_000, long.len()] {
            let chunks: Vec<_> = long.as_bytes().chunks(chunk).map(Bytes::copy_from_slice).collect();
            let answer = alone(StreamCommitLayer::new(), sse(chunked(chunks)), chat()).await.unwrap();
            assert_eq!(bytes(answer).await, long);
        }
    }
}

mod an_error_before_content {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn becomes_the_status_it_stands_for() {
        for (stream, status, code) in [
            (vec![FILTERED, ROLE, THROTTLED], 429, "429"),
            (vec![FILTERED, FAILED], 500, "server_error"),
            (vec![CREATED, NESTED], 429, "rate_limit_exceeded"),
            (vec![CREATED, FLAT], 429, "rate_limit_exceeded"),
            (vec![CREATED, BARE, NESTED], 429, "rate_limit_exceeded"),
            (vec![CREATED, BARE, ": ping\n\n", FLAT], 429, "rate_limit_exceeded"),
            (vec![CREATED, BARE], 500, "500"),
            (vec![CREATED, BARE, DONE], 500, "500"),
            (
                vec!["event: thread.run.created\ndata: {}\n\n", "event: error\ndata: {\"code\":\"server_error\"}\n\n"],
                500,
                "server_error",
            ),
            (vec!["event: error\ndata: no healthy upstream"], 503, "503"),
        ] {
            let answer = alone(StreamCommitLayer::new(), sse(chunked(stream.clone())), chat()).await.unwrap();
            assert_eq!(answer.status(), status, "{stream:?}");
            assert_eq!(answer.headers()["content-type"], "application/json");
            assert!(Attempt::of(&answer).is_in_preamble);
            let body = json(answer).await;
            assert_eq!(body["error"]["code"], code, "{stream:?}");
            assert!(body["error"]["message"].is_string() && body["error"]["type"].is_string());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_its_reason() {
        let (feeder, body, _) = fed();
        let mut answer = task::spawn(alone(StreamCommitLayer::new(), sse(body), post(RESPONSES, "{}")));
        feeder.feed([CREATED, BARE].concat());
        assert_pending!(answer.poll());
        feeder.feed(NESTED);
        assert_eq!(assert_ready_ok!(answer.poll()).status(), StatusCode::TOO_MANY_REQUESTS);
    }

    #[tokio::test(start_paused = true)]
    async fn of_the_content_filter_is_the_clients_fault() {
        let answer = of_chat(FILTER_ERROR).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let body = json(answer).await;
        assert_eq!(body["error"]["code"], "content_filter");
        assert_eq!(body["error"]["param"], "prompt");
        assert_eq!(body["error"]["innererror"]["code"], "ResponsibleAIPolicyViolation");
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_headers_that_still_make_sense() {
        let stream = Response::builder()
            .header("content-type", "text/event-stream")
            .header("content-length", "4711")
            .header("apim-request-id", "id")
            .header("x-ratelimit-remaining-tokens", "3");
        let answer = stream.body(chunked([THROTTLED])).unwrap();
        let answer = alone(StreamCommitLayer::new(), answer, chat()).await.unwrap();
        assert!(answer.headers().get("content-length").is_none());
        assert_eq!(answer.headers()["apim-request-id"], "id");
        assert_eq!(answer.headers()["x-ratelimit-remaining-tokens"], "3");
        assert_eq!(waits(&answer), (Some("7000"), None), "the message says how long");

        let mut named = sse(chunked([THROTTLED]));
        named.headers_mut().insert("retry-after", "20".parse().unwrap());
        let answer = alone(StreamCommitLayer::new(), named, chat()).await.unwrap();
        assert_eq!(waits(&answer), (None, Some("20")), "the head has said it");
    }

    #[tokio::test(start_paused = true)]
    async fn ends_the_upstream_request() {
        let (feeder, body, probe) = fed();
        feeder.feed([FILTERED, THROTTLED, "data: more"].concat());
        let answer = alone(StreamCommitLayer::new(), sse(body), chat()).await.unwrap();
        assert!(probe.is_dropped());
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    }
}

mod a_preamble_that_breaks_off {
    use super::*;

    async fn failure(error: impl Into<BoxError>) -> Box<AttemptFailed> {
        let answer = alone(StreamCommitLayer::new(), sse(broken([FILTERED], error)), chat()).await;
        answer.unwrap_err().downcast().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn is_a_failed_attempt() {
        let idle = Outcome::TimedOut(Phase::Idle);
        for (failed, outcome) in [
            (failure("cut").await, Outcome::Reset),
            (failure(AttemptFailed::new(idle, "late")).await, idle),
            (failure(AttemptFailed::new(Outcome::Abandoned, "upload")).await, Outcome::Abandoned),
        ] {
            assert_eq!(failed.outcome(), outcome);
            assert!(failed.is_in_preamble());
        }
    }
}

mod cancellation {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn before_the_head() {
        let alive = Arc::new(());
        let held = alive.clone();
        let inner = service_fn(move |_: Request<Body>| {
            let held = held.clone();
            async move {
                let _held = held;
                std::future::pending::<Result<Response<Body>, BoxError>>().await
            }
        });
        let service = StreamCommitLayer::new().layer(inner);
        let mut waiting = task::spawn(service.oneshot(chat()));
        assert_pending!(waiting.poll());
        drop(waiting);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn in_the_preamble() {
        let (feeder, body, probe) = fed();
        let mut held = task::spawn(alone(StreamCommitLayer::new(), sse(body), chat()));
        feeder.feed(FILTERED);
        assert_pending!(held.poll());
        drop(held);
        assert!(probe.is_dropped(), "the upstream request ends");
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_commit() {
        let (feeder, body, probe) = fed();
        feeder.feed(WORD);
        let answer = alone(StreamCommitLayer::new(), sse(body), chat()).await.unwrap();
        drop(answer);
        assert!(probe.is_dropped());
    }
}

#[tokio::test]
async fn keeps_the_readiness_contract() {
    support::assert_keeps_the_readiness_contract(&StreamCommitLayer::new(), chat).await;
}

/// What came of a stream: status, whether it was marked, bytes.
async fn seen(layer: &StreamCommitLayer, chunks: Vec<Bytes>) -> (StatusCode, bool, Bytes) {
    let answer = alone(layer.clone(), sse(chunked(chunks)), chat()).await.unwrap();
    (answer.status(), Attempt::of(&answer).is_in_preamble, bytes(answer).await)
}

proptest! {
    #[test]
    fn any_chopping_gives_the_same(
        picks in prop::collection::vec(0..12usize, 0..9),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
        events in 1..8usize,
        bytes in 1..600usize,
    ) {
        let kinds = [
            ": ping\r\n\r\n", FILTERED, ROLE, "\u{feff}", "\r\n", CREATED, BARE, NESTED, THROTTLED, WORD, DELTA, "data: ü",
        ];
        let stream: String = picks.iter().map(|pick| kinds[*pick]).collect();
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect();
        at.sort_unstable();
        let chopped = at.windows(2).map(|ends| Bytes::copy_from_slice(&stream.as_bytes()[ends[0]..ends[1]])).collect();
        let single = stream.bytes().map(|byte| Bytes::copy_from_slice(&[byte])).collect();
        let layer = StreamCommitLayer::new().preamble_events(events).preamble_bytes(bytes);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let whole = seen(&layer, vec![stream.clone().into()]).await;
            prop_assert_eq!(&seen(&layer, chopped).await, &whole);
            prop_assert_eq!(&seen(&layer, single).await, &whole);
            if whole.0 == StatusCode::OK {
                prop_assert_eq!(&whole.2, &stream);
            }
            Ok(())
        })?;
    }
}

mod in_the_stack {
    use super::*;

    /// Everything that a stream passes, around a fleet.
    fn stack(fleet: &Fleet, failover: FailoverLayer) -> Stack {
        let core = ServiceBuilder::new()
            .layer(failover)
            .layer(SelectBackendLayer::new(fleet.pool.clone()))
            .layer(StreamCommitLayer::new())
            .layer(ForwardLayer::new())
            .service(fleet.network());
        let outer = ServiceBuilder::new().layer(RespondLayer::new()).layer(InspectLayer::new());
        Stack::new(outer.service(Service::new(core)))
    }

    fn replies<const N: usize>(fleet: &Fleet, i: usize, stream: [&'static str; N]) {
        fleet.reply(i, move |_| Ok(sse(chunked(stream))));
    }

    fn reopens(fleet: &Fleet) -> Vec<Option<u64>> {
        fleet.pool.status().backends.iter().map(|backend| backend.deployments[0].reopens_in_ms).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_in_the_preamble_is_never_seen() {
        for (uri, refused, served) in [
            (support::CHAT, vec![FILTERED, THROTTLED], [FILTERED, WORD]),
            (RESPONSES, vec![CREATED, NESTED], [CREATED, DELTA]),
            (RESPONSES, vec![CREATED, FLAT], [CREATED, DELTA]),
            (RESPONSES, vec![CREATED, BARE, NESTED], [CREATED, DELTA]),
        ] {
            let fleet = Fleet::new(2);
            fleet.reply(0, move |_| Ok(sse(chunked(refused.clone()))));
            replies(&fleet, 1, served);
            let answer = send(&stack(&fleet, FailoverLayer::new()), post(uri, support::HELLO)).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(bytes(answer).await, served.concat(), "one clean stream");
            assert_eq!(fleet.counts(), [1, 1]);
            assert_eq!(fleet.circuits(), ["open", "closed"]);
            assert_eq!(reopens(&fleet), [Some(7_000), None], "for the hint");
            assert_eq!(fleet.in_flight(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rate_limits_in_all_preambles_are_a_real_429() {
        let fleet = Fleet::new(2);
        replies(&fleet, 0, [CREATED, NESTED]);
        fleet.reply(1, |_| {
            let mut answer = sse(chunked([FILTERED, THROTTLED]));
            answer.headers_mut().insert("retry-after-ms", "2500".parse().unwrap());
            Ok(answer)
        });
        let answer = send(&stack(&fleet, FailoverLayer::new()), chat()).await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(waits(&answer), (Some("2500"), Some("3")), "the soonest opening");
        assert_eq!(fleet.counts(), [1, 1]);
        assert_eq!(fleet.circuits(), ["open", "open"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_after_content_reaches_the_client_and_the_circuit() {
        for (stream, circuit) in [
            ([CREATED, DELTA, NESTED], "open"),
            ([CREATED, DELTA, FLAT], "open"),
            ([FILTERED, WORD, THROTTLED], "open"),
            ([FILTERED, WORD, FILTER_ERROR], "closed"),
        ] {
            let fleet = Fleet::new(2);
            replies(&fleet, 0, stream);
            let answer = send(&stack(&fleet, FailoverLayer::new()), chat()).await;
            assert_eq!(bytes(answer).await, stream.concat(), "unchanged");
            assert_eq!(fleet.counts(), [1, 0], "nothing is sent twice");
            assert_eq!(fleet.circuits()[0], circuit);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_after_content_teaches_although_the_client_leaves() {
        let fleet = Fleet::new(1);
        fleet.reply(0, |_| Ok(sse(stalled([FILTERED, WORD, THROTTLED, "data: more"]))));
        let mut body = send(&stack(&fleet, FailoverLayer::new()), chat()).await.into_body();
        for _ in 0..2 {
            body.frame().await.unwrap().unwrap();
        }
        drop(body);
        assert_eq!(reopens(&fleet), [Some(7_000)]);
        assert_eq!(fleet.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_and_cuts_after_content_count_as_failures() {
        let ends: [fn() -> Body; 3] = [
            || chunked([CREATED, DELTA, BARE]),
            || chunked([WORD, FAILED]),
            || broken([WORD], AttemptFailed::new(Outcome::Reset, "cut")),
        ];
        for end in ends {
            let fleet = Fleet::new(2);
            fleet.reply(0, move |_| Ok(sse(end())));
            let stack = stack(&fleet, FailoverLayer::new());
            for _ in 0..5 {
                let _ = send(&stack, chat()).await.into_body().collect().await;
            }
            assert_eq!(fleet.circuits(), ["open", "closed"]);
            assert_eq!(fleet.counts(), [5, 0]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_in_the_preamble_is_repeated_within_the_attempts() {
        let ends: [fn() -> Body; 3] = [
            || chunked([FILTERED, FAILED]),
            || broken([FILTERED], AttemptFailed::new(Outcome::Reset, "cut")),
            || broken([FILTERED], AttemptFailed::new(Outcome::TimedOut(Phase::Idle), "late")),
        ];
        for (end, last) in ends.into_iter().zip([500, 502, 504]) {
            let fleet = Fleet::new(2);
            fleet.reply(0, move |_| Ok(sse(end())));
            replies(&fleet, 1, [FILTERED, WORD]);
            let answer = send(&stack(&fleet, FailoverLayer::new()), chat()).await;
            assert_eq!(bytes(answer).await, [FILTERED, WORD].concat());

            for failover in [FailoverLayer::new().attempts(1), FailoverLayer::new().on([Condition::ServerError])] {
                let before = fleet.counts();
                assert_eq!(send(&stack(&fleet, failover), chat()).await.status(), last);
                assert_eq!(fleet.counts(), [before[0] + 1, before[1]], "not repeated");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_filtered_prompt_is_not_repeated() {
        let fleet = Fleet::new(2);
        replies(&fleet, 0, [FILTERED, FILTER_ERROR]);
        let answer = send(&stack(&fleet, FailoverLayer::new()), chat()).await;
        assert_eq!(support::error(answer).await, (400, "content_filter".to_owned()));
        assert_eq!(fleet.counts(), [1, 0]);
        assert_eq!(fleet.circuits()[0], "closed");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_preamble_may_have_created_is_not_repeated() {
        let created = "event: thread.run.created\ndata: {\"id\":\"run_1\"}\n\n";
        for (error, status) in [(NESTED, 429), ("event: error\ndata: {\"code\":\"server_error\"}\n\n", 500)] {
            let fleet = Fleet::new(2);
            replies(&fleet, 0, [created, error]);
            let answer = send(&stack(&fleet, FailoverLayer::new()), post(RUNS, "{}")).await;
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers()["x-should-retry"], "false", "nor by the client's library");
            assert_eq!(fleet.counts(), [1, 0]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_fails_is_an_answer() {
        let stream = [
            "event: thread.run.created\ndata: {\"id\":\"run_1\"}\n\n",
            "event: thread.run.failed\ndata: {\"last_error\":{\"code\":\"server_error\"}}\n\n",
        ];
        let fleet = Fleet::new(2);
        replies(&fleet, 0, stream);
        let answer = send(&stack(&fleet, FailoverLayer::new()), post(RUNS, "{}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(bytes(answer).await, stream.concat());
        assert_eq!(fleet.counts(), [1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_gives_its_place_back_with_the_first_content() {
        let fleet = Fleet::new(1);
        fleet.fail(0, Outcome::Unreachable);
        let stack = stack(&fleet, FailoverLayer::new());
        for _ in 0..5 {
            send(&stack, chat()).await;
        }
        assert_eq!(fleet.circuits(), ["open"]);
        let (feeder, body, _) = fed();
        let body = std::sync::Mutex::new(Some(body));
        fleet.reply(0, move |_| Ok(sse(body.lock().unwrap().take().unwrap_or_else(|| stalled([WORD])))));
        advance(Duration::from_secs(10)).await;
        let mut probe = task::spawn(send(&stack, chat()));
        feeder.feed(FILTERED);
        assert_pending!(probe.poll());
        assert_eq!(send(&stack, chat()).await.status(), StatusCode::SERVICE_UNAVAILABLE, "the place is taken");
        feeder.feed(WORD);
        let Poll::Ready(answer) = probe.poll() else { panic!("committed") };
        assert_eq!(send(&stack, chat()).await.status(), StatusCode::OK, "the place is free");
        drop(answer);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_in_a_preamble_holds_nothing() {
        let fleet = Fleet::new(2);
        replies(&fleet, 0, [FILTERED, THROTTLED]);
        let (feeder, body, probe) = fed();
        let body = std::sync::Mutex::new(Some(body));
        fleet.reply(1, move |_| Ok(sse(body.lock().unwrap().take().unwrap())));
        let stack = stack(&fleet, FailoverLayer::new());
        let mut waiting = task::spawn(send(&stack, chat()));
        feeder.feed(FILTERED);
        assert_pending!(waiting.poll());
        drop(waiting);
        assert!(probe.is_dropped());
        assert_eq!(fleet.in_flight(), 0);
        assert_eq!(fleet.circuits(), ["open", "closed"], "and teaches nothing");
    }
}
