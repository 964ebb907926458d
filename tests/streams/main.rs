//! Streamed answers through the whole stack, between real sockets on both sides.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/http.rs"]
mod http_support;

mod crowd;
mod flow;
mod leaving;
mod refused;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::ServiceExt;
use tower_azure_openai::body::Body;
use tower_azure_openai::client::{HttpClient, HttpClientBuilder};
use tower_azure_openai::gateway;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, Deployment, DeploymentStatus, Pool};
use tower_azure_openai::terminate::TerminateCredentialsLayer;
use tower_azure_openai::testkit::{SimulatedBackend, SimulatedDeployment, SimulatedServer};

use http_support::{CHAT, serve, soon};

const STREAM: &str = r#"{"messages":[{"role":"user","content":"Hi"}],"stream":true}"#;
const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];
const SECOND: Duration = Duration::from_secs(1);

/// A gateway on a socket, before one backend.
struct Front {
    url: String,
    pool: Pool,
}

impl Front {
    async fn of(backend: impl Into<String>) -> Self {
        Self::with(backend, HttpClient::builder()).await
    }

    async fn with(backend: impl Into<String>, client: HttpClientBuilder) -> Self {
        let backend = Backend::new("only", backend).add_deployment(Deployment::new("gpt-4o"));
        let pool = Pool::builder().add_backend(backend).build().unwrap();
        let gateway =
            gateway::builder(pool.clone(), TerminateCredentialsLayer::without_clients()).build(client.build().unwrap());
        let url = serve(move |request: Request<Incoming>| {
            let gateway = gateway.clone();
            async move { gateway.oneshot(request).await.unwrap() }
        });
        Self { url: url.await, pool }
    }

    /// What the pool says of the only target.
    fn target(&self) -> DeploymentStatus {
        self.pool.status().backends[0].deployments[0].clone()
    }

    fn stream_request(&self) -> Request<Body> {
        let request = Request::post(format!("{}{CHAT}", self.url)).header("content-type", "application/json");
        request.body(Body::from(STREAM)).unwrap()
    }

    async fn stream(&self, version: Version) -> Response<Incoming> {
        let answer = soon("a head", client(version).request(self.stream_request())).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        answer
    }
}

fn client(version: Version) -> Client<HttpConnector, Body> {
    let mut connector = HttpConnector::new();
    // A delayed acknowledgement takes real time, which a paused clock skips.
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).http2_only(version == Version::HTTP_2).build(connector)
}

async fn simulated(deployment: SimulatedDeployment) -> (SimulatedBackend, SimulatedServer) {
    let backend = SimulatedBackend::builder("east").deployment(deployment).build();
    let server = backend.serve().await.unwrap();
    (backend, server)
}

async fn open() -> (SimulatedBackend, SimulatedServer) {
    simulated(SimulatedDeployment::standard("gpt-4o")).await
}

/// Keeps a paused clock where it is until this is dropped. Left alone it moves on as soon as no task can: what is on its way
/// through a socket is nobody's task, and everything that waits for it would time out.
struct HeldClock(#[expect(dead_code, reason = "a guard")] std::sync::mpsc::Sender<()>);

fn hold_clock() -> HeldClock {
    let (held, release) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || release.recv());
    HeldClock(held)
}

/// What comes of a body, and how it ends.
async fn drain(mut body: Incoming) -> (Bytes, Result<(), hyper::Error>) {
    let mut read = Vec::new();
    loop {
        match body.frame().await {
            Some(Ok(frame)) => read.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(error)) => return (read.into(), Err(error)),
            None => return (read.into(), Ok(())),
        }
    }
}
