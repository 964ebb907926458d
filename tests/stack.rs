//! The whole stack between real sockets: clients before it, simulated backends behind it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/http.rs"]
mod http_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use tower::{BoxError, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::client::HttpClient;
use tower_azure_openai::context::Client;
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::pool::{Backend, CircuitConfig, Credential, Deployment, Pool};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment, SimulatedServer};

use http_support::{Answer, CHAT, chat_request, client, send, serve, soon};

const KEY: &str = "key-of-the-client";

fn simulated(name: &str) -> SimulatedBackend {
    SimulatedBackend::builder(name)
        .api_key(format!("key-of-{name}"))
        .deployment(SimulatedDeployment::standard("gpt-4o"))
        .build()
}

fn backend(name: &str, url: impl Into<String>, priority: u32) -> Backend {
    Backend::new(name, url)
        .credential(Credential::api_key(format!("key-of-{name}")).unwrap())
        .priority(priority)
        .add_deployment(Deployment::new("gpt-4o"))
}

fn pool(backends: impl IntoIterator<Item = Backend>) -> Pool {
    backends.into_iter().fold(Pool::builder(), |pool, backend| pool.add_backend(backend)).build().unwrap()
}

fn clients() -> TerminateCredentialsLayer {
    let clients = ClientRegistry::builder().add_key(Client::new("team"), KEY).build().unwrap();
    TerminateCredentialsLayer::new(clients)
}

/// The stack over real connections, itself on a socket.
async fn front(pool: Pool) -> String {
    front_of(gateway::builder(pool, clients()).build(HttpClient::builder().build().unwrap())).await
}

async fn front_of(gateway: Gateway) -> String {
    serve(move |request: Request<Incoming>| {
        let gateway = gateway.clone();
        async move { gateway.oneshot(request).await.unwrap() }
    })
    .await
}

/// A server that answers 200 with the body it got.
async fn echo() -> String {
    serve(|request: Request<Incoming>| async { Response::new(Body::from(request.collect().await.unwrap().to_bytes())) })
        .await
}

/// A body whose length nobody is told: it is sent in chunks.
fn chunked(bytes: &Bytes) -> Body {
    let chunks: Vec<_> =
        bytes.chunks(60_000).map(|chunk| Ok::<_, BoxError>(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
    Body::new(StreamBody::new(futures_util::stream::iter(chunks)))
}

fn circuit_of(pool: &Pool, name: &str) -> &'static str {
    pool.status().backends.iter().find(|backend| backend.name == name).unwrap().deployments[0].circuit
}

/// What makes the first backend fail: a fault, or nothing that listens.
fn failures() -> Vec<(&'static str, Option<Fault>)> {
    vec![
        ("401", Some(Fault::status(401))),
        ("403", Some(Fault::status(403))),
        ("missing deployment", Some(Fault::status(404))),
        ("408", Some(Fault::status(408))),
        ("429", Some(Fault::status(429).header("retry-after-ms", "1"))),
        ("500", Some(Fault::status(500))),
        ("502", Some(Fault::status(502))),
        ("503", Some(Fault::status(503))),
        ("504", Some(Fault::status(504))),
        ("reset", Some(Fault::reset())),
        ("no listener", None),
    ]
}

#[tokio::test]
async fn every_attempt_gets_the_same_bytes() {
    let two_mib: Bytes = (0..2_u32 << 20).map(|n| (n % 251) as u8).collect();
    let bodies = [Bytes::new(), Bytes::from_static(b"x"), two_mib];
    let second = echo().await;
    for (failure, fault) in failures() {
        for whole in &bodies {
            for known_length in [true, false] {
                let first = simulated("first");
                let server = first.serve().await.unwrap();
                let url = server.url();
                match &fault {
                    Some(fault) => drop(first.faults().always(fault.clone())),
                    None => server.stop().await,
                }
                let front = front(pool([backend("first", url, 0), backend("second", &second, 1)])).await;
                let body = if known_length { Body::from(whole.clone()) } else { chunked(whole) };
                let answer =
                    send(Request::post(format!("{front}{CHAT}")).header("api-key", KEY).body(body).unwrap()).await;

                let case = format!("{failure}, {} bytes, length known: {known_length}", whole.len());
                assert_eq!(answer.status, StatusCode::OK, "{case}");
                assert!(answer.body == *whole, "{case}: the second backend got other bytes");
                let received = first.requests();
                assert_eq!(received.len(), usize::from(fault.is_some()), "{case}: tried once");
                assert!(received.iter().all(|request| request.body == *whole), "{case}: the first got other bytes");
            }
        }
    }
}

#[tokio::test]
async fn what_is_the_clients_fault_returns_untouched() {
    let (first, second) = (simulated("first"), simulated("second"));
    let servers = [first.serve().await.unwrap(), second.serve().await.unwrap()];
    let front = front(pool([backend("first", servers[0].url(), 0), backend("second", servers[1].url(), 1)])).await;
    let filtered = r#"{"error":{"code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
    first.faults().push(Fault::status(400).body(filtered).header("x-mine", "kept"));
    let answer = send(chat_request(&front, KEY)).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::BAD_REQUEST, filtered));
    assert_eq!(answer.header("x-mine"), Some("kept"));
    assert_eq!(second.request_count(), 0);
}

/// With a paused clock, and so with the backends in process: `300` means 300 ms to the millisecond.
#[tokio::test(start_paused = true)]
async fn only_what_the_ptu_refuses_spills_over_and_only_for_as_long_as_it_said() {
    let (ptu, paygo) = (simulated("ptu"), simulated("paygo"));
    let pool = pool([backend("ptu", "http://ptu.example", 0), backend("paygo", "http://paygo.example", 1)]);
    let by_host = [ptu.clone(), paygo.clone()];
    let http = service_fn(move |request: Request<Body>| {
        let host = request.uri().host().unwrap_or_default();
        let backend = by_host.iter().find(|backend| host.strip_suffix(".example") == Some(backend.name())).cloned();
        backend.unwrap().oneshot(request)
    });
    let gateway = gateway::builder(pool, clients()).build(http);
    let served_by = async || {
        let answer =
            Answer::read(gateway.clone().oneshot(chat_request("http://gateway.example", KEY)).await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK);
        answer.json()["choices"][0]["message"]["content"].as_str().unwrap().replace("Hello from ", "")
    };

    for _ in 0..10 {
        assert_eq!(served_by().await, "ptu");
    }
    assert_eq!(paygo.request_count(), 0, "nothing spills while nothing is refused");

    ptu.faults().push(Fault::status(429).header("retry-after-ms", "300").header("retry-after", "1"));
    for _ in 0..5 {
        assert_eq!(served_by().await, "paygo");
    }
    assert_eq!(ptu.request_count(), 11, "only the refused request reached it");
    tokio::time::advance(Duration::from_millis(299)).await;
    assert_eq!(served_by().await, "paygo");
    tokio::time::advance(Duration::from_millis(1)).await;
    for _ in 0..5 {
        assert_eq!(served_by().await, "ptu");
    }
    assert_eq!((ptu.request_count(), paygo.request_count()), (16, 6));
}

/// A backend that can be killed and started again where it was.
struct Restartable {
    simulated: SimulatedBackend,
    server: Option<SimulatedServer>,
}

impl Restartable {
    async fn start(name: &str) -> Self {
        let deployment = SimulatedDeployment::standard("gpt-4o").latency(Duration::from_millis(2));
        let simulated =
            SimulatedBackend::builder(name).api_key(format!("key-of-{name}")).deployment(deployment).build();
        let server = simulated.serve().await.unwrap();
        Self { simulated, server: Some(server) }
    }

    fn url(&self) -> String {
        self.server.as_ref().unwrap().url()
    }
}

/// Requests of one test: so many at a time, so many in all.
struct Load {
    left: AtomicUsize,
    done: tokio::sync::watch::Sender<usize>,
}

const REQUESTS: usize = 5_000;
const CONCURRENCY: usize = 64;

impl Load {
    async fn run(self: Arc<Self>, front: String) -> Vec<String> {
        let client = client();
        let mut wrong = Vec::new();
        while self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            match soon("an answer", client.request(chat_request(&front, KEY))).await {
                Ok(response) => {
                    let status = response.status();
                    match soon("a body", response.collect()).await {
                        Ok(_) if status == StatusCode::OK => {}
                        Ok(body) => wrong.push(format!("{status}: {}", String::from_utf8_lossy(&body.to_bytes()))),
                        Err(error) => wrong.push(format!("{status}, then {error:?}")),
                    }
                }
                Err(error) => wrong.push(format!("{error:?}")),
            }
            self.done.send_modify(|done| *done += 1);
        }
        wrong
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_requests_survive_backends_that_die_and_throttle() {
    let mut backends = Vec::new();
    for name in ["a", "b", "c"] {
        backends.push(Restartable::start(name).await);
    }
    let mut circuit = CircuitConfig::default();
    circuit.default_open = Duration::from_millis(20);
    circuit.probe_interval = Duration::from_millis(5);
    let described = backends.iter().fold(Pool::builder().circuit(circuit), |pool, each| {
        pool.add_backend(backend(each.simulated.name(), each.url(), 0))
    });
    let pool = described.build().unwrap();
    let front = front(pool.clone()).await;

    let load = Arc::new(Load { left: REQUESTS.into(), done: tokio::sync::watch::Sender::new(0) });
    let callers: Vec<_> = (0..CONCURRENCY).map(|_| tokio::spawn(load.clone().run(front.clone()))).collect();

    let mut done = load.done.subscribe();
    let mut deaths_in_flight = 0;
    for round in 0.. {
        let (dying, throttled) = (round % 3, (round + 1) % 3);
        let (healed, enough) = ((round + 1) * REQUESTS / 20, (round * 2 + 1) * REQUESTS / 40);
        if healed >= REQUESTS {
            break;
        }
        soon("traffic", done.wait_for(|done| *done >= enough)).await.unwrap();
        let server = backends[dying].server.take().unwrap();
        let addr = server.addr();
        backends[throttled].simulated.faults().always(Fault::status(429).header("retry-after-ms", "20"));
        deaths_in_flight += backends[dying].simulated.in_flight();
        server.stop().await;

        soon("traffic", done.wait_for(|done| *done >= healed)).await.unwrap();
        backends[throttled].simulated.faults().clear();
        backends[dying].server = Some(backends[dying].simulated.serve_on(addr).await.unwrap());
        // The next victim must not be the only one that the circuits admit; traffic is what closes them.
        let recovered = || ["a", "b", "c"].iter().all(|name| circuit_of(&pool, name) == "closed");
        while !recovered() && *done.borrow_and_update() < REQUESTS {
            soon("traffic", done.changed()).await.unwrap();
        }
    }
    let mut wrong = Vec::new();
    for caller in callers {
        wrong.extend(caller.await.unwrap());
    }
    assert_eq!(*done.borrow(), REQUESTS);
    assert!(wrong.is_empty(), "{} of {REQUESTS} failed, first: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    assert!(deaths_in_flight > 0, "no backend died with requests in its hands");
    assert!(pool.status().backends.iter().all(|backend| backend.in_flight == 0));
}
