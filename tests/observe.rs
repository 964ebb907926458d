//! Every request is told of once, whatever becomes of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::convert::Infallible;
use std::io::Write;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::{Instant, advance, sleep};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::azure::operation::Operation;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::observe::{self, Ending, Observation, ObserveLayer, Record};
use tower_azure_openai::pool::{Backend, Deployment, Pool};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};

use support::{CHAT, HELLO};

const KEY: &str = "key-of-team-a-0123456789";

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Record>>>);

impl Seen {
    fn layer(&self) -> ObserveLayer {
        let seen = self.0.clone();
        ObserveLayer::new().add_recorder(observe::from_fn(move |record| seen.lock().unwrap().push(record.clone())))
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn only(&self) -> Record {
        let seen = self.0.lock().unwrap();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen[0].clone()
    }
}

type Backends = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// Backends `b0` and `b1`, one after the other, that answer by their name and the request.
fn backends<F>(answer: impl Fn(String, Request<Body>) -> F + Clone + Send + Sync + 'static) -> Backends
where
    F: Future<Output = Result<Response<Body>, BoxError>> + Send + 'static,
{
    BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let host = request.uri().host().unwrap().split('.').next().unwrap().to_owned();
        answer(host, request)
    }))
}

fn stack(observe: ObserveLayer, backends: Backends) -> Gateway {
    let backend = |name: &str, priority| {
        Backend::new(name, format!("https://{name}.example"))
            .priority(priority)
            .add_deployment(Deployment::new("gpt-4o"))
    };
    let pool = Pool::builder().add_backend(backend("b0", 0)).add_backend(backend("b1", 1)).build().unwrap();
    let clients = ClientRegistry::builder().add_key(Client::new("team-a"), KEY).build().unwrap();
    gateway::builder(pool, TerminateCredentialsLayer::new(clients)).observe(observe).build(backends)
}

fn chat() -> http::request::Builder {
    Request::post(CHAT).header("api-key", KEY).header("content-type", "application/json")
}

fn cut() -> Body {
    let frames = [Ok(Frame::data(Bytes::from("x"))), Err(BoxError::from("cut"))];
    Body::new(StreamBody::new(futures_util::stream::iter(frames)))
}

fn status(status: u16, body: impl Into<Body>) -> Result<Response<Body>, BoxError> {
    Ok(Response::builder().status(status).header("retry-after-ms", "300").body(body.into())?)
}

#[tokio::test(start_paused = true)]
async fn a_record_tells_who_asked_for_what_and_what_each_attempt_came_to() {
    let seen = Seen::default();
    let answers = backends(async |backend, _| {
        sleep(Duration::from_millis(40)).await;
        let usage = r#"{"usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
        if backend == "b0" { status(429, "") } else { status(200, usage) }
    });
    let request = chat().header("x-ms-client-request-id", "of-the-client:1").body(Body::from(HELLO)).unwrap();
    let answer = stack(seen.layer(), answers).oneshot(request).await.unwrap();
    assert_eq!(answer.headers()["x-ms-client-request-id"], "of-the-client:1");
    assert_eq!(seen.count(), 0, "the answer has not ended");
    advance(Duration::from_millis(7)).await;
    answer.into_body().collect().await.unwrap();

    let record = seen.only();
    assert_eq!(record.id.as_str(), "of-the-client:1");
    assert_eq!(record.client.as_ref().map(Client::id), Some("team-a"));
    assert_eq!((record.alias(), record.operation()), (Some("gpt-4o"), Some(Operation::ChatCompletions)));
    let attempts: Vec<_> =
        record.attempts.iter().map(|attempt| (attempt.target.backend(), attempt.outcome, attempt.duration)).collect();
    let (hint, took) = (Some(Duration::from_millis(300)), Duration::from_millis(40));
    assert_eq!(attempts, [("b0", Some(Outcome::Throttled { hint }), took), ("b1", Some(Outcome::Success), took)]);
    assert_eq!(record.target().map(|target| target.backend()), Some("b1"));
    assert_eq!((record.status, record.ending), (Some(StatusCode::OK), Ending::Whole));
    let ms = |ms| Some(Duration::from_millis(ms));
    assert_eq!((record.first_byte, record.first_content, Some(record.total)), (ms(80), ms(87), ms(87)));
    let spent = record.spent.unwrap();
    assert_eq!((spent.usage.input, spent.usage.output), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn whoever_is_refused_is_told_of_too() {
    let serves = || backends(async |_, _| status(200, "{}"));
    let no_key = Request::post(CHAT).body(Body::from(HELLO)).unwrap();
    let nameless = Request::post("/openai/v1/chat/completions").header("api-key", KEY);
    let nameless = nameless.header("content-type", "application/json").body(Body::from("{}")).unwrap();
    for (request, client, expected) in
        [(no_key, None, StatusCode::UNAUTHORIZED), (nameless, Some("team-a"), StatusCode::BAD_REQUEST)]
    {
        let seen = Seen::default();
        let answer = stack(seen.layer(), serves()).oneshot(request).await.unwrap();
        let id = answer.headers()["x-ms-client-request-id"].clone();
        assert_eq!(answer.headers()["x-request-id"], id, "what client libraries show");
        answer.into_body().collect().await.unwrap();
        let record = seen.only();
        assert_eq!((record.status, record.attempts.len()), (Some(expected), 0));
        assert_eq!(record.client.as_ref().map(Client::id), client);
        assert_eq!(record.id.as_str(), id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_told_of_when_it_leaves() {
    // Before the head: the attempt that was given up is part of the record.
    let seen = Seen::default();
    let hangs = backends(async |_, _| std::future::pending().await);
    {
        let mut running = pin!(stack(seen.layer(), hangs).oneshot(chat().body(Body::from(HELLO)).unwrap()));
        assert!(futures_util::poll!(running.as_mut()).is_pending());
        advance(Duration::from_secs(3)).await;
    }
    let record = seen.only();
    assert_eq!((record.status, record.ending, record.total), (None, Ending::Left, Duration::from_secs(3)));
    assert_eq!((record.attempts.len(), record.attempts[0].outcome), (1, None));

    // Inside the body.
    let seen = Seen::default();
    let endless = backends(async |_, _| {
        let frames = futures_util::stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::from("x"))));
        status(200, Body::new(StreamBody::new(frames)))
    });
    let answer = stack(seen.layer(), endless).oneshot(chat().body(Body::from(HELLO)).unwrap()).await.unwrap();
    let mut body = answer.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(seen.count(), 0);
    drop(body);
    let record = seen.only();
    assert_eq!((record.status, record.ending), (Some(StatusCode::OK), Ending::Left));
    assert!(record.first_content.is_some());
}

#[tokio::test(start_paused = true)]
async fn how_an_answer_ended_is_read_from_its_body() {
    let seen = Seen::default();
    let serve = seen.layer().layer(service_fn(async |request: Request<Body>| {
        let head = Response::builder();
        Ok::<_, BoxError>(match request.uri().path() {
            "/cut" => head.body(cut())?,
            "/switch" => head.status(101).body(cut())?,
            "/head" => head.header("content-length", "10").body(cut())?,
            // A server asks for no more than it has announced.
            "/announced" => head.header("content-length", "1").body(cut())?,
            "/error" => return Err("no answer".into()),
            _ => head.body(Body::empty())?,
        })
    }));
    for (method, path, frames, expected) in [
        (Method::GET, "/cut", 2, Ending::Broken),
        (Method::GET, "/switch", 0, Ending::Upgraded),
        (Method::HEAD, "/head", 0, Ending::Whole),
        (Method::GET, "/announced", 1, Ending::Whole),
        (Method::GET, "/empty", 0, Ending::Whole),
        (Method::GET, "/error", 0, Ending::Failed),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        if let Ok(answer) = serve.clone().oneshot(request).await {
            let mut body = pin!(answer.into_body());
            for _ in 0..frames {
                let _ = body.frame().await;
            }
        }
        let ended = seen.0.lock().unwrap().pop().map(|record| record.ending);
        assert_eq!(ended, Some(expected), "{path}");
        assert_eq!(seen.count(), 0, "{path} is told of once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_panics_harms_nobody() {
    let seen = Seen::default();
    let panics = ObserveLayer::new().add_recorder(observe::from_fn(|_| panic!("in a recorder")));
    let after = seen.0.clone();
    let observe = panics.add_recorder(observe::from_fn(move |record| after.lock().unwrap().push(record.clone())));
    let gateway = stack(observe, backends(async |_, _| status(200, "{}")));
    for count in 1..=2 {
        let answer = gateway.clone().oneshot(chat().body(Body::from(HELLO)).unwrap()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "{}");
        assert_eq!(seen.count(), count, "the other recorder hears of it");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_stay_as_they_are_and_answers_carry_the_id() {
    for (sent, is_kept) in [(Some("of-the-client"), true), (Some("not plain: \"\\"), false), (None, false)] {
        let seen = Seen::default();
        let echoes = backends(async |_, request| {
            let mut answer = Response::builder().header("x-request-id", "of-the-backend");
            assert!(request.extensions().get::<Observation>().is_some_and(|observation| observation.id().is_some()));
            if let Some(id) = request.headers().get("x-ms-client-request-id") {
                answer = answer.header("x-seen", id);
            }
            Ok(answer.header("x-ms-client-request-id", "of-the-backend").body(Body::empty())?)
        });
        let request = sent.iter().fold(chat(), |request, id| request.header("x-ms-client-request-id", *id));
        let answer = stack(seen.layer(), echoes).oneshot(request.body(Body::from(HELLO)).unwrap()).await.unwrap();
        let headers = answer.headers().clone();
        drop(answer);
        let id = seen.only().id;
        assert_eq!(headers.get("x-seen").map(|seen| seen.to_str().unwrap()), sent);
        assert_eq!(headers["x-ms-client-request-id"], id.as_str());
        assert_eq!(headers["x-request-id"], "of-the-backend");
        assert_eq!(Some(id.as_str()) == sent, is_kept, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_logged_stands_in_the_span_of_its_request_and_attempt() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("observe=trace,tower_azure_openai=debug")
        .with_ansi(false)
        .with_writer(move || written.clone());
    let _installed = tracing::subscriber::set_default(subscriber.finish());
    let tells = backends(async |_, _| {
        tracing::info!("inside an attempt");
        status(200, "{}")
    });
    let observe = ObserveLayer::new().add_recorder(observe::from_fn(|_| tracing::info!("at the end")));
    let request = chat().header("x-ms-client-request-id", "an-id").body(Body::from(HELLO)).unwrap();
    stack(observe, tells).oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line = |what: &str| text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{text}"));
    assert!(
        line("inside an attempt").contains("request{id=an-id}:attempt{backend=\"b0\" deployment=\"gpt-4o\"}"),
        "{text}"
    );
    assert!(line("at the end").contains("request{id=an-id}: "), "{text}");
    assert!(!text.contains(KEY));
}

#[tokio::test(start_paused = true)]
async fn layers_of_an_embedder_see_what_their_place_says() {
    use tower::util::MapRequestLayer;
    use tower_azure_openai::context::Route;
    use tower_azure_openai::pool::Target;

    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = |place: &'static str| {
        let told = told.clone();
        MapRequestLayer::new(move |request: Request<Body>| {
            let (headers, extensions) = (request.headers(), request.extensions());
            let client = extensions.get::<Client>().map(|client| client.id().to_owned());
            let target = extensions.get::<Target>().map(|target| target.backend().to_owned());
            let (key, route) = (headers.contains_key("api-key"), extensions.get::<Route>().is_some());
            told.lock().unwrap().push((place, key, client, route, target, request.uri().host().is_some()));
            request
        })
    };
    let pool = Pool::builder()
        .add_backend(Backend::new("b0", "https://b0.example").add_deployment(Deployment::new("gpt-4o")))
        .build()
        .unwrap();
    let clients = ClientRegistry::builder().add_key(Client::new("team-a"), KEY).build().unwrap();
    let gateway = gateway::builder(pool, TerminateCredentialsLayer::new(clients))
        .before_clients(tell("before_clients"))
        .after_inspection(tell("after_inspection"))
        .before_backends(tell("before_backends"))
        .build(backends(async |_, _| status(200, "{}")));
    let started = Instant::now();
    gateway.oneshot(chat().body(Body::from(HELLO)).unwrap()).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    let client = Some("team-a".to_owned());
    assert_eq!(
        *told.lock().unwrap(),
        [
            ("before_clients", true, None, false, None, false),
            ("after_inspection", false, client.clone(), true, None, false),
            ("before_backends", false, client, true, Some("b0".to_owned()), true),
        ]
    );
}
