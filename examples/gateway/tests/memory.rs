//! Many slow uploads at once.

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_azure_openai::body::Body;

use crate::http_support::{chat, chat_head, connect, serve, soon};
use crate::process::{self, Gateway, LISTEN};
use crate::{KEY, serve as serve_simulated};

const UPLOADS: usize = 200;
const PART: usize = 64 << 10;
const ROUNDS: usize = 32;
const REPLAY_MEMORY_KIB: usize = 64 << 10;
/// What 200 connections on either side may hold in buffers, besides the program itself.
const MARGIN_KIB: usize = 64 << 10;

/// What the kernel says of the memory of a process, in KiB.
fn memory(pid: u32, field: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Reads all of an upload and keeps nothing of it.
async fn swallow(request: Request<Incoming>) -> Response<Body> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    Response::new(Body::empty())
}

/// What one body may hold in buffers on its way, besides the account.
const BODY_MARGIN_KIB: usize = 48 << 10;

/// Sends a body of 200 MiB on a path that names its model in the body, in two parts around a long string.
async fn upload_200_mib(url: &str, begin: &str, end: &str) -> String {
    const PADDING: usize = 200 << 20;
    let mut connection = connect(url).await;
    let length = begin.len() + PADDING + end.len();
    let head = format!(
        "POST /openai/v1/responses HTTP/1.1\r\nhost: x\r\napi-key: {KEY}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    let (mut read, mut write) = connection.split();
    let sends = async {
        write.write_all(format!("{head}{begin}").as_bytes()).await?;
        let part = vec![b'x'; 1 << 20];
        for _ in 0..PADDING >> 20 {
            write.write_all(&part).await?;
        }
        write.write_all(end.as_bytes()).await
    };
    let receives = async {
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = read.read(&mut part).await {
            answer.extend_from_slice(&part[..length]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::join!(sends, receives).1
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_200_mib_is_served_or_refused_within_the_account() {
    let bulk = serve(swallow).await;
    let config = [LISTEN, &process::backends(&[("bulk", &bulk)]), &process::client(KEY)].concat();
    let mut gateway = Gateway::start(&format!("{config}[failover]\nreplay_memory = \"64MiB\"\n")).await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    let idle = memory(gateway.pid(), "VmRSS");
    for (begin, end, status) in
        [(r#"{"model":"gpt-4o","input":""#, r#""}"#, "200"), (r#"{"input":""#, r#"","model":"gpt-4o"}"#, "413")]
    {
        let answer = upload_200_mib(&gateway.url, begin, end).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
        let peak = memory(gateway.pid(), "VmHWM");
        println!("KiB: {idle} idle, {peak} at most after {status}");
        assert!(peak <= idle + REPLAY_MEMORY_KIB + BODY_MARGIN_KIB, "{idle} KiB idle, {peak} KiB at most");
    }
    gateway.becomes_idle_and_has_learnt_nothing().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stays_bounded_and_short_requests_are_served() {
    let (_east, server) = serve_simulated("east").await;
    let bulk = serve(swallow).await;
    let backends = [
        process::backends(&[("east", &server.url())]),
        process::backends(&[("bulk", &bulk)]).replace("gpt-4o", "bulk"),
    ];
    let more = "[failover]\nreplay_memory = \"64MiB\"\n";
    let mut gateway = Gateway::start(&[LISTEN, &backends.concat(), &process::client(KEY), more].concat()).await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    let idle = memory(gateway.pid(), "VmRSS");

    let head = chat_head(KEY).replace("gpt-4o", "bulk");
    let mut uploads = Vec::new();
    for number in 0..UPLOADS {
        let mut upload = connect(&gateway.url).await;
        let framing = if number % 2 == 0 { "content-length: 33554432" } else { "transfer-encoding: chunked" };
        upload.write_all(format!("{head}\r\n{framing}\r\n\r\n").as_bytes()).await.unwrap();
        uploads.push(upload);
    }
    let part = vec![b'x'; PART];
    let chunk = [format!("{PART:x}\r\n").as_bytes(), &part, b"\r\n"].concat();
    for round in 0..ROUNDS {
        for (number, upload) in uploads.iter_mut().enumerate() {
            let bytes = if number % 2 == 0 { &part } else { &chunk };
            soon("room for a part of an upload", upload.write_all(bytes)).await.unwrap();
        }
        assert_eq!(chat(&gateway.url, KEY).await.status, 200, "a short request in round {round}");
    }
    let (now, peak) = (memory(gateway.pid(), "VmRSS"), memory(gateway.pid(), "VmHWM"));
    println!("KiB: {idle} idle, {now} at the end, {peak} at most; {} uploaded", (UPLOADS * ROUNDS * PART) >> 10);
    assert!(peak <= idle + REPLAY_MEMORY_KIB + MARGIN_KIB, "{idle} KiB idle, {peak} KiB at most");

    drop(uploads);
    gateway.becomes_idle_and_has_learnt_nothing().await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
}
