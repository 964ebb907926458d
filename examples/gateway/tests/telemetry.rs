//! What an OpenTelemetry collector is told by the program, and what becomes of requests when there is none to listen.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::Fault;

use crate::http_support::{self, CHAT, HELLO, chat, chat_request, get, send};
use crate::process::{self, Gateway, LISTEN, file};
use crate::protobuf::{Message, told};
use crate::{KEY, serve, simulated};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A collector on loopback, which takes all that it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Bytes)>>>);

impl Collector {
    async fn serve(&self) -> String {
        let heard = self.0.clone();
        http_support::serve(move |request: Request<Incoming>| {
            let heard = heard.clone();
            async move {
                assert_eq!(request.headers()["x-vendor-key"], "key-of-the-collector");
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                heard.lock().unwrap().push((path, body));
                Response::new(Body::empty())
            }
        })
        .await
    }

    /// Spans, metrics or log records, in their order.
    fn told(&self, signal: &str) -> Vec<Message> {
        let heard = self.0.lock().unwrap();
        let own = heard.iter().filter(|(path, _)| *path == format!("/v1/{signal}"));
        own.flat_map(|(_, body)| told(body).1).collect()
    }

    /// All that it was ever told holds nothing of this.
    fn knows_nothing_of(&self, secrets: &[&str]) {
        for (path, body) in &*self.0.lock().unwrap() {
            let said = String::from_utf8_lossy(body);
            for secret in secrets {
                assert!(!said.contains(secret), "{path} tells {secret}");
            }
        }
    }
}

const VARIABLES: &[(&str, &str)] = &[
    ("OTEL_EXPORTER_OTLP_HEADERS", "x-vendor-key=key-of-the-collector"),
    ("OTEL_SERVICE_NAME", "gateway-east"),
    ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
];

fn config(backends: &[(&str, &str)], endpoint: &str, more: &str) -> String {
    let telemetry = format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\n");
    [LISTEN, &process::backends(backends), &process::client(KEY), &telemetry, more].concat()
}

#[tokio::test]
async fn one_trace_leads_through_the_gateway_to_both_attempts() {
    let ((east, first), (west, second)) = (serve("east").await, serve("west").await);
    east.faults().push(Fault::status(429).header("retry-after", "60"));
    let collector = Collector::default();
    let backends = [("east", &*first.url()), ("west", &*second.url())];
    let more = "[forward]\nheaders = [\"traceparent\"]\n[capture]\nsink = \"otlp\"\nbody = \"64KiB\"\n";
    let config = file(&config(&backends, &collector.serve().await, more));
    let gateway = Gateway::start_with(&config, VARIABLES).await;
    let request = Request::post(format!("{}{CHAT}", gateway.url)).header("content-type", "application/json");
    let request = request.header("api-key", KEY).header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"));
    assert_eq!(send(request.body(Body::from(HELLO)).unwrap()).await.status, 200);
    let written = gateway.stop().await;
    assert!(written.contains(&format!("trace_id={TRACE}")), "the log leads there too: {written}");

    let spans = collector.told("traces");
    assert_eq!(spans.len(), 3, "{spans:?}");
    let (server, attempts) = spans.split_first().unwrap();
    assert_eq!((server.hex(1), server.hex(4)), (TRACE.to_owned(), "b7ad6b7169203331".to_owned()));
    assert_eq!(server.attribute(9, "gateway.client").as_deref(), Some("team"));
    for (attempt, (backend, outcome, received)) in
        attempts.iter().zip([("east", "throttled", east.requests()), ("west", "success", west.requests())])
    {
        assert_eq!((attempt.hex(1), attempt.bytes(4)), (TRACE.to_owned(), server.bytes(2)));
        assert_eq!(attempt.attribute(9, "gateway.backend").as_deref(), Some(backend));
        assert_eq!(attempt.attribute(9, "gateway.outcome").as_deref(), Some(outcome));
        assert_eq!(received[0].headers["traceparent"], format!("00-{TRACE}-{}-01", attempt.hex(2)));
    }
    let logs = collector.told("logs");
    assert_eq!((logs.len(), logs[0].hex(9), logs[0].text(12)), (1, TRACE.to_owned(), "gateway.capture".to_owned()));
    let metrics: Vec<_> = collector.told("metrics").iter().map(|metric| metric.text(1)).collect();
    assert!(metrics.contains(&"gen_ai.client.token.usage".to_owned()), "{metrics:?}");
    collector.knows_nothing_of(&[KEY, "key-of-east", "key-of-west", "key-of-the-collector", "127.0.0.1"]);
    let resource = told(&collector.0.lock().unwrap()[0].1).0;
    assert_eq!(resource.attribute(1, "service.name").as_deref(), Some("gateway-east"));
    assert_eq!(resource.attribute(1, "deployment.environment.name").as_deref(), Some("test"));
}

#[tokio::test]
async fn a_backend_sees_no_trace_unless_it_is_to() {
    let (east, server) = serve("east").await;
    let collector = Collector::default();
    let endpoint = collector.serve().await;
    let config = file(&config(&[("east", &server.url())], &endpoint, ""));
    let gateway = Gateway::start_with(&config, VARIABLES).await;
    let mut request = chat_request(&gateway.url, KEY);
    request.headers_mut().insert("traceparent", format!("00-{TRACE}-b7ad6b7169203331-00").parse().unwrap());
    assert_eq!(send(request).await.status, 200);
    gateway.stop().await;
    assert!(!east.requests()[0].headers.contains_key("traceparent"));
    assert!(collector.told("traces").is_empty(), "the caller does not trace");
    assert!(!collector.told("metrics").is_empty());
}

/// How a collector fails, by its endpoint.
async fn broken(how: &str) -> String {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    match how {
        "dead" => drop(silent),
        "accepting nothing" => std::mem::forget(silent),
        "hanging" => {
            let hang = |_: Request<Incoming>| std::future::pending();
            http_support::serve_on(silent, hang);
        }
        _ => {
            let fail = |_: Request<Incoming>| async { Response::builder().status(500).body(Body::empty()).unwrap() };
            http_support::serve_on(silent, fail);
        }
    }
    format!("http://{address}")
}

#[tokio::test]
async fn no_request_and_no_end_waits_for_a_collector() {
    for how in ["dead", "accepting nothing", "hanging", "answering 500"] {
        let (_east, server) = serve("east").await;
        let endpoint = broken(how).await;
        let config = file(&config(&[("east", &server.url())], &endpoint, "[capture]\nsink = \"otlp\"\n"));
        // Sent as soon as there is anything, so that it fails while requests come.
        let mut gateway = Gateway::start_with(&config, &[("OTEL_BSP_SCHEDULE_DELAY", "5")]).await;
        for _ in 0..50 {
            assert_eq!(chat(&gateway.url, KEY).await.status, 200, "{how}");
        }
        let admin = gateway.admin().await;
        let metrics = get(format!("{admin}/metrics")).await.text();
        for signal in ["traces", "logs"] {
            let told = format!("gateway_otlp_dropped_total{{signal=\"{signal}\"}}");
            assert!(metrics.contains(&told), "{how}: {metrics}");
        }
        let written = gateway.stop().await;
        assert!(!written.contains("shutdown_grace is over"), "{how}: {written}");
        assert!(!written.contains("panicked"), "{how}: {written}");
    }
}

#[tokio::test]
async fn what_a_collector_refuses_is_counted() {
    let (_east, server) = serve("east").await;
    let endpoint = broken("answering 500").await;
    let config = file(&config(&[("east", &server.url())], &endpoint, "[capture]\nsink = \"otlp\"\n"));
    let mut gateway = Gateway::start_with(&config, &[("OTEL_BSP_SCHEDULE_DELAY", "5")]).await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    let page = format!("{}/metrics", gateway.admin().await);
    let counted = async {
        loop {
            let metrics = get(&page).await.text();
            let has =
                |line: &str| metrics.lines().any(|told| told.strip_prefix(line).is_some_and(|count| count != " 0"));
            if has("gateway_otlp_dropped_total{signal=\"traces\"}") && has("gateway_capture_dropped_total") {
                return;
            }
        }
    };
    http_support::soon("counts of what was dropped", counted).await;
    gateway.stderr.line(&["the telemetry collector does not take what is sent", "status=500"]).await;
}

#[tokio::test]
async fn a_reload_may_bring_a_collector_and_take_it_away() {
    let server = simulated("east").serve().await.unwrap();
    let collector = Collector::default();
    let endpoint = collector.serve().await;
    let path = file(&config(&[("east", &server.url())], "", ""));
    let mut gateway = Gateway::start_with(&path, VARIABLES).await;
    chat(&gateway.url, KEY).await;
    for (endpoint, reloads) in [(&*endpoint, 1), ("", 2)] {
        std::fs::write(&path, config(&[("east", &server.url())], endpoint, "")).unwrap();
        gateway.signal("HUP").await;
        gateway.stderr.count(&["the configuration was reloaded"], reloads).await;
        chat(&gateway.url, KEY).await;
    }
    let all = async {
        while collector.told("traces").len() < 2 || collector.told("metrics").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    http_support::soon("what waited when the collector was taken away", all).await;
    gateway.stop().await;
    assert_eq!(collector.told("traces").len(), 2, "one request, and its attempt");
}
