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
use tower_azure_openai::context::Route;
use tower_azure_openai::meter::{Ledger, MeterUsageLayer};

const PATH: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"a word"}}],"usage":{"prompt_tokens":300,"completion_tokens":80,"total_tokens":380,"prompt_tokens_details":{"cached_tokens":128},"completion_tokens_details":{"reasoning_tokens":0}}}"#;

/// A backend whose answers come in frames, and not as a whole.
fn backend(
    kind: &'static str,
    frames: Arc<[Bytes]>,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send + 'static> + Clone + Send + 'static
{
    service_fn(move |_: Request<Body>| {
        let frames: Vec<_> = frames.iter().cloned().map(|frame| Ok::<_, BoxError>(Frame::data(frame))).collect();
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        async move { Ok(Response::builder().header("content-type", kind).body(body)?) }
    })
}

/// How much an exchange allocates once everything has found its size.
fn allocations<S>(mut service: S, body: &'static str) -> u64
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
{
    let request = || {
        let mut request = Request::post(PATH).body(Body::from(body)).unwrap();
        let route = Route::parse(request.method(), request.uri()).unwrap().with_streaming(body.contains("stream"));
        request.extensions_mut().insert(route);
        request
    };
    let mut exchange = |request| {
        let answer = service.call(request).now_or_never().unwrap().unwrap();
        let mut body = answer.into_body();
        while body.frame().now_or_never().unwrap().is_some() {}
    };
    // One in sixteen teaches the estimator too, and is not asked for here.
    (0..64).map(|_| request()).for_each(&mut exchange);
    let mut requests: Vec<_> = (0..8).map(|_| request()).collect();
    let counts = std::iter::from_fn(|| {
        let request = requests.pop()?;
        Some(allocation_counter::measure(|| exchange(request)).count_total)
    });
    counts.min().unwrap()
}

fn metered<S>(service: S) -> <MeterUsageLayer as Layer<S>>::Service {
    let ledger = Ledger::new();
    MeterUsageLayer::new().on_usage(move |metered| ledger.enter(metered)).layer(service)
}

#[tokio::test]
async fn counting_a_request_allocates_little() {
    let json = || backend("application/json", [Bytes::from_static(ANSWER.as_bytes())].into());
    let hello = r#"{"messages":[{"role":"user","content":"Hi"}]}"#;
    let (bare, counted) = (allocations(json(), hello), allocations(metered(json()), hello));
    assert!(counted <= bare + 5, "{counted} with, {bare} without");
}
