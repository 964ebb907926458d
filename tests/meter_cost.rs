//! What counting allocates, beside the service that it counts for.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::{BoxError, Layer, Service, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, Route};
use tower_azure_openai::limit::{ClientLimitLayer, MemoryLimits};
use tower_azure_openai::meter::{Ledger, MeterUsageLayer};

const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"a word"}}],"usage":{"prompt_tokens":300,"completion_tokens":80,"total_tokens":380,"prompt_tokens_details":{"cached_tokens":128},"completion_tokens_details":{"reasoning_tokens":0}}}"#;

const RESPONSES: &str = "/openai/v1/responses";
const RESPONSE: &str = r#"{"id":"resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b","object":"response","background":false,"status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"a word"}]}],"usage":{"input_tokens":300,"input_tokens_details":{"cached_tokens":128},"output_tokens":80,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":380}}"#;
const WORD: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}],\"usage\":null}\n\n";
const SUM: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":{\"prompt_tokens\":300,\"completion_tokens\":80,\"prompt_tokens_details\":{\"cached_tokens\":128}}}\n\n";
const DELTA: &str =
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\" word\"}\n\n";
const COMPLETED: &str = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b\",\"object\":\"response\",\"usage\":{\"input_tokens\":300,\"output_tokens\":80}}}\n\n";

trait Backend:
    Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<S> Backend for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send + 'static>
        + Clone
        + Send
        + 'static
{
}

/// A backend whose answers come in frames, and not as a whole.
fn backend(kind: &'static str, frames: Arc<[Bytes]>) -> impl Backend {
    service_fn(move |_: Request<Body>| {
        let frames: Vec<_> = frames.iter().cloned().map(|frame| Ok::<_, BoxError>(Frame::data(frame))).collect();
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        async move { Ok(Response::builder().header("content-type", kind).body(body)?) }
    })
}

/// How much an exchange allocates at most, once everything has found its size.
fn allocations<S>(mut service: S, path: &str, body: &'static str) -> u64
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
{
    let request = || {
        let mut request = Request::post(path).body(Body::from(body)).unwrap();
        let route = Route::parse(request.method(), request.uri()).unwrap().with_streaming(body.contains("stream"));
        request.extensions_mut().insert(route);
        request.extensions_mut().insert(Client::new("team"));
        request
    };
    let mut exchange = |request| {
        let answer = service.call(request).now_or_never().unwrap().unwrap();
        let mut body = answer.into_body();
        while body.frame().now_or_never().unwrap().is_some() {}
    };
    (0..64).map(|_| request()).for_each(&mut exchange);
    // More than the sixteen of which one teaches the estimator.
    let requests: Vec<_> = (0..32).map(|_| request()).collect();
    let counts = requests.into_iter().map(|request| allocation_counter::measure(|| exchange(request)).count_total);
    counts.max().unwrap()
}

fn meter() -> MeterUsageLayer {
    let ledger = Ledger::new();
    MeterUsageLayer::new().on_usage(move |metered| ledger.enter(metered))
}

fn answering<const N: usize>(kind: &'static str, frames: [&'static str; N]) -> impl Backend {
    backend(kind, frames.map(|frame| Bytes::from_static(frame.as_bytes())).into())
}

const HELLO: &str = r#"{"messages":[{"role":"user","content":"Hi"}]}"#;
const STREAMED: &str = r#"{"messages":[{"role":"user","content":"Hi"}],"stream":true}"#;
const TOLD: &str =
    r#"{"messages":[{"role":"user","content":"Hi"}],"stream":true,"stream_options":{"include_usage":true}}"#;

#[tokio::test]
async fn counting_a_request_allocates_twice_at_most() {
    for (name, path, body, kind, frames) in [
        ("chat", CHAT, HELLO, "application/json", &[ANSWER][..]),
        ("response", RESPONSES, HELLO, "application/json", &[RESPONSE]),
        ("chat, streamed", CHAT, TOLD, "text/event-stream", &[WORD, WORD, SUM, "data: [DONE]\n\n"]),
        ("chat, estimated", CHAT, STREAMED, "text/event-stream", &[WORD, WORD, WORD, "data: [DONE]\n\n"]),
        ("response, streamed", RESPONSES, STREAMED, "text/event-stream", &[DELTA, DELTA, COMPLETED]),
    ] {
        let frames: Arc<[_]> = frames.iter().map(|frame| Bytes::from_static(frame.as_bytes())).collect();
        let bare = allocations(backend(kind, frames.clone()), path, body);
        let counted = allocations(meter().layer(backend(kind, frames)), path, body);
        println!("{name}: {counted} with, {bare} without");
        assert!(counted <= bare + 2, "{name}: {counted} with, {bare} without");
    }
}

#[tokio::test]
async fn limits_allocate_nothing_for_a_client_that_has_none() {
    let json = || meter().layer(answering("application/json", [ANSWER]));
    let limits = ClientLimitLayer::new(MemoryLimits::new());
    let (without, with) = (allocations(json(), CHAT, HELLO), allocations(limits.layer(json()), CHAT, HELLO));
    assert_eq!(with, without);
}
