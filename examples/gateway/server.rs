//! Listening, reloading, stopping.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tower::{BoxError, Layer, ServiceExt};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Observation;
use tower_azure_openai::health::{Health, PROBE};
use tower_azure_openai::observe::ObserveLayer;

use crate::accept::{Accepted, Door};
use crate::admin::{Admin, History, Steered, Steering};
use crate::answer::Watched;
use crate::config::tls::Tls;
use crate::config::{Authentication, Config, Problems};
use crate::connection::{self, Terms};
use crate::loops::{Dealer, Home, Loops};
use crate::patience::{Patience, Running, Vigil};
use crate::reloads::Reloads;
use crate::stack::Stack;
use crate::usage;
use crate::websockets::{Shown, WebSockets};
use crate::wiring::Wired;
use crate::{log, metrics, output};

/// Time for which a start waits for what is shared.
const SHARED_TIME: Duration = Duration::from_secs(1);
/// Time for which the end of the process waits for the disk, and for a collector while there is time.
const PARTING: Duration = Duration::from_secs(1);

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
    if let Some(shared) = wired.kept.shared() {
        // The first requests are to find it; without it they are served too.
        let _ = timeout(SHARED_TIME, shared.ready()).await;
    }
    let health = usage::tell(Health::new(wired.pool.clone()), &config, &wired.kept);
    let (steering, mut wanted) = Steering::new(wired.pool.clone(), health.clone());
    let front = Front {
        current: Arc::new(ArcSwap::from_pointee(Current::new(&config, &wired, health, &steering))),
        websockets: WebSockets::default(),
        steering,
        history: wired.history.clone(),
    };
    let loops = Loops::start(config.threads).map_err(|error| format!("threads: {error}"))?;
    let dealer = loops.dealer();

    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr()?);
    output::print(&format!("listening on {url}"));
    let admin_url = admin.as_ref().and_then(|admin| admin.local_addr().ok()).map(|address| format!("http://{address}"));
    if let (Some(admin), Some(url)) = (admin, &admin_url) {
        output::print(&format!("admin on {url}"));
        tokio::spawn(serve_admin(Door::for_admin(admin), front.clone()));
        tokio::spawn(wired.history.clone().keep(front.steering.clone()));
    }
    greet(&url, admin_url.as_deref());

    let (stop, stopping) = watch::channel(());
    let mut door = Door::for_clients(listener, config.limits.connections);
    metrics::tell(&wired.metrics, &config, &wired.kept);
    let connections = door.count();
    wired.metrics.add_gauge("gateway_connections", "Connections of clients that are open", move || {
        vec![(vec![], connections() as f64)]
    });
    metrics::tell_of_loops(&wired.metrics, &dealer);
    let (mut reloads, mut latest) = (Reloads::of(file), None);
    let mut closing = None;
    loop {
        tokio::select! {
            accepted = door.accept() => front.accept(accepted, &dealer, stopping.clone()),
            _ = signals.reload.recv() => reloads.begin(None),
            Some(reloaded) = wanted.recv() => reloads.begin(Some(reloaded)),
            (read, waiting) = reloads.next() => {
                let done = reload(read, &config, latest.as_ref().unwrap_or(&config), &wired, &front);
                wired.history.note("The configuration", match &done {
                    Ok(_) => "was reloaded".to_owned(),
                    Err(problems) => format!("was not reloaded: {problems}"),
                });
                let told = done.map(|(next, read)| (wired, latest) = (next, Some(read)));
                // Whoever asked may have left.
                waiting.into_iter().for_each(|reloaded| drop(reloaded.send(told.clone())));
            }
            _ = signals.record.recv() => {
                let recordings = wired.recordings.clone();
                tokio::spawn(async move { recordings.write_down("SIGUSR1").await });
            }
            _ = signals.interrupt.recv() => if front.is_told_to_close(&mut closing) { break },
            _ = signals.terminate.recv() => if front.is_told_to_close(&mut closing) { break },
            () = sleep_until(closing.unwrap_or_else(Instant::now)), if closing.is_some() => break,
        }
    }
    while let Some(waiting) = door.waiting() {
        front.accept(waiting, &dealer, stopping.clone());
    }
    drop((door, stopping));
    let grace = front.current.load().shutdown_grace;
    finish(&wired, grace, stop).await;
    Ok(())
}

/// Lets what runs end within the grace, and then what was noted leave the process.
async fn finish(wired: &Wired, grace: Duration, stop: watch::Sender<()>) {
    let stopped = Instant::now();
    tracing::info!("stopping: running requests are finished");
    let sockets = wired.kept.upgrade().connections();
    let finished = async {
        stop.send_replace(());
        stop.closed().await;
        sockets.closed().await;
    };
    let parting = async {
        sleep(grace / 2).await;
        sockets.close("The gateway is being stopped. Connect again.");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = finished => {}
        () = parting => {}
        () = sleep(grace) => tracing::warn!("shutdown_grace is over: what still runs is cut off"),
    }
    if let Some(collector) = wired.kept.collector() {
        collector.finish(PARTING.min(grace.saturating_sub(stopped.elapsed()))).await;
    }
    if let Some(captures) = wired.kept.captures() {
        captures.finish(PARTING);
    }
}

/// Takes the file as it was read; an invalid one is reported and changes nothing.
fn reload(
    read: Result<Config, Problems>,
    started_with: &Config,
    latest: &Config,
    before: &Wired,
    front: &Front,
) -> Result<(Wired, Config), String> {
    let config = read.map_err(|problems| {
        log::refused(&problems);
        tracing::error!("the configuration was not reloaded: it has problems");
        problems.to_string()
    })?;
    let mut steered = front.steering.current();
    let wired = Wired::new(&config, Some(before)).map_err(|error| {
        tracing::error!(%error, "the configuration was not reloaded");
        format!("{error}\n")
    })?;
    for key in fixed_at_start(started_with, &config) {
        tracing::warn!(key, "changes with a restart only");
    }
    let health = front.current.load().health.with_pool(wired.pool.clone());
    let health = usage::tell(health, &config, &wired.kept);
    wired.metrics.set_pool(wired.pool.clone());
    metrics::tell(&wired.metrics, &config, &wired.kept);
    *steered = Steered { pool: wired.pool.clone(), health: health.clone() };
    front.current.store(Arc::new(Current::new(&config, &wired, health, &front.steering)));
    front.websockets.end_unknown(latest, &config);
    tracing::info!("the configuration was reloaded");
    Ok((wired, config))
}

/// Keys that a reload cannot change, and that differ.
fn fixed_at_start(before: &Config, now: &Config) -> impl Iterator<Item = &'static str> {
    let (log, new_log) = (&before.telemetry, &now.telemetry);
    let fixed = [
        ("listen", before.listen == now.listen),
        ("admin", before.admin == now.admin),
        ("threads", before.threads == now.threads),
        ("limits.connections", before.limits.connections == now.limits.connections),
        ("telemetry.log", log.log == new_log.log),
        ("telemetry.log_format", log.log_format == new_log.log_format),
        ("redis", before.redis == now.redis),
    ];
    fixed.into_iter().filter(|(_, is_same)| !is_same).map(|(key, _)| key)
}

struct Signals {
    reload: Signal,
    record: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            record: signal(SignalKind::user_defined1())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

/// Part that a reload replaces, as a whole.
struct Current {
    gateway: Stack,
    health: Health,
    admin: Admin,
    observe: ObserveLayer,
    /// Nobody is asked who they are.
    takes_everybody: bool,
    patience: Patience,
    request_head: usize,
    shutdown_delay: Duration,
    shutdown_grace: Duration,
    tls: Option<TlsAcceptor>,
}

impl Current {
    fn new(config: &Config, wired: &Wired, health: Health, steering: &Steering) -> Self {
        Self {
            gateway: Stack::new(wired.gateway.clone()),
            admin: Admin::new(
                config,
                steering.clone(),
                wired.history.clone(),
                wired.kept.ledger(),
                wired.recordings.clone(),
                wired.metrics.clone(),
            ),
            health,
            observe: wired.observe.clone(),
            takes_everybody: config.authentication == Authentication::None,
            patience: Patience { head: config.timeouts.head, write: config.timeouts.write },
            request_head: config.limits.request_head,
            shutdown_delay: config.shutdown_delay,
            shutdown_grace: config.shutdown_grace,
            tls: config.tls.clone().map(|Tls(config)| config.into()),
        }
    }

    /// Answers a probe, which is told of like any other request.
    async fn probe(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let answer = self.observe.layer(self.health.clone()).oneshot(request).await?;
        Ok(answer.map(Body::new))
    }

    fn terms(&self, stopping: watch::Receiver<()>, home: Home) -> Terms {
        Terms { patience: self.patience, request_head: self.request_head, tls: self.tls.clone(), stopping, home }
    }
}

/// Front to which clients connect.
#[derive(Clone)]
struct Front {
    current: Arc<ArcSwap<Current>>,
    websockets: WebSockets,
    steering: Steering,
    history: History,
}

impl Front {
    /// Tells what a signal to stop means: the end of accepting, at once or after `shutdown_delay`, in which front ends may notice
    /// that this process is not ready any more. A second signal does not wait.
    fn is_told_to_close(&self, closing: &mut Option<Instant>) -> bool {
        let current = self.current.load();
        self.steering.stop();
        self.history.note("This process", "was told to end");
        if closing.is_some() || current.shutdown_delay.is_zero() {
            return true;
        }
        tracing::info!("stopping: connections are accepted for shutdown_delay more");
        *closing = Some(Instant::now() + current.shutdown_delay);
        false
    }

    fn accept(&self, accepted: Accepted, dealer: &Dealer, stopping: watch::Receiver<()>) {
        let (front, home) = (Arc::new(self.clone()), dealer.home());
        let terms = self.current.load().terms(stopping, home.clone());
        let accepted = Accepted { place: accepted.place.at(&home), ..accepted };
        let own = home.clone();
        let service = |vigil: Arc<Vigil>| {
            service_fn(move |request: Request<Incoming>| {
                // A request of HTTP/2 is counted by what runs it.
                let seat = if request.version() == Version::HTTP_2 { None } else { own.request() };
                let running = vigil.request(seat);
                Arc::clone(&front).answer(request, running, Arc::clone(&vigil))
            })
        };
        home.spawn(connection::serve(accepted, terms, service));
    }

    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        running: Running,
        vigil: Arc<Vigil>,
    ) -> Result<Response<Watched>, Infallible> {
        let current = self.current.load_full();
        let is_shared = request.version() == Version::HTTP_2;
        if is_shared {
            vigil.share();
        }
        let is_stopping = self.steering.is_stopping();
        let observation = Observation::new();
        request.extensions_mut().insert(observation.clone());
        let shown = request.headers().contains_key(UPGRADE).then(|| Shown::of(request.uri(), request.headers()));
        let mut answer = if request.uri().path() == PROBE {
            current.probe(request).await?
        } else {
            current.gateway.call(request).await?
        };
        let client = observation.client();
        if client.is_some() || current.takes_everybody {
            vigil.known();
        }
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            vigil.upgrade();
            if let (Some(shown), Some(client)) = (shown, client) {
                self.websockets.add(&vigil, client.id(), shown);
            }
        }
        if is_stopping && !is_shared && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            // Whoever asks again does so over a new connection, which may lead elsewhere, and finds none that is closed under a request.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer.map(|body| Watched::new(body, running, &vigil, is_shared)))
    }
}

async fn serve_admin(mut door: Door, front: Front) {
    // Nobody asks it to stop: it serves to the end.
    let (_stop, stopping) = watch::channel(());
    loop {
        let (accepted, front) = (door.accept().await, front.clone());
        let mut terms = front.current.load().terms(stopping.clone(), Home::HERE);
        (terms.tls, terms.request_head) = (None, 64 * 1024);
        let service = |vigil: Arc<Vigil>| {
            service_fn(move |request: Request<Incoming>| {
                let (running, current) = (vigil.request(None), front.current.load_full());
                async move {
                    let answer = current.admin.answer(request).await;
                    drop(running);
                    Ok::<_, Infallible>(answer)
                }
            })
        };
        tokio::spawn(connection::serve(accepted, terms, service));
    }
}
