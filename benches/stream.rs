//! What one event of a streamed answer costs. No network, no I/O.
//!
//! - *preamble*: an event that is held and read to find out that it says nothing
//! - *committed*: an event that passes after the commit, through the layer alone, and through the circuit breaker, which looks
//!   for errors in passing
//!
//! Events are the chunks of a chat that Azure sends, one in a frame, and those of a response, which have names.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use tower::{BoxError, Layer, Service};
use tower_azure_openai::body::Body;
use tower_azure_openai::circuit::CircuitBreakerLayer;
use tower_azure_openai::pool::CircuitConfig;
use tower_azure_openai::stream_commit::StreamCommitLayer;

const EVENTS: usize = 1_000;

const FILTERED: &str = r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}}]}

"#;
const WORD: &str = r#"data: {"choices":[{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}},"delta":{"content":" word"},"finish_reason":null,"index":0,"logprobs":null}],"created":1761000000,"id":"chatcmpl-9lsdkfjWoeirulskdjfoweiruldk","model":"gpt-4o-2024-08-06","object":"chat.completion.chunk","system_fingerprint":"fp_0123456789"}

"#;
const DELTA: &str = r#"event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":7,"item_id":"msg_0123456789abcdef","output_index":0,"content_index":0,"delta":" word"}

"#;

fn main() -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    // Nothing here waits, but a stream that is held wants to know its timer.
    let _entered = runtime.enter();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();

    let unbounded = StreamCommitLayer::new().preamble_events(usize::MAX).preamble_bytes(usize::MAX);
    let circuit = || CircuitBreakerLayer::new("bench", CircuitConfig::default());
    row(&mut criterion, "bare body", |backend| backend, WORD);
    row(&mut criterion, "preamble", |backend| unbounded.layer(backend), FILTERED);
    row(&mut criterion, "committed", |backend| StreamCommitLayer::new().layer(backend), WORD);
    row(&mut criterion, "circuit, chat", |backend| circuit().layer(backend), WORD);
    row(&mut criterion, "circuit, responses", |backend| circuit().layer(backend), DELTA);
    row(
        &mut criterion,
        "committed + circuit",
        |backend| circuit().layer(StreamCommitLayer::new().layer(backend)),
        WORD,
    );
    criterion.final_summary();
    Ok(())
}

/// The cost of a stream of [`EVENTS`] events, shown for one of them.
fn row<S, B>(criterion: &mut Criterion, name: &str, stack: impl FnOnce(Backend) -> S, event: &'static str)
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut service = stack(Backend(event));
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function(name, |bencher| bencher.iter(|| read(&mut service)));
    group.finish();
}

/// One stream to its end; nothing in it has to be waited for.
fn read<S, B>(service: &mut S)
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody<Data = Bytes> + Unpin,
{
    let chat = Request::post("/openai/deployments/gpt-4o/chat/completions").body(Body::empty());
    let exchange = async {
        let answer = service.call(chat.unwrap_or_default()).await.ok()?;
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            black_box(frame.is_ok());
        }
        Some(())
    };
    assert_eq!(exchange.now_or_never(), Some(Some(())), "nothing waits, nothing fails");
}

/// Answers with a stream of one event over and over.
#[derive(Clone, Debug)]
struct Backend(&'static str);

impl Service<Request<Body>> for Backend {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let event = Bytes::from_static(self.0.as_bytes());
        let mut answer = Response::new(Body::new(Events { event, left: EVENTS }));
        answer.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
        ready(Ok(answer))
    }
}

struct Events {
    event: Bytes,
    left: usize,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let left = self.left.checked_sub(1);
        Poll::Ready(left.map(|left| {
            self.left = left;
            Ok(Frame::data(self.event.clone()))
        }))
    }
}
