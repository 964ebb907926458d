//! Clients that leave, stall or break off are nobody's failure, and nothing of theirs goes on.

use std::time::Duration;

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::Fault;

use crate::http_support::{CHAT, HELLO, chat, chat_head, connect, raw, soon};
use crate::{KEY, gateway_before, serve};

const STREAM: &str = r#"{"messages":[{"role":"user","content":"Hi"}],"stream":true}"#;

fn whole_request(body: &str) -> String {
    format!("{}\r\ncontent-length: {}\r\n\r\n{body}", chat_head(KEY), body.len())
}

#[tokio::test]
async fn before_the_head_of_the_answer() {
    let (backend, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    for _ in 0..10 {
        backend.faults().push(Fault::hang());
        backend.clear_requests();
        let mut client = connect(&gateway.url).await;
        client.write_all(whole_request(HELLO).as_bytes()).await.unwrap();
        soon("the request at the backend", backend.wait_for_requests(1)).await;
        assert_eq!(backend.in_flight(), 1);
        drop(client);
        soon("the end of the request at the backend", backend.wait_until_idle()).await;
    }
    gateway.becomes_idle_and_has_learnt_nothing().await;
    gateway.stderr.count(&["request ", "status=499"], 10).await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
}

#[tokio::test]
async fn while_a_stream_is_held() {
    let (backend, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    backend.faults().always(Fault::slow_body(Duration::from_secs(600)));
    for _ in 0..10 {
        backend.clear_requests();
        let mut client = connect(&gateway.url).await;
        client.write_all(whole_request(STREAM).as_bytes()).await.unwrap();
        soon("the request at the backend", backend.wait_for_requests(1)).await;
        drop(client);
        soon("the end of the stream at the backend", backend.wait_until_idle()).await;
    }
    gateway.becomes_idle_and_has_learnt_nothing().await;
}

#[tokio::test]
async fn in_the_middle_of_a_stream() {
    let (backend, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "[stream]\npreamble_events = 1\n").await;
    backend.faults().always(Fault::slow_body(Duration::from_secs(600)));
    for _ in 0..10 {
        let mut client = connect(&gateway.url).await;
        client.write_all(whole_request(STREAM).as_bytes()).await.unwrap();
        let mut seen = String::new();
        while !seen.contains("data: ") {
            let mut part = [0; 1 << 12];
            let read = soon("the first event", client.read(&mut part)).await.unwrap();
            assert_ne!(read, 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        assert_eq!(backend.in_flight(), 1);
        drop(client);
        soon("the end of the stream at the backend", backend.wait_until_idle()).await;
    }
    gateway.becomes_idle_and_has_learnt_nothing().await;
}

#[tokio::test]
async fn an_http2_stream_that_is_reset() {
    let (backend, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    backend.faults().push(Fault::hang());
    let http2 = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .http2_only(true)
        .build_http::<Body>();
    let request =
        |key: &str| Request::post(format!("{}{CHAT}", gateway.url)).header("api-key", key).body(HELLO.into()).unwrap();
    let leaving = tokio::spawn(http2.request(request(KEY)));
    soon("the request at the backend", backend.wait_for_requests(1)).await;
    leaving.abort();
    soon("the end of the request at the backend", backend.wait_until_idle()).await;
    assert_eq!(soon("an answer", http2.request(request(KEY))).await.unwrap().status(), 200, "the connection goes on");
    gateway.becomes_idle_and_has_learnt_nothing().await;
}

/// Collected and streamed uploads: with a replay limit of a byte, everything is streamed.
const REPLAY_LIMITS: [&str; 2] = ["32MiB", "1B"];

#[tokio::test]
async fn an_upload_that_stalls() {
    for replay_limit in REPLAY_LIMITS {
        let (backend, server) = serve("east").await;
        let more = format!("[failover]\nreplay_limit = \"{replay_limit}\"\n[timeouts]\nrequest_body = \"200ms\"\n");
        let mut gateway = gateway_before(&server, &more).await;
        for _ in 0..6 {
            let begun =
                format!("{}\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n{{\"messages\"", chat_head(KEY));
            let answer = raw(&gateway.url, begun.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 408 "), "{replay_limit}: {answer}");
            assert!(answer.contains("\"request_timeout\""), "{replay_limit}: {answer}");
            soon("the end of the upload at the backend", backend.wait_until_idle()).await;
        }
        assert_eq!(backend.request_count(), 0, "{replay_limit}: no request arrived whole");
        gateway.becomes_idle_and_has_learnt_nothing().await;
        assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    }
}

#[tokio::test]
async fn an_upload_that_breaks() {
    for replay_limit in REPLAY_LIMITS {
        for framing in ["content-length: 1000\r\n\r\n{\"mess", "transfer-encoding: chunked\r\n\r\n6\r\n{\"mess\r\n"] {
            let (backend, server) = serve("east").await;
            let mut gateway =
                gateway_before(&server, &format!("[failover]\nreplay_limit = \"{replay_limit}\"\n")).await;
            for broken in 1..=6 {
                let mut client = connect(&gateway.url).await;
                client.write_all(format!("{}\r\n{framing}", chat_head(KEY)).as_bytes()).await.unwrap();
                client.shutdown().await.unwrap();
                let mut answer = String::new();
                soon("the end of the connection", client.read_to_string(&mut answer)).await.unwrap();
                assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
                gateway.stderr.count(&["request ", "attempts"], broken).await;
            }
            soon("the end of the uploads at the backend", backend.wait_until_idle()).await;
            assert_eq!(backend.request_count(), 0, "{replay_limit}: no request arrived whole");
            gateway.becomes_idle_and_has_learnt_nothing().await;
        }
    }
}

/// In the head, in a chunk's size, in a chunk, between chunks, before the last line break.
#[tokio::test]
async fn an_upload_that_breaks_at_any_byte() {
    let (first, second) = HELLO.split_at(HELLO.len() / 2);
    let chunks = format!("{:x};a=b\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\nx-a: 1\r\n\r\n", first.len(), second.len());
    let chunked = format!("{}\r\ntransfer-encoding: chunked\r\n\r\n{chunks}", chat_head(KEY));
    for replay_limit in REPLAY_LIMITS {
        let (backend, server) = serve("east").await;
        let mut gateway = gateway_before(&server, &format!("[failover]\nreplay_limit = \"{replay_limit}\"\n")).await;
        for whole in [whole_request(HELLO), chunked.clone()] {
            let head = whole.find("\r\n\r\n").unwrap();
            for cut in (0..head).step_by(41).chain(head..whole.len()) {
                let mut client = connect(&gateway.url).await;
                client.write_all(&whole.as_bytes()[..cut]).await.unwrap();
                client.shutdown().await.unwrap();
                let mut answer = Vec::new();
                // A reset is an end too.
                drop(soon("the end of the connection", client.read_to_end(&mut answer)).await);
                let answer = String::from_utf8_lossy(&answer);
                assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{:?}: {answer}", &whole[..cut]);
            }
            soon("the end of the uploads at the backend", backend.wait_until_idle()).await;
            assert_eq!(backend.request_count(), 0, "{replay_limit}: no request arrived whole");
            gateway.becomes_idle_and_has_learnt_nothing().await;
        }
        assert_eq!(chat(&gateway.url, KEY).await.status, 200);
        gateway.is_well().await;
    }
}
