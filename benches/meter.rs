//! What counting costs. No network, no I/O.
//!
//! - *request*: one chat of 1.4 KB and its answer of 0.8 KB, in one frame, through the meter with a ledger, over the bare service
//! - *event*: an event of a stream that tells its usage at its end, and of one that is estimated
//!
//! Allocations are held by `tests/meter_cost.rs`.

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
use tower_azure_openai::context::Route;
use tower_azure_openai::meter::{Ledger, MeterUsageLayer};

const EVENTS: usize = 1_000;
const PATH: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
const WORD: &str = r#"data: {"choices":[{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}},"delta":{"content":" word"},"finish_reason":null,"index":0,"logprobs":null}],"created":1761000000,"id":"chatcmpl-9lsdkfjWoeirulskdjfoweiruldk","model":"gpt-4o-2024-08-06","object":"chat.completion.chunk","system_fingerprint":"fp_0123456789"}

"#;

fn main() -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let _entered = runtime.enter();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();

    let answer = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":300,"completion_tokens":80,"total_tokens":380,"prompt_tokens_details":{{"cached_tokens":128}},"completion_tokens_details":{{"reasoning_tokens":0}}}}}}"#,
        "word ".repeat(90)
    );
    let request = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(270));
    let json = Backend { kind: "application/json", frame: Bytes::from(answer), frames: 1 };
    row(&mut criterion, "request, bare", json.clone(), &request);
    row(&mut criterion, "request, metered", meter().layer(json), &request);

    let stream = Backend { kind: "text/event-stream", frame: Bytes::from_static(WORD.as_bytes()), frames: EVENTS };
    let told = r#"{"messages":[{"role":"user","content":"Hi"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    let silent = r#"{"messages":[{"role":"user","content":"Hi"}],"stream":true}"#;
    row(&mut criterion, "event, bare", stream.clone(), told);
    row(&mut criterion, "event, told at the end", meter().layer(stream.clone()), told);
    // Azure says so in every event of a stream whose client asks.
    let word = WORD.replace("}\n\n", r#","usage":null}"#) + "\n\n";
    let with_null = Backend { frame: Bytes::from(word), ..stream.clone() };
    row(&mut criterion, "event with usage:null, bare", with_null.clone(), told);
    row(&mut criterion, "event with usage:null, told at the end", meter().layer(with_null), told);
    row(&mut criterion, "event, estimated", meter().layer(stream), silent);
    criterion.final_summary();
    Ok(())
}

fn meter() -> MeterUsageLayer {
    let ledger = Ledger::new();
    MeterUsageLayer::new().on_usage(move |metered| ledger.enter(metered))
}

/// The cost of an exchange, shown for one of its frames.
fn row<S, B>(criterion: &mut Criterion, name: &str, mut service: S, body: &str)
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody<Data = Bytes> + Unpin,
{
    let (method, uri) = (http::Method::POST, PATH.parse().expect("a valid path"));
    let route = Route::parse(&method, &uri).expect("a call").with_streaming(body.contains("\"stream\""));
    let body = Bytes::copy_from_slice(body.as_bytes());
    let mut frames = 0;
    exchange(&mut service, &route, &body, &mut frames);
    let mut group = criterion.benchmark_group("meter");
    group.throughput(Throughput::Elements(frames));
    group.bench_function(name, |bencher| bencher.iter(|| exchange(&mut service, &route, &body, &mut 0)));
    group.finish();
}

fn exchange<S, B>(service: &mut S, route: &Route, body: &Bytes, frames: &mut u64)
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut request = Request::post(PATH).body(Body::from(body.clone())).expect("a valid request");
    request.extensions_mut().insert(route.clone());
    let Ok(answer) = service.call(request).now_or_never().expect("nothing waits") else { panic!("it is served") };
    let mut answer = answer.into_body();
    while let Some(frame) = answer.frame().now_or_never().expect("nothing waits") {
        black_box(frame.is_ok());
        *frames += 1;
    }
}

/// Answers at once, with the same frame again and again.
#[derive(Clone)]
struct Backend {
    kind: &'static str,
    frame: Bytes,
    frames: usize,
}

impl Service<Request<Body>> for Backend {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Frames>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let frames = Frames { frame: self.frame.clone(), left: self.frames };
        ready(Ok(Response::builder().header("content-type", self.kind).body(frames).expect("a valid answer")))
    }
}

struct Frames {
    frame: Bytes,
    left: usize,
}

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(Frame::data(self.frame.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}
