//! What a collector is told, and that nobody waits for it.
#![cfg(feature = "otel")]
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

#[path = "support/protobuf.rs"]
mod protobuf;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower::{BoxError, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::capture::CaptureLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::observe::ObserveLayer;
use tower_azure_openai::otel::{
    Conventions, INTERVAL, METRIC_INTERVAL, Otlp, OtlpBuilder, QUEUE, RETRIED_FOR, Sampler,
};
use tower_azure_openai::pool::{Backend, Credential, Deployment, Pool};
use tower_azure_openai::terminate::TerminateCredentialsLayer;

use protobuf::{Message, told};

/// What a collector does with the nth request, from 0.
type Does = Arc<dyn Fn(usize) -> Option<Response<Body>> + Send + Sync>;

#[derive(Clone)]
struct Collector {
    heard: Arc<Mutex<Vec<Heard>>>,
    does: Does,
}

#[derive(Clone)]
struct Heard {
    path: String,
    headers: HeaderMap,
    body: Bytes,
    at: Instant,
    is_accepted: bool,
}

fn status(status: u16) -> Option<Response<Body>> {
    Some(Response::builder().status(status).body(Body::empty()).unwrap())
}

impl Collector {
    fn that(does: impl Fn(usize) -> Option<Response<Body>> + Send + Sync + 'static) -> Self {
        Self { heard: Arc::default(), does: Arc::new(does) }
    }

    fn accepting() -> Self {
        Self::that(|_| status(200))
    }

    /// With everything told to it.
    fn start(&self, builder: OtlpBuilder) -> Otlp {
        let collector = self.clone();
        builder.start(service_fn(move |request| {
            let collector = collector.clone();
            async move { collector.take(request).await }
        }))
    }

    async fn take(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let (at, path) = (Instant::now(), head.uri.path().to_owned());
        let answer = (self.does)(self.heard.lock().unwrap().len());
        let is_accepted = answer.as_ref().is_some_and(|answer| answer.status().is_success());
        self.heard.lock().unwrap().push(Heard { path, headers: head.headers, body, at, is_accepted });
        match answer {
            Some(answer) if answer.status() == StatusCode::IM_A_TEAPOT => Err("the connection broke".into()),
            Some(answer) => Ok(answer),
            None => std::future::pending().await,
        }
    }

    fn requests(&self, signal: &str) -> Vec<Heard> {
        let wanted = format!("/base/v1/{signal}");
        self.heard.lock().unwrap().iter().filter(|heard| heard.path == wanted).cloned().collect()
    }

    /// Spans, metrics or log records that were accepted.
    fn told(&self, signal: &str) -> Vec<Message> {
        let accepted = self.requests(signal).into_iter().filter(|heard| heard.is_accepted);
        accepted.flat_map(|heard| told(&heard.body).1).collect()
    }
}

fn builder() -> OtlpBuilder {
    Otlp::builder("http://collector.example/base/").unwrap().service_name("gateway-of-a-test")
}

/// The first backend is throttled, the second answers; and what they got.
fn gateway(otlp: &Otlp) -> (Gateway, Parents) {
    gateway_capturing(otlp, 1 << 10)
}

/// The `traceparent` of each attempt.
type Parents = Arc<Mutex<Vec<Option<HeaderValue>>>>;

fn gateway_capturing(otlp: &Otlp, body: usize) -> (Gateway, Parents) {
    let backend = |name: &str, priority| {
        Backend::new(name, format!("https://{name}.example"))
            .priority(priority)
            .credential(Credential::api_key("backend-key-1").unwrap())
            .add_deployment(Deployment::new(format!("{name}-gpt")).alias("gpt-4o"))
    };
    let pool = Pool::builder().add_backend(backend("ptu", 0)).add_backend(backend("paygo", 1)).build().unwrap();
    let sent = Parents::default();
    let parents = sent.clone();
    let backends = service_fn(move |request: Request<Body>| {
        parents.lock().unwrap().push(request.headers().get("traceparent").cloned());
        async move {
            let said = r#"{"choices":[{"message":{"content":"secret answer"}}],
                "usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}"#;
            let mut answer = Response::new(Body::from(said));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if request.headers().get(HOST).is_some_and(|host| host == "ptu.example") {
                *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                *answer.body_mut() = Body::empty();
                answer.headers_mut().insert("retry-after-ms", HeaderValue::from_static("50"));
            }
            Ok::<_, BoxError>(answer)
        }
    });
    let gateway = gateway::builder(pool, TerminateCredentialsLayer::without_clients())
        .observe(ObserveLayer::new().add_recorder(otlp.clone()))
        .capture(CaptureLayer::new(otlp.clone()).body(body))
        .forward(ForwardLayer::new().headers(["traceparent"]).unwrap())
        .build(backends);
    (gateway, sent)
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SOON: Duration = Duration::from_secs(1);

async fn ask(gateway: &Gateway, alias: &str, flags: &str) -> StatusCode {
    send(gateway, alias, flags, "secret prompt").await
}

async fn ask_for(gateway: &Gateway, said: &str) {
    assert_eq!(send(gateway, "gpt-4o", "01", said).await, 200);
}

async fn send(gateway: &Gateway, alias: &str, flags: &str, said: &str) -> StatusCode {
    let request = Request::post(format!("/openai/deployments/{alias}/chat/completions?api-version=2024-10-21"))
        .header(CONTENT_TYPE, "application/json")
        .header("api-key", "a-key-of-a-client")
        .header("x-ms-client-request-id", "chosen-by-a-client")
        .header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-{flags}"))
        .body(Body::from(format!(r#"{{"messages":[{{"role":"user","content":"{said}"}}]}}"#)));
    let answer = gateway.clone().oneshot(request.unwrap()).await.unwrap();
    let status = answer.status();
    answer.into_body().collect().await.unwrap();
    status
}

#[tokio::test(start_paused = true)]
async fn one_trace_leads_through_the_gateway_to_both_attempts() {
    let collector = Collector::accepting();
    let otlp = collector.start(builder());
    let (gateway, sent) = gateway(&otlp);
    assert_eq!(ask(&gateway, "gpt-4o", "01").await, 200);
    otlp.finish(SOON).await;
    let spans = collector.told("traces");
    assert_eq!(spans.len(), 3, "{spans:?}");
    assert!(spans.iter().all(|span| span.hex(1) == TRACE && span.number(7) <= span.number(8)));
    let (server, attempts) = spans.split_first().unwrap();
    assert_eq!((server.hex(4), server.number(6)), ("b7ad6b7169203331".to_owned(), 2), "the caller's child");
    assert_eq!((server.text(5), server.number(16)), ("chat gpt-4o".to_owned(), 0x301));
    for (key, expected) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "azure.ai.openai"),
        ("gen_ai.request.model", "gpt-4o"),
        ("gen_ai.usage.input_tokens", "7"),
        ("gateway.attempts", "2"),
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(server.attribute(9, key).as_deref(), Some(expected), "{key}");
    }
    let parents = sent.lock().unwrap().clone();
    for ((attempt, parent), (backend, outcome)) in
        attempts.iter().zip(parents).zip([("ptu", "throttled"), ("paygo", "success")])
    {
        assert_eq!((attempt.bytes(4), attempt.number(6)), (server.bytes(2), 3), "a child of the gateway's span");
        assert_eq!(attempt.attribute(9, "gateway.backend").as_deref(), Some(backend));
        assert_eq!(attempt.attribute(9, "gateway.deployment"), Some(format!("{backend}-gpt")));
        assert_eq!(attempt.attribute(9, "gateway.outcome").as_deref(), Some(outcome));
        assert_eq!(parent.unwrap(), format!("00-{TRACE}-{}-01", attempt.hex(2)), "what the backend was sent");
    }
    assert_eq!(attempts[0].attribute(9, "error.type").as_deref(), Some("throttled"));
    assert_eq!((attempts[0].messages(15).len(), attempts[1].messages(15).len(), server.messages(15).len()), (1, 0, 0));
    let ids: BTreeSet<_> = spans.iter().map(|span| span.bytes(2)).collect();
    assert_eq!(ids.len(), 3);
    let logs = collector.told("logs");
    let members = logs[0].messages(5)[0].messages(6)[0].messages(1);
    let tried =
        members.iter().find(|member| member.text(1) == "attempts").unwrap().messages(2)[0].messages(5)[0].messages(1);
    assert_eq!(tried.len(), 2, "whoever else reads along sees them too");
    assert_eq!((logs[0].hex(9), logs[0].bytes(10)), (TRACE.to_owned(), server.bytes(2)), "what was said is found too");
}

#[tokio::test(start_paused = true)]
async fn who_is_not_traced_is_counted_all_the_same() {
    let collector = Collector::accepting();
    let otlp = collector.start(builder());
    let (gateway, sent) = gateway(&otlp);
    ask(&gateway, "gpt-4o", "00").await;
    otlp.finish(SOON).await;
    assert_eq!(collector.told("traces"), []);
    let parents = sent.lock().unwrap().clone();
    assert!(parents.iter().flatten().all(|line| line.to_str().unwrap().ends_with("-00")), "{parents:?}");
    assert_eq!(total(&collector, "http.server.request.duration"), 1);
    assert_eq!(otlp.dropped_spans(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sampler_may_decide_for_callers() {
    for (sampler, expected) in [(Sampler::always(), 3), (Sampler::never(), 0)] {
        let collector = Collector::accepting();
        let otlp = collector.start(builder().sampler(sampler));
        let (gateway, _) = gateway(&otlp);
        ask(&gateway, "gpt-4o", if expected > 0 { "00" } else { "01" }).await;
        otlp.finish(SOON).await;
        assert_eq!(collector.told("traces").len(), expected);
    }
}

/// How often something was counted, over all attributes.
fn total(collector: &Collector, metric: &str) -> u64 {
    points(collector, metric).iter().map(|point| point.number(4)).sum()
}

/// The points of a metric in what was told last.
fn points(collector: &Collector, metric: &str) -> Vec<Message> {
    let last = collector.requests("metrics").pop().unwrap();
    let metrics = told(&last.body).1;
    let found = metrics.iter().find(|told| told.text(1) == metric);
    let found = found.unwrap_or_else(|| panic!("no {metric} among {metrics:?}"));
    let data = found.messages(if found.messages(9).is_empty() { 7 } else { 9 }).remove(0);
    assert_eq!(data.number(2), 2, "totals");
    data.messages(1)
}

#[tokio::test(start_paused = true)]
async fn metrics_have_the_names_of_the_conventions_and_nothing_of_a_client() {
    let stable = [
        "http.server.request.duration",
        "gen_ai.client.operation.duration",
        "gen_ai.server.request.duration",
        "gen_ai.client.token.usage",
    ];
    let latest = [
        "http.server.request.duration",
        "gen_ai.client.inference.duration",
        "gen_ai.server.request.duration",
        "gen_ai.client.inference.operation.input_tokens",
        "gen_ai.client.inference.operation.output_tokens",
        "gen_ai.client.inference.usage.input_tokens",
        "gen_ai.client.inference.usage.output_tokens",
    ];
    for (conventions, expected) in [(Conventions::Stable, &stable[..]), (Conventions::Latest, &latest[..])] {
        let collector = Collector::accepting();
        let otlp = collector.start(builder().conventions(conventions));
        let (gateway, _) = gateway(&otlp);
        ask(&gateway, "gpt-4o", "01").await;
        ask(&gateway, "gpt-4o", "00").await;
        assert_eq!(ask(&gateway, "made-up-by-a-client", "01").await, 404);
        otlp.finish(SOON).await;
        let metrics = told(&collector.requests("metrics")[0].body).1;
        assert_eq!(metrics.iter().map(|metric| metric.text(1)).collect::<Vec<_>>(), expected);
        assert_eq!(collector.told("traces").len(), 3 + 1);
        let durations = points(&collector, "http.server.request.duration");
        assert_eq!(durations.iter().map(|point| point.number(4)).sum::<u64>(), 3);
        assert!(durations.iter().all(|point| point.bytes(6).len() == 15 * 8 && point.bytes(7).len() == 14 * 8));
        assert!(durations.iter().all(|point| point.number(2) <= point.number(3) && point.number(2) > 0));
        let all = [collector.requests("metrics"), collector.requests("traces")].concat();
        for heard in all {
            assert_eq!(told(&heard.body).0.attribute(1, "service.name").as_deref(), Some("gateway-of-a-test"));
            assert_eq!(heard.headers[CONTENT_TYPE], "application/x-protobuf");
            let said = String::from_utf8_lossy(&heard.body).into_owned();
            for text in ["made-up", "secret", "a-key-of", "backend-key", ".example", "chosen-by"] {
                assert!(!said.contains(text), "{text}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_told_as_they_were_reported() {
    let collector = Collector::accepting();
    let otlp = collector.start(builder());
    let (gateway, _) = gateway(&otlp);
    for _ in 0..3 {
        ask(&gateway, "gpt-4o", "00").await;
    }
    otlp.finish(SOON).await;
    let usage = points(&collector, "gen_ai.client.token.usage");
    let sums: Vec<_> = usage
        .iter()
        .map(|point| {
            (point.attribute(9, "gen_ai.token.type").unwrap(), f64::from_bits(point.number(5)), point.number(4))
        })
        .collect();
    assert_eq!(sums, [("input".to_owned(), 21.0, 3), ("output".to_owned(), 15.0, 3)]);
    assert_eq!(usage[0].attribute(9, "gateway.backend").as_deref(), Some("paygo"));
}

#[tokio::test(start_paused = true)]
async fn everything_is_sent_by_and_by() {
    let collector = Collector::accepting();
    let otlp = collector.start(builder());
    let (gateway, _) = gateway(&otlp);
    ask(&gateway, "gpt-4o", "01").await;
    sleep(INTERVAL + SOON).await;
    assert_eq!((collector.told("traces").len(), collector.told("logs").len()), (3, 1));
    assert_eq!(collector.told("metrics"), []);
    sleep(METRIC_INTERVAL).await;
    assert_eq!(total(&collector, "http.server.request.duration"), 1);
    let log = &collector.told("logs")[0];
    assert_eq!(log.text(12), "gateway.capture");
    let body = log.messages(5)[0].messages(6).remove(0);
    assert_eq!(body.attribute(1, "alias").as_deref(), Some("gpt-4o"));
    drop((otlp, gateway));
    sleep(SOON).await;
    assert_eq!(collector.requests("metrics").len(), 2, "the last one is told when nobody records any more");
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_dead_or_slow_or_full_delays_nobody() {
    for does in [status(418), None, status(500), status(503), status(429)] {
        let says = does.map(|answer| answer.status());
        let collector = Collector::that(move |_| says.and_then(|says| status(says.as_u16())));
        let otlp = collector.start(builder());
        let (gateway, _) = gateway(&otlp);
        let began = Instant::now();
        for _ in 0..20 {
            assert_eq!(ask(&gateway, "gpt-4o", "01").await, 200);
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "no request waits: {says:?}");
        sleep(RETRIED_FOR * 2).await;
        assert_eq!((otlp.dropped_spans(), otlp.dropped_logs()), (20 * 2 + 1, 20), "{says:?}");
        assert_eq!(collector.told("traces"), []);
        ask(&gateway, "gpt-4o", "01").await;
        let began = Instant::now();
        otlp.finish(SOON).await;
        assert!(began.elapsed() <= SOON, "nor does the end: {says:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_comes_back_gets_what_has_waited() {
    let collector = Collector::that(|nth| if nth < 4 { status(503) } else { status(200) });
    let otlp = collector.start(builder().intervals(INTERVAL, RETRIED_FOR));
    let (gateway, _) = gateway(&otlp);
    ask(&gateway, "gpt-4o", "01").await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!((collector.told("traces").len(), collector.told("logs").len()), (3, 1));
    assert_eq!((otlp.dropped_spans(), otlp.dropped_logs()), (0, 0));
    let tries: Vec<_> = collector.requests("traces").iter().map(|heard| heard.at).collect();
    let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause >= SOON / 2) && pauses.is_sorted(), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_collector_says_when_it_wants_to_be_asked_again() {
    let collector = Collector::that(|nth| match nth {
        0 => Some(Response::builder().status(429).header("retry-after", "17").body(Body::empty()).unwrap()),
        _ => status(200),
    });
    let otlp = collector.start(builder().intervals(INTERVAL, RETRIED_FOR));
    let (gateway, _) = gateway(&otlp);
    let request = Request::get("/nowhere").body(Body::empty()).unwrap();
    gateway.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let tries: Vec<_> = collector.requests("traces").iter().map(|heard| heard.at).collect();
    assert_eq!(tries.len(), 2);
    assert_eq!((tries[1] - tries[0]).as_secs(), 17);
}

#[tokio::test(start_paused = true)]
async fn what_a_collector_rejects_is_counted() {
    // partial_success { rejected_spans: 2 }
    let collector = Collector::that(|_| Some(Response::new(Body::from("\n\x02\x08\x02"))));
    let otlp = collector.start(builder());
    let (gateway, _) = gateway(&otlp);
    ask(&gateway, "gpt-4o", "01").await;
    sleep(INTERVAL * 10).await;
    assert_eq!(otlp.dropped_spans(), 2);
    assert_eq!(collector.requests("traces").len(), 1, "it is not sent again");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_collector_is_bounded() {
    let collector = Collector::that(|_| None);
    let otlp = collector.start(builder());
    // No base64, of which only a digest would be written down.
    let said = "so it was said, ".repeat(QUEUE / 160);
    let (gateway, _) = gateway_capturing(&otlp, QUEUE);
    for _ in 0..50 {
        ask_for(&gateway, &said).await;
        // Whoever sends gets its turn.
        sleep(Duration::from_millis(1)).await;
    }
    let held = 50 - otlp.dropped_logs();
    assert!((9..=9 + 5).contains(&held), "one queue, and what is being sent: {held}");
    let largest = collector.requests("logs").iter().map(|heard| heard.body.len()).max().unwrap();
    assert!(largest <= QUEUE + 1_000, "{largest}");
}

#[tokio::test(start_paused = true)]
async fn a_header_is_shown_to_the_collector_and_to_nobody_else() {
    let collector = Collector::accepting();
    let variables = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_HEADERS" => Some("x-vendor-key=s3cr3t%2Dkey".to_owned()),
        "OTEL_SERVICE_NAME" => Some("named by a variable".to_owned()),
        _ => None,
    };
    let builder = builder().variables(variables);
    assert!(!format!("{builder:?}").contains("s3cr3t"));
    let otlp = collector.start(builder);
    let (gateway, _) = gateway(&otlp);
    ask(&gateway, "gpt-4o", "01").await;
    otlp.finish(SOON).await;
    let heard = &collector.requests("traces")[0];
    assert_eq!(heard.headers["x-vendor-key"], "s3cr3t-key");
    let resource = told(&heard.body).0;
    assert_eq!(resource.attribute(1, "service.name").as_deref(), Some("named by a variable"));
    assert_eq!(resource.attribute(1, "service.instance.id").unwrap().len(), 32);
    assert_eq!(resource.keys(1).len(), resource.keys(1).iter().collect::<BTreeSet<_>>().len());
    assert!(!format!("{otlp:?}").contains("s3cr3t"));
}

#[test]
fn endpoints_are_bases() {
    for endpoint in ["http://127.0.0.1:4318", "https://collector.example/otlp/", "http://[::1]:4318"] {
        assert!(Otlp::builder(endpoint).is_ok(), "{endpoint}");
    }
    for endpoint in ["", "127.0.0.1:4318", "/v1", "ftp://a", "http://user:secret@a", "http://a?key=1", "http://"] {
        assert!(Otlp::builder(endpoint).is_err(), "{endpoint}");
    }
}
