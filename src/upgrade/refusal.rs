//! Answers as events of a WebSocket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::{SinkExt, StreamExt};
use http::header::RETRY_AFTER;
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error as SocketError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tower::BoxError;

use super::both::CLOSING_TIME;
use super::held::NoRoom;
use super::socket::Socket;
use crate::answer;
use crate::azure::envelope;
use crate::body::{Body, Collected};
use crate::context::{REFUSED_BODY, REFUSED_BODY_TIME};
use crate::error::{Error, ErrorKind};

/// Reason why a socket ends before both sides have ended it.
pub(super) enum End {
    Broken(BoxError),
    /// No room in the account for what is said.
    Full,
    /// The gateway leaves, for this reason.
    Parting(Arc<str>),
    /// The client gets the answer as an event.
    Refused(Box<Response<Body>>),
}

impl End {
    pub(super) fn broken(error: impl Into<BoxError>) -> Self {
        Self::Broken(error.into())
    }

    pub(super) fn of_client(error: SocketError) -> Self {
        match error {
            SocketError::Capacity(_) => {
                Self::refused(ErrorKind::RequestTooLarge, "The frame is above the size limit of this gateway.")
            }
            error => Self::of_backend(error),
        }
    }

    pub(super) fn of_backend(error: SocketError) -> Self {
        if NoRoom::is(&error) { Self::Full } else { Self::broken(error) }
    }

    pub(super) fn refused(kind: ErrorKind, message: &'static str) -> Self {
        Self::Refused(Box::new(answer::to_error(&Error::new(kind, message).into())))
    }
}

pub(super) fn no_socket() -> End {
    End::refused(ErrorKind::BackendFailed, "The backend did not accept the WebSocket.")
}

/// Tells the client and ends the socket. What it still sends is read for a while, so that it reads this.
pub(super) async fn send(client: &mut Socket, answer: Response<Body>) {
    let status = answer.status();
    let event = Message::text(event(answer).await.to_string());
    say(client, [event, close(close_code(status), "")]).await;
}

/// Tells the client that the gateway leaves, and ends the socket.
pub(super) async fn part(client: &mut Socket, reason: &str) {
    say(client, [close(CloseCode::Away, reason)]).await;
}

pub(super) fn close(code: CloseCode, reason: &str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

async fn say(client: &mut Socket, last: impl IntoIterator<Item = Message>) {
    let said = async {
        for message in last {
            client.send(message).await?;
        }
        while client.next().await.is_some_and(|message| message.is_ok()) {}
        Ok::<_, SocketError>(())
    };
    // A client that has left is told nothing.
    drop(timeout(CLOSING_TIME, said).await);
}

/// 1008 is the client's fault, 1013 asks it to come again.
fn close_code(status: StatusCode) -> CloseCode {
    let is_clients = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
    if is_clients { CloseCode::Policy } else { CloseCode::Again }
}

/// The event of a realtime session that goes on. It says which of the client's events it is about.
pub(super) async fn event_in_session(answer: Response<Body>, said: &[u8]) -> Message {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let mut event = event(answer).await;
    event["event_id"] = format!("event_gateway_{}", TOLD.fetch_add(1, Relaxed)).into();
    event["error"]["event_id"] = serde_json::from_slice::<Said>(said).map_or(Value::Null, |said| said.event_id.into());
    Message::text(event.to_string())
}

#[derive(Deserialize)]
struct Said {
    event_id: String,
}

async fn event(answer: Response<Body>) -> Value {
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
    json!({ "type": "error", "status": status, "error": error })
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
