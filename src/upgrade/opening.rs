//! Finding the backend of a client that was accepted before it said what for.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::asked;
use super::calls::{Calls, Granted};
use super::frames::Backend;
use super::held::{Part, Payer};
use super::refusal::{End, no_socket};
use super::socket::{self, Socket};
use super::speech::Speech;
use crate::below::Below;
use crate::context::SocketFrame;
use crate::error::ErrorKind;

/// Reads the first frame and finds the backend that accepts it; `None` when the client left without one.
pub(super) async fn open<S: Below + Sync>(
    calls: &Calls<S>,
    speech: Speech,
    patience: Duration,
    client: &mut Socket,
) -> Result<Option<Backend>, End> {
    let patience = speech.patience(patience);
    let (body, wanted) = asked::body();
    let unnamed = {
        let mut call = pin!(calls.call(calls.of_frame(SocketFrame::First, body)));
        // Nothing is read from a client that nobody knows: its frame is the body, asked for by whoever reads bodies.
        match select(call.as_mut(), wanted.asked).await {
            Either::Left((granted, _)) => return connect(granted?, None, &calls.payer).await,
            Either::Right((Err(_), _)) => return connect(call.await?, None, &calls.payer).await,
            Either::Right((Ok(()), _)) => match (timeout(patience, next_frame(client)).await, speech) {
                (Err(_), Speech::Responses) => {
                    return Err(End::refused(ErrorKind::RequestTimeout, "No frame arrived in time."));
                }
                (Err(_), Speech::Realtime) => None,
                (Ok(frame), _) => {
                    let Some(frame) = frame? else { return Ok(None) };
                    if speech == Speech::Responses || speech.asks(content(&frame)) {
                        // Whoever asked may have gone on without it.
                        drop(wanted.give.send(into_content(frame)));
                        return connect(call.await?, None, &calls.payer).await;
                    }
                    Some(frame)
                }
            },
        }
    };
    // A session that names no model begins without one.
    connect(calls.call(calls.handshake()).await?, unnamed, &calls.payer).await
}

async fn connect(granted: Granted, unnamed: Option<Message>, payer: &Payer) -> Result<Option<Backend>, End> {
    let Granted { frame, backend, guard, accepted } = granted;
    let accepted = accepted.ok_or_else(no_socket)?.await.map_err(|_| no_socket())?;
    let mut socket = socket::of_backend(accepted, payer).await;
    if let Some(first) = frame.or(unnamed) {
        socket::send(&mut socket, first).await?;
    }
    Ok(Some(Backend { socket, name: backend, guard }))
}

async fn next_frame(client: &mut Socket) -> Result<Option<Message>, End> {
    let held = client.get_ref().held();
    while let Some(message) = client.next().await {
        let message = message.map_err(End::of_client)?;
        held.gone(Part::of(&message));
        match message {
            message @ (Message::Text(_) | Message::Binary(_)) => return Ok(Some(message)),
            Message::Close(_) | Message::Frame(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    Ok(None)
}

fn content(frame: &Message) -> &[u8] {
    match frame {
        Message::Text(text) => text.as_bytes(),
        Message::Binary(bytes) => bytes,
        _ => &[],
    }
}

fn into_content(frame: Message) -> Bytes {
    match frame {
        Message::Text(text) => text.into(),
        Message::Binary(bytes) => bytes,
        _ => Bytes::new(),
    }
}
