//! Realtime sessions whose frames name models, through the whole stack, between real sockets.
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
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tower::ServiceExt;
use tower_azure_openai::client::HttpClient;
use tower_azure_openai::context::{Client, Limits};
use tower_azure_openai::gateway;
use tower_azure_openai::pool::{Backend, Credential, Deployment, Pool};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};
use tower_azure_openai::upgrade::UpgradeLayer;

use heard::Heard;
use http_support::{serve, soon};
use websocket::{Socket, V1, is_echoed, next};

const KEY: &str = "key-of-the-client";
const TRANSCRIPTION: &str = "/openai/v1/realtime?intent=transcription";

fn backend<'a>(name: &str, url: String, deployments: impl IntoIterator<Item = (&'a str, &'a str)>) -> Backend {
    let backend = Backend::new(name, url).credential(Credential::api_key(format!("key-of-{name}")).unwrap());
    deployments
        .into_iter()
        .fold(backend, |backend, (alias, deployment)| backend.add_deployment(Deployment::new(deployment).alias(alias)))
}

async fn front(pool: Pool, client: Client) -> (String, UpgradeLayer) {
    let upgrade = UpgradeLayer::new();
    let clients = ClientRegistry::builder().add_key(client, KEY).build().unwrap();
    let gateway = gateway::builder(pool, TerminateCredentialsLayer::new(clients))
        .upgrade(upgrade.clone())
        .build(HttpClient::builder().build().unwrap());
    let url = serve(move |request: Request<Incoming>| {
        let gateway = gateway.clone();
        async move { gateway.oneshot(request).await.unwrap() }
    });
    (url.await, upgrade)
}

/// A backend for speech and one that writes down what is said, behind one gateway.
struct Estate {
    voice: Heard,
    scribe: Heard,
    url: String,
    pool: Pool,
}

impl Estate {
    async fn of(client: Client) -> Self {
        let (voice, scribe) = (Heard::default(), Heard::greeting(r#"{"type":"session.created"}"#));
        let pool = Pool::builder()
            .add_backend(backend("voice", voice.serve().await, [("gpt-realtime", "rt-east")]))
            .add_backend(backend(
                "scribe",
                scribe.serve().await,
                [("whisper", "whisper-west"), ("gpt-transcribe", "tr-west")],
            ))
            .build()
            .unwrap();
        let (url, _) = front(pool.clone(), client).await;
        Self { voice, scribe, url, pool }
    }

    async fn open(&self, path: &str) -> Socket {
        websocket::open(&self.url, path, &[("api-key", KEY)]).await.unwrap().0
    }
}

async fn say(socket: &mut Socket, frame: &Value) {
    socket.send(Message::text(frame.to_string())).await.unwrap();
}

async fn hear(socket: &mut Socket) -> Value {
    serde_json::from_str(next(socket).await.unwrap().unwrap().to_text().unwrap()).unwrap()
}

fn greeting() -> Value {
    json!({ "type": "session.created" })
}

/// Every place at which a session names the model of its transcription.
fn updates(model: &str) -> [Value; 3] {
    let transcription = json!({ "model": model, "language": "de" });
    [
        json!({ "type": "session.update", "session": { "type": "transcription", "audio": { "input": { "transcription": transcription } } } }),
        json!({ "type": "transcription_session.update", "session": { "input_audio_transcription": transcription } }),
        json!({ "type": "transcription_session.update", "input_audio_transcription": transcription }),
    ]
}

#[tokio::test]
async fn a_transcription_session_goes_where_its_first_frame_leads() {
    for client in [Client::new("anybody"), Client::new("held").allow(["whisper"])] {
        let estate = Estate::of(client).await;
        for (said, heard) in updates("whisper").iter().zip(updates("whisper-west")) {
            let mut socket = estate.open(TRANSCRIPTION).await;
            say(&mut socket, said).await;
            assert_eq!([hear(&mut socket).await, hear(&mut socket).await], [greeting(), heard]);
            websocket::close(socket).await;
        }
        assert_eq!(estate.voice.all(), [""; 0]);
        let expected = format!("GET {TRANSCRIPTION} Some(\"key-of-scribe\")");
        assert_eq!(estate.scribe.all()[0], expected);
    }
}

#[tokio::test]
async fn one_that_waits_for_the_backend_goes_where_most_of_its_aliases_are() {
    let clients = [
        Client::new("anybody"),
        Client::new("held").allow(["gpt-transcribe"]),
        Client::new("routed").allow(["ours"]).route("ours", "gpt-transcribe"),
    ];
    for (client, alias) in clients.into_iter().zip(["gpt-transcribe", "gpt-transcribe", "ours"]) {
        let estate = Estate::of(client).await;
        let mut socket = estate.open(TRANSCRIPTION).await;
        assert_eq!(hear(&mut socket).await, greeting(), "it was not waited for what the client says");
        for (said, heard) in updates(alias).iter().zip(updates("tr-west")) {
            say(&mut socket, said).await;
            assert_eq!(hear(&mut socket).await, heard);
        }
        assert_eq!(estate.voice.all(), [""; 0]);
    }
}

#[tokio::test]
async fn a_first_frame_that_names_nothing_is_not_held() {
    let estate = Estate::of(Client::new("held").allow(["whisper"])).await;
    let mut socket = estate.open(TRANSCRIPTION).await;
    let audio = json!({ "type": "input_audio_buffer.append", "audio": "AAAA" });
    say(&mut socket, &audio).await;
    assert_eq!([hear(&mut socket).await, hear(&mut socket).await], [greeting(), audio]);
}

#[tokio::test]
async fn a_name_in_the_query_is_for_the_gateway_only() {
    let estate = Estate::of(Client::new("held").allow(["whisper"])).await;
    let mut socket = estate.open(&format!("{TRANSCRIPTION}&model=whisper")).await;
    assert_eq!(hear(&mut socket).await, greeting());
    assert_eq!(estate.scribe.all()[0], format!("GET {TRANSCRIPTION} Some(\"key-of-scribe\")"));
    let forbidden = format!("{TRANSCRIPTION}&model=gpt-realtime");
    assert!(websocket::open(&estate.url, &forbidden, &[("api-key", KEY)]).await.is_err());
}

/// The event by which a session that goes on is told of a refusal.
async fn refused(socket: &mut Socket) -> (u64, String, Value) {
    let event = hear(socket).await;
    assert_eq!(event["type"], "error", "{event}");
    let error = &event["error"];
    (event["status"].as_u64().unwrap(), error["code"].as_str().unwrap().to_owned(), error["event_id"].clone())
}

#[tokio::test]
async fn a_name_in_a_session_that_stands_is_judged_and_the_session_goes_on() {
    let estate = Estate::of(Client::new("held").allow(["gpt-realtime", "whisper"])).await;
    let mut socket = estate.open("/openai/v1/realtime?model=gpt-realtime").await;
    let own = |model: &str| json!({ "type": "session.update", "session": { "model": model, "voice": "x" } });
    say(&mut socket, &own("gpt-realtime")).await;
    assert_eq!(hear(&mut socket).await, own("rt-east"));
    let mut forbidden = updates("gpt-transcribe").to_vec();
    forbidden.push(own("o3"));
    forbidden.push(json!({ "type": "session.update", "session": { "model": "gpt-realtime",
        "audio": { "input": { "transcription": { "model": "o3" } } } } }));
    for (number, mut frame) in forbidden.into_iter().enumerate() {
        frame["event_id"] = format!("event_{number}").into();
        say(&mut socket, &frame).await;
        let expected = (403, "alias_not_allowed".to_owned(), frame["event_id"].clone());
        assert_eq!(refused(&mut socket).await, expected, "{frame}");
    }
    say(&mut socket, &updates("whisper")[0]).await;
    assert_eq!(refused(&mut socket).await, (404, "DeploymentNotFound".to_owned(), Value::Null), "served elsewhere");
    for hidden in [
        r#"{"type":"session.update","session":{},"session":{"model":"o3"}}"#,
        r#"{"type":"session.update","session":{"Model":"o3"}}"#,
        r#"{"type":"session.update","session":{"m\u006fdel":"o3"}}"#,
    ] {
        socket.send(Message::text(hidden)).await.unwrap();
        assert_ne!(refused(&mut socket).await.0, 200, "{hidden}");
    }
    is_echoed(&mut socket, r#"{"type":"conversation.item.create","item":{"text":"a model"}}"#).await;
    assert_eq!(estate.voice.frames().len(), 2, "{:?}", estate.voice.frames());
}

#[tokio::test]
async fn what_is_wrong_with_the_first_frame_ends_the_session() {
    let estate = Estate::of(Client::new("held").allow(["whisper", "nobody"])).await;
    for (model, status) in [("gpt-transcribe", 403), ("nobody", 404)] {
        let mut socket = estate.open(TRANSCRIPTION).await;
        say(&mut socket, &updates(model)[0]).await;
        assert_eq!(refused(&mut socket).await.0, status);
        let Message::Close(Some(close)) = next(&mut socket).await.unwrap().unwrap() else { panic!("no close") };
        assert_eq!(close.code, CloseCode::Policy);
    }
    let mut socket = websocket::open(&estate.url, TRANSCRIPTION, &[("api-key", "wrong")]).await.unwrap().0;
    assert_eq!(refused(&mut socket).await.0, 401, "nothing is read of a client that nobody knows");
    assert_eq!((estate.scribe.all().len(), estate.voice.all().len()), (0, 0));
}

#[tokio::test]
async fn settings_of_a_session_need_no_place_and_cost_no_request() {
    let heard = Heard::default();
    let only = backend("voice", heard.serve().await, [("gpt-realtime", "rt-east")]).max_in_flight(1);
    let pool = Pool::builder().add_backend(only).build().unwrap();
    let client = Client::new("team").limits(Limits::new().requests_per_minute(1));
    let (url, upgrade) = front(pool.clone(), client).await;
    let (mut socket, _) =
        websocket::open(&url, "/openai/v1/realtime?model=gpt-realtime", &[("api-key", KEY)]).await.unwrap();
    for _ in 0..3 {
        say(&mut socket, &json!({ "type": "session.update", "session": { "model": "gpt-realtime" } })).await;
        assert_eq!(hear(&mut socket).await["session"]["model"], "rt-east");
    }
    assert_eq!(pool.status().backends[0].in_flight, 1);
    websocket::close(socket).await;
    soon("the end", upgrade.connections().closed()).await;
    assert_eq!(pool.status().backends[0].in_flight, 0);
}

#[tokio::test]
async fn an_error_of_a_session_teaches_the_circuit() {
    let limited = json!({ "type": "rate_limit_error", "code": "rate_limit_exceeded", "message": "Please retry after 7 seconds." });
    for (event, state) in [
        (json!({ "type": "error", "error": limited }), "open"),
        (
            json!({ "type": "response.done", "response": { "status": "failed", "status_details": { "type": "failed", "error": limited } } }),
            "open",
        ),
        (
            json!({ "type": "error", "error": { "type": "invalid_request_error", "code": "invalid_value", "message": "x" } }),
            "closed",
        ),
        (json!({ "type": "response.done", "response": { "status": "completed", "status_details": null } }), "closed"),
    ] {
        let estate = Estate::of(Client::new("team")).await;
        let mut socket = estate.open("/openai/v1/realtime?model=gpt-realtime").await;
        is_echoed(&mut socket, event.to_string()).await;
        let deployment = &estate.pool.status().backends[0].deployments[0];
        assert_eq!((deployment.circuit, deployment.failures), (state, 0), "{event}");
        is_echoed(&mut socket, "the session goes on").await;
    }
}

#[tokio::test]
async fn pings_of_either_side_reach_the_other() {
    let estate = Estate::of(Client::new("team")).await;
    let (mut socket, _) = websocket::open(
        &estate.url,
        &V1.replace("gpt-4o", "gpt-realtime"),
        &[("api-key", KEY), ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")],
    )
    .await
    .unwrap();
    socket.send(Message::Ping("p".into())).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap().unwrap(), Message::Pong("p".into()));
    is_echoed(&mut socket, "unharmed").await;
}
