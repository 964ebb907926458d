//! The OpenAI client library of Rust through the gateway, on both of its configurations.
//!
//! With [`AzureConfig`] it puts the deployment into every path, also into those that have none at Azure; with
//! [`OpenAIConfig`] it speaks v1. Clients say an alias that no backend has a deployment of.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/http.rs"]
mod http_support;

use std::time::Duration;

use async_openai::Client;
use async_openai::config::{AzureConfig, Config, OpenAIConfig};
use async_openai::error::OpenAIError;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessageArgs, ChatCompletionStreamOptions, CreateChatCompletionRequest,
    CreateChatCompletionRequestArgs,
};
use async_openai::types::embeddings::{CreateEmbeddingRequest, CreateEmbeddingRequestArgs};
use async_openai::types::responses::{CreateResponse, CreateResponseArgs, ResponseStreamEvent, Status};
use futures_util::{Stream, TryStreamExt};
use http::Request;
use hyper::body::Incoming;
use tower::ServiceExt;
use tower_azure_openai::client::HttpClient;
use tower_azure_openai::gateway;
use tower_azure_openai::pool::{Backend, CircuitConfig, Credential, Deployment, Pool};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment, SimulatedServer};

use http_support::{serve, soon};

const KEY: &str = "key-of-the-client";
const ALIAS: &str = "assistant";

/// A gateway over two backends that know the alias by another name each.
struct Stage {
    url: String,
    backends: [SimulatedBackend; 2],
    _servers: [SimulatedServer; 2],
}

impl Stage {
    async fn set() -> Self {
        let backends = ["east", "west"].map(|name| {
            let deployment = SimulatedDeployment::standard(format!("gpt-{name}")).model("gpt-4o");
            SimulatedBackend::builder(name).api_key(format!("key-of-{name}")).deployment(deployment).build()
        });
        let servers = [backends[0].serve().await.unwrap(), backends[1].serve().await.unwrap()];
        let mut circuit = CircuitConfig::default();
        circuit.min_open = Duration::ZERO;
        let mut pool = Pool::builder().circuit(circuit);
        for (priority, (backend, server)) in (0..).zip(backends.iter().zip(&servers)) {
            let name = backend.name();
            let backend = Backend::new(name, server.url()).priority(priority);
            let backend = backend.credential(Credential::api_key(format!("key-of-{name}")).unwrap());
            pool = pool.add_backend(backend.add_deployment(Deployment::new(format!("gpt-{name}")).alias(ALIAS)));
        }
        let clients = ClientRegistry::builder().add_key(tower_azure_openai::context::Client::new("team"), KEY);
        let clients = TerminateCredentialsLayer::new(clients.build().unwrap());
        let gateway = gateway::builder(pool.build().unwrap(), clients).build(HttpClient::builder().build().unwrap());
        let url = serve(move |request: Request<Incoming>| {
            let gateway = gateway.clone();
            async move { gateway.oneshot(request).await.unwrap() }
        });
        Self { url: url.await, backends, _servers: servers }
    }

    fn azure(&self) -> Client<AzureConfig> {
        let config = AzureConfig::new().with_api_base(&self.url).with_api_key(KEY).with_deployment_id(ALIAS);
        Client::with_config(config.with_api_version("2025-04-01-preview"))
    }

    fn v1(&self) -> Client<OpenAIConfig> {
        self.v1_with(KEY)
    }

    fn v1_with(&self, key: &str) -> Client<OpenAIConfig> {
        let base = format!("{}/openai/v1", self.url);
        Client::with_config(OpenAIConfig::new().with_api_base(base).with_api_key(key))
    }

    /// The first backend turns the next request down, and would take the one after it: what it was sent must be sent anew to
    /// the second.
    fn turn_down_once(&self) {
        self.backends[0].faults().push(Fault::status(429).header("retry-after-ms", "0"));
    }
}

fn chat() -> CreateChatCompletionRequest {
    let message = ChatCompletionRequestUserMessageArgs::default().content("Hi").build().unwrap();
    CreateChatCompletionRequestArgs::default().model(ALIAS).messages([message.into()]).build().unwrap()
}

fn embedding() -> CreateEmbeddingRequest {
    CreateEmbeddingRequestArgs::default().model(ALIAS).input(["a", "b"]).build().unwrap()
}

fn response() -> CreateResponse {
    CreateResponseArgs::default().model(ALIAS).input("Hi").build().unwrap()
}

async fn all<T>(stream: impl Stream<Item = Result<T, OpenAIError>>) -> Vec<T> {
    soon("the end of a stream", stream.try_collect()).await.unwrap()
}

async fn says<C: Config>(client: &Client<C>) -> String {
    let answer = soon("chat", client.chat().create(chat())).await.unwrap();
    assert_eq!(answer.model, "gpt-4o");
    assert_eq!(answer.usage.unwrap().completion_tokens, 4);
    answer.choices[0].message.content.clone().unwrap()
}

async fn streams<C: Config>(client: &Client<C>) -> String {
    let mut request = chat();
    request.stream_options = Some(ChatCompletionStreamOptions { include_usage: Some(true), include_obfuscation: None });
    let chunks = all(soon("a stream", client.chat().create_stream(request)).await.unwrap()).await;
    assert_eq!(chunks.last().unwrap().usage.as_ref().unwrap().completion_tokens, 4);
    chunks.iter().flat_map(|chunk| &chunk.choices).filter_map(|choice| choice.delta.content.as_deref()).collect()
}

async fn embeds<C: Config>(client: &Client<C>) -> usize {
    soon("embeddings", client.embeddings().create(embedding())).await.unwrap().data.len()
}

async fn responds<C: Config>(client: &Client<C>) -> String {
    let response = soon("a response", client.responses().create(response())).await.unwrap();
    assert!(matches!(response.status, Status::Completed));
    assert_eq!(response.usage.as_ref().unwrap().output_tokens, 4);
    response.output_text().unwrap()
}

async fn streams_responses<C: Config>(client: &Client<C>) -> String {
    let events = soon("a stream", client.responses().create_stream(response())).await.unwrap();
    let events = all(events).await;
    assert!(matches!(events.first(), Some(ResponseStreamEvent::ResponseCreated(_))));
    assert!(matches!(events.last(), Some(ResponseStreamEvent::ResponseCompleted(_))));
    let delta = |event: &ResponseStreamEvent| match event {
        ResponseStreamEvent::ResponseOutputTextDelta(delta) => Some(delta.delta.clone()),
        _ => None,
    };
    events.iter().filter_map(delta).collect()
}

/// Each call twice: as the first backend answers it, and as the second does after the first turned it down.
async fn everything_works<C: Config>(stage: &Stage, client: Client<C>) {
    for backend in ["east", "west"] {
        let next = || {
            if backend == "west" {
                stage.turn_down_once();
            }
        };
        let hello = format!("Hello from {backend}");
        next();
        assert_eq!(says(&client).await, hello);
        next();
        assert_eq!(streams(&client).await, hello);
        next();
        assert_eq!(embeds(&client).await, 2);
        next();
        assert_eq!(responds(&client).await, hello);
        next();
        assert_eq!(streams_responses(&client).await, hello);
    }
    assert_eq!(stage.backends.each_ref().map(SimulatedBackend::request_count), [10, 5]);
}

#[tokio::test]
async fn on_its_azure_configuration() {
    let stage = Stage::set().await;
    everything_works(&stage, stage.azure()).await;
}

#[tokio::test]
async fn on_its_v1_configuration() {
    let stage = Stage::set().await;
    everything_works(&stage, stage.v1()).await;
}

#[tokio::test]
async fn errors_are_understood() {
    let stage = Stage::set().await;
    for backend in &stage.backends {
        backend.faults().always(Fault::status(400));
    }
    for error in [
        stage.v1().chat().create(chat()).await.unwrap_err(),
        stage.azure().chat().create(chat()).await.unwrap_err(),
        stage.v1_with("wrong").chat().create(chat()).await.unwrap_err(),
    ] {
        assert!(matches!(&error, OpenAIError::ApiError(_)), "{error:?}");
    }
}
