//! Streams that end as if they were complete, and are not: before content a failed attempt, after it a failure.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use proptest::sample::Index;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::azure::{Outcome, Phase};
use tower_azure_openai::body::Body;
use tower_azure_openai::circuit::CircuitBreakerLayer;
use tower_azure_openai::failover::{Condition, FailoverLayer};
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::CircuitConfig;
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::stream_commit::StreamCommitLayer;

use support::{CHAT, Fleet, HELLO, Service, Stack, bytes, chunked, post, send};

const COMPLETIONS: &str = "/openai/deployments/gpt-4o/completions?api-version=2024-10-21";
const RESPONSES: &str = "/openai/deployments/gpt-4o/responses?api-version=2025-04-01-preview";
const RUNS: &str = "/openai/threads/thread_1/runs?api-version=2024-10-21";
const SPEECH: &str = "/openai/deployments/gpt-4o/audio/speech?api-version=2025-04-01-preview";

const FILTERED: &str = "data: {\"id\":\"\",\"choices\":[],\"prompt_filter_results\":[]}\n\n";
const ROLE: &str =
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
const WORD: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Grüß Gott\"},\"finish_reason\":null}]}\n\n";
const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const SPACED_STOP: &str = "data: {\"choices\": [{\"delta\": {}, \"finish_reason\" : \"length\"}]}\r\n\r\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";
const TEXT: &str = "data: {\"choices\":[{\"text\":\"Hi\",\"finish_reason\":null}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const CREATED: &str =
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\"}}\n\n";
const DELTA: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\"}\n\n";
const COMPLETED: &str = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{}}\n\n";
const NAMELESS: &str = "data: {\"type\":\"response.incomplete\",\"response\":{}}\n\n";
const RUN_CREATED: &str = "event: thread.run.created\ndata: {\"id\":\"run_1\"}\n\n";
const MESSAGE: &str = "event: thread.message.delta\ndata: {\"delta\":{}}\n\n";
const RUN_DONE: &str = "event: done\ndata: [DONE]\n\n";

fn sse(body: Body) -> Response<Body> {
    Response::builder().header("content-type", "text/event-stream; charset=utf-8").body(body).unwrap()
}

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

fn failures(fleet: &Fleet) -> Vec<u64> {
    fleet.pool.status().backends.iter().map(|backend| backend.deployments[0].failures).collect()
}

fn streams(fleet: &Fleet, i: usize, stream: impl Into<String>) {
    let stream = stream.into();
    fleet.reply(i, move |_| Ok(sse(chunked([stream.clone()]))));
}

/// What nothing is delivered by.
const NOTHING: [(&str, &[&str]); 10] = [
    (CHAT, &[]),
    (CHAT, &[FILTERED]),
    (CHAT, &[FILTERED, ROLE]),
    (CHAT, &[DONE]),
    (CHAT, &[ROLE, ": bye\n\n", DONE]),
    (CHAT, &[FILTERED, "data: {\"choices\":[{\"delta\":{\"content\":\"ha"]),
    (COMPLETIONS, &[FILTERED, "data: [DONE]"]),
    (RESPONSES, &[]),
    (RESPONSES, &[CREATED]),
    (RESPONSES, &[CREATED, DONE]),
];

#[tokio::test(start_paused = true)]
async fn what_delivered_nothing_is_a_failed_attempt() {
    for (uri, parts) in NOTHING {
        let fleet = Fleet::new(2);
        streams(&fleet, 0, parts.concat());
        let good = if uri == RESPONSES { [CREATED, DELTA, COMPLETED].concat() } else { [WORD, STOP, DONE].concat() };
        streams(&fleet, 1, good.clone());
        let answer = send(&stack(&fleet, FailoverLayer::new()), post(uri, HELLO)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(bytes(answer).await, good, "{uri} {parts:?}");
        assert_eq!(fleet.counts(), [1, 1]);
        assert_eq!((failures(&fleet), fleet.in_flight()), (vec![1, 0], 0), "{uri} {parts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_nobody_does_better_the_last_is_relayed_as_it_came() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-trailer", "here".parse().unwrap());
    for (uri, parts) in NOTHING {
        let fleet = Fleet::new(2);
        streams(&fleet, 0, ": the first\n\n");
        let (stream, trailers_too) = (parts.concat(), trailers.clone());
        fleet.reply(1, move |_| {
            let data = (!stream.is_empty()).then(|| Frame::data(Bytes::from(stream.clone())));
            let frames = data.into_iter().chain([Frame::trailers(trailers_too.clone())]).map(Ok::<_, BoxError>);
            Ok(sse(Body::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())))))
        });
        let answer = send(&stack(&fleet, FailoverLayer::new()), post(uri, HELLO)).await;
        assert_eq!((answer.status(), fleet.in_flight()), (StatusCode::OK, 0));
        assert_eq!(answer.headers()["content-type"], "text/event-stream; charset=utf-8");
        let whole = answer.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers(), Some(&trailers));
        assert_eq!(whole.to_bytes(), parts.concat());
        assert_eq!((fleet.counts(), failures(&fleet)), (vec![1, 1], vec![1, 1]));
    }
}

#[tokio::test(start_paused = true)]
async fn any_real_answer_ranks_above_it() {
    let status = |status: u16| Response::builder().status(status).body(Body::from("real")).unwrap();
    for code in [429, 500, 503] {
        for nothing in [0, 1] {
            let fleet = Fleet::new(2);
            streams(&fleet, nothing, FILTERED);
            fleet.reply(1 - nothing, move |_| Ok(status(code)));
            let answer = send(&stack(&fleet, FailoverLayer::new()), post(CHAT, HELLO)).await;
            assert_eq!(answer.status(), code, "{nothing}");
            assert_eq!(bytes(answer).await, "real");
        }
    }
    for silent in [Outcome::TimedOut(Phase::FirstByte), Outcome::Reset, Outcome::Unreachable] {
        let fleet = Fleet::new(2);
        streams(&fleet, 0, FILTERED);
        fleet.fail(1, silent);
        let answer = send(&stack(&fleet, FailoverLayer::new()), post(CHAT, HELLO)).await;
        assert_eq!((answer.status(), bytes(answer).await), (StatusCode::OK, FILTERED.into()), "no answer is none");
    }
}

#[tokio::test(start_paused = true)]
async fn it_costs_attempts_and_can_be_switched_off() {
    for failover in [FailoverLayer::new().attempts(1), FailoverLayer::new().on([Condition::ServerError])] {
        let fleet = Fleet::new(2);
        streams(&fleet, 0, DONE);
        let answer = send(&stack(&fleet, failover), post(CHAT, HELLO)).await;
        assert_eq!((answer.status(), bytes(answer).await), (StatusCode::OK, DONE.into()));
        assert_eq!((fleet.counts(), failures(&fleet)), (vec![1, 0], vec![1, 0]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_announced_is_not_started_twice() {
    for parts in [&[][..], &[RUN_CREATED], &[RUN_CREATED, RUN_DONE]] {
        let fleet = Fleet::new(2);
        streams(&fleet, 0, parts.concat());
        let answer = send(&stack(&fleet, FailoverLayer::new()), post(RUNS, "{}")).await;
        assert_eq!((answer.status(), bytes(answer).await), (StatusCode::OK, parts.concat().into()));
        assert_eq!(fleet.counts(), [1, 0]);
        assert!(is_a_failure(RUNS, parts.concat()).await, "{parts:?}");
    }
}

/// Whether a circuit that opens at the first failure is open afterwards. Runs belong to no deployment that could be asked.
async fn is_a_failure(uri: &str, stream: String) -> bool {
    is_a_failure_of(|| post(uri, "{}"), stream).await
}

async fn is_a_failure_of(request: impl Fn() -> Request<Body>, stream: String) -> bool {
    let mut config = CircuitConfig::default();
    config.consecutive_failures = 1;
    let streams =
        service_fn(move |_: Request<Body>| std::future::ready(Ok::<_, BoxError>(sse(chunked([stream.clone()])))));
    let stack = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new("alone", config))
        .layer(StreamCommitLayer::new())
        .service(streams);
    stack.clone().oneshot(request()).await.unwrap().into_body().collect().await.unwrap();
    stack.oneshot(request()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn after_content_an_end_without_a_closing_event_is_relayed_and_counts() {
    let quoted =
        "data: {\"choices\":[{\"delta\":{\"content\":\"data: [DONE] \\\"finish_reason\\\":\\\"stop\\\"\"}}]}\n\n";
    let named = "event: response.output_text.delta\ndata: {\"delta\":\"response.completed\"}\n\n";
    let empty = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"\"}]}\n\n";
    for (uri, parts) in [
        (CHAT, &[FILTERED, WORD][..]),
        (CHAT, &[WORD, USAGE]),
        (CHAT, &[WORD, quoted]),
        (CHAT, &[WORD, empty]),
        (CHAT, &[WORD, "data: {\"choices\":[{\"delta\":{\"content\":\"ha"]),
        (COMPLETIONS, &[TEXT]),
        (RESPONSES, &[CREATED, DELTA]),
        (RESPONSES, &[CREATED, DELTA, named]),
    ] {
        let fleet = Fleet::new(2);
        streams(&fleet, 0, parts.concat());
        let answer = send(&stack(&fleet, FailoverLayer::new()), post(uri, HELLO)).await;
        assert_eq!((answer.status(), bytes(answer).await), (StatusCode::OK, parts.concat().into()));
        assert_eq!((fleet.counts(), failures(&fleet)), (vec![1, 0], vec![1, 0]), "{uri} {parts:?}");
    }
    assert!(is_a_failure(RUNS, [RUN_CREATED, MESSAGE].concat()).await);
}

#[tokio::test(start_paused = true)]
async fn what_has_its_closing_event_is_a_success() {
    let long = format!("event: response.completed\ndata: {{\"response\":\"{}\"}}\n\n", "x".repeat(100_000));
    let run = |state: &str| format!("event: thread.run.{state}\ndata: {{\"id\":\"run_1\"}}\n\n");
    let response = |state: &str| format!("event: response.{state}\ndata: {{\"type\":\"response.{state}\"}}\n\n");
    for (uri, stream) in [
        (CHAT, [WORD, STOP].concat()),
        (CHAT, [ROLE, STOP].concat()),
        (CHAT, [WORD, SPACED_STOP, USAGE].concat()),
        (CHAT, [WORD, DONE].concat()),
        (CHAT, [WORD, "data:[DONE]"].concat()),
        (CHAT, STOP.trim_end().to_owned()),
        (COMPLETIONS, [TEXT, DONE].concat()),
        (RESPONSES, COMPLETED.to_owned()),
        (RESPONSES, [CREATED, DELTA, NAMELESS].concat()),
        (RESPONSES, [CREATED, DELTA, &long].concat()),
        (RESPONSES, [CREATED, DELTA, &response("cancelled")].concat()),
        (RUNS, [RUN_CREATED, MESSAGE, RUN_DONE].concat()),
        (RUNS, [RUN_CREATED, MESSAGE, &run("completed")].concat()),
        (RUNS, [RUN_CREATED, MESSAGE, &run("requires_action")].concat()),
        (RUNS, [RUN_CREATED, MESSAGE, &run("expired")].concat()),
        (SPEECH, "event: speech.audio.delta\ndata: {}\n\n".to_owned()),
        (SPEECH, String::new()),
    ] {
        let fleet = Fleet::new(2);
        streams(&fleet, 0, stream.clone());
        let answer = send(&stack(&fleet, FailoverLayer::new()), post(uri, HELLO)).await;
        assert_eq!((answer.status(), bytes(answer).await), (StatusCode::OK, stream.clone().into()));
        assert_eq!((fleet.counts(), failures(&fleet)), (vec![1, 0], vec![0, 0]), "{uri} {stream:.300}");
        assert!(!is_a_failure(uri, stream).await, "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_again_may_have_nothing_left_to_tell() {
    let again = || {
        let uri = "/openai/v1/responses/resp_1?stream=true&starting_after=9";
        Request::get(uri).body(Body::empty()).unwrap()
    };
    for stream in ["", ": bye\n\n", DELTA] {
        let fleet = Fleet::new(1);
        streams(&fleet, 0, stream);
        let answer = send(&stack(&fleet, FailoverLayer::new()), again()).await;
        assert_eq!((answer.status(), bytes(answer).await), (StatusCode::OK, stream.into()));
        assert!(!is_a_failure_of(again, stream.to_owned()).await, "{stream:?}");
    }
}

/// What the client gets, who was asked, and what counted.
async fn seen(uri: &str, chunks: Vec<Bytes>) -> (StatusCode, Bytes, Vec<usize>, Vec<u64>) {
    let fleet = Fleet::new(2);
    fleet.reply(0, move |_| Ok(sse(chunked(chunks.clone()))));
    streams(&fleet, 1, [WORD, STOP].concat());
    let answer = send(&stack(&fleet, FailoverLayer::new()), post(uri, HELLO)).await;
    (answer.status(), bytes(answer).await, fleet.counts(), failures(&fleet))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_chopping_comes_to_the_same(
        uri in 0..3usize,
        picks in prop::collection::vec(0..14usize, 0..7),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let kinds = [
            FILTERED, ROLE, WORD, STOP, SPACED_STOP, USAGE, DONE, CREATED, DELTA, COMPLETED, NAMELESS, ": ping\r\n\r\n",
            "data: {\"ch", "\r\n",
        ];
        let closing = [3, 4, 6, 9, 10];
        let content = [2, 3, 4, 5, 8, 9, 10, 12];
        let uri = [CHAT, COMPLETIONS, RESPONSES][uri];
        let stream: String = picks.iter().map(|pick| kinds[*pick]).collect();
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect();
        at.sort_unstable();
        let chopped = at.windows(2).map(|ends| Bytes::copy_from_slice(&stream.as_bytes()[ends[0]..ends[1]])).collect();
        let single = stream.bytes().map(|byte| Bytes::copy_from_slice(&[byte])).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let whole = seen(uri, vec![stream.clone().into()]).await;
            prop_assert_eq!(&seen(uri, chopped).await, &whole);
            prop_assert_eq!(&seen(uri, single).await, &whole);
            // An event that swallows the next one makes this another question.
            if !picks.contains(&12) {
                let (has_content, has_end) =
                    (picks.iter().any(|pick| content.contains(pick)), picks.iter().any(|pick| closing.contains(pick)));
                prop_assert_eq!(whole.2, if has_content { [1, 0] } else { [1, 1] });
                prop_assert_eq!(whole.3[0], u64::from(!has_content || !has_end));
            }
            Ok(())
        })?;
    }
}
