//! Realtime sessions of simulated backends, as a WebSocket library sees them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/http.rs"]
mod http_support;
#[path = "support/websocket.rs"]
mod websocket;

use std::time::Duration;

use futures_util::SinkExt;
use http::StatusCode;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tower::ServiceExt;
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment, SimulatedServer};

use http_support::{Answer, send, soon};
use websocket::{CLASSIC, Socket, V1, all, close, handshake, is_echoed, next, open};

const KEY: &str = "key-of-the-backend";

async fn serve() -> (SimulatedBackend, SimulatedServer) {
    let backend =
        SimulatedBackend::builder("east").api_key(KEY).deployment(SimulatedDeployment::standard("gpt-4o")).build();
    let server = backend.serve().await.unwrap();
    (backend, server)
}

async fn opened(server: &SimulatedServer) -> Socket {
    open(&server.url(), V1, &[("api-key", KEY)]).await.unwrap().0
}

#[tokio::test]
async fn say_what_they_hear() {
    let (backend, server) = serve().await;
    for path in [V1, CLASSIC] {
        let (mut socket, answer) = open(&server.url(), path, &[("api-key", KEY)]).await.unwrap();
        assert!(!answer.headers().contains_key("sec-websocket-protocol"));
        for size in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
            is_echoed(&mut socket, "x".repeat(size)).await;
            is_echoed(&mut socket, vec![7; size]).await;
        }
        socket.send(Message::Ping("p".into())).await.unwrap();
        assert_eq!(next(&mut socket).await.unwrap().unwrap(), Message::Pong("p".into()));
        socket.send(Message::Pong("unasked".into())).await.unwrap();
        assert_eq!(backend.in_flight(), 1);
        close(socket).await;
        soon("the end of the session", backend.wait_until_idle()).await;
    }
    assert_eq!(backend.request_count(), 2);
}

#[tokio::test]
async fn refuse_settings_that_name_a_deployment_which_is_not_there() {
    let (_backend, server) = serve().await;
    let key = [("api-key", KEY)];
    let (mut socket, _) = open(&server.url(), "/openai/v1/realtime?intent=transcription", &key).await.unwrap();
    let update = |kind: &str, session: &str| format!(r#"{{"type":"{kind}","event_id":"e1","session":{session}}}"#);
    for (kind, place) in [
        ("session.update", r#"{"audio":{"input":{"transcription":{"model":"M"}}}}"#),
        ("session.update", r#"{"model":"M"}"#),
        ("transcription_session.update", r#"{"input_audio_transcription":{"model":"M"}}"#),
    ] {
        is_echoed(&mut socket, update(kind, &place.replace('M', "gpt-4o"))).await;
        socket.send(Message::text(update(kind, &place.replace('M', "other")))).await.unwrap();
        let said = next(&mut socket).await.unwrap().unwrap().into_text().unwrap();
        let event: serde_json::Value = serde_json::from_str(&said).unwrap();
        let told = [&event["type"], &event["error"]["code"], &event["error"]["event_id"]];
        assert_eq!(told, ["error", "DeploymentNotFound", "e1"], "{said}");
    }
    is_echoed(&mut socket, r#"{"type":"response.create","session":{"model":"other"}}"#).await;
    let done = next(&mut socket).await.unwrap().unwrap().into_text().unwrap();
    let done: serde_json::Value = serde_json::from_str(&done).unwrap();
    assert_eq!(
        (&done["type"], &done["response"]["usage"]["input_tokens"]),
        (&"response.done".into(), &14.into()),
        "{done}"
    );
    close(socket).await;
    for path in ["/openai/v1/realtime?intent=transcription&model=gpt-4o", "/openai/v1/realtime?intent=x"] {
        let status = send(handshake(&format!("{}{path}", server.url()), KEY)).await.status;
        assert_eq!(status.as_u16(), 400, "{path}");
    }
}

#[tokio::test]
async fn return_fragments_and_closing_frames_as_they_came() {
    let (_backend, server) = serve().await;
    let mut socket = opened(&server).await;
    let fragment = |text: &'static str, opcode, is_final| {
        let mut header = FrameHeader { is_final, opcode: OpCode::Data(opcode), ..FrameHeader::default() };
        header.mask = Some([1, 2, 3, 4]);
        Message::Frame(Frame::from_payload(header, text.into()))
    };
    socket.send(fragment("frag", Data::Text, false)).await.unwrap();
    socket.send(Message::Ping("between".into())).await.unwrap();
    socket.send(fragment("ments", Data::Continue, true)).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap().unwrap(), Message::Pong("between".into()));
    assert_eq!(next(&mut socket).await.unwrap().unwrap(), Message::text("fragments"));

    let frame = CloseFrame { code: CloseCode::Away, reason: "gone".into() };
    socket.close(Some(frame.clone())).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap().unwrap(), Message::Close(Some(frame)));
    assert!(next(&mut socket).await.is_none());
}

#[tokio::test]
async fn begin_with_a_handshake_that_is_right() {
    let (_backend, server) = serve().await;
    let at = |path: &str| handshake(&format!("{}{path}", server.url()), KEY);
    let without = |name: &str| {
        let mut request = at(V1);
        request.headers_mut().remove(name);
        request
    };
    let mut old = at(V1);
    old.headers_mut().insert("sec-websocket-version", "8".parse().unwrap());
    let old = send(old).await;
    assert_eq!((old.status, old.header("sec-websocket-version")), (StatusCode::UPGRADE_REQUIRED, Some("13")));
    for (request, status) in [
        (without("upgrade"), 400),
        (without("connection"), 400),
        (without("sec-websocket-key"), 400),
        (without("sec-websocket-version"), 426),
        (without("api-key"), 401),
        (at("/openai/v1/realtime"), 400),
        (at("/openai/v1/realtime?model=other"), 404),
        (at("/openai/realtime?deployment=gpt-4o"), 404),
    ] {
        let asked = format!("{request:?}");
        assert_eq!(send(request).await.status, status, "{asked}");
    }
    let offered = [("api-key", KEY), ("sec-websocket-protocol", "other, realtime")];
    let (socket, answer) = open(&server.url(), V1, &offered).await.unwrap();
    assert_eq!(all(answer.headers(), "sec-websocket-protocol"), ["realtime"]);
    close(socket).await;
}

#[tokio::test]
async fn meet_faults_at_the_handshake() {
    let (backend, server) = serve().await;
    backend.faults().push(Fault::throttled_for(Duration::from_secs(3)).for_deployment("gpt-4o"));
    let throttled = send(handshake(&format!("{}{V1}", server.url()), KEY)).await;
    assert_eq!((throttled.status.as_u16(), throttled.header("retry-after-ms")), (429, Some("3000")));
    backend.faults().push(Fault::reset());
    assert!(open(&server.url(), V1, &[("api-key", KEY)]).await.is_err());
    close(opened(&server).await).await;
    soon("the end of the session", backend.wait_until_idle()).await;
}

#[tokio::test]
async fn end_with_either_side() {
    let (backend, server) = serve().await;
    let leaving = opened(&server).await;
    assert_eq!(backend.in_flight(), 1);
    drop(leaving);
    soon("the end of the session", backend.wait_until_idle()).await;

    let mut unmasked = opened(&server).await;
    tokio::io::AsyncWriteExt::write_all(unmasked.get_mut(), b"\x81\x01x").await.unwrap();
    assert!(next(&mut unmasked).await.is_none_or(|message| message.is_err()));

    let mut left = opened(&server).await;
    server.stop().await;
    assert!(next(&mut left).await.is_none_or(|message| message.is_err()));
    assert_eq!(backend.in_flight(), 0);
}

#[tokio::test]
async fn are_no_more_than_a_handshake_in_process() {
    let (backend, _server) = serve().await;
    let accepted = backend.clone().oneshot(handshake(V1, KEY)).await.unwrap();
    assert_eq!((accepted.status().as_u16(), backend.in_flight()), (101, 1));
    assert_eq!(accepted.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(Answer::read(accepted).await.text(), "");
    assert_eq!(backend.in_flight(), 0);
}
