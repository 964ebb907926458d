//! Carries the WebSockets of the realtime API and of Responses between clients and backends, and reads what names a model there.
//!
//! 1. The handshake of a WebSocket is a `GET` over HTTP/1.1 without a body, with `Upgrade: websocket` and
//!    `Connection: upgrade`. For `/openai/realtime` and `/openai/v1/realtime` the layer keeps the client's connection in hand and
//!    passes the request on, marked as a [`Handshake`] and without extensions such as compression. To the layers below it is a
//!    request like any other: the client must be known and allowed, a target is selected, and a backend that refuses is followed
//!    by the next one.
//! 2. An answer 101 goes to the client with the backend's own handshake headers. From then on messages are carried both ways as
//!    they come; a side that does not read holds the other one up. Pings are answered here, and reach the other side too, so that
//!    neither hop looks idle. What a side says after the other one has closed is not delivered (RFC 6455 §5.5.1).
//! 3. A frame of a realtime session that names a model (`session.model`, the model of `session.audio.input.transcription`, of
//!    `session.input_audio_transcription` or of `input_audio_transcription`) goes down the stack as
//!    [settings](crate::context::SocketFrame::Settings): the client must be allowed to use what it names, and the session's backend gets its own
//!    name for it. Otherwise the client gets an `error` event, the backend gets nothing, and the session goes on.
//! 4. A transcription session (`intent=transcription`) without a name in its query is accepted before a backend is found. Its
//!    first frame, where one comes within 250 ms and names a model, leads to a backend that serves it. Otherwise the
//!    session begins where most of what the client may use is served.
//! 5. When one side closes, the other is told, and has 10 s to close too. A side that breaks ends both at once.
//! 6. The body of the backend's 101, and with it the place in flight and the permit, is held until then. It is read to its end
//!    when the connection ended well, which the circuit counts as a success, and dropped otherwise, which teaches nothing.
//!    What the backend says passes through it as [events](crate::context::SocketEvents): an error teaches the circuit, and ids are remembered
//!    before the client hears of them.
//! 7. Any other answer, such as 401 or 429, passes unchanged.
//! 8. A handshake for `/openai/responses` or `/openai/v1/responses` is accepted before it is known what is asked for, because the
//!    model is named inside the frames. The first frame, of up to 32 MiB and within 30 s from when
//!    the layers below ask for it, goes down as the body of the `POST` that it stands for ([`SocketFrame`](crate::context::SocketFrame)): the client must
//!    be known and allowed, ids lead to their backend, and a backend that refuses the handshake is followed by the next. It is
//!    sent with the target's name of the model. So is every later `response.create`, which must go to the same backend.
//!    Other frames pass unread. What would have been an answer with an error is an `error` event with the same `status`,
//!    `code`, `message` and wait, and the socket is closed: 1008 for the client's fault, 1013 for what may be tried again. The
//!    same holds for a transcription session that was accepted.
//! 9. An upgrade that is asked for elsewhere, or to something else, is not passed on: the request goes its way without it. A 101
//!    that nobody asked for is an answer of no use, 502.
//! 10. Below another such layer it lets everything pass that is carried there.
//!
//! No clock runs on a connection that stands: `connect` and `first_byte` of the client hold for the handshake. A client that
//! vanished without a word is noticed when something is sent to it. A message is held whole before it is sent on: up to
//! 32 MiB of a client's, 64 MiB of a backend's. Above 8 KiB it is [charged](UpgradeLayer::account) to the client by what
//! has arrived of it; what finds no room ends the socket: an `error` event `overloaded`, and 1013. HTTP/2 and its extended CONNECT are not supported.
//!
//! It belongs directly under [`RespondLayer`](crate::respond::RespondLayer), above whatever holds something for the time of a
//! request. Both ends must be hyper's: a server that serves connections *with upgrades*, and a client that leaves `OnUpgrade` on
//! its answers, as [`HttpClient`](crate::client::HttpClient) does.
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{body::Body, respond::RespondLayer, upgrade::UpgradeLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let gateway = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
//! let service = ServiceBuilder::new().layer(RespondLayer::new()).layer(UpgradeLayer::new()).service(gateway);
//!
//! let handshake = Request::get("/openai/v1/responses").header("connection", "upgrade").header("upgrade", "websocket");
//! let refused = service.oneshot(handshake.body(Body::empty())?).await?;
//! assert_eq!(refused.status(), StatusCode::NOT_IMPLEMENTED);
//! # Ok(())
//! # }
//! ```
//!
//! A whole stack, and the end of its connections:
//!
//! ```no_run
//! use tower::ServiceBuilder;
//! use tower_azure_openai::client::HttpClient;
//! use tower_azure_openai::{body::Body, inspect::InspectLayer, pool::Pool, respond::RespondLayer, upgrade::UpgradeLayer};
//! use tower_azure_openai::{failover::FailoverLayer, select::SelectBackendLayer};
//! use tower_azure_openai::{forward::ForwardLayer, reissue::ReissueCredentialsLayer};
//!
//! # async fn stack(pool: Pool) -> Result<(), Box<dyn std::error::Error>> {
//! let upgrade = UpgradeLayer::new();
//! let websockets = upgrade.connections();
//! let service = ServiceBuilder::new()
//!     .layer(RespondLayer::new())
//!     .layer(upgrade)
//!     .layer(InspectLayer::new())
//!     .layer(FailoverLayer::new())
//!     .layer(SelectBackendLayer::new(pool))
//!     .layer(ForwardLayer::new())
//!     .layer(ReissueCredentialsLayer::new())
//!     .service(HttpClient::builder().build()?);
//! // Serve it with hyper_util's `serve_connection_with_upgrades`. In the end, after its graceful shutdown:
//! websockets.closed().await;
//! # tower::ServiceExt::oneshot(service, http::Request::new(Body::empty())).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A server that shuts down gracefully has forgotten about the connections that were upgraded: [`Connections`] counts them.
//!
//! **Order.** Below inspection or authorisation a frame of a WebSocket, which is a call of its own, would be neither inspected nor
//! allowed, and below selection its place would be given back while the connection stands: refused with
//! [`Misordered`](crate::ErrorKind::Misordered).
//!
//! # Errors
//! [`NotSupported`](crate::ErrorKind::NotSupported), [`BackendFailed`](crate::ErrorKind::BackendFailed) for a 101 that leads
//! nowhere, and those of the service below.
//!
//! # Cancellation
//! Dropping the future drops the request below. After a 101 the connection is carried by a task of its own, spawned on tokio; it
//! ends with either side, or with the runtime.

mod asked;
mod both;
mod calls;
mod connections;
mod frames;
mod future;
mod guard;
mod handshake;
mod held;
mod opening;
mod refusal;
mod socket;
mod speech;

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::upgrade::OnUpgrade;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

pub use self::connections::Connections;
use self::frames::Frames;
use self::future::Carry;
pub use self::future::ResponseFuture;
use self::handshake::{Taken, grant, take};
use self::speech::Speech;
use crate::account::Account;
use crate::below::Below;
use crate::body::Body;
use crate::context::order::{self, LayerName};
use crate::context::{Handshake, Observation};
use crate::error::Error;

/// Carries WebSockets between clients and backends. See the [module docs](self).
///
/// All clones of a layer, and all services made from them, count their connections together.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct UpgradeLayer {
    account: Account,
    connections: Connections,
    first_frame: Option<Duration>,
}

/// Time that the first frame of a socket that is accepted before a backend is found may take, unless it is told.
pub(crate) const FIRST_FRAME_TIME: Duration = Duration::from_secs(30);

/// Time for which a transcription session that names no model in its query waits for a first frame which does: 250 ms. Its client may be
/// waiting for the backend to speak first.
pub(crate) const SESSION_NAME_TIME: Duration = Duration::from_millis(250);

/// Size up to which frames of a client are read: 32 MiB.
pub(crate) const LONGEST_FRAME: usize = 32 << 20;

impl UpgradeLayer {
    /// The layer, without any connection yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Time that the first frame of a socket for responses may take. Default: 30 s.
    pub const fn first_frame_time(mut self, limit: Duration) -> Self {
        self.first_frame = Some(limit);
        self
    }

    /// Sets the account that messages are charged to, as long as they have not gone on: that of
    /// [inspection](crate::inspect::InspectLayer::account), say. Default: one of its own, of
    /// 256 MiB.
    pub fn account(mut self, account: Account) -> Self {
        self.account = account;
        self
    }

    /// The connections that are open, to wait for their end.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }
}

impl<S> Layer<S> for UpgradeLayer {
    type Service = Upgrade<S>;

    fn layer(&self, inner: S) -> Upgrade<S> {
        Upgrade { inner, layer: self.clone() }
    }
}

/// Carries WebSockets between clients and backends. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct Upgrade<S> {
    inner: S,
    layer: UpgradeLayer,
}

impl<S, ReqBody> Service<Request<ReqBody>> for Upgrade<S>
where
    S: Below + Sync,
    ReqBody: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let mut request = request.map(Body::new);
        if let Err(error) = order::enter(LayerName::Upgrade, request.extensions_mut()) {
            return ResponseFuture::refused(error);
        }
        if request.extensions().get::<Handshake>().is_some() {
            return ResponseFuture::carried_above(self.inner.call(request));
        }
        match take(&mut request) {
            Ok(Taken::Nothing) => ResponseFuture::unasked(self.inner.call(request)),
            Ok(Taken::Accepted(client, speech)) => match self.accept(request, client, speech) {
                Ok(answer) => ResponseFuture::accepted(answer),
                Err(error) => ResponseFuture::refused(error),
            },
            Ok(Taken::Passed(client)) => {
                // Both need to know who calls, which layers below find out.
                request.extensions_mut().get_or_insert_default::<Observation>();
                let carry = self.carry(&request, client);
                ResponseFuture::asked(self.inner.call(request), carry)
            }
            Err(error) => ResponseFuture::refused(error),
        }
    }
}

impl<S: Below + Sync> Upgrade<S> {
    /// Grants a WebSocket before it is known what it is for.
    fn accept(&mut self, request: Request<Body>, client: OnUpgrade, speech: Speech) -> Result<Response<Body>, Error> {
        let (head, _) = request.into_parts();
        let answer = grant(&head.headers)?;
        let patience = self.layer.first_frame.unwrap_or(FIRST_FRAME_TIME);
        // Frames go through clones; a place that the ready one holds is not to be kept for as long as the socket.
        self.inner.release();
        let frames = Frames::new(self.inner.clone(), head, self.layer.account.clone(), speech, patience);
        tokio::spawn(frames.open(client, self.layer.connections.enter()));
        Ok(answer)
    }

    /// Returns what carries the socket for which a request is passed on, once a backend has accepted it.
    fn carry(&self, request: &Request<Body>, client: OnUpgrade) -> Carry {
        let (mut head, ()) = Request::new(()).into_parts();
        (head.method, head.uri) = (request.method().clone(), request.uri().clone());
        (head.headers, head.extensions) = (request.headers().clone(), request.extensions().clone());
        // Frames need a service that was not polled ready for this request.
        let frames =
            Frames::new(self.inner.clone(), head, self.layer.account.clone(), Speech::Realtime, FIRST_FRAME_TIME);
        let connections = self.layer.connections.clone();
        Box::new(move |accepted| {
            tokio::spawn(frames.join(client, accepted, connections.enter()));
        })
    }
}
