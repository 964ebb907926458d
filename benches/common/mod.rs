//! The request, the clients and the backends of measurements of the whole stack.
#![allow(dead_code, reason = "each measurement uses its part")]

use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::{Full, StreamBody};
use tower::{BoxError, Service, ServiceExt};
use tower_azure_openai::azure::operation::Surface;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::meter::{Ledger, MeterUsageLayer};
use tower_azure_openai::metrics::MetricsRecorder;
use tower_azure_openai::observe::ObserveLayer;
use tower_azure_openai::pool::{Backend, Credential, Deployment, Pool};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};

const KEY: &str = "0123456789abcdef0123456789abcdef";

pub(crate) type Inbound = Request<Full<Bytes>>;

pub(crate) fn pool() -> Result<Pool, BoxError> {
    let names = ["ptu-eastus", "paygo-eastus", "paygo-westus"];
    let backends = names.into_iter().zip(0..).map(|(name, priority)| {
        let credential = Credential::api_key("fedcba9876543210fedcba9876543210")?;
        let backend = Backend::new(name, format!("https://{name}.openai.azure.com"));
        let deployment = Deployment::new(format!("gpt-4o-{name}")).alias("gpt-4o");
        Ok::<_, BoxError>(backend.credential(credential).priority(priority).add_deployment(deployment))
    });
    let builder =
        backends.into_iter().try_fold(Pool::builder(), |pool, backend| Ok::<_, BoxError>(pool.add_backend(backend?)));
    Ok(builder?.build()?)
}

pub(crate) fn clients() -> Result<ClientRegistry, BoxError> {
    Ok(ClientRegistry::builder().add_key(Client::new("team-a").allow(["gpt-4o"]), KEY).build()?)
}

/// Everything of the default stack, with usage entered and records counted.
pub(crate) fn gateway<S>(backends: S) -> Result<Gateway, BoxError>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let (pool, ledger) = (pool()?, Ledger::new());
    let metrics = MetricsRecorder::new(pool.clone());
    Ok(gateway::builder(pool, TerminateCredentialsLayer::new(clients()?))
        .meter(MeterUsageLayer::new().on_usage(move |metered| ledger.enter(metered)))
        .observe(ObserveLayer::new().add_recorder(metrics))
        .build(backends))
}

/// As the Python library of OpenAI sends it.
pub(crate) fn request(surface: Surface) -> Result<Inbound, BoxError> {
    let (path, model) = match surface {
        Surface::Classic => ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", ""),
        _ => ("/openai/v1/chat/completions", r#","model":"gpt-4o""#),
    };
    let text = "Summarise the following minutes of a meeting in three sentences. ".repeat(20);
    let body = format!(
        r#"{{"messages":[{{"role":"system","content":"You are terse."}},{{"role":"user","content":"{text}"}}],"max_tokens":200{model}}}"#
    );
    let mut request = Request::post(path);
    for (name, value) in [
        ("host", "gateway.contoso.example"),
        ("accept-encoding", "gzip, deflate"),
        ("connection", "keep-alive"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("content-length", &body.len().to_string()),
        ("user-agent", "AzureOpenAI/Python 1.54.0"),
        ("x-stainless-lang", "python"),
        ("x-stainless-package-version", "1.54.0"),
        ("x-stainless-os", "Linux"),
        ("x-stainless-arch", "x64"),
        ("x-stainless-runtime", "CPython"),
        ("x-stainless-runtime-version", "3.12.7"),
        ("x-stainless-async", "false"),
        ("x-stainless-retry-count", "0"),
        ("api-key", KEY),
    ] {
        request = request.header(name, HeaderValue::from_str(value)?);
    }
    Ok(request.body(Full::from(body))?)
}

/// One that asks for a stream.
pub(crate) fn streamed_request() -> Result<Inbound, BoxError> {
    let body = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Count."}]}"#;
    let mut request = request(Surface::V1)?;
    request.headers_mut().insert("content-length", body.len().into());
    *request.body_mut() = Full::from(body);
    Ok(request)
}

/// Answers 200 at once, without looking.
#[derive(Clone, Debug)]
pub(crate) struct NoOp;

const ANSWER: &str = r#"{"id":"chatcmpl-AaBbCcDdEeFf","object":"chat.completion","created":1730000000,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":"The team agreed to ship on Tuesday. Two risks remain. Anna follows up.","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":280,"completion_tokens":17,"total_tokens":297,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"system_fingerprint":"fp_0123456789"}"#;

impl<B> Service<Request<B>> for NoOp {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut answer = Response::new(Body::from(ANSWER));
        answer.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
        ready(Ok(answer))
    }
}

/// Answers with a word in each chunk.
#[derive(Clone, Debug)]
pub(crate) struct Streaming {
    pub(crate) chunks: usize,
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

/// One request, until the answer has been read to its end. Nothing in it has to be waited for.
pub(crate) fn drive<S>(service: &mut S, request: Inbound)
where
    S: Service<Inbound, Response = Response<Body>, Error = Infallible>,
{
    let exchange = async {
        let Ok(answer) = service.ready().await?.call(request).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let mut body = answer.into_body();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            black_box(frame.is_ok());
        }
        Ok::<_, Infallible>(())
    };
    let ended = exchange.now_or_never();
    assert!(ended.is_some(), "nothing waits");
}
