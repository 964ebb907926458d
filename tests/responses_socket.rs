//! Responses over WebSocket through the whole stack, between real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/heard.rs"]
mod heard;
#[path = "support/http.rs"]
mod http_support;
#[path = "support/websocket.rs"]
mod websocket;

use futures_util::SinkExt;
use http::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tower::ServiceExt;
use tower_azure_openai::client::HttpClient;
use tower_azure_openai::context::Client;
use tower_azure_openai::gateway;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, Credential, Deployment, Pool};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};
use tower_azure_openai::upgrade::UpgradeLayer;

use heard::Heard;
use http_support::{serve, soon};
use websocket::{Socket, next};

const KEY: &str = "key-of-the-client";
const PATH: &str = "/openai/v1/responses";

/// Answers every request with a rate limit.
async fn throttled() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let _ = tcp.read(&mut [0; 4096]).await.unwrap();
            let answer = b"HTTP/1.1 429 Too Many\r\nretry-after-ms: 7000\r\ncontent-length: 0\r\n\r\n";
            tcp.write_all(answer).await.unwrap();
        }
    });
    url
}

fn backend(name: &str, url: String, priority: u32) -> Backend {
    let backend = Backend::new(name, url).credential(Credential::api_key(format!("key-of-{name}")).unwrap());
    backend.priority(priority).add_deployment(Deployment::new(format!("{name}-4o")).alias("gpt-4o"))
}

async fn front(pool: Pool, client: Client) -> (String, UpgradeLayer) {
    let clients = ClientRegistry::builder().add_key(client, KEY).build().unwrap();
    front_with(pool, clients, InspectLayer::new()).await
}

async fn front_with(pool: Pool, clients: ClientRegistry, inspect: InspectLayer) -> (String, UpgradeLayer) {
    let upgrade = UpgradeLayer::new();
    let gateway = gateway::builder(pool, TerminateCredentialsLayer::new(clients))
        .inspect(inspect)
        .upgrade(upgrade.clone())
        .build(HttpClient::builder().build().unwrap());
    let url = serve(move |request: Request<Incoming>| {
        let gateway = gateway.clone();
        async move { gateway.oneshot(request).await.unwrap() }
    });
    (url.await, upgrade)
}

async fn open(url: &str, key: &str) -> Socket {
    websocket::open(url, PATH, &[("api-key", key)]).await.unwrap().0
}

async fn say(socket: &mut Socket, frame: &Value) {
    socket.send(Message::text(frame.to_string())).await.unwrap();
}

async fn hear(socket: &mut Socket) -> Value {
    serde_json::from_str(next(socket).await.unwrap().unwrap().to_text().unwrap()).unwrap()
}

/// The error event, and how the socket was closed after it.
async fn refused(socket: &mut Socket) -> (u64, String, Value, CloseCode) {
    let event = hear(socket).await;
    assert_eq!((&event["type"], &event["status"]), (&json!("error"), &event["error"]["status"]), "{event}");
    let Message::Close(Some(close)) = next(socket).await.unwrap().unwrap() else { panic!("no close after {event}") };
    let error = &event["error"];
    (error["status"].as_u64().unwrap(), error["code"].as_str().unwrap().to_owned(), error.clone(), close.code)
}

fn create(model: &str) -> Value {
    json!({ "type": "response.create", "model": model, "input": "Hi", "store": false })
}

#[tokio::test]
async fn frames_reach_the_backend_that_accepts_with_the_name_it_knows() {
    let heard = Heard::default();
    let pool = Pool::builder()
        .add_backend(backend("west", throttled().await, 0))
        .add_backend(backend("east", heard.serve().await, 1).add_deployment(Deployment::new("east-mini").alias("mini")))
        .build()
        .unwrap();
    let (url, upgrade) = front(pool.clone(), Client::new("team")).await;
    let mut socket = open(&url, KEY).await;
    say(&mut socket, &create("gpt-4o")).await;
    assert_eq!(hear(&mut socket).await, create("east-4o"), "rewritten, and back as it was said there");
    let cancel = json!({ "type": "response.cancel" });
    for (said, heard) in
        [(create("mini"), create("east-mini")), (cancel.clone(), cancel), (create("gpt-4o"), create("east-4o"))]
    {
        say(&mut socket, &said).await;
        assert_eq!(hear(&mut socket).await, heard);
    }
    assert_eq!(heard.all()[0], format!("GET {PATH} Some(\"key-of-east\")"));
    assert_eq!(pool.status().backends.iter().map(|backend| backend.in_flight).collect::<Vec<_>>(), [0, 1]);
    websocket::close(socket).await;
    soon("the end", upgrade.connections().closed()).await;
    assert_eq!(pool.status().backends[1].in_flight, 0);
}

#[tokio::test]
async fn what_would_be_an_answer_is_an_event_and_a_close() {
    let heard = Heard::default();
    let pool = Pool::builder().add_backend(backend("east", heard.serve().await, 0));
    let pool = pool.add_backend(Backend::new("full", throttled().await).add_deployment(Deployment::new("full")));
    let client = Client::new("team").allow(["gpt-4o", "full", "nobody"]);
    let (url, upgrade) = front(pool.build().unwrap(), client).await;
    for (key, frame, status, code) in [
        (KEY, create("o3"), 403, "alias_not_allowed"),
        (KEY, create("nobody"), 404, "DeploymentNotFound"),
        (KEY, json!({ "type": "response.create" }), 400, "invalid_body"),
        (KEY, json!([1]), 400, "invalid_body"),
    ] {
        let mut socket = open(&url, key).await;
        say(&mut socket, &frame).await;
        let (seen, named, _, close) = refused(&mut socket).await;
        assert_eq!((seen, named.as_str(), close), (status, code, CloseCode::Policy), "{frame}");
    }
    // Nobody waits for what an unknown client would say.
    let mut socket = open(&url, "wrong").await;
    let (status, code, _, close) = refused(&mut socket).await;
    assert_eq!((status, code.as_str(), close), (401, "401", CloseCode::Policy));

    let mut socket = open(&url, KEY).await;
    say(&mut socket, &create("full")).await;
    let (status, _, error, close) = refused(&mut socket).await;
    assert_eq!((status, close), (429, CloseCode::Again));
    assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| (1..=7_000).contains(&ms)), "{error}");
    assert_eq!(heard.all(), [""; 0]);
    soon("the end", upgrade.connections().closed()).await;
}

#[tokio::test]
async fn a_later_frame_is_held_to_the_client_and_to_the_backend() {
    let (heard, other) = (Heard::default(), Heard::default());
    let elsewhere = Backend::new("other", other.serve().await).add_deployment(Deployment::new("elsewhere"));
    let pool = Pool::builder().add_backend(backend("east", heard.serve().await, 0)).add_backend(elsewhere);
    let (url, _) = front(pool.build().unwrap(), Client::new("team").allow(["gpt-4o", "elsewhere"])).await;
    let twice = Message::text(r#"{"type":"x","type":"response.create","model":"o3"}"#);
    for (frame, status, code) in [
        (Message::text(create("o3").to_string()), 403, "alias_not_allowed"),
        (Message::binary(create("o3").to_string()), 403, "alias_not_allowed"),
        (twice, 403, "alias_not_allowed"),
        (Message::text(create("elsewhere").to_string()), 404, "DeploymentNotFound"),
        (Message::text("{"), 400, "invalid_body"),
    ] {
        let mut socket = open(&url, KEY).await;
        say(&mut socket, &create("gpt-4o")).await;
        assert_eq!(hear(&mut socket).await, create("east-4o"));
        socket.send(frame.clone()).await.unwrap();
        let (seen, named, _, close) = refused(&mut socket).await;
        assert_eq!((seen, named.as_str(), close), (status, code, CloseCode::Policy), "{frame}");
    }
    assert_eq!(heard.frames().len(), 5, "nothing else was handed on");
    assert_eq!(other.all(), [""; 0]);
}

/// A client that says these events hears them from the backend, which echoes.
async fn say_events(socket: &mut Socket, events: &[Value]) {
    for event in events {
        say(socket, event).await;
        assert_eq!(hear(socket).await, *event);
    }
}

#[tokio::test]
async fn what_a_backend_makes_on_a_socket_is_found_there_again() {
    let item = |content: &str| json!({ "type": "reasoning", "id": "rs_1", "encrypted_content": content });
    let made = |id: &str| json!({ "type": "response.created", "response": { "id": id, "object": "response" } });
    let continued = |key: &str, value: Value| {
        let mut frame = create("gpt-4o");
        frame[key] = value;
        frame
    };
    for (event, later) in [
        (made("resp_east1"), continued("previous_response_id", json!("resp_east1"))),
        (
            json!({ "type": "response.output_item.done", "item": item("gAAAAsealed-by-one") }),
            continued("input", json!([item("gAAAAsealed-by-one")])),
        ),
        (
            json!({ "type": "response.completed", "response": { "id": "resp_2", "output": [item("gAAAAsecond")] } }),
            continued("input", json!([{ "type": "message", "role": "user", "content": "x" }, item("gAAAAsecond")])),
        ),
    ] {
        let backends = [Heard::default(), Heard::default()];
        let pool = Pool::builder().add_backend(backend("east", backends[0].serve().await, 0)).add_backend(backend(
            "west",
            backends[1].serve().await,
            0,
        ));
        let (url, _) = front(pool.build().unwrap(), Client::new("team")).await;
        let mut socket = open(&url, KEY).await;
        say(&mut socket, &create("gpt-4o")).await;
        hear(&mut socket).await;
        say_events(&mut socket, &[event]).await;
        let maker = backends.iter().position(|backend| !backend.frames().is_empty()).unwrap();
        for _ in 0..4 {
            let mut socket = open(&url, KEY).await;
            say(&mut socket, &later).await;
            hear(&mut socket).await;
        }
        assert_eq!(backends.map(|backend| backend.frames().len())[1 - maker], 0, "{later}");
    }
}

#[tokio::test]
async fn an_error_that_comes_over_a_socket_teaches_the_circuit() {
    let limited =
        json!({ "code": "rate_limit_exceeded", "message": "Rate limit reached. Please retry after 7 seconds." });
    for (event, state) in [
        (json!({ "type": "error", "status": 429, "error": limited }), "open"),
        (json!({ "type": "response.failed", "response": { "id": "resp_1", "error": limited } }), "open"),
        (
            json!({ "type": "error", "status": 400, "error": { "type": "invalid_request_error", "code": "x" } }),
            "closed",
        ),
        (json!({ "type": "response.output_text.delta", "delta": limited.to_string() }), "closed"),
    ] {
        let heard = Heard::default();
        let pool = Pool::builder().add_backend(backend("east", heard.serve().await, 0)).build().unwrap();
        let (url, _) = front(pool.clone(), Client::new("team")).await;
        let mut socket = open(&url, KEY).await;
        say(&mut socket, &create("gpt-4o")).await;
        hear(&mut socket).await;
        say_events(&mut socket, std::slice::from_ref(&event)).await;
        let deployment = &pool.status().backends[0].deployments[0];
        assert_eq!((deployment.circuit, deployment.failures), (state, 0), "{event}");
    }
}

/// A part of a text of which more will come.
fn part(bytes: usize, is_first: bool) -> Message {
    let code = if is_first { Data::Text } else { Data::Continue };
    Message::Frame(Frame::message(vec![b' '; bytes], OpCode::Data(code), false))
}

async fn becomes(what: &str, is_so: impl Fn() -> bool) {
    soon(what, async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Before the first frame and after it, whole or in parts, with pings in between.
#[tokio::test]
async fn what_is_held_of_messages_is_charged_to_the_client() {
    let heard = Heard::default();
    let pool = Pool::builder().add_backend(backend("east", heard.serve().await, 0)).build().unwrap();
    let (one, other) = ("key-of-one-client", "key-of-another-client");
    let clients = ClientRegistry::builder().add_key(Client::new("one"), one).add_key(Client::new("other"), other);
    let inspect = InspectLayer::new().replay_memory(1 << 20);
    let account = inspect.account();
    let (url, upgrade) = front_with(pool, clients.build().unwrap(), inspect).await;

    let mut first = open(&url, one).await;
    first.send(part(200 << 10, true)).await.unwrap();
    first.send(Message::Ping("are you there".into())).await.unwrap();
    assert!(matches!(next(&mut first).await, Some(Ok(Message::Pong(_)))));
    becomes("a charge", || account.in_use() >= 200 << 10).await;

    let mut second = open(&url, one).await;
    say(&mut second, &create("gpt-4o")).await;
    assert_eq!(hear(&mut second).await, create("east-4o"));
    second.send(part(100 << 10, true)).await.unwrap();
    second.send(part(100 << 10, false)).await.unwrap();
    becomes("a charge", || account.in_use() >= 400 << 10).await;
    second.send(part(100 << 10, false)).await.unwrap();
    let (status, code, error, close) = refused(&mut second).await;
    assert_eq!((status, code.as_str(), close), (503, "overloaded", CloseCode::Again));
    assert!(error["retry_after_ms"].is_u64(), "{error}");
    drop(second);

    let mut third = open(&url, other).await;
    let mut long = create("gpt-4o");
    long["input"] = "x".repeat(150 << 10).into();
    for _ in 0..5 {
        say(&mut third, &long).await;
        assert_eq!(hear(&mut third).await["input"], long["input"], "half of it is for others");
    }
    becomes("what has gone on is given back", || account.in_use() < 400 << 10).await;
    drop((first, third));
    soon("the end of all", upgrade.connections().closed()).await;
    assert_eq!(account.in_use(), 0);
}
