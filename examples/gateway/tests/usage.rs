//! Limits of clients and what they used, as an operator and a limited client see them.

use http::{Request, StatusCode};
use serde_json::Value;
use tower_azure_openai::body::Body;

use crate::http_support::{Answer, CHAT, HELLO, get, send};
use crate::process::{self, Gateway, LISTEN};
use crate::reload::reload;
use crate::{KEY, gateway_before, serve};

async fn chat(gateway: &Gateway, body: &'static str) -> Answer {
    let request = Request::post(format!("{}{CHAT}", gateway.url)).header("content-type", "application/json");
    send(request.header("api-key", KEY).body(Body::from(body)).unwrap()).await
}

async fn rows(admin: &str, query: &str) -> Vec<Value> {
    let answer = get(format!("{admin}/usage{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["rows"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_was_used_is_told_by_client_alias_and_backend() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let admin = gateway.admin().await;
    assert_eq!(rows(&admin, "").await.len(), 0);
    let told = chat(&gateway, HELLO).await.json()["usage"].clone();
    chat(&gateway, HELLO).await;
    let rows_of_all = rows(&admin, "").await;
    let row = &rows_of_all[0];
    assert_eq!(
        (row["client"].as_str(), row["alias"].as_str(), row["backend"].as_str()),
        (Some("team"), Some("gpt-4o"), Some("east"))
    );
    assert_eq!(row["requests"], 2);
    assert_eq!(row["input_tokens"].as_u64(), told["prompt_tokens"].as_u64().map(|tokens| tokens * 2));
    assert_eq!(row["output_tokens"].as_u64(), told["completion_tokens"].as_u64().map(|tokens| tokens * 2));
    assert_eq!(row["estimated_tokens"], 0);

    let by_client = rows(&admin, "?by=client").await;
    assert!(by_client[0].get("backend").is_none() && by_client[0]["requests"] == 2);
    let csv = get(format!("{admin}/usage?by=client,backend&format=csv")).await;
    assert!(csv.header("content-type").unwrap().starts_with("text/csv"));
    let csv = csv.text();
    assert!(csv.starts_with("date,client,backend,requests,") && csv.contains(",team,east,2,"), "{csv}");
    assert_eq!(rows(&admin, "?to=2020-01-01").await.len(), 0);
    for query in ["?by=key", "?from=yesterday", "?format=xml", "?colour=red"] {
        assert_eq!(get(format!("{admin}/usage{query}")).await.status, 400, "{query}");
    }
    let posted = send(Request::post(format!("{admin}/usage")).body(Body::empty()).unwrap()).await;
    assert_eq!(posted.status, 405);
    assert_eq!(get(format!("{}/usage", gateway.url)).await.status, 404, "it is no matter of clients");
}

#[tokio::test]
async fn a_client_above_its_rate_waits_and_a_reload_gives_nothing_back() {
    let (east, server) = serve("east").await;
    let config = |limits: &str| {
        let parts = [LISTEN, &process::backends(&[("east", &server.url())]), &process::client(KEY), limits];
        parts.concat()
    };
    let file = process::file(&config("requests_per_minute = 2\ntokens_per_day = 100000\n"));
    let mut gateway = Gateway::start_file(&file).await;
    let admin = gateway.admin().await;
    let first = chat(&gateway, HELLO).await;
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("1"));
    chat(&gateway, HELLO).await;
    let refused = chat(&gateway, HELLO).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded"));
    let wait: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((1..=30_000).contains(&wait), "{wait}");
    assert_eq!(east.requests().len(), 2, "a refused request reaches no backend");

    let status = get(format!("{admin}/status")).await.json();
    let client = &status["clients"][0];
    assert_eq!((client["id"].as_str(), client["refused"].as_u64()), (Some("team"), Some(1)));
    assert_eq!(client["left"]["requests_per_minute"], 0);
    assert_eq!(client["left"]["tokens_per_minute"], Value::Null);
    let used = client["tokens_today"]["input"].as_u64().unwrap() + client["tokens_today"]["output"].as_u64().unwrap();
    assert_eq!(client["left"]["tokens_per_day"].as_u64(), Some(100_000 - used));
    assert_eq!(status["shared_state"], "none");
    assert_eq!(get(format!("{admin}/readyz")).await.status, 200, "a client's limit is nobody's outage");

    reload(&mut gateway, &file, &config("requests_per_minute = 3\ntokens_per_day = 100000\n")).await;
    assert_eq!(chat(&gateway, HELLO).await.status, 200, "the limit is one higher");
    assert_eq!(chat(&gateway, HELLO).await.status, 429, "and what was spent is spent");
    assert_eq!(rows(&admin, "").await[0]["requests"], 3);
    reload(&mut gateway, &file, &config(&format!("tokens_per_day = {}\n", used + 1))).await;
    let refused = chat(&gateway, HELLO).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::FORBIDDEN, "quota_exceeded"));
}

#[tokio::test]
async fn streams_are_estimated_or_asked_for_and_clients_see_the_same() {
    const STREAMED: &str = r#"{"messages":[{"role":"user","content":"Hi"}],"stream":true}"#;
    let mut seen = Vec::new();
    for streams in ["estimate", "ask"] {
        let (east, server) = serve("east").await;
        let mut gateway = gateway_before(&server, &format!("[usage]\nstreams = \"{streams}\"\n")).await;
        let admin = gateway.admin().await;
        let text = chat(&gateway, STREAMED).await.text();
        assert!(!text.contains("usage"), "{streams}: {text}");
        let events = text.lines().filter(|line| line.starts_with("data: ")).count();
        seen.push(events);
        let row = &rows(&admin, "").await[0];
        assert!(row["output_tokens"].as_u64() > Some(0), "{streams}: {row}");
        assert_eq!(row["estimated_tokens"].as_u64() == Some(0), streams == "ask", "{streams}: {row}");
        let share = gateway.status().await["usage"][0]["estimated_share"].as_f64();
        assert_eq!(share == Some(0.0), streams == "ask", "{share:?}");
        let sent = String::from_utf8_lossy(&east.requests()[0].body).into_owned();
        assert_eq!(sent.contains("include_usage"), streams == "ask");
    }
    assert_eq!(seen[0], seen[1], "the same events");
}
