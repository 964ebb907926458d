//! Listening, reloading, stopping.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::{BoxError, Service};
use tower_azure_openai::body::Body;
use tower_azure_openai::gateway::Gateway;
use tower_azure_openai::health::{Health, PROBE};

use crate::access_log::{Entry, Logged};
use crate::admin::Admin;
use crate::config::Config;
use crate::config::tls::Tls;
use crate::wiring::Wired;
use crate::{load, output};

/// How long a listener that cannot accept (no file descriptors left) waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a client may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a configuration until a signal says to stop. `file` is read again on SIGHUP.
pub(crate) async fn run(config: Config, file: Option<PathBuf>) -> Result<(), BoxError> {
    let listener = bind("listen", config.listen).await?;
    let admin = match config.admin {
        Some(address) => Some(bind("admin", address).await?),
        None => None,
    };
    serve(config, file, listener, admin, |_, _| {}).await
}

pub(crate) async fn bind(key: &str, address: std::net::SocketAddr) -> Result<TcpListener, BoxError> {
    TcpListener::bind(address).await.map_err(|error| format!("{key}: {address} cannot be listened on: {error}").into())
}

/// Serves on listeners that are bound already; `greet` gets the URLs of the gateway and of the admin listener.
pub(crate) async fn serve(
    config: Config,
    file: Option<PathBuf>,
    listener: TcpListener,
    admin: Option<TcpListener>,
    greet: impl FnOnce(&str, Option<&str>),
) -> Result<(), BoxError> {
    let mut signals = Signals::new()?;
    let mut wired = Wired::new(&config, None)?;
    let health = Health::new(wired.pool.clone());
    let front = Front { current: Arc::new(ArcSwap::from_pointee(Current::new(&config, &wired, health))) };

    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr()?);
    output::print(&format!("listening on {url}"));
    let admin_url = admin.as_ref().and_then(|admin| admin.local_addr().ok()).map(|address| format!("http://{address}"));
    if let (Some(admin), Some(url)) = (admin, &admin_url) {
        output::print(&format!("admin on {url}"));
        tokio::spawn(serve_admin(admin, front.clone()));
    }
    greet(&url, admin_url.as_deref());

    let running = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => front.accept(stream, running.watcher()),
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = signals.reload.recv() => {
                if let Some(file) = &file && let Some(next) = reload(file, &config, &wired, &front) {
                    wired = next;
                }
            }
            _ = signals.interrupt.recv() => break,
            _ = signals.terminate.recv() => break,
        }
    }
    drop(listener);
    let current = front.current.load_full();
    current.health.start_draining();
    tracing::info!("stopping: running requests are finished");
    let finished = async {
        running.shutdown().await;
        wired.kept.upgrade().connections().closed().await;
    };
    if timeout(current.shutdown_grace, finished).await.is_err() {
        tracing::warn!("shutdown_grace is over: what still runs is cut off");
    }
    Ok(())
}

/// Takes the file as it is now; an invalid one is reported and changes nothing.
fn reload(file: &Path, started_with: &Config, before: &Wired, front: &Front) -> Option<Wired> {
    let config = match load(file) {
        Ok(config) => config,
        Err(problems) => {
            output::complain(&problems.to_string());
            tracing::error!("the configuration was not reloaded: it has problems");
            return None;
        }
    };
    let wired = Wired::new(&config, Some(before))
        .map_err(|error| tracing::error!(%error, "the configuration was not reloaded"))
        .ok()?;
    for key in fixed_at_start(started_with, &config) {
        tracing::warn!(key, "changes with a restart only");
    }
    let health = front.current.load().health.with_pool(wired.pool.clone());
    front.current.store(Arc::new(Current::new(&config, &wired, health)));
    tracing::info!("the configuration was reloaded");
    Some(wired)
}

/// Keys that a reload cannot change, and that differ.
fn fixed_at_start(before: &Config, now: &Config) -> impl Iterator<Item = &'static str> {
    let (log, new_log) = (&before.telemetry, &now.telemetry);
    let fixed = [
        ("listen", before.listen == now.listen),
        ("admin", before.admin == now.admin),
        ("telemetry.log", log.log == new_log.log),
        ("telemetry.log_format", log.log_format == new_log.log_format),
    ];
    fixed.into_iter().filter(|(_, is_same)| !is_same).map(|(key, _)| key)
}

struct Signals {
    reload: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

/// What a reload replaces, as a whole.
struct Current {
    gateway: Gateway,
    health: Health,
    admin: Admin,
    backend_header: bool,
    request_head: usize,
    shutdown_grace: Duration,
    tls: Option<TlsAcceptor>,
}

impl Current {
    fn new(config: &Config, wired: &Wired, health: Health) -> Self {
        Self {
            gateway: wired.gateway.clone(),
            admin: Admin::new(config, health.clone()),
            health,
            backend_header: config.telemetry.backend_header,
            request_head: config.limits.request_head,
            shutdown_grace: config.shutdown_grace,
            tls: config.tls.clone().map(|Tls(config)| config.into()),
        }
    }
}

/// What clients connect to.
#[derive(Clone)]
struct Front {
    current: Arc<ArcSwap<Current>>,
}

impl Front {
    fn accept(&self, stream: TcpStream, running: Watcher) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay");
        }
        let (front, current) = (self.clone(), self.current.load());
        let (request_head, tls) = (current.request_head, current.tls.clone());
        tokio::spawn(async move {
            let Some(tls) = tls else { return front.serve(stream, request_head, running).await };
            match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => front.serve(stream, request_head, running).await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
                Err(_) => tracing::debug!("TLS handshake: timeout"),
            }
        });
    }

    async fn serve<I>(self, stream: I, request_head: usize, running: Watcher)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| self.clone().answer(request));
        let connection = http(request_head).serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        if let Err(error) = running.watch(connection).await {
            tracing::debug!(error = %kind(error.as_ref()), "connection");
        }
    }

    async fn answer(self, mut request: Request<Incoming>) -> Result<Response<Logged>, Infallible> {
        let entry = Entry::start(&mut request);
        let current = self.current.load_full();
        if request.uri().path() == PROBE {
            let answer = current.health.answer(request.method(), PROBE);
            return Ok(entry.end_with(answer));
        }
        let mut answer = current.gateway.clone().call(request).await?;
        if current.backend_header {
            entry.add_headers(&mut answer);
        }
        Ok(entry.end_with(answer))
    }
}

/// Connection errors can quote what a client sent, which may be a key: only their kind is logged.
fn kind(error: &(dyn std::error::Error + 'static)) -> &'static str {
    match error.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_parse() => "malformed request",
        Some(error) if error.is_timeout() => "timeout",
        Some(error) if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
            "closed by the client"
        }
        _ => "broken",
    }
}

async fn serve_admin(listener: TcpListener, front: Front) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let front = front.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer: Response<Body> = front.current.load().admin.answer(&request);
                async { Ok::<_, Infallible>(answer) }
            });
            let _ = http(64 * 1024).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn http(request_head: usize) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).max_buf_size(request_head);
    let header_list = u32::try_from(request_head).unwrap_or(u32::MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(header_list)
        .keep_alive_interval(Duration::from_secs(30));
    builder
}
