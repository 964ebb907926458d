//! Ends of a WebSocket, and what is sent over them.

use bytes::Bytes;
use futures_util::{Sink, SinkExt};
use hyper::upgrade::Upgraded;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{Error as SocketError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::LONGEST_FRAME;
use super::held::{Charged, Payer};
use super::refusal::End;
use crate::error::ErrorKind;

pub(super) type Socket = WebSocketStream<Charged>;

/// A frame that a backend sends may be a whole answer, with everything that was generated.
pub(super) const LONGEST_ANSWER: usize = 64 << 20;

/// Sockets are many and mostly wait. What one of them holds up to here is not charged to anybody.
pub(super) const BUFFER: usize = 8 << 10;

/// The end at which the client is.
pub(super) async fn of_client(connection: Upgraded, payer: &Payer) -> Socket {
    socket(Charged::new(connection, payer), Role::Server, LONGEST_FRAME).await
}

/// The end at which the backend is.
pub(super) async fn of_backend(connection: Upgraded, payer: &Payer) -> Socket {
    socket(Charged::new(connection, payer), Role::Client, LONGEST_ANSWER).await
}

async fn socket(connection: Charged, role: Role, longest: usize) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest));
    WebSocketStream::from_raw_socket(connection, role, Some(config)).await
}

/// Sends to a side that may have said that it ends: RFC 6455 §5.5.1 wants nothing after that.
pub(super) async fn send<T>(to: &mut T, message: Message) -> Result<(), End>
where
    T: Sink<Message, Error = SocketError> + Unpin,
{
    match to.send(message).await {
        Err(
            SocketError::AlreadyClosed
            | SocketError::ConnectionClosed
            | SocketError::Protocol(ProtocolError::SendAfterClosing),
        ) => Ok(()),
        sent => sent.map_err(End::broken),
    }
}

/// Makes a text message of what a client said.
pub(super) fn text(frame: Bytes) -> Result<Message, End> {
    let text = Utf8Bytes::try_from(frame);
    text.map(Message::Text).map_err(|_| End::refused(ErrorKind::InvalidBody, "The frame is not UTF-8."))
}
