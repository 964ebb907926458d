//! What is used on WebSockets, counted and limited through the whole stack, between real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/heard.rs"]
mod heard;
#[path = "support/http.rs"]
mod http_support;
#[path = "support/websocket.rs"]
mod websocket;

use std::sync::{Arc, Mutex};

use futures_util::SinkExt;
use http::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tower::ServiceExt;
use tower_azure_openai::client::HttpClient;
use tower_azure_openai::context::{Client, Limits};
use tower_azure_openai::gateway;
use tower_azure_openai::limit::{ClientLimitLayer, MemoryLimits};
use tower_azure_openai::meter::{Ledger, MeterUsageLayer};
use tower_azure_openai::pool::{Backend, Credential, Deployment, Pool};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};

use heard::Heard;
use http_support::serve;
use websocket::{Socket, V1, next};

const KEY: &str = "key-of-the-client";
const RESPONSES: &str = "/openai/v1/responses";

/// A gateway before a resource that says back what it hears.
struct Estate {
    url: String,
    limits: MemoryLimits,
    ledger: Ledger,
    /// What each usage came to, and whether its record tells it.
    metered: Arc<Mutex<Vec<(u64, bool)>>>,
    client: Client,
}

impl Estate {
    async fn new() -> Self {
        let client = Client::new("team").limits(Limits::new().tokens_per_minute(1_000).requests_per_minute(100));
        let backend = Backend::new("east", Heard::default().serve().await)
            .credential(Credential::api_key("key-of-east").unwrap())
            .add_deployment(Deployment::new("gpt-4o"));
        let pool = Pool::builder().add_backend(backend).build().unwrap();
        let clients = ClientRegistry::builder().add_key(client.clone(), KEY).build().unwrap();
        let (limits, ledger, metered) = (MemoryLimits::new(), Ledger::new(), Arc::<Mutex<Vec<_>>>::default());
        let (counted, noted) = (ledger.clone(), metered.clone());
        let meter = MeterUsageLayer::new().on_usage(move |metered| {
            counted.enter(metered);
            noted.lock().unwrap().push((metered.usage.total(), metered.is_on_record));
        });
        let gateway = gateway::builder(pool, TerminateCredentialsLayer::new(clients))
            .limits(ClientLimitLayer::new(limits.clone()))
            .meter(meter)
            .build(HttpClient::builder().build().unwrap());
        let url = serve(move |request: Request<Incoming>| {
            let gateway = gateway.clone();
            async move { gateway.oneshot(request).await.unwrap() }
        });
        Self { url: url.await, limits, ledger, metered, client }
    }

    async fn open(&self, path: &str) -> Socket {
        websocket::open(&self.url, path, &[("api-key", KEY)]).await.unwrap().0
    }

    /// What is left of a thousand, and of a hundred.
    fn left(&self) -> (u64, u64) {
        let left = self.limits.left(&self.client);
        (left.tokens.unwrap().count, left.requests.unwrap().count)
    }
}

/// Says something and hears it from the backend.
async fn hears(socket: &mut Socket, event: &Value) {
    socket.send(Message::text(event.to_string())).await.unwrap();
    let heard: Value = serde_json::from_str(next(socket).await.unwrap().unwrap().to_text().unwrap()).unwrap();
    assert_eq!(heard["type"], event["type"], "{heard}");
}

fn done(input: u64, output: u64) -> Value {
    json!({"type": "response.done", "response": {"id": "resp_1", "object": "realtime.response", "status": "completed",
        "usage": {"input_tokens": input, "output_tokens": output, "total_tokens": input + output,
            "input_token_details": {"cached_tokens": 1, "audio_tokens": input - 2}}}})
}

#[tokio::test]
async fn each_response_of_a_realtime_session_adds_up_and_is_settled_before_its_client_hears_of_it() {
    let estate = Estate::new().await;
    let mut socket = estate.open(V1).await;
    assert_eq!(estate.left().1, 99, "a session is one request");
    hears(&mut socket, &json!({"type": "response.created", "response": {"usage": null}})).await;
    assert_eq!(estate.metered.lock().unwrap().len(), 0);
    for (answer, total) in [(done(100, 50), 150), (done(10, 0), 160), (done(200, 40), 400)] {
        hears(&mut socket, &answer).await;
        let left = estate.left().0;
        assert!((1_000 - total..=1_000 - total + 20).contains(&left), "{total} were used, {left} are left");
    }
    let spoken = json!({"type": "conversation.item.input_audio_transcription.completed", "item_id": "i",
        "transcript": "hi", "usage": {"type": "duration", "seconds": 3.5}});
    hears(&mut socket, &spoken).await;
    drop(socket);
    assert_eq!(*estate.metered.lock().unwrap(), [(150, false), (10, false), (240, false), (0, false)]);
    let used = estate.ledger.used_today("team");
    assert_eq!((used.input_tokens, used.output_tokens, used.input_audio_tokens), (310, 90, 304));
    assert_eq!((used.requests, used.audio_seconds), (4, 3.5));
}

#[tokio::test]
async fn a_session_without_an_allowance_left_is_not_opened() {
    let estate = Estate::new().await;
    let mut socket = estate.open(V1).await;
    hears(&mut socket, &done(900, 600)).await;
    assert_eq!(estate.left().0, 0);
    hears(&mut socket, &done(10, 10)).await;
    let refused = http_support::send(websocket::handshake(&format!("{}{V1}", estate.url), KEY)).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
}

#[tokio::test]
async fn each_call_on_a_socket_of_responses_is_a_request_with_a_usage_of_its_own() {
    let estate = Estate::new().await;
    let mut socket = estate.open(RESPONSES).await;
    for (i, (input, output)) in [(20, 5), (30, 7)].into_iter().enumerate() {
        hears(&mut socket, &json!({"type": "response.create", "model": "gpt-4o", "input": "hi"})).await;
        assert_eq!(estate.left().1, 99 - i as u64);
        hears(&mut socket, &json!({"type": "response.output_text.delta", "delta": "\"usage\""})).await;
        let completed = json!({"type": "response.completed", "response": {"id": format!("resp_{i}"), "object": "response",
            "usage": {"input_tokens": input, "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 3}}}});
        hears(&mut socket, &completed).await;
        hears(&mut socket, &completed).await;
    }
    assert_eq!(*estate.metered.lock().unwrap(), [(25, false), (37, false)], "each once");
    let left = estate.left().0;
    assert!((938..=958).contains(&left), "{left}");
    let used = estate.ledger.used_today("team");
    assert_eq!((used.requests, used.input_tokens, used.output_tokens), (2, 50, 12));
}
