//! Whatever becomes of those who read the gateway's output: it serves.

use std::fs::OpenOptions;
use std::io::{PipeReader, Read, pipe};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use http::Request;
use tokio::net::TcpStream;
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::{Fault, SimulatedServer};

use crate::http_support::{chat, get, send, soon};
use crate::process::{self, Gateway, LISTEN};
use crate::{KEY, serve};

fn config(server: &SimulatedServer, more: &str) -> String {
    [LISTEN, more, &process::backends(&[("east", &server.url())]), &process::client(KEY)].concat()
}

/// The gateway does all that it logs something for, and ends when it is told to.
async fn serves_to_the_end(mut gateway: Gateway) {
    let admin = gateway.admin().await;
    for _ in 0..3 {
        assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    }
    assert_eq!(chat(&gateway.url, "wrong").await.status, 401);
    gateway.signal("HUP").await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    assert_eq!(get(format!("{admin}/livez")).await.status, 200);
    gateway.signal("TERM").await;
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_log_whose_reader_has_gone() {
    let (_east, server) = serve("east").await;
    let (reader, writer) = pipe().unwrap();
    let gateway = Gateway::start_logging_to(writer, &config(&server, "")).await;
    drop(reader);
    serves_to_the_end(gateway).await;
}

#[tokio::test]
async fn a_log_whose_reader_has_gone_and_a_circuit_that_opens() {
    let (east, server) = serve("east").await;
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let gateway = Gateway::start_logging_to(writer, &config(&server, "")).await;
    east.faults().push(Fault::throttled_for(Duration::from_millis(1)));
    assert_eq!(chat(&gateway.url, KEY).await.status, 429);
    soon("the circuit closes", async { while chat(&gateway.url, KEY).await.status != 200 {} }).await;
    serves_to_the_end(gateway).await;
}

#[tokio::test]
async fn a_log_on_a_full_disk() {
    let (_east, server) = serve("east").await;
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
    serves_to_the_end(Gateway::start_logging_to(full, &config(&server, "")).await).await;
}

/// Requests that each leave a line of this many bytes.
async fn fill(gateway: &Gateway, lines: usize) {
    let url = format!("{}/openai/v1/chat/completions", gateway.url);
    let body = format!(r#"{{"model":"{}","messages":[]}}"#, "x".repeat(1024));
    for _ in 0..lines {
        let request = Request::post(&url).header("api-key", KEY).header("content-type", "application/json");
        assert_eq!(send(request.body(Body::from(body.clone())).unwrap()).await.status, 404);
    }
}

fn read_to_end(mut log: PipeReader) -> String {
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn a_log_whose_reader_stalls() {
    let (_east, server) = serve("east").await;
    let (reader, writer) = pipe().unwrap();
    let gateway = Gateway::start_logging_to(writer, &config(&server, "")).await;
    // More than the pipe and the queue take.
    fill(&gateway, 1200).await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    let reading = tokio::task::spawn_blocking(|| read_to_end(reader));
    serves_to_the_end(gateway).await;
    let log = soon("the end of the log", reading).await.unwrap();
    let missing = log.lines().filter(|line| line.contains("lines of the log were dropped")).count();
    assert!(missing >= 1, "{} bytes of log", log.len());
    let whole = |line: &&str| line.contains(" INFO ") || line.contains(" WARN ") || line.contains("ERROR");
    assert_eq!(log.lines().filter(|line| !whole(line)).count(), 0);
}

#[tokio::test]
async fn a_stalled_log_does_not_hold_up_the_end() {
    let (_east, server) = serve("east").await;
    let (_reader, writer) = pipe().unwrap();
    let gateway = Gateway::start_logging_to(writer, &config(&server, "")).await;
    fill(&gateway, 1200).await;
    serves_to_the_end(gateway).await;
}

#[tokio::test]
async fn a_standard_output_that_is_closed() {
    let (_east, server) = serve("east").await;
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = config(&server, "").replacen("127.0.0.1:0", &listen.to_string(), 1);
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut gateway = process::start_printing_to(writer, &config);
    soon("the gateway", listens(listen)).await;
    assert_eq!(chat(&format!("http://{listen}"), KEY).await.status, 200);
    assert!(gateway.try_wait().unwrap().is_none());
}

async fn listens(address: SocketAddr) {
    while TcpStream::connect(address).await.is_err() {}
}

#[tokio::test]
async fn what_a_client_chose_is_cut() {
    let (_east, server) = serve("east").await;
    let mut gateway = Gateway::start(&config(&server, "")).await;
    let url = format!("{}/openai/v1/chat/completions", gateway.url);
    for model in ["x".repeat(100_000), "\\u0001".repeat(100_000), "€".repeat(5_000)] {
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        let request = Request::post(&url).header("api-key", KEY).header("content-type", "application/json");
        assert_eq!(send(request.body(Body::from(body)).unwrap()).await.status, 404);
    }
    gateway.stderr.count(&["request", "status=404"], 3).await;
    let longest = gateway.stderr.text().lines().map(str::len).max();
    assert!(longest.is_some_and(|longest| longest < 10_000), "{longest:?}");
}
