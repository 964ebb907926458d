//! The backend as a server on loopback.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::backend::SimulatedBackend;
use super::realtime::Session;

impl SimulatedBackend {
    /// Serves on a free port of `127.0.0.1`: HTTP/1.1, and HTTP/2 with prior knowledge, both in plain text.
    ///
    /// A backend may be served several times; requests are counted and limited together.
    ///
    /// # Errors
    /// When the port cannot be opened.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn serve(&self) -> io::Result<SimulatedServer> {
        self.serve_on((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Like [`serve`](Self::serve), on a given address: that of a server that was stopped, for example.
    ///
    /// # Errors
    /// When the port cannot be opened.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn serve_on(&self, addr: SocketAddr) -> io::Result<SimulatedServer> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let (ending, end) = oneshot::channel();
        let task = tokio::spawn(accept(listener, Acceptor { backend: self.clone(), address: address(addr) }, end));
        Ok(SimulatedServer { addr, ending: Some(ending), task })
    }
}

/// A [`SimulatedBackend`] that is being served on loopback, until this is dropped.
///
/// Dropping it does what [`stop`](Self::stop) does, without waiting for it.
#[derive(Debug)]
pub struct SimulatedServer {
    addr: SocketAddr,
    ending: Option<oneshot::Sender<Ending>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Ending {
    Abrupt,
    Graceful,
}

impl SimulatedServer {
    /// Returns where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns where it listens, as `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Dies: resets all connections. When this returns, new ones are refused.
    pub async fn stop(self) {
        self.end(Ending::Abrupt).await;
    }

    /// Stops gracefully: refuses new connections, and returns when all requests have been answered. One that
    /// [hangs](super::Fault::hang) keeps it waiting. WebSockets are reset then.
    ///
    /// Cancelling it is the same as [`stop`](Self::stop).
    pub async fn shutdown(self) {
        self.end(Ending::Graceful).await;
    }

    async fn end(mut self, ending: Ending) {
        // Both fail only when the task has ended with its runtime.
        let _ = self.ending.take().map(|end| end.send(ending));
        let _ = (&mut self.task).await;
    }
}

impl Drop for SimulatedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The `Host` under which a server is reached, unless it listens everywhere.
fn address(addr: SocketAddr) -> Option<Arc<str>> {
    (!addr.ip().is_unspecified()).then(|| addr.to_string().into())
}

async fn accept(listener: TcpListener, acceptor: Acceptor, mut end: oneshot::Receiver<Ending>) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let ending = loop {
        tokio::select! {
            biased;
            ending = &mut end => break ending.unwrap_or(Ending::Abrupt),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(acceptor.clone().serve(stream, graceful.watcher()));
                }
                // That of one connection, or a lack of file descriptors, which others may give back.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    drop(listener);
    match ending {
        Ending::Abrupt => connections.shutdown().await,
        Ending::Graceful => graceful.shutdown().await,
    }
}

#[derive(Clone)]
struct Acceptor {
    backend: SimulatedBackend,
    address: Option<Arc<str>>,
}

impl Acceptor {
    async fn serve(self, stream: TcpStream, watcher: Watcher) {
        // Small chunks go out when they are written; without it they would wait for the client's acknowledgement.
        let _ = stream.set_nodelay(true);
        let closed = Arc::new(AtomicBool::new(false));
        let socket = TokioIo::new(Socket { stream, closed: Arc::clone(&closed) });
        let fault = Arc::new(Notify::new());
        let session = Arc::new(Mutex::new(None));
        let service = service_fn(|mut request: Request<Incoming>| {
            let upgrade = hyper::upgrade::on(&mut request);
            let answer = self.backend.answer(request, self.address.clone());
            let (fault, session) = (Arc::clone(&fault), Arc::clone(&session));
            async move {
                match answer.await {
                    Ok(mut response) => {
                        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                            let begun = Session::begin(upgrade, &mut response);
                            *session.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
                        }
                        Ok::<_, Infallible>(response)
                    }
                    Err(_) => {
                        fault.notify_one();
                        std::future::pending().await
                    }
                }
            }
        });
        let server = auto::Builder::new(TokioExecutor::new());
        let connection = watcher.watch(server.serve_connection_with_upgrades(socket, service).into_owned());
        let mut connection = pin!(async {
            drop(connection.await);
            let begun = session.lock().unwrap_or_else(PoisonError::into_inner).take();
            match begun {
                Some(session) => session.run().await,
                None => None,
            }
        });
        tokio::select! {
            biased;
            () = fault.notified() => {}
            _socket = &mut connection => closed.store(true, Ordering::Relaxed),
        }
    }
}

// ===== impl Socket =====

/// A socket that is reset when it is dropped before its connection has ended.
struct Socket {
    stream: TcpStream,
    closed: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.closed.load(Ordering::Relaxed) {
            // Where this is not possible the socket is closed, which ends the connection as well.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
