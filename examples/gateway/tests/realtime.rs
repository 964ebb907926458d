//! Realtime sessions over WebSocket.

use std::time::{Duration, SystemTime};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::Fault;

use crate::http_support::{self, send, soon};
use crate::process::{self, Gateway, LISTEN, is};
use crate::websocket::{CLASSIC, Socket, V1, close, handshake, is_echoed, next, open};
use crate::{KEY, gateway_before, serve};

async fn opened(gateway: &Gateway) -> Socket {
    open(&gateway.url, V1, &[("api-key", KEY)]).await.unwrap().0
}

#[tokio::test]
async fn are_carried_through_failover_of_the_handshake() {
    let browser = format!("realtime, openai-insecure-api-key.{KEY}");
    for (path, headers) in [
        (V1.to_owned(), vec![("sec-websocket-protocol", browser.as_str())]),
        (format!("{CLASSIC}&api-key={KEY}"), vec![]),
    ] {
        let ((east, server), (west, other)) = (serve("east").await, serve("west").await);
        let backends = process::backends(&[("east", &server.url()), ("west", &other.url())]);
        let mut gateway = Gateway::start(&[LISTEN, &backends, &process::client(KEY)].concat()).await;
        east.faults().push(Fault::throttled_for(Duration::from_secs(9)));
        let (mut socket, _) = open(&gateway.url, &path, &headers).await.unwrap();
        is_echoed(&mut socket, "hello").await;
        assert_eq!(in_flight(&gateway.status().await), [0, 1]);
        close(socket).await;
        gateway.status_becomes("no connection in flight", |status| in_flight(status) == [0, 0]).await;
        assert_eq!((east.request_count(), west.request_count()), (1, 1));
        for received in east.requests().iter().chain(&west.requests()) {
            assert!(!format!("{} {:?}", received.uri, received.headers).contains(KEY));
        }
        let written = gateway.stop().await;
        assert!(written.contains("status=101 attempts=2"), "{written}");
        assert!(!written.contains(KEY));
    }
}

fn in_flight(status: &Value) -> Vec<u64> {
    let backends = status["backends"].as_array().unwrap().iter();
    backends.map(|backend| backend["in_flight"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn are_opened_with_an_ephemeral_key_by_the_backend_that_issued_it() {
    const OFFER: &str = "/openai/v1/realtime/calls";
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 600;
    let secret = format!(r#"{{"value":"ek_a1b2c3","expires_at":{end}}}"#);
    let issued = secret.clone();
    let east = http_support::serve(move |request: Request<Incoming>| {
        let (key, token) = (request.headers().get("api-key"), request.headers().get("authorization"));
        let (status, body) = match (key, token) {
            (Some(_), None) => (StatusCode::OK, issued.clone()),
            (None, Some(token)) if token == "Bearer ek_a1b2c3" => (StatusCode::CREATED, "v=0".to_owned()),
            _ => (StatusCode::UNAUTHORIZED, String::new()),
        };
        let answer = Response::builder().status(status).header("content-type", "application/json");
        std::future::ready(answer.body(Body::from(body)).unwrap())
    });
    let backends = process::backends(&[("east", &east.await)]);
    let mut gateway = Gateway::start(&[LISTEN, &backends, &process::client(KEY)].concat()).await;
    let issue = Request::post(format!("{}/openai/v1/realtime/client_secrets", gateway.url)).header("api-key", KEY);
    let issue = issue.header("content-type", "application/json");
    let answer = send(issue.body(Body::from(r#"{"session":{"type":"realtime","model":"gpt-4o"}}"#)).unwrap()).await;
    assert_eq!(answer.text(), secret);
    gateway.signal("HUP").await;
    gateway.stderr.line(&["was reloaded"]).await;
    for (key, expected) in [("ek_a1b2c3", StatusCode::CREATED), ("ek_other", StatusCode::UNAUTHORIZED)] {
        let offer = Request::post(format!("{}{OFFER}", gateway.url)).header("authorization", format!("Bearer {key}"));
        let offer = offer.header("content-type", "application/sdp").body(Body::from("v=0")).unwrap();
        assert_eq!(send(offer).await.status, expected);
    }
    assert!(!gateway.stop().await.contains("a1b2c3"));
}

#[tokio::test]
async fn are_refused_in_words_where_they_cannot_be_carried() {
    let (east, server) = serve("east").await;
    let gateway = gateway_before(&server, "").await;
    is(&send(handshake(&format!("{}{V1}", gateway.url), "wrong")).await, 401, "401");
    is(&send(handshake(&format!("{}/realtime", gateway.url), KEY)).await, 404, "404");
    east.faults().push(Fault::throttled_for(Duration::from_secs(9)));
    let Err(Error::Http(throttled)) = open(&gateway.url, V1, &[("api-key", KEY)]).await else { panic!("no handshake") };
    assert_eq!(throttled.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(throttled.headers().contains_key("retry-after-ms"));
    assert_eq!(east.request_count(), 1);
}

#[tokio::test]
async fn are_finished_before_the_end_though_the_file_was_read_again() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let mut socket = opened(&gateway).await;
    gateway.signal("HUP").await;
    gateway.stderr.line(&["was reloaded"]).await;
    gateway.signal("TERM").await;
    gateway.stderr.line(&["stopping"]).await;
    is_echoed(&mut socket, "still here").await;
    close(socket).await;
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(gateway.stderr.lines(&["shutdown_grace is over"]), [""; 0]);
}

#[tokio::test]
async fn are_cut_when_the_grace_is_over() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before_with_grace(&server.url(), "100ms").await;
    let mut socket = opened(&gateway).await;
    is_echoed(&mut socket, "hello").await;
    gateway.signal("TERM").await;
    assert_eq!(gateway.ended().await.code(), Some(0));
    gateway.stderr.line(&["shutdown_grace is over"]).await;
    let Message::Close(Some(told)) = next(&mut socket).await.unwrap().unwrap() else { panic!("no close frame") };
    assert_eq!((told.code, told.reason.contains("stopped")), (CloseCode::Away, true), "it was told why before");
    assert!(next(&mut socket).await.is_none_or(|message| message.is_err()));
    soon("the end at the backend", east.wait_until_idle()).await;
}

async fn gateway_before_with_grace(url: &str, grace: &str) -> Gateway {
    let head = format!("shutdown_grace = \"{grace}\"\n{LISTEN}");
    Gateway::start(&[&head, &*process::backends(&[("east", url)]), &process::client(KEY)].concat()).await
}
