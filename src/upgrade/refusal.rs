//! Answers as events of a WebSocket.

use futures_util::{SinkExt, StreamExt};
use http::header::RETRY_AFTER;
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::CLOSING_TIME;
use super::frames::Socket;
use crate::azure::envelope;
use crate::body::{Body, Collected};
use crate::context::{REFUSED_BODY, REFUSED_BODY_TIME};

/// Tells the client and ends the socket. What it still sends is read for a while, so that it reads this.
pub(super) async fn send(client: &mut Socket, answer: Response<Body>) {
    let status = answer.status();
    let event = Message::text(event(answer).await);
    let close = Message::Close(Some(CloseFrame { code: close_code(status), reason: "".into() }));
    let said = async {
        client.send(event).await?;
        client.send(close).await?;
        while client.next().await.is_some_and(|message| message.is_ok()) {}
        Ok::<_, tokio_tungstenite::tungstenite::Error>(())
    };
    // A client that has left is told nothing.
    drop(timeout(CLOSING_TIME, said).await);
}

/// 1008 is the client's fault, 1013 asks it to come again.
fn close_code(status: StatusCode) -> CloseCode {
    let is_clients = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
    if is_clients { CloseCode::Policy } else { CloseCode::Again }
}

async fn event(answer: Response<Body>) -> String {
    let (head, body) = answer.into_parts();
    let body = match body.collect_up_to(REFUSED_BODY, REFUSED_BODY_TIME).await {
        Ok(Collected::Whole(body)) => body,
        Ok(Collected::Partial(_)) | Err(_) => bytes::Bytes::new(),
    };
    let said = envelope::read(&body).unwrap_or_default();
    let status = head.status.as_u16();
    let mut error = Map::new();
    error.insert("status".to_owned(), status.into());
    error.insert("code".to_owned(), said.code().unwrap_or(head.status.as_str()).into());
    error.insert("type".to_owned(), said.kind().unwrap_or("gateway_error").into());
    error.insert("message".to_owned(), said.message().unwrap_or("The backend refused without saying why.").into());
    error.insert("param".to_owned(), said.param().map_or(Value::Null, Into::into));
    for (name, header) in [("retry_after_ms", "retry-after-ms"), ("retry_after", RETRY_AFTER.as_str())] {
        if let Some(wait) = number(&head.headers, header) {
            error.insert(name.to_owned(), wait.into());
        }
    }
    json!({ "type": "error", "status": status, "error": error }).to_string()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
