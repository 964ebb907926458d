//! What reading a large body costs per byte: JSON with and without places for further names, and files of requests, collected and
//! streamed. No network, no I/O; below the layers stands a service that reads the body to its end.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use futures_util::FutureExt;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, Deployment, Pool};
use tower_azure_openai::select::SelectBackendLayer;

const MIB: usize = 1 << 20;
const FRAME: usize = 16 << 10;
const SIZE: usize = 20 * MIB;

fn main() -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let _entered = runtime.enter();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let (json, form) = ("application/json", "multipart/form-data; boundary=b");
    let tools = r#""tools":[{"type":"image_generation","model":"gpt-4o"}],"#;
    for (name, path, kind, body, limit) in [
        ("serde_json alone", "", json, conversation(""), 0),
        ("json", "/openai/v1/responses", json, conversation(""), 2 * SIZE),
        ("json with names", "/openai/v1/responses", json, conversation(tools), 2 * SIZE),
        ("json streamed", "/openai/v1/responses", json, conversation(tools), MIB),
        ("batch file", "/openai/v1/files", form, batch(), 2 * SIZE),
        ("batch file streamed", "/openai/v1/files", form, batch(), MIB),
    ] {
        let body = Bytes::from(body);
        let mut group = criterion.benchmark_group("inspect");
        group.throughput(Throughput::Bytes(body.len() as u64));
        if path.is_empty() {
            group.bench_function(name, |bencher| {
                bencher.iter(|| serde_json::from_slice::<serde::de::IgnoredAny>(black_box(&body)));
            });
            continue;
        }
        let mut stack = stack(limit)?;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let held = Client::new("held").allow(["gpt-4o"]);
                let request = Request::post(path).header(CONTENT_TYPE, kind).extension(held);
                let request = request.body(upload(&body)).expect("a request");
                let answer = stack.ready().now_or_never().expect("ready").map(|stack| stack.call(request));
                answer.expect("ready").now_or_never().expect("nothing waits").expect("an answer")
            });
        });
    }
    Ok(())
}

/// In frames as they come from a socket.
fn upload(body: &Bytes) -> Body {
    let (body, frames) = (body.clone(), (0..body.len()).step_by(FRAME));
    let frames = frames.map(move |at| Ok::<_, BoxError>(Frame::data(body.slice(at..body.len().min(at + FRAME)))));
    Body::new(StreamBody::new(futures_util::stream::iter(frames)))
}

fn stack(
    limit: usize,
) -> Result<impl Service<Request<Body>, Response = Response<impl Sized>, Error = BoxError>, BoxError> {
    let backend =
        Backend::new("east", "https://east.example").add_deployment(Deployment::new("gpt-4o-east").alias("gpt-4o"));
    let pool = Pool::builder().add_backend(backend).build()?;
    let reads = service_fn(async |request: Request<Body>| {
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            black_box(frame?);
        }
        Ok::<_, BoxError>(Response::new(Body::empty()))
    });
    let layers = (InspectLayer::new().replay_limit(limit), SelectBackendLayer::new(pool), ForwardLayer::new());
    Ok(layers.layer(reads))
}

/// Many messages of some hundred bytes, as long conversations have them.
fn conversation(before: &str) -> String {
    let message =
        format!(r#"{{"role":"user","content":[{{"type":"input_text","text":"{}"}}]}}"#, "What is said. ".repeat(30));
    let messages = vec![message.as_str(); SIZE / (message.len() + 1)].join(",");
    format!(r#"{{"model":"gpt-4o",{before}"input":[{messages}]}}"#)
}

fn batch() -> String {
    let part =
        |name: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let line = format!(
        r#"{{"custom_id":"request-1","method":"POST","url":"/v1/responses","body":{{"model":"gpt-4o","input":"{}"}}}}"#,
        "What is said. ".repeat(30)
    );
    let lines = vec![line.as_str(); SIZE / (line.len() + 1)].join("\n");
    format!("{}{}--b--\r\n", part("purpose", "batch"), part("file", &lines))
}
