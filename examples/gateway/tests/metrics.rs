//! `/metrics`: the names and labels that dashboards rest on, and none that a client chose.

use std::collections::BTreeMap;

use http::Request;
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::Fault;

use crate::http_support::{CHAT, HELLO, chat, get, send};
use crate::{KEY, gateway_before, serve};

/// Samples by their names and labels; every family of them is described once, before them.
fn parse(text: &str) -> BTreeMap<&str, f64> {
    let (mut kinds, mut samples) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            assert!(kinds.insert(name, kind).is_none(), "{name} is described twice");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let family = name.split('{').next().unwrap();
            let of_histogram = ["_bucket", "_count", "_sum"].iter().find_map(|end| family.strip_suffix(end));
            let kind = kinds.get(family).or_else(|| kinds.get(of_histogram?));
            assert!(matches!(kind, Some(&("counter" | "gauge" | "histogram"))), "{line}");
            assert!(samples.insert(name, value.parse().unwrap()).is_none(), "{line} stands there twice");
        }
    }
    samples
}

#[tokio::test]
async fn a_scraper_finds_what_requests_came_to() {
    let (east, server) = serve("east").await;
    let limits =
        "[[clients]]\nid = \"other \\\"team\\\"\"\nkey = \"another-key-0123456789\"\nrequests_per_minute = 1\n";
    let mut gateway = gateway_before(&server, limits).await;
    east.faults().push(Fault::status(500));
    assert_eq!(chat(&gateway.url, KEY).await.status, 500);
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    assert_eq!(chat(&gateway.url, "nobodys-key-0123456789").await.status, 401);
    assert_eq!(chat(&gateway.url, "another-key-0123456789").await.status, 200);
    // Names that a client made up.
    let made_up = CHAT.replace("gpt-4o", "made-up-name");
    let request = Request::post(format!("{}{made_up}", gateway.url)).header("api-key", KEY);
    assert_eq!(send(request.body(Body::from(HELLO)).unwrap()).await.status, 404);
    assert_eq!(chat(&gateway.url, "another-key-0123456789").await.status, 429, "the limit of the client");

    let page = format!("{}/metrics", gateway.admin().await);
    let answer = get(&page).await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
    let text = answer.text();
    assert!(!text.contains("made-up-name") && !text.contains("nobodys"), "{text}");
    let samples = parse(&text);
    for (sample, expected) in [
        (r#"gateway_requests_total{client="team",alias="gpt-4o",operation="chat_completions",status="200"}"#, 1.0),
        (r#"gateway_requests_total{client="team",alias="gpt-4o",operation="chat_completions",status="500"}"#, 1.0),
        (
            r#"gateway_requests_total{client="other \"team\"",alias="gpt-4o",operation="chat_completions",status="429"}"#,
            1.0,
        ),
        (r#"gateway_requests_total{client="team",alias="",operation="chat_completions",status="404"}"#, 1.0),
        (r#"gateway_requests_total{client="",alias="",operation="",status="401"}"#, 1.0),
        (
            r#"gateway_requests_total{client="other \"team\"",alias="gpt-4o",operation="chat_completions",status="200"}"#,
            1.0,
        ),
        (r#"gateway_attempts_total{backend="east",deployment="gpt-4o",outcome="success"}"#, 2.0),
        (r#"gateway_attempts_total{backend="east",deployment="gpt-4o",outcome="server_failed"}"#, 1.0),
        (r#"gateway_request_duration_seconds_count{alias="gpt-4o",backend="east"}"#, 3.0),
        (r#"gateway_first_content_seconds_bucket{le="+Inf",alias="gpt-4o",backend="east"}"#, 3.0),
        (r#"gateway_circuit_state{backend="east",deployment="gpt-4o"}"#, 0.0),
        (r#"gateway_in_flight{backend="east",deployment="gpt-4o"}"#, 0.0),
        (r#"gateway_identity_ok{backend="east"}"#, 1.0),
        (r#"gateway_limit_remaining{client="other \"team\"",limit="requests_per_minute"}"#, 0.0),
        (r#"gateway_limit_refused_total{client="other \"team\"",limit="requests_per_minute"}"#, 1.0),
        ("gateway_log_dropped_total", 0.0),
        ("gateway_replay_memory_bytes", 0.0),
    ] {
        assert_eq!(samples.get(sample), Some(&expected), "{sample} in\n{text}");
    }
    let tokens = |kind: &str| {
        let labels = format!(
            "gateway_tokens_total{{client=\"team\",alias=\"gpt-4o\",backend=\"east\",deployment=\"gpt-4o\",type=\"{kind}\",\
             source=\"reported\"}}"
        );
        samples[labels.as_str()]
    };
    assert!(tokens("input") > 0.0 && tokens("output") > 0.0, "{text}");
    assert!(samples["gateway_connections"] >= 0.0);
    assert!(samples.keys().any(|name| name.starts_with("gateway_build_info{version=\"")), "{text}");
}

#[tokio::test]
async fn a_scraper_that_asks_for_open_metrics_gets_it() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let page = format!("{}/metrics", gateway.admin().await);
    let accepts =
        |method| Request::builder().method(method).uri(&page).header("accept", "application/openmetrics-text");
    let answer = send(accepts("GET").body(Body::empty()).unwrap()).await;
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    assert!(answer.text().ends_with("# EOF\n"));
    assert_eq!(send(accepts("POST").body(Body::empty()).unwrap()).await.status, 405);
}
