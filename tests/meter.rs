//! Metering from outside: what is counted, when, for whom, and that no byte changes.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, Route, Spending, UsageSource};
use tower_azure_openai::gateway;
use tower_azure_openai::limit::{ClientLimitLayer, MemoryLimits};
use tower_azure_openai::meter::{MeterUsageLayer, Metered, SilentStreams};
use tower_azure_openai::pool::{Backend, Deployment, Pool};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};

const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
const TOLD: UsageSource = UsageSource::Reported;
const ESTIMATED: UsageSource = UsageSource::Estimated;

type Counted = (u64, u64, UsageSource);

/// A meter, and what it counted.
fn meter() -> (MeterUsageLayer, Arc<Mutex<Vec<Counted>>>) {
    let counted = Arc::new(Mutex::new(Vec::new()));
    let list = counted.clone();
    let meter = MeterUsageLayer::new().on_usage(move |metered: &Metered<'_>| {
        list.lock().unwrap().push((metered.usage.input, metered.usage.output, metered.source));
    });
    (meter, counted)
}

fn request(method: Method, path: &str, body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    if let Ok(route) = Route::parse(request.method(), request.uri()) {
        request.extensions_mut().insert(route.with_streaming(body.contains("\"stream\":true")));
    }
    request
}

fn answer(status: u16, kind: &str, chunks: Vec<Bytes>) -> Response<Body> {
    let frames = stream::iter(chunks.into_iter().map(|chunk| Ok::<_, BoxError>(Frame::data(chunk))));
    let answer = Response::builder().status(status).header("content-type", kind);
    answer.body(Body::new(StreamBody::new(frames))).unwrap()
}

/// Sends through the meter and reads up to so many frames of the answer.
async fn send(meter: &MeterUsageLayer, request: Request<Body>, answer: Response<Body>, frames: usize) -> Vec<u8> {
    let answer = Mutex::new(Some(answer));
    let backend = service_fn(move |_: Request<Body>| {
        let answer = answer.lock().unwrap().take().unwrap();
        async move { Ok::<_, BoxError>(answer) }
    });
    let mut body = meter.layer(backend).oneshot(request).await.unwrap().into_body();
    let mut read = Vec::new();
    for _ in 0..frames {
        match body.frame().await {
            Some(frame) => read.extend_from_slice(frame.unwrap().data_ref().unwrap()),
            None => break,
        }
    }
    read
}

fn chopped(text: &str, cuts: &[usize]) -> Vec<Bytes> {
    let (mut chunks, mut start) = (Vec::new(), 0);
    for cut in cuts.iter().copied().chain([text.len()]) {
        if cut > start && cut <= text.len() {
            chunks.push(Bytes::copy_from_slice(&text.as_bytes()[start..cut]));
            start = cut;
        }
    }
    chunks
}

async fn counts(method: Method, path: &str, body: &str, kind: &str, text: &str) -> Vec<Counted> {
    let (meter, counted) = meter();
    let read = send(&meter, request(method, path, body), answer(200, kind, chopped(text, &[])), usize::MAX).await;
    assert_eq!(read, text.as_bytes(), "not a byte changes");
    counted.lock().unwrap().clone()
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

#[tokio::test]
async fn every_family_counts_once_for_a_call_that_makes_its_answer() {
    let openai = r#"{"usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
    let newer = r#"{"id":"resp_1","object":"response","usage":{"input_tokens":5,"output_tokens":2}}"#;
    for (path, text) in [
        (CHAT, openai),
        ("/openai/v1/chat/completions", openai),
        ("/openai/deployments/d/completions?api-version=2024-10-21", openai),
        ("/openai/deployments/d/embeddings?api-version=2024-10-21", openai),
        ("/openai/v1/responses", newer),
        ("/openai/deployments/d/images/generations?api-version=2025-04-01-preview", newer),
        ("/openai/deployments/d/audio/transcriptions?api-version=2024-10-21", newer),
        (
            "/openai/threads/thread_1/runs?api-version=2024-10-21",
            r#"{"id":"run_1","object":"thread.run","usage":{"prompt_tokens":5,"completion_tokens":2}}"#,
        ),
        ("/anthropic/v1/messages", newer),
        ("/models/chat/completions?api-version=2024-05-01-preview", openai),
    ] {
        assert_eq!(counts(Method::POST, path, "{}", JSON, text).await, [(5, 2, TOLD)], "{path}");
    }
}

#[tokio::test]
async fn reading_again_and_what_uses_no_model_count_nothing() {
    let chat = r#"{"id":"chatcmpl-1","object":"chat.completion","usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
    let response =
        r#"{"id":"resp_1","object":"response","background":false,"usage":{"input_tokens":5,"output_tokens":2}}"#;
    for (method, path, text) in [
        (Method::GET, "/openai/v1/chat/completions/chatcmpl-1", chat),
        (Method::POST, "/openai/v1/chat/completions/chatcmpl-1", chat),
        (Method::GET, "/openai/v1/responses/resp_1", response),
        (Method::GET, "/openai/v1/files", chat),
        (Method::GET, "/openai/v1/models", chat),
        (Method::POST, "/somewhere/else", chat),
    ] {
        assert_eq!(counts(method, path, "{}", JSON, text).await, [], "{path}");
    }
}

#[tokio::test]
async fn objects_that_went_on_in_the_background_count_when_they_are_first_seen_finished() {
    let (meter, counted) = meter();
    let queued = r#"{"id":"resp_1","object":"response","background":true,"usage":null}"#;
    let done = r#"{"id":"resp_1","object":"response","background":true,"usage":{"input_tokens":5,"output_tokens":2}}"#;
    let run = r#"{"id":"run_1","object":"thread.run","usage":{"prompt_tokens":7,"completion_tokens":1}}"#;
    let batch = r#"{"id":"batch_1","object":"batch","usage":{"input_tokens":900,"output_tokens":90}}"#;
    for (method, path, text) in [
        (Method::POST, "/openai/v1/responses", queued),
        (Method::GET, "/openai/v1/responses/resp_1", queued),
        (Method::GET, "/openai/v1/responses/resp_1", done),
        (Method::GET, "/openai/v1/responses/resp_1", done),
        (Method::POST, "/openai/v1/responses/resp_1/cancel", done),
        (Method::GET, "/openai/threads/thread_1/runs/run_1?api-version=2024-10-21", run),
        (Method::GET, "/openai/threads/thread_1/runs/run_1?api-version=2024-10-21", run),
        (Method::GET, "/openai/v1/batches/batch_1", batch),
        (Method::GET, "/openai/v1/batches/batch_1", batch),
    ] {
        send(&meter, request(method, path, "{}"), answer(200, JSON, chopped(text, &[])), usize::MAX).await;
    }
    assert_eq!(*counted.lock().unwrap(), [(5, 2, TOLD), (7, 1, TOLD), (900, 90, TOLD)]);
}

#[tokio::test]
async fn errors_and_encoded_answers_count_nothing() {
    let (meter, counted) = meter();
    let text = r#"{"usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
    for status in [400, 401, 429, 500, 503] {
        send(&meter, request(Method::POST, CHAT, "{}"), answer(status, JSON, chopped(text, &[])), usize::MAX).await;
    }
    let mut encoded = answer(200, JSON, chopped(text, &[]));
    encoded.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    send(&meter, request(Method::POST, CHAT, "{}"), encoded, usize::MAX).await;
    assert_eq!(*counted.lock().unwrap(), []);
}

const WORDS: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"twelve chars\"}}]}\n\n\
    data: {\"choices\":[{\"delta\":{\"content\":\"!\"}}]}\n\n";

#[tokio::test]
async fn a_stream_that_tells_nothing_is_estimated() {
    let body = r#"{"stream":true,"messages":[{"content":"eight ch"}]}"#;
    let whole = format!("{WORDS}data: [DONE]\n\n");
    assert_eq!(
        counts(Method::POST, CHAT, body, EVENTS, &whole).await,
        [(2, 4, ESTIMATED)],
        "two in the prompt, three and one in the answer"
    );
    let silent = "data: {\"choices\":[]}\n\ndata: [DONE]\n\n";
    assert_eq!(counts(Method::POST, CHAT, body, EVENTS, silent).await, [], "nothing was delivered");
    let short = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n".repeat(40);
    assert_eq!(counts(Method::POST, CHAT, body, EVENTS, &short).await, [(2, 40, ESTIMATED)], "a token an event");
    let responses = "event: response.output_text.delta\ndata: {\"delta\":\"twelve chars\"}\n\n";
    let body = r#"{"stream":true,"input":"eight ch"}"#;
    let counted = counts(Method::POST, "/openai/v1/responses", body, EVENTS, &responses.repeat(2)).await;
    assert_eq!(counted, [(2, 1, ESTIMATED)], "its closing event did not come: a token for each part that passed");
}

#[tokio::test]
async fn a_stream_counts_when_its_usage_passes_and_by_estimate_when_its_client_leaves_before() {
    let chunks: Vec<_> = WORDS.split_inclusive("\n\n").map(|event| Bytes::copy_from_slice(event.as_bytes())).collect();
    let usage =
        Bytes::from_static(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":9}}\n\n");
    let done = Bytes::from_static(b"data: [DONE]\n\n");
    let all = [chunks, vec![usage, done]].concat();
    let told = r#"{"stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    for (frames, expected) in
        [(4, vec![(3, 9, TOLD)]), (3, vec![(3, 9, TOLD)]), (2, vec![(0, 2, ESTIMATED)]), (0, vec![])]
    {
        let (meter, counted) = meter();
        send(&meter, request(Method::POST, CHAT, told), answer(200, EVENTS, all.clone()), frames).await;
        assert_eq!(*counted.lock().unwrap(), expected, "after {frames} frames");
    }
}

#[tokio::test]
async fn a_layer_above_is_told_before_the_event_is_handed_on() {
    let spending = Spending::default();
    let mut request = request(Method::POST, CHAT, r#"{"stream":true,"stream_options":{"include_usage":true}}"#);
    request.extensions_mut().insert(spending.clone());
    request.extensions_mut().insert(Client::new("team-a"));
    let text = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":9}}\n\n";
    send(&MeterUsageLayer::new(), request, answer(200, EVENTS, chopped(text, &[])), 1).await;
    let spent = spending.known().unwrap();
    assert_eq!((spent.usage.total(), spent.source, spent.is_final), (12, TOLD, true));
}

#[tokio::test]
async fn running_counts_and_beginnings_are_not_the_last_word() {
    let running = (1..=3).map(|n| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"x\"}}}}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":{n}}}}}\n\n"));
    let text: String = running.collect();
    let body = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
    assert_eq!(counts(Method::POST, CHAT, body, EVENTS, &text).await, [(3, 3, TOLD)]);
    let anthropic = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":8}}\n\n";
    assert_eq!(
        counts(Method::POST, "/anthropic/v1/messages", r#"{"stream":true}"#, EVENTS, anthropic).await,
        [(10, 8, TOLD)]
    );
}

#[tokio::test]
async fn the_backend_is_asked_where_it_can_be_and_its_client_sees_nothing_of_it() {
    let told = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":null}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":70}}\n\ndata: [DONE]\n\n";
    let shown = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n";
    for (body, asks) in
        [(r#"{"stream":true}"#, true), (r#"{"stream":true,"stream_options":{"include_usage":true}}"#, false)]
    {
        for whole in [false, true] {
            let (meter, counted) = meter();
            let meter = meter.silent_streams(SilentStreams::Ask);
            let sent = Arc::new(Mutex::new(Bytes::new()));
            let seen = sent.clone();
            let backend = service_fn(move |request: Request<Body>| {
                *seen.lock().unwrap() = request.body().as_bytes().unwrap().clone();
                let mut events = answer(200, EVENTS, chopped(told, &[]));
                if whole {
                    *events.body_mut() = Body::from(told);
                    events.headers_mut().insert("content-length", told.len().into());
                }
                async move { Ok::<_, BoxError>(events) }
            });
            let served = meter.layer(backend).oneshot(request(Method::POST, CHAT, body)).await.unwrap();
            assert_eq!(served.headers().contains_key("content-length"), whole && !asks);
            let read = served.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(read, if asks { shown } else { told });
            assert_eq!(*counted.lock().unwrap(), [(3, 70, TOLD)]);
            assert_eq!(sent.lock().unwrap().len() > body.len(), asks);
        }
    }
}

#[tokio::test]
async fn estimates_learn_from_what_is_told() {
    let (meter, counted) = meter();
    let body = r#"{"messages":[{"content":"sixteen letters."}]}"#;
    let told = r#"{"usage":{"prompt_tokens":8,"completion_tokens":1}}"#;
    for _ in 0..40 {
        send(&meter, request(Method::POST, CHAT, body), answer(200, JSON, chopped(told, &[])), usize::MAX).await;
    }
    counted.lock().unwrap().clear();
    let asked = r#"{"stream":true,"messages":[{"content":"sixteen letters."}]}"#;
    send(&meter, request(Method::POST, CHAT, asked), answer(200, EVENTS, chopped(WORDS, &[])), usize::MAX).await;
    assert_eq!(*counted.lock().unwrap(), [(8, 8, ESTIMATED)], "twice what four characters a token make");
}

proptest! {
    #[test]
    fn chopping_changes_neither_counts_nor_bytes(
        events in prop::collection::vec("data: \\{\"choices\":\\[\\{\"delta\":\\{\"content\":\"[a-z ]{0,9}\"\\}\\}\\],\"usage\":null\\}\n\n|: ping\n\n|event: x\r\ndata: [a-z\"{]{0,9}\r\n\r\n", 0..8),
        usage in prop::option::of((1..99_u64, 0..99_u64)),
        cuts in prop::collection::btree_set(0..700_usize, 0..30),
        asks in any::<bool>(),
    ) {
        let mut text = events.concat();
        if let Some((input, output)) = usage {
            text += &format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output}}}}}\n\n");
        }
        text += "data: [DONE]\n\n";
        let body = if asks { r#"{"stream":true,"stream_options":{"include_usage":true}}"# } else { r#"{"stream":true}"# };
        let cuts: Vec<_> = cuts.into_iter().collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (read, counted) = runtime.block_on(async {
            let (meter, counted) = meter();
            let read = send(&meter, request(Method::POST, CHAT, body), answer(200, EVENTS, chopped(&text, &cuts)), usize::MAX).await;
            let counted = counted.lock().unwrap().clone();
            (read, counted)
        });
        prop_assert_eq!(read, text.as_bytes());
        match usage {
            Some((input, output)) => prop_assert_eq!(counted, [(input, output, TOLD)]),
            None => prop_assert!(counted.iter().all(|(.., source)| *source == ESTIMATED)),
        }
    }
}

/// What a backend makes of its n-th request, by which a tenth fails or is cut.
fn reply(n: u64, streams: bool, backend: &str, client: &str, billed: &Billed) -> Result<Response<Body>, BoxError> {
    let (input, output) = (n % 97 + 1, n % 31 + 1);
    match n % 40 {
        0 => return Err("reset".into()),
        1 => return Ok(answer(429, JSON, chopped(r#"{"error":{"code":"429","message":"wait"}}"#, &[]))),
        2 => return Ok(answer(500, JSON, chopped(r#"{"error":{"code":"500","message":"oops"}}"#, &[]))),
        _ => {}
    }
    let usage = format!("{{\"prompt_tokens\":{input},\"completion_tokens\":{output}}}");
    let bill = || {
        let mut billed = billed.lock().unwrap();
        let sums: &mut (u64, u64) = billed.entry((client.to_owned(), backend.to_owned())).or_default();
        *sums = (sums.0 + input, sums.1 + output);
    };
    if !streams {
        bill();
        return Ok(answer(200, JSON, chopped(&format!("{{\"choices\":[],\"usage\":{usage}}}"), &[7])));
    }
    let mut events =
        vec![Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":null}\n\n")];
    if n % 40 == 3 {
        let cut = stream::iter([Ok(Frame::data(events.remove(0))), Err(BoxError::from("reset"))]);
        let answer = Response::builder().header("content-type", EVENTS);
        return Ok(answer.body(Body::new(StreamBody::new(cut))).unwrap());
    }
    bill();
    let last = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n";
    events.push(Bytes::from(format!("{last}data: {{\"choices\":[],\"usage\":{usage}}}\n\n")));
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Ok(answer(200, EVENTS, events))
}

type Billed = Arc<Mutex<BTreeMap<(String, String), (u64, u64)>>>;

/// The tokens of ten thousand requests at once, a tenth of which fail, are cut or are left by their clients, through the whole stack:
/// what is counted as told is what the backends billed, by client and by backend.
#[tokio::test(start_paused = true)]
async fn ten_thousand_requests_at_once_are_counted_to_the_token() {
    let mut pool = Pool::builder();
    let mut clients = ClientRegistry::builder();
    for n in 0..3 {
        let backend = Backend::new(format!("b{n}"), format!("https://b{n}.example"));
        pool = pool.add_backend(backend.add_deployment(Deployment::new("gpt-4o")));
    }
    for n in 0..5 {
        clients = clients.add_key(Client::new(format!("team-{n}")), format!("key-of-the-team-{n}"));
    }
    let (billed, counted) = (Billed::default(), Billed::default());
    let (ours, requests) = (billed.clone(), AtomicU64::new(0));
    let backends = Arc::new(move |request: Request<Body>| {
        let backend = request.uri().host().unwrap().split('.').next().unwrap().to_owned();
        let body = String::from_utf8_lossy(request.body().as_bytes().unwrap()).into_owned();
        let client = body.split("\"user\":\"").nth(1).unwrap().split('"').next().unwrap();
        reply(requests.fetch_add(1, Relaxed), body.contains("\"stream\":true"), &backend, client, &ours)
    });
    let sums = counted.clone();
    let meter = MeterUsageLayer::new().on_usage(move |metered| {
        if metered.source == TOLD {
            let key = (metered.client.unwrap().id().to_owned(), metered.target.unwrap().backend().to_owned());
            let mut sums = sums.lock().unwrap();
            let sums = sums.entry(key).or_default();
            *sums = (sums.0 + metered.usage.input, sums.1 + metered.usage.output);
        }
    });
    let terminate = TerminateCredentialsLayer::new(clients.build().unwrap());
    let limits = ClientLimitLayer::new(MemoryLimits::new());
    let gateway = gateway::builder(pool.build().unwrap(), terminate).limits(limits).meter(meter).build(service_fn(
        move |request| {
            let backends = backends.clone();
            async move {
                tokio::task::yield_now().await;
                backends(request)
            }
        },
    ));
    let one = |n: u64| {
        let gateway = gateway.clone();
        async move {
            let streams =
                if n.is_multiple_of(2) { ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" } else { "" };
            let client = n % 5;
            let body = format!("{{\"user\":\"team-{client}\",\"messages\":[]{streams}}}");
            let request = Request::post(CHAT).header("api-key", format!("key-of-the-team-{client}"));
            let request = request.header("content-type", JSON).body(Body::from(body)).unwrap();
            let mut body = gateway.oneshot(request).await.unwrap().into_body();
            // Some clients leave once they have what they want.
            let frames = if n % 10 == 8 { 2 } else { usize::MAX };
            for _ in 0..frames {
                tokio::task::yield_now().await;
                if !matches!(body.frame().await, Some(Ok(_))) {
                    break;
                }
            }
        }
    };
    join_all((0..10_000).map(one)).await;
    let (billed, counted) = (billed.lock().unwrap().clone(), counted.lock().unwrap().clone());
    assert!(
        billed.len() == 15 && billed.values().map(|sums| sums.0).sum::<u64>() > 100_000,
        "most were served: {billed:?}"
    );
    assert_eq!(counted, billed);
}
