//! Requests through the whole stack, to be counted by an instruction counter: `.ci/instructions` runs this under callgrind.
//!
//! `instructions KIND NUMBER` sends so many: `classic` and `v1` whole answers, `stream` one answer with so many chunks.

mod common;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tower::{BoxError, Service};
use tower_azure_openai::azure::operation::Surface;
use tower_azure_openai::body::Body;

fn main() -> Result<(), BoxError> {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let kind = args.next().unwrap_or_else(|| "classic".to_owned());
    let number: usize = args.next().map_or(Ok(1000), |number| number.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let _entered = runtime.enter();
    match kind.as_str() {
        "classic" => whole(Surface::Classic, number),
        "v1" => whole(Surface::V1, number),
        "stream" => streamed(number),
        _ => Err(format!("{kind}: classic, v1 or stream").into()),
    }
}

fn whole(surface: Surface, number: usize) -> Result<(), BoxError> {
    let (mut gateway, request) = (common::gateway(common::NoOp)?, common::request(surface)?);
    for _ in 0..number {
        common::drive(&mut gateway, request.clone());
    }
    Ok(())
}

fn streamed(chunks: usize) -> Result<(), BoxError> {
    let mut gateway = common::gateway(Streaming { chunks })?;
    let body = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Count."}]}"#;
    let mut request = common::request(Surface::V1)?;
    request.headers_mut().insert("content-length", body.len().into());
    *request.body_mut() = Full::from(body);
    common::drive(&mut gateway, request);
    Ok(())
}

/// Answers with a word in each chunk.
#[derive(Clone, Debug)]
struct Streaming {
    chunks: usize,
}

const CHUNK: &[u8] = b"data: {\"id\":\"chatcmpl-AaBbCcDdEeFf\",\"object\":\"chat.completion.chunk\",\"created\":1730000000,\"model\":\"gpt-4o-2024-08-06\",\"system_fingerprint\":\"fp_0123456789\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
const LAST: &[u8] = b"data: {\"id\":\"chatcmpl-AaBbCcDdEeFf\",\"object\":\"chat.completion.chunk\",\"created\":1730000000,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

impl<B> Service<Request<B>> for Streaming {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let chunks = std::iter::repeat_n(CHUNK, self.chunks).chain([LAST]);
        let frames = chunks.map(|chunk| Ok::<_, BoxError>(Frame::data(Bytes::from_static(chunk))));
        let mut answer = Response::new(Body::new(StreamBody::new(stream::iter(frames))));
        answer.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
        ready(Ok(answer))
    }
}
