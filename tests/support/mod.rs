//! What several black-box tests share: a fleet of simulated backends behind one service, and ways to look at answers.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(unreachable_pub, reason = "tests have no outside")]
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::AttemptFailed;
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, CircuitConfig, Deployment, Pool};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::testkit::{Fault, ReceivedRequest, SimulatedBackend, SimulatedDeployment};

pub const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
pub const HELLO: &str = r#"{"messages":[{"role":"user","content":"Hi there"}]}"#;

/// A stack above which no error is left.
pub type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;
/// A stack of which errors are looked at.
pub type Service = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

type Reply = Arc<dyn Fn(usize) -> Result<Response<Body>, BoxError> + Send + Sync>;

/// Backends `b0`, `b1`, … that all serve `gpt-4o`, each in a priority group of its own: the order in which they are tried.
#[derive(Clone)]
pub struct Fleet {
    pub pool: Pool,
    pub backends: Vec<SimulatedBackend>,
    replies: Arc<Mutex<HashMap<usize, Reply>>>,
}

impl Fleet {
    pub fn new(n: usize) -> Self {
        Self::of(n, &Deployment::new("gpt-4o"))
    }

    /// With this deployment at each.
    pub fn of(n: usize, deployment: &Deployment) -> Self {
        let mut pool = Pool::builder();
        for i in 0..n {
            let backend = Backend::new(format!("b{i}"), format!("https://b{i}.example")).priority(i as u32);
            pool = pool.add_backend(backend.add_deployment(deployment.clone()));
        }
        let simulated = |i| {
            let deployment = SimulatedDeployment::standard("gpt-4o");
            SimulatedBackend::builder(format!("b{i}")).deployment(deployment).build()
        };
        Self { pool: pool.build().unwrap(), backends: (0..n).map(simulated).collect(), replies: Arc::default() }
    }

    /// With circuits that failures never open.
    pub fn undaunted(n: usize) -> Self {
        let fleet = Self::new(n);
        let mut circuit = CircuitConfig::default();
        (circuit.consecutive_failures, circuit.failure_ratio) = (u32::MAX, 1.0);
        let backend = |i: usize| {
            let backend = Backend::new(format!("b{i}"), format!("https://b{i}.example")).priority(i as u32);
            backend.add_deployment(Deployment::new("gpt-4o"))
        };
        let described = (0..n).fold(Pool::builder().circuit(circuit), |pool, i| pool.add_backend(backend(i)));
        fleet.pool.replace(described).unwrap();
        fleet
    }

    /// Whatever is asked of backend `i`, this fault happens.
    pub fn always(&self, i: usize, fault: Fault) {
        self.backends[i].faults().always(fault);
    }

    /// Backend `i` receives requests and gives these answers; `reply` is told how many requests there were before.
    pub fn reply(&self, i: usize, reply: impl Fn(usize) -> Result<Response<Body>, BoxError> + Send + Sync + 'static) {
        self.replies.lock().unwrap().insert(i, Arc::new(reply));
    }

    /// Attempts at backend `i` end without an answer, and the client says why.
    pub fn fail(&self, i: usize, outcome: Outcome) {
        self.reply(i, move |_| Err(AttemptFailed::new(outcome, "scripted").into()));
    }

    /// What stands where the HTTP client would: sends a request to the backend that its URI names.
    pub fn network(&self) -> Service {
        let fleet = self.clone();
        Service::new(service_fn(move |request: Request<Body>| {
            let fleet = fleet.clone();
            async move {
                let host = request.uri().host().unwrap_or_default().to_owned();
                let i: usize = host.trim_start_matches('b').trim_end_matches(".example").parse()?;
                let before = fleet.backends[i].request_count();
                let reply = fleet.replies.lock().unwrap().get(&i).cloned();
                let answer = fleet.backends[i].clone().oneshot(request).await;
                match reply {
                    Some(reply) => answer.map_err(BoxError::from).and_then(|_| reply(before)),
                    None => Ok(answer?),
                }
            }
        }))
    }

    /// Failover, selection and circuits around the fleet.
    pub fn core(&self, failover: FailoverLayer) -> Service {
        let stack = ServiceBuilder::new()
            .layer(failover)
            .layer(SelectBackendLayer::new(self.pool.clone()))
            .layer(ForwardLayer::new());
        Service::new(stack.service(self.network()))
    }

    /// The core below inspection, every cause answered.
    pub fn stack(&self, failover: FailoverLayer) -> Stack {
        let stack = ServiceBuilder::new().layer(RespondLayer::new()).layer(InspectLayer::new());
        Stack::new(stack.service(self.core(failover)))
    }

    pub fn gateway(&self) -> Stack {
        self.stack(FailoverLayer::new())
    }

    /// How many requests each backend received.
    pub fn counts(&self) -> Vec<usize> {
        self.backends.iter().map(SimulatedBackend::request_count).collect()
    }

    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.backends.iter().flat_map(SimulatedBackend::requests).collect()
    }

    /// The state of each backend's circuit.
    pub fn circuits(&self) -> Vec<&'static str> {
        let status = self.pool.status();
        status.backends.iter().map(|backend| backend.deployments[0].circuit).collect()
    }

    /// What the pool and the backends believe to be in flight.
    pub fn in_flight(&self) -> usize {
        let known: u32 = self.pool.status().backends.iter().map(|backend| backend.in_flight).sum();
        known as usize + self.backends.iter().map(SimulatedBackend::in_flight).sum::<usize>()
    }
}

pub fn post(uri: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(uri).header("content-type", "application/json").body(body.into()).unwrap()
}

pub fn chat() -> Request<Body> {
    post(CHAT, HELLO)
}

pub fn answer(status: u16) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

/// A body that comes in these chunks and does not say how long it is.
pub fn chunked<C: Into<Bytes>>(chunks: impl IntoIterator<Item = C>) -> Body {
    let frames: Vec<_> = chunks.into_iter().map(|chunk| Ok::<_, BoxError>(Frame::data(chunk.into()))).collect();
    Body::new(StreamBody::new(futures_util::stream::iter(frames)))
}

/// These chunks, and then this error.
pub fn broken<C: Into<Bytes>>(chunks: impl IntoIterator<Item = C>, error: impl Into<BoxError>) -> Body {
    let frames = chunks.into_iter().map(|chunk| Ok(Frame::data(chunk.into())));
    let frames: Vec<Result<_, BoxError>> = frames.chain([Err(error.into())]).collect();
    Body::new(StreamBody::new(futures_util::stream::iter(frames)))
}

/// These chunks, and then nothing more.
pub fn stalled<C: Into<Bytes>>(chunks: impl IntoIterator<Item = C>) -> Body {
    use futures_util::StreamExt;

    let frames: Vec<_> = chunks.into_iter().map(|chunk| Ok::<_, BoxError>(Frame::data(chunk.into()))).collect();
    Body::new(StreamBody::new(futures_util::stream::iter(frames).chain(futures_util::stream::pending())))
}

pub async fn send(stack: &Stack, request: Request<Body>) -> Response<Body> {
    stack.clone().oneshot(request).await.unwrap()
}

pub async fn bytes(answer: Response<Body>) -> Bytes {
    answer.into_body().collect().await.unwrap().to_bytes()
}

pub async fn json(answer: Response<Body>) -> Value {
    serde_json::from_slice(&bytes(answer).await).unwrap()
}

/// Status and error code.
pub async fn error(answer: Response<Body>) -> (u16, String) {
    let status = answer.status().as_u16();
    (status, json(answer).await["error"]["code"].as_str().unwrap_or_default().to_owned())
}

pub fn header<'a, B>(answer: &'a Response<B>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

/// `retry-after-ms` and `retry-after`.
pub fn waits<B>(answer: &Response<B>) -> (Option<&str>, Option<&str>) {
    (header(answer, "retry-after-ms"), header(answer, "retry-after"))
}

/// A service that may be called once each time it was ready; a clone has to ask for itself.
#[derive(Debug, Default)]
pub struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl tower::Service<Request<Body>> for Strict {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called before it was ready");
        std::future::ready(Ok(answer(200)))
    }
}

/// Passes when the service below is called only after it, and not a clone of it, was ready. The requests must be let through.
pub async fn assert_keeps_the_readiness_contract<L>(layer: &L, request: impl Fn() -> Request<Body>)
where
    L: tower::Layer<Strict>,
    L::Service: tower::Service<Request<Body>, Response = Response<Body>, Error: std::fmt::Debug> + Clone,
{
    use tower::Service;

    let mut service = layer.layer(Strict::default());
    for _ in 0..2 {
        service.ready().await.unwrap();
        let mut clone = service.clone();
        assert_eq!(service.call(request()).await.unwrap().status(), 200);
        clone.ready().await.unwrap();
        assert_eq!(clone.call(request()).await.unwrap().status(), 200);
    }
}
