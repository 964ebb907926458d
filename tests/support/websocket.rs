//! A WebSocket client for tests.
#![allow(dead_code, reason = "each test file uses its part")]

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tower_azure_openai::body::Body;

use crate::http_support::{authority, connect, soon};

pub(crate) const CLASSIC: &str = "/openai/realtime?api-version=2025-04-01-preview&deployment=gpt-4o";
pub(crate) const V1: &str = "/openai/v1/realtime?model=gpt-4o";

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Opens a connection with these headers besides those of the handshake.
pub(crate) async fn open(url: &str, path: &str, headers: &[(&'static str, &str)]) -> Result<(Socket, Response), Error> {
    let mut request = format!("ws://{}{path}", authority(url)).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    soon("a handshake", client_async(request, connect(url).await)).await
}

/// A handshake as an HTTP request, for answers that are none.
pub(crate) fn handshake(url: &str, key: &str) -> Request<Body> {
    Request::get(url)
        .header("api-key", key)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Body::empty())
        .unwrap()
}

pub(crate) async fn next(socket: &mut Socket) -> Option<Result<Message, Error>> {
    soon("a message", socket.next()).await
}

pub(crate) async fn is_echoed(socket: &mut Socket, message: impl Into<Message>) {
    let message = message.into();
    socket.send(message.clone()).await.unwrap();
    assert_eq!(next(socket).await.unwrap().unwrap(), message);
}

/// Closes from here, and sees the other side agree.
pub(crate) async fn close(mut socket: Socket) {
    socket.close(None).await.unwrap();
    assert!(next(&mut socket).await.unwrap().unwrap().is_close());
    assert!(next(&mut socket).await.is_none());
}

/// Every value of a header.
pub(crate) fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}
