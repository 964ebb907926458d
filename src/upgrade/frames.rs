//! Responses over WebSocket: each frame that asks for a response goes down the stack as the call that it stands for.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error as SocketError;
use tokio_tungstenite::tungstenite::protocol::frame::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tower::{BoxError, ServiceExt};
use tower_service::Service;

use super::connections::Open;
use super::pump::both;
use super::{LONGEST_FRAME, asked, refusal};
use crate::answer;
use crate::body::{Body, Collected};
use crate::context::{Handshake, RewrittenFrame, SocketFrame};
use crate::error::{Chain, Error, ErrorKind};
use crate::headers;
use crate::pool::{Pin as BackendPin, Target};

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A frame that a backend sends may be a whole answer, with everything that was generated.
const LONGEST_ANSWER: usize = 64 << 20;

/// Sockets are many and mostly wait.
const BUFFER: usize = 8 << 10;

/// How long a frame may take to be put together, all of which is in hand.
const AT_HAND: Duration = Duration::from_secs(10);

/// What a client says on one socket, and the stack that it is said to.
pub(super) struct Frames<S> {
    service: S,
    /// Of the call that each frame stands for.
    head: Parts,
    patience: Duration,
}

/// Why a socket ends before both sides have ended it.
pub(super) enum End {
    Broken(BoxError),
    /// The client gets the answer as an event.
    Refused(Box<Response<Body>>),
}

impl End {
    fn broken(error: impl Into<BoxError>) -> Self {
        Self::Broken(error.into())
    }

    fn of_client(error: SocketError) -> Self {
        match error {
            SocketError::Capacity(_) => {
                refused(ErrorKind::RequestTooLarge, "The frame is above the size limit of this gateway.")
            }
            error => Self::broken(error),
        }
    }
}

fn refused(kind: ErrorKind, message: &'static str) -> End {
    End::Refused(Box::new(answer::to_error(&Error::new(kind, message).into())))
}

/// What a call down the stack came to.
struct Granted {
    answer: Response<Body>,
    /// `None` without selection.
    backend: Option<Arc<str>>,
    frame: Message,
}

impl<S> Frames<S>
where
    S: Service<Request<Body>> + Clone,
    S::Response: IntoAnswer,
    S::Error: Into<BoxError>,
{
    pub(super) const fn new(service: S, head: Parts, patience: Duration) -> Self {
        Self { service, head, patience }
    }

    /// Carries a socket until it ends.
    pub(super) async fn run(self, client: OnUpgrade, open: Open) {
        let Ok(client) = client.await else { return };
        let mut client = socket(client, Role::Server, LONGEST_FRAME).await;
        match self.carry(&mut client).await {
            Ok(()) => {}
            Err(End::Refused(answer)) => refusal::send(&mut client, *answer).await,
            Err(End::Broken(error)) => tracing::debug!(error = %Chain(error.as_ref()), "websocket"),
        }
        drop(open);
    }

    async fn carry(&self, client: &mut Socket) -> Result<(), End> {
        let Some((backend, name, mut guard)) = self.open(client).await? else { return Ok(()) };
        let ((to_client, from_client), (to_backend, from_backend)) = (client.split(), backend.split());
        let ended = {
            let up = pin!(self.say(from_client, to_backend, name.as_ref(), &mut guard));
            let down = pin!(hand_on(from_backend, to_client));
            both(up, down).await
        };
        // A refusal comes between two responses and breaks none of them off.
        if !matches!(ended, Err(End::Broken(_))) {
            finish(&mut guard).await;
        }
        ended
    }

    /// Reads the first frame and finds the backend that accepts it; `None` when the client left without one.
    async fn open(&self, client: &mut Socket) -> Result<Option<(Socket, Option<Arc<str>>, Body)>, End> {
        let (body, wanted) = asked::body();
        let mut call = pin!(self.service.clone().oneshot(self.request(SocketFrame::First, body)));
        // Nothing is read from a client that nobody knows: its frame is the body, asked for by whoever reads bodies.
        let answered = match select(call.as_mut(), wanted.asked).await {
            Either::Left((answered, _)) => answered,
            Either::Right((Err(_), _)) => call.await,
            Either::Right((Ok(()), _)) => {
                let Ok(first) = timeout(self.patience, next_frame(client)).await else {
                    return Err(refused(ErrorKind::RequestTimeout, "No frame arrived in time."));
                };
                let Some(frame) = first? else { return Ok(None) };
                // Whoever asked may have gone on without it.
                drop(wanted.give.send(frame));
                call.await
            }
        };
        let Granted { mut answer, backend, frame } = granted(answered).await?;
        let accepted = answer.extensions_mut().remove::<OnUpgrade>();
        let (true, Some(accepted)) = (headers::names_websocket(answer.headers()), accepted) else {
            return Err(no_socket());
        };
        let accepted = accepted.await.map_err(|_| no_socket())?;
        let mut socket = socket(accepted, Role::Client, LONGEST_ANSWER).await;
        socket.send(frame).await.map_err(End::broken)?;
        Ok(Some((socket, backend, answer.into_body())))
    }

    /// What the client says, to the backend: what asks for a response as the stack wants it, everything else as it is.
    async fn say(
        &self,
        mut from: SplitStream<&mut Socket>,
        mut to: SplitSink<Socket, Message>,
        backend: Option<&Arc<str>>,
        guard: &mut Body,
    ) -> Result<(), End> {
        while let Some(message) = from.next().await {
            let message = match message.map_err(End::of_client)? {
                Message::Text(said) if asks(said.as_bytes()) => self.rewritten(said.into(), backend, guard).await?,
                Message::Binary(said) if asks(&said) => self.rewritten(said, backend, guard).await?,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
                message => message,
            };
            to.send(message).await.map_err(End::broken)?;
        }
        // A side that cannot be told any more has ended as well.
        drop(to.close().await);
        Ok(())
    }

    async fn rewritten(&self, said: Bytes, backend: Option<&Arc<str>>, guard: &mut Body) -> Result<Message, End> {
        // One response at a time: the place of the last is free for the next.
        finish(guard).await;
        *guard = Body::empty();
        let mut request = self.request(SocketFrame::Later, Body::from(said));
        if let Some(backend) = backend {
            request.extensions_mut().insert(BackendPin::required(backend.clone()));
        }
        let granted = granted(self.service.clone().oneshot(request).await).await?;
        if granted.backend.as_ref() != backend {
            return Err(refused(
                ErrorKind::IdsOnDifferentBackends,
                "What this frame refers to is held by another backend than the one this socket leads to. Open a new one.",
            ));
        }
        *guard = granted.answer.into_body();
        Ok(granted.frame)
    }

    fn request(&self, frame: SocketFrame, body: Body) -> Request<Body> {
        let mut request = Request::from_parts(self.head.clone(), body);
        request.extensions_mut().insert(Handshake);
        request.extensions_mut().insert(frame);
        request
    }
}

/// An answer of the service below.
pub(super) trait IntoAnswer {
    fn into_answer(self) -> Response<Body>;
}

impl<B> IntoAnswer for Response<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn into_answer(self) -> Response<Body> {
        self.map(Body::new)
    }
}

async fn granted<R: IntoAnswer, E: Into<BoxError>>(answered: Result<R, E>) -> Result<Granted, End> {
    let mut answer = match answered {
        Ok(answer) => answer.into_answer(),
        Err(error) => return Err(End::Refused(Box::new(answer::to_error(&error.into())))),
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let is_error = answer.status().is_client_error() || answer.status().is_server_error();
        return Err(if is_error { End::Refused(Box::new(answer)) } else { no_socket() });
    }
    let rewritten = answer.extensions_mut().remove::<RewrittenFrame>().and_then(|frame| frame.take());
    let Some(rewritten) = rewritten else { return Err(no_socket()) };
    let frame = match rewritten.collect_up_to(LONGEST_FRAME + BUFFER, AT_HAND).await {
        Ok(Collected::Whole(frame)) => text(frame)?,
        Ok(Collected::Partial(_)) | Err(_) => return Err(no_socket()),
    };
    let backend = answer.extensions().get::<Target>().map(|target| Arc::from(target.backend()));
    Ok(Granted { answer, backend, frame })
}

fn no_socket() -> End {
    refused(ErrorKind::BackendFailed, "The backend did not accept the WebSocket.")
}

fn text(frame: Bytes) -> Result<Message, End> {
    let text = Utf8Bytes::try_from(frame);
    text.map(Message::Text).map_err(|_| refused(ErrorKind::InvalidBody, "The frame is not UTF-8."))
}

/// Whether a frame goes through the stack. One that cannot be read does, and is refused there.
fn asks(frame: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Said<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        model: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Said<'_>>(frame)
        .map_or(true, |said| said.kind == "response.create" || said.model.is_some())
}

async fn next_frame(client: &mut Socket) -> Result<Option<Bytes>, End> {
    while let Some(message) = client.next().await {
        match message.map_err(End::of_client)? {
            Message::Text(text) => return Ok(Some(text.into())),
            Message::Binary(bytes) => return Ok(Some(bytes)),
            Message::Close(_) | Message::Frame(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    Ok(None)
}

/// What the backend says, to the client.
async fn hand_on(mut from: SplitStream<Socket>, mut to: SplitSink<&mut Socket, Message>) -> Result<(), End> {
    while let Some(message) = from.next().await {
        match message.map_err(End::broken)? {
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            message => to.send(message).await.map_err(End::broken)?,
        }
    }
    drop(to.close().await);
    Ok(())
}

/// Says to those who hold something for a call that it has ended well.
async fn finish(guard: &mut Body) {
    drop(poll_fn(|cx| Pin::new(&mut *guard).poll_frame(cx)).await);
}

async fn socket(connection: Upgraded, role: Role, longest: usize) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest));
    WebSocketStream::from_raw_socket(TokioIo::new(connection), role, Some(config)).await
}
