//! What is written down, by whom it can be read, and that no secret is in it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use http::Request;
use serde_json::Value;
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::Fault;

use crate::http_support::{CHAT, chat, get, send, soon};
use crate::{KEY, gateway_before, serve};

fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("captures-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&directory));
    directory
}

#[tokio::test]
async fn requests_and_answers_are_written_without_secrets() {
    let directory = directory("secrets");
    let (east, server) = serve("east").await;
    let capture = format!(
        "[capture]\nsink = \"jsonl\"\ndirectory = {directory:?}\nbody = \"64KiB\"\nredact = [\"/messages/*/content\"]\n"
    );
    let gateway = gateway_before(&server, &capture).await;
    let said = r#"{"messages":[{"role":"user","content":"my name is secret"}],"stream":true,
        "data_sources":[{"parameters":{"authentication":{"key":"a-search-key"}}}]}"#;
    let request = Request::post(format!("{}{CHAT}&api-key=key-in-a-query", gateway.url)).header("api-key", KEY);
    let request = request.header("content-type", "application/json").header("cookie", "session=a-cookie");
    assert_eq!(send(request.body(Body::from(said)).unwrap()).await.status, 200);
    assert_eq!(chat(&gateway.url, "nobodys-key-0123456789").await.status, 401);
    east.faults().push(Fault::status(400).body(r#"{"error":{"code":"400","message":"no"}}"#));
    assert_eq!(chat(&gateway.url, KEY).await.status, 400);
    gateway.stop().await;

    let files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.iter().all(|file| std::fs::metadata(file).unwrap().permissions().mode() & 0o777 == 0o600));
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    for secret in [KEY, "key-of-east", "nobodys-key", "a-search-key", "is secret", "key-in-a-query", "a-cookie"] {
        assert!(!text.contains(secret), "{text}");
    }
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "who is not known is not written down\n{text}");
    let line = &lines[0];
    assert_eq!((&line["client"], &line["alias"], &line["status"]), (&"team".into(), &"gpt-4o".into(), &200.into()));
    assert_eq!((&line["ending"], &line["attempts"][0]["backend"]), (&"whole".into(), &"east".into()));
    assert!(line["answer"]["json"]["choices"][0]["message"]["content"].is_string(), "{line}");
    assert_eq!((&lines[1]["status"], &lines[1]["attempts"][0]["outcome"]), (&400.into(), &"client_fault".into()));
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_full_disk_drops_and_counts_and_serves() {
    let directory = directory("full");
    let (_east, server) = serve("east").await;
    let capture = format!("[capture]\nsink = \"jsonl\"\ndirectory = {directory:?}\n");
    let mut gateway = gateway_before(&server, &capture).await;
    // A directory that is gone takes as little as a disk that is full.
    std::fs::remove_dir_all(&directory).unwrap();
    for _ in 0..3 {
        assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    }
    let page = format!("{}/metrics", gateway.admin().await);
    let counted = async { while !get(&page).await.text().contains("gateway_capture_dropped_total 3") {} };
    soon("three captures that were dropped", counted).await;
    gateway.stderr.line(&["captures are dropped"]).await;
    gateway.is_well().await;
}
