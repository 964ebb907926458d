//! The simulated backend from outside: in process under a paused clock, and over loopback with hyper.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod access;
mod answers;
#[path = "../support/collections.rs"]
mod collections;
mod faults;
mod limits;
mod loopback;
mod objects;
mod records;
mod sealed;
mod streams;

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment, TransportError};

const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
/// Two tokens of prompt.
const HELLO: &str = r#"{"messages":[{"role":"user","content":"Hi there"}]}"#;

fn open() -> SimulatedBackend {
    with(SimulatedDeployment::standard("gpt-4o"))
}

fn with(deployment: SimulatedDeployment) -> SimulatedBackend {
    SimulatedBackend::builder("eastus").deployment(deployment).build()
}

fn post(uri: &str, body: &str) -> Request<Body> {
    Request::post(uri).body(Body::from(body.to_owned())).unwrap()
}

fn chat() -> Request<Body> {
    post(CHAT, HELLO)
}

async fn send(backend: &SimulatedBackend, request: Request<Body>) -> Response<Body> {
    backend.clone().oneshot(request).await.unwrap()
}

async fn status(backend: &SimulatedBackend, request: Request<Body>) -> StatusCode {
    send(backend, request).await.status()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn json(response: Response<Body>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

fn header<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}
