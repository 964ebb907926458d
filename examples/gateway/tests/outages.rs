//! What is told of backends to which no connection can be made.

use http::Response;
use serde_json::Value;
use tokio::net::TcpListener;
use tower_azure_openai::body::Body;

use crate::http_support::{self, authority, chat};
use crate::process::{self, Gateway, LISTEN};
use crate::{KEY, serve};

fn config(backends: &[(&str, &str)], more: &str) -> String {
    [LISTEN, &process::backends(backends), &process::client(KEY), more].concat()
}

#[tokio::test]
async fn each_cause_is_told_once_and_by_no_name() {
    let (_plain, server) = serve("plain").await;
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let backends = [
        ("refusing", format!("http://{refusing}"), "connection refused"),
        ("nameless", "https://secret-name.invalid".to_owned(), "the name could not be resolved"),
        ("plain", server.url().replace("http://", "https://"), "TLS: the handshake failed"),
    ];
    let described: Vec<_> = backends.iter().map(|(name, url, _)| (*name, url.as_str())).collect();
    let mut gateway = Gateway::start(&config(&described, "")).await;
    for _ in 0..4 {
        process::is(&chat(&gateway.url, KEY).await, 503, "no_target_available");
    }
    let status = gateway.status().await;
    for (i, (name, _, cause)) in backends.iter().enumerate() {
        let line = gateway.stderr.line(&["WARN", &format!("backend=\"{name}\""), "no connection to the backend"]).await;
        assert!(line.contains(cause), "{line}");
        assert_eq!(status["backends"][i]["last_error"], *cause, "{name}");
        assert!(status["backends"][i]["last_error_since_ms"].is_u64(), "{name}");
    }
    let all = gateway.stop().await;
    assert_eq!(all.matches("no connection to the backend").count(), 3, "{all}");
    for secret in ["secret-name", &refusing, authority(&server.url()), "key-of-"] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
}

#[tokio::test]
async fn a_return_is_told_once_too() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    let quick = "[circuit]\ndefault_open = \"50ms\"\nprobe_interval = \"10ms\"\n";
    let mut gateway = Gateway::start(&config(&[("east", &url)], quick)).await;
    for _ in 0..6 {
        chat(&gateway.url, KEY).await;
    }
    assert_eq!(gateway.status().await["backends"][0]["last_error"], "connection refused");
    let listener = TcpListener::bind(address).await.unwrap();
    http_support::serve_on(listener, |_| async { Response::new(Body::from("{}")) });
    http_support::soon("an answer", async { while chat(&gateway.url, KEY).await.status != 200 {} }).await;
    for _ in 0..3 {
        assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    }
    let status = gateway.status().await;
    assert_eq!((&status["backends"][0]["last_error"], status["ready"].as_bool()), (&Value::Null, Some(true)));
    gateway.stderr.line(&["INFO", "backend=\"east\"", "can be made again"]).await;
    let all = gateway.stop().await;
    assert_eq!(all.matches("no connection to the backend").count(), 1, "{all}");
    assert_eq!(all.matches("can be made again").count(), 1, "{all}");
}
