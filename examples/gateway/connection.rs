//! Serving one connection, for as long as its client deserves it.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::accept::Accepted;
use crate::loops::Home;
use crate::patience::{Patience, Patient, Vigil};

/// Requests that run at the same time on one connection of HTTP/2; further ones wait at the client.
const STREAMS: u32 = 200;

/// Terms on which a connection is served.
pub(crate) struct Terms {
    pub(crate) patience: Patience,
    /// Bytes.
    pub(crate) request_head: usize,
    pub(crate) tls: Option<TlsAcceptor>,
    /// A receiver is held until the connection has ended; a new value asks for that.
    pub(crate) stopping: watch::Receiver<()>,
    /// Home of its requests.
    pub(crate) home: Home,
}

/// Serves with what `service` makes for the clocks of this connection, which run from now on.
pub(crate) fn serve<S, B>(
    accepted: Accepted,
    terms: Terms,
    service: impl FnOnce(Arc<Vigil>) -> S,
) -> impl Future<Output = ()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send + 'static>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let vigil = Vigil::new(terms.patience);
    // Before the next one is accepted, which may look for a connection that gives way.
    accepted.place.is_watched_by(&vigil);
    let service = service(Arc::clone(&vigil));
    serve_watched(accepted, terms, service, vigil)
}

async fn serve_watched<S, B>(accepted: Accepted, terms: Terms, service: S, vigil: Arc<Vigil>)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send + 'static>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let mut builder = http(terms.request_head, terms.home);
    builder.http1().keep_alive(!accepted.is_last);
    let stream = match TcpStream::from_std(accepted.stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "connection"),
    };
    let io = Patient::new(stream, Arc::clone(&vigil), accepted.place);
    let Some(tls) = terms.tls else { return run(io, &builder, service, &vigil, terms.stopping).await };
    let agreed = tokio::select! {
        agreed = tls.accept(io) => agreed,
        () = vigil.is_over() => return tracing::debug!("TLS handshake: timeout"),
    };
    match agreed {
        Ok(io) => run(io, &builder, service, &vigil, terms.stopping).await,
        Err(error) => tracing::debug!(%error, "TLS handshake"),
    }
}

async fn run<I, S, B>(
    io: I,
    builder: &auto::Builder<Home>,
    service: S,
    vigil: &Vigil,
    mut stopping: watch::Receiver<()>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send + 'static>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = vigil.is_over() => None,
        () = is_told_to_close(&mut stopping, vigil) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = vigil.is_done() => return tracing::debug!("connection: closed, for nothing came"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %kind(error.as_ref()), "connection");
    }
}

async fn is_told_to_close(stopping: &mut watch::Receiver<()>, vigil: &Vigil) {
    // Who told it may be gone, which means the same.
    let _ = stopping.changed().await;
    vigil.is_quiet().await;
}

/// Connection errors can quote what a client sent, which may be a key: only their kind is logged.
fn kind(error: &(dyn Error + 'static)) -> &'static str {
    match error.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_parse() => "malformed request",
        Some(error) if error.is_timeout() => "timeout",
        Some(error) if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
            "closed by the client"
        }
        _ => "broken",
    }
}

fn http(request_head: usize, home: Home) -> auto::Builder<Home> {
    let mut builder = auto::Builder::new(home);
    // The clocks of `patience` run on heads, in both protocols.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(request_head);
    let header_list = u32::try_from(request_head).unwrap_or(u32::MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(header_list)
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(Duration::from_secs(30));
    builder
}
