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
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tower::{BoxError, Service};
use tower_azure_openai::body::Body;
use tower_azure_openai::gateway::Gateway;
use tower_azure_openai::health::{Health, PROBE};
use tower_azure_openai::pool::Pool;
use tower_azure_openai::upgrade::UpgradeLayer;

use crate::access_log::{Entry, Logged};
use crate::config::Config;
use crate::identities::Identities;
use crate::{load, wiring};

/// How long a listener that cannot accept (no file descriptors left) waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    let mut identities = Identities::default();
    let pool = wiring::pool(&config, &mut identities)?.build()?;
    // A reload replaces everything but this: a WebSocket that was there before is waited for like any other.
    let upgrade = UpgradeLayer::new();
    let gateway = wiring::gateway(&config, pool.clone(), upgrade.clone())?;
    let health = Health::new(pool.clone());
    let front =
        Front { current: Arc::new(ArcSwap::from_pointee(Current::new(&config, gateway))), health: health.clone() };

    let url = format!("http://{}", listener.local_addr()?);
    println!("listening on {url}");
    let admin_url = admin.as_ref().and_then(|admin| admin.local_addr().ok()).map(|address| format!("http://{address}"));
    if let (Some(admin), Some(url)) = (admin, &admin_url) {
        println!("admin on {url}");
        tokio::spawn(serve_admin(admin, health.clone()));
    }
    greet(&url, admin_url.as_deref());

    let running = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => front.serve(stream, config.limits.request_head, &running),
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = signals.reload.recv() => reload(file.as_deref(), &pool, &mut identities, &upgrade, &front),
            _ = signals.interrupt.recv() => break,
            _ = signals.terminate.recv() => break,
        }
    }
    drop(listener);
    health.start_draining();
    tracing::info!("stopping: running requests are finished");
    let finished = async {
        running.shutdown().await;
        upgrade.connections().closed().await;
    };
    if tokio::time::timeout(config.shutdown_grace, finished).await.is_err() {
        tracing::warn!("shutdown_grace is over: what still runs is cut off");
    }
    Ok(())
}

/// Takes the file as it is now; an invalid one is reported and changes nothing.
fn reload(file: Option<&Path>, pool: &Pool, identities: &mut Identities, upgrade: &UpgradeLayer, front: &Front) {
    let Some(file) = file else { return };
    let config = match load(file) {
        Ok(config) => config,
        Err(problems) => {
            eprint!("{problems}");
            return tracing::error!("the configuration was not reloaded: it has problems");
        }
    };
    let replaced = wiring::pool(&config, identities).and_then(|description| {
        let gateway = wiring::gateway(&config, pool.clone(), upgrade.clone())?;
        pool.replace(description)?;
        front.current.store(Arc::new(Current::new(&config, gateway)));
        Ok(())
    });
    match replaced {
        Ok(()) => tracing::info!("the configuration was reloaded"),
        Err(error) => tracing::error!(%error, "the configuration was not reloaded"),
    }
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

/// What a reload replaces.
struct Current {
    gateway: Gateway,
    backend_header: bool,
}

impl Current {
    const fn new(config: &Config, gateway: Gateway) -> Self {
        Self { gateway, backend_header: config.telemetry.backend_header }
    }
}

/// What clients connect to.
#[derive(Clone)]
struct Front {
    current: Arc<ArcSwap<Current>>,
    health: Health,
}

impl Front {
    fn serve(&self, stream: TcpStream, request_head: usize, running: &GracefulShutdown) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay");
        }
        let front = self.clone();
        let service = service_fn(move |request| front.clone().answer(request));
        let connection = http(request_head).serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let watched = running.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(error = %kind(error.as_ref()), "connection");
            }
        });
    }

    async fn answer(self, mut request: Request<Incoming>) -> Result<Response<Logged>, Infallible> {
        let entry = Entry::start(&mut request);
        if request.uri().path() == PROBE {
            let answer = self.health.answer(request.method(), PROBE);
            return Ok(entry.end_with(answer));
        }
        let current = self.current.load_full();
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

async fn serve_admin(listener: TcpListener, health: Health) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let health = health.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer: Response<Body> = health.answer(request.method(), request.uri().path());
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
