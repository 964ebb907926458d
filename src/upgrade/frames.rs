//! Sockets whose frames are read: what names a model goes down the stack as the call that it stands for.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::both::{CLOSING_TIME, both};
use super::calls::Calls;
use super::connections::Open;
use super::future::Accepted;
use super::guard::Guard;
use super::held::{Held, Part};
use super::opening;
use super::refusal::{self, End, no_socket};
use super::socket::{self, Socket, send};
use super::speech::Speech;
use crate::account::Account;
use crate::answer;
use crate::below::Below;
use crate::error::{Chain, ErrorKind, no_room};

/// Frames of a client on one socket, and the stack that they go to.
pub(super) struct Frames<S> {
    calls: Calls<S>,
    speech: Speech,
    patience: Duration,
}

/// The backend that has accepted a socket.
pub(super) struct Backend {
    pub(super) socket: Socket,
    /// `None` without selection.
    pub(super) name: Option<Arc<str>>,
    pub(super) guard: Guard,
}

/// Both sides of a socket that stands, but for what is being read from them.
struct Shared<'a> {
    to_client: Mutex<SplitSink<&'a mut Socket, Message>>,
    guard: Mutex<Guard>,
    backend: Option<Arc<str>>,
}

impl<S: Below + Sync> Frames<S> {
    pub(super) fn new(service: S, head: Parts, account: Account, speech: Speech, patience: Duration) -> Self {
        Self { calls: Calls::new(service, head, account), speech, patience }
    }

    /// Finds the backend of a client that was accepted, and carries the socket until it ends.
    pub(super) async fn open(self, client: OnUpgrade, open: Open) {
        let Ok(client) = client.await else { return };
        let mut client = socket::of_client(client, &self.calls.payer).await;
        let opened = {
            let opening = pin!(opening::open(&self.calls, self.speech, self.patience, &mut client));
            match select(opening, pin!(open.parting())).await {
                Either::Left((opened, _)) => opened,
                Either::Right((reason, _)) => Err(End::Parting(reason)),
            }
        };
        let ended = match opened {
            Ok(Some(backend)) => self.carry(&mut client, backend, &open).await,
            Ok(None) => Ok(()),
            Err(end) => Err(end),
        };
        finish(client, ended).await;
        drop(open);
    }

    /// Carries a socket that a backend has accepted until it ends.
    pub(super) async fn join(self, client: OnUpgrade, accepted: Accepted, open: Open) {
        let Accepted { connection, backend: name, guard } = accepted;
        let Ok(client) = client.await else { return };
        let mut client = socket::of_client(client, &self.calls.payer).await;
        let ended = match connection.await {
            Ok(backend) => {
                let socket = socket::of_backend(backend, &self.calls.payer).await;
                self.carry(&mut client, Backend { socket, name, guard }, &open).await
            }
            Err(_) => Err(no_socket()),
        };
        finish(client, ended).await;
        drop(open);
    }

    async fn carry(&self, client: &mut Socket, backend: Backend, open: &Open) -> Result<(), End> {
        let (of_client, of_backend) = (client.get_ref().held(), backend.socket.get_ref().held());
        let ((to_client, from_client), (to_backend, from_backend)) = (client.split(), backend.socket.split());
        let shared =
            Shared { to_client: Mutex::new(to_client), guard: Mutex::new(backend.guard), backend: backend.name };
        let ended = {
            let up = pin!(self.say(from_client, of_client, to_backend, &shared));
            let down = pin!(hand_on(from_backend, of_backend, &shared));
            let farewell = pin!(async {
                let close = refusal::close(CloseCode::Away, &open.parting().await);
                send(&mut *shared.to_client.lock().await, close).await
            });
            match select(pin!(both(up, down)), farewell).await {
                Either::Left((ended, _)) => ended,
                // A client that does not answer is left.
                Either::Right((_, carried)) => timeout(CLOSING_TIME, carried).await.unwrap_or(Ok(())),
            }
        };
        // A refusal comes between two responses and breaks none of them off.
        if !matches!(ended, Err(End::Broken(_) | End::Full)) {
            shared.guard.into_inner().end().await;
        }
        ended
    }

    /// Carries what the client says to the backend: what names a model as the stack wants it, everything else as it is.
    async fn say(
        &self,
        mut from: SplitStream<&mut Socket>,
        held: Held,
        mut to: SplitSink<Socket, Message>,
        shared: &Shared<'_>,
    ) -> Result<(), End> {
        while let Some(message) = from.next().await {
            let message = message.map_err(End::of_client)?;
            let part = Part::of(&message);
            let message = match message {
                Message::Text(said) if self.speech.asks(said.as_bytes()) => {
                    // From here on inspection pays for it.
                    held.gone(part);
                    self.judged(said.into(), shared).await?
                }
                Message::Binary(said) if self.speech.asks(&said) => {
                    held.gone(part);
                    self.judged(said, shared).await?
                }
                // A pong answers here; the other hop must not look idle to whoever watches it.
                Message::Pong(_) | Message::Frame(_) => None,
                message => Some(message),
            };
            if let Some(message) = message {
                send(&mut to, message).await?;
            }
            held.gone(part);
        }
        // A side that cannot be told any more has ended as well.
        drop(to.close().await);
        Ok(())
    }

    /// The frame as the backend wants it. `None` when a session goes on without it: its client was told.
    async fn judged(&self, said: Bytes, shared: &Shared<'_>) -> Result<Option<Message>, End> {
        match self.rewritten(said.clone(), shared).await {
            Err(End::Refused(answer)) if self.speech == Speech::Realtime => {
                let event = refusal::event_in_session(*answer, &said).await;
                send(&mut *shared.to_client.lock().await, event).await?;
                Ok(None)
            }
            rewritten => rewritten.map(Some),
        }
    }

    async fn rewritten(&self, said: Bytes, shared: &Shared<'_>) -> Result<Message, End> {
        if self.speech == Speech::Responses {
            // One response at a time: the place of the last is free for the next.
            let last = std::mem::replace(&mut *shared.guard.lock().await, Guard::none());
            last.end().await;
        }
        let granted = self.calls.later(self.speech.later(), said, shared.backend.as_ref()).await?;
        if granted.backend != shared.backend {
            return Err(End::refused(
                ErrorKind::IdsOnDifferentBackends,
                "What this frame refers to is held by another backend than the one this socket leads to. Open a new one.",
            ));
        }
        if self.speech == Speech::Responses {
            *shared.guard.lock().await = granted.guard;
        }
        granted.frame.ok_or_else(no_socket)
    }
}

/// Carries what the backend says to the client, once those have heard it who learn from it.
async fn hand_on(mut from: SplitStream<Socket>, held: Held, shared: &Shared<'_>) -> Result<(), End> {
    while let Some(message) = from.next().await {
        let message = message.map_err(End::of_backend)?;
        let part = Part::of(&message);
        if let Message::Text(said) = &message {
            shared.guard.lock().await.tell(said.as_bytes()).await;
        }
        if !matches!(message, Message::Pong(_) | Message::Frame(_)) {
            send(&mut *shared.to_client.lock().await, message).await?;
        }
        held.gone(part);
    }
    drop(shared.to_client.lock().await.close().await);
    Ok(())
}

async fn finish(mut client: Socket, ended: Result<(), End>) {
    match ended {
        Ok(()) => {}
        Err(End::Full) => refusal::send(&mut client, answer::to_error(&no_room().into())).await,
        Err(End::Parting(reason)) => refusal::part(&mut client, &reason).await,
        Err(End::Refused(answer)) => refusal::send(&mut client, *answer).await,
        Err(End::Broken(error)) => tracing::debug!(error = %Chain(error.as_ref()), "websocket"),
    }
}
