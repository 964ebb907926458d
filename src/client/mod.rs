//! The pooled HTTP client under the layers: hyper, rustls with aws-lc-rs, the system's root certificates.
//!
//! 1. Connections are kept and reused for 90 s. HTTP/2 is spoken where TLS agrees on it, HTTP/1.1
//!    elsewhere; plain http is allowed.
//! 2. A request whose reused connection turns out to be closed is sent again on another, but only when hyper hands it back
//!    untouched, so that nothing of it was sent.
//! 3. An attempt has 5 s for its connection. From the end of the upload it has 5 min until
//!    the head of an answer when its [`Route`] is streaming, and 10 min otherwise: there the head comes after
//!    the whole generation. Then every part of the body has 5 min. An upload that still runs is not timed.
//!    An alias may have [limits of its own](HttpClientBuilder::add_alias).
//! 4. Every failure, also one of an answer's body, is an [`AttemptFailed`] that says what it means: `Unreachable` when
//!    nothing was sent (name, TCP, TLS, connect timeout), `TimedOut`, `Reset` when it broke after that, and `Abandoned` when
//!    the request's own body failed; the cause of that is in the chain of sources.
//! 5. Of a [`SocketFrame`] only the handshake is sent, and the frame is put on the answer. The [`Handshake`] of a WebSocket gets a
//!    connection of its own that speaks nothing but HTTP/1.1. The time for a streamed head holds for it, and after a 101, whose
//!    extensions hold hyper's `OnUpgrade`, no clock at all.
//! 6. Names are looked up on threads of the client's own, sixteen at most, and once at a time for each host, within the time to
//!    connect. Want of file descriptors, local ports (an address to which none leads is `Unreachable`) or memory is `Abandoned` with
//!    [`Overloaded`](crate::ErrorKind::Overloaded) in its chain, and one line a second at WARN.
//! 7. A backend that talks without an end keeps nobody waiting: a connection reads 512 KiB, then it is the turn of others. More
//!    than 1,000 heads of 1xx before an answer are a `Reset`; over HTTP/2 it is one of all that share the connection.
//! 8. Connections are kept by the runtime that opened them: where a program has one event loop per core, each has its own. Those of a
//!    backend with a bound on requests in flight are kept by all runtimes together, so that none lies idle where nobody needs it.
//!
//! It takes requests with any body of [`Bytes`].
//!
//! No error and no `Debug` holds the name or address of a host. It uses the [proxy](HttpClientBuilder::proxy) that it is
//! given and no other, follows no redirects, decodes no bodies and repeats nothing that was sent.
//!
//! ```no_run
//! use http::Request;
//! use tower::ServiceExt;
//! use tower_azure_openai::{body::Body, client::HttpClient};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = HttpClient::builder().build()?;
//! let answer = client.oneshot(Request::get("https://contoso.openai.azure.com/").body(Body::empty())?).await?;
//! # let _ = answer;
//! # Ok(())
//! # }
//! ```
//!
//! Private endpoints and test servers have an address and a CA of their own:
//!
//! ```
//! use std::time::Duration;
//! use tower_azure_openai::client::{Destination, HttpClient};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = HttpClient::builder()
//!     .connect_timeout(Duration::from_secs(2))
//!     .add_destination(Destination::new("https://contoso.openai.azure.com").address("10.1.2.3:443"))
//!     .build()?;
//! let wrong = Destination::new("https://contoso.openai.azure.com").ca_pem("no PEM");
//! let error = HttpClient::builder().add_destination(wrong).build().unwrap_err();
//! assert_eq!(error.to_string(), "CA of destination `contoso.openai.azure.com:443` holds no certificate");
//! # Ok(())
//! # }
//! ```
//!
//! Where connections have to leave through a [`Proxy`]:
//!
//! ```
//! use tower_azure_openai::client::{HttpClient, Proxy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = HttpClient::builder();
//! let client = match Proxy::from_env()? {
//!     Some(proxy) => client.proxy(proxy),
//!     None => client,
//! };
//! # let _ = client.build()?;
//! # Ok(())
//! # }
//! ```
//!
//! **Order.** A request without a host, and one for a target that has a credential which no
//! [`ReissueCredentialsLayer`](crate::reissue::ReissueCredentialsLayer) has shown, is not sent: `Abandoned`, caused by
//! [`Misordered`](crate::ErrorKind::Misordered), which names the layers that are missing.
//!
//! Dropping the future or the body ends the request: an HTTP/1.1 connection is closed, an HTTP/2 stream reset.

mod builder;
mod connector;
mod destination;
mod failure;
mod heads;
mod interim;
mod lanes;
mod link;
mod pace;
mod proxy;
mod resolver;
mod timeouts;
mod tls;
mod upload;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, PROXY_AUTHORIZATION, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body as HttpBody;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use self::builder::Limits;
pub use self::builder::{AliasTimeouts, BuildError, HttpClientBuilder};
use self::connector::{Connector, Dial};
pub use self::destination::Destination;
#[cfg(feature = "redis")]
pub(crate) use self::failure::reason;
use self::lanes::Lanes;
use self::proxy::Way;
pub use self::proxy::{InvalidProxy, Proxy};
use self::timeouts::{AnswerBody, HeadClock};
#[cfg(feature = "redis")]
pub(crate) use self::tls::{certificates, trust_for_other};
use self::upload::UploadBody;
use crate::azure::{Outcome, Phase};
use crate::body::Body;
use crate::context::order::{self, LayerName, Missing};
use crate::context::{AttemptFailed, EphemeralKey, Handshake, RewrittenFrame, Route, SocketEvents, SocketFrame};
use crate::error::{Error, polled_again};
use crate::pool::Target;

/// Time that the name, TCP and TLS may take together.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that the head of a streamed answer may take: models that think answer late.
pub(crate) const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(300);
/// Time that the head of an answer that is not streamed may take.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// Time that the next part of a body may take: models think inside a stream too.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Time for which a connection that is not used is kept. Azure's load balancers forget one after four minutes, in silence.
pub(crate) const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Bytes that a connection reads at most before other work of its thread is done.
pub(crate) const TURN: usize = 512 << 10;
/// Heads of 1xx that may come before an answer: more than one in each second of 10 min.
pub(crate) const INTERIM_HEADS: u32 = 1000;

const HTTP2_PING: Duration = Duration::from_secs(30);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The pooled HTTP client; a clone shares the connections. See the [module docs](self).
#[derive(Clone)]
pub struct HttpClient(Arc<Exchange<Connector<Dial>>>);

impl HttpClient {
    /// Starts a description.
    pub const fn builder() -> HttpClientBuilder {
        HttpClientBuilder::new()
    }
}

impl<B> Service<Request<B>> for HttpClient
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = AttemptFailed;
    type Future = ResponseFuture;

    /// Always ready: connections are made on demand.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AttemptFailed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let request = request.map(Body::new);
        match check(&request) {
            Ok(()) => self.0.send(request),
            Err(error) => ResponseFuture::refused(error),
        }
    }
}

/// Tells whether the layers above have made of a request what can be sent.
fn check(request: &Request<Body>) -> Result<(), Error> {
    let extensions = request.extensions();
    order::check(extensions)?;
    let target = extensions.get::<Target>();
    if request.uri().authority().is_none() {
        return Err(order::missing(if target.is_some() { Missing::Forward } else { Missing::Target }));
    }
    let needs_credential =
        |target: &Target| target.credential().is_some() || extensions.get::<EphemeralKey>().is_some();
    if target.is_some_and(needs_credential) && !order::has_passed(LayerName::Reissue, extensions) {
        return Err(order::missing(Missing::Reissue));
    }
    Ok(())
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

/// The client over any connector.
struct Exchange<C> {
    http: Lanes<C>,
    handshakes: legacy::Client<C, UploadBody>,
    limits: Limits,
    aliases: HashMap<String, Limits>,
    proxy: Option<Arc<Proxy>>,
}

impl<C> Exchange<C>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    /// `handshakes` connects for WebSockets.
    fn new(connector: C, handshakes: C, limits: Limits, aliases: HashMap<String, Limits>) -> Self {
        let handshakes = legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(handshakes);
        let http = Lanes::new(move || {
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .timer(TokioTimer::new())
                .pool_idle_timeout(limits.pool_idle)
                .retry_canceled_requests(true)
                .http2_keep_alive_interval(HTTP2_PING)
                .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
                .build(connector.clone())
        });
        Self { http, handshakes, limits, aliases, proxy: None }
    }

    /// Shows this proxy its credentials with what it gets to read.
    fn through(self, proxy: Option<Arc<Proxy>>) -> Self {
        Self { proxy, ..self }
    }

    /// The way of a request that a proxy reads whole.
    fn way(&self, uri: &Uri) -> Option<Way> {
        self.proxy.as_ref().filter(|_| uri.scheme() == Some(&Scheme::HTTP))?.to(uri)
    }

    /// The limits that hold for a request: those of the alias that its target serves, or that it names.
    fn limits_of(&self, request: &Request<Body>) -> &Limits {
        if self.aliases.is_empty() {
            return &self.limits;
        }
        let (target, route) = (request.extensions().get::<Target>(), request.extensions().get::<Route>());
        let alias = target.and_then(Target::alias).or_else(|| route?.alias());
        alias.and_then(|alias| self.aliases.get(alias)).unwrap_or(&self.limits)
    }

    fn send(&self, request: Request<Body>) -> ResponseFuture {
        let limits = *self.limits_of(&request);
        let is_handshake = request.extensions().get::<Handshake>().is_some();
        let streaming = request.extensions().get().is_some_and(Route::is_streaming);
        let (phase, limit) = if streaming || is_handshake {
            (Phase::FirstByte, limits.first_byte)
        } else {
            (Phase::Answer, limits.answer)
        };
        let is_scarce = request.extensions().get().is_some_and(Target::is_limited);
        let (mut parts, body) = request.into_parts();
        let said = parts.extensions.get::<SocketFrame>().copied();
        let (body, frame) = match said {
            Some(_) => (Body::empty(), Some(RewrittenFrame::new(body))),
            None => (body, None),
        };
        if said.is_some() {
            ask_for_socket(&mut parts);
        }
        let way = if is_handshake { None } else { self.way(&parts.uri) };
        if let Some(authorization) = way.as_ref().and_then(Way::authorization) {
            parts.headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        let (body, upload) = upload::watch(body);
        let asks = matches!(said, None | Some(SocketFrame::First));
        let mut request = Request::from_parts(parts, body);
        let interim = interim::watch(&mut request);
        let answer = asks.then(|| match (is_handshake, is_scarce) {
            (true, _) => self.handshakes.request(request),
            (false, true) => self.http.in_common().request(request),
            (false, false) => self.http.with_own(|client| client.request(request)),
        });
        let clock = HeadClock::new(upload, interim, phase, limit);
        let is_read_by_proxy = way.is_some();
        ResponseFuture {
            state: State::Sent { answer, frame, clock, idle: limits.idle, is_handshake, is_read_by_proxy },
        }
    }
}

/// The handshake that leads to where a call would be made.
fn ask_for_socket(parts: &mut Parts) {
    parts.method = Method::GET;
    for of_body in [CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING] {
        parts.headers.remove(of_body);
    }
}

/// Answers a frame for a connection that stands, without anybody being asked.
fn spoken(frame: Option<RewrittenFrame>) -> Response<Body> {
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    if let Some(frame) = frame {
        answer.extensions_mut().insert(frame);
    }
    lasting(answer)
}

/// The answer that begins a connection: as long as that lasts, its body is what the backend says there.
fn lasting<B>(answer: Response<B>) -> Response<Body> {
    let (events, body) = SocketEvents::channel();
    let mut answer = answer.map(|_| body);
    answer.extensions_mut().insert(events);
    answer
}

pin_project! {
    /// The future of [`HttpClient`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State {
        Refused { error: Option<Error> },
        Sent {
            #[pin]
            answer: Option<legacy::ResponseFuture>,
            frame: Option<RewrittenFrame>,
            #[pin]
            clock: HeadClock,
            idle: Duration,
            is_handshake: bool,
            is_read_by_proxy: bool,
        },
    }
}

impl ResponseFuture {
    const fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, AttemptFailed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (answer, frame, clock, idle, is_handshake, is_read_by_proxy) = match self.project().state.project() {
            StateProjection::Sent { answer, frame, clock, idle, is_handshake, is_read_by_proxy } => {
                (answer, frame, clock, *idle, *is_handshake, *is_read_by_proxy)
            }
            StateProjection::Refused { error } => {
                let error = error.take().map_or_else(polled_again, Into::into);
                return Poll::Ready(Err(AttemptFailed::new(Outcome::Abandoned, error)));
            }
        };
        let Some(answer) = answer.as_pin_mut() else { return Poll::Ready(Ok(spoken(frame.take()))) };
        let Poll::Ready(result) = answer.poll(cx) else {
            return clock.poll_failure(cx).map(Err);
        };
        let upload = clock.upload();
        Poll::Ready(match result {
            Ok(answer) if is_read_by_proxy && answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Err(failure::of_unauthorised())
            }
            Ok(mut answer) => {
                if let Some(frame) = frame.take() {
                    answer.extensions_mut().insert(frame);
                }
                if is_handshake && answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Ok(lasting(answer)));
                }
                Ok(answer.map(|body| Body::new(AnswerBody::new(body, idle, upload.take()))))
            }
            Err(error) => Err(upload.failure().unwrap_or_else(|| failure::of_send(&error))),
        })
    }
}
