//! No credential and no backend's address goes where it does not belong.

use http::{Request, StatusCode};
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::Fault;

use crate::forms::forms;
use crate::http_support::{Answer, CHAT, HELLO, authority, chat, chat_head, get, raw, send, soon};
use crate::process::{self, Gateway, LISTEN};
use crate::{KEY, gateway_before, serve};

async fn present(gateway: &Gateway, headers: &[(&str, String)], query: &str) -> Answer {
    let mut request = Request::post(format!("{}{CHAT}{query}", gateway.url)).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    send(request.body(Body::from(HELLO)).unwrap()).await
}

#[tokio::test]
async fn a_backend_sees_its_own_key_and_nothing_of_the_clients() {
    let (backend, server) = serve("east").await;
    let gateway = gateway_before(&server, "").await;
    for (headers, query) in forms(KEY, KEY) {
        backend.clear_requests();
        let answer = present(&gateway, &headers, &query).await;
        assert_eq!(answer.status, StatusCode::OK, "{headers:?} {query}: {}", answer.text());
        let received = backend.requests();
        assert_eq!(received.len(), 1);
        let keys: Vec<_> = received[0].headers.get_all("api-key").iter().collect();
        assert_eq!(keys, ["key-of-east"], "{headers:?} {query}");
        assert!(!received[0].headers.contains_key("authorization"));
        let seen = format!("{} {:?}", received[0].uri, Vec::from_iter(&received[0].headers));
        assert!(!seen.contains(KEY), "{headers:?} {query}: {seen}");
    }
}

#[tokio::test]
async fn what_concerned_only_the_way_is_not_passed_on() {
    let (backend, server) = serve("east").await;
    let gateway = gateway_before(&server, "[forward]\nheaders = [\"x-cust*\"]\n").await;
    backend
        .faults()
        .push(Fault::status(200).header("set-cookie", "ARRAffinity=infrastructure").header("x-mine", "kept"));
    let head = format!(
        "{}\r\nconnection: close, x-named\r\nx-named: 1\r\nkeep-alive: 1\r\nte: trailers\r\nproxy-connection: 1\r\n\
         x-forwarded-for: 10.0.0.1\r\nforwarded: for=10.0.0.1\r\nvia: 1.1 door\r\nx-azure-fdid: 1\r\nx-appgw-trace-id: 1\r\n\
         x-stainless-lang: rust\r\nexpect: 100-continue\r\nx-gateway-backend: 1\r\naccept-encoding: gzip, br\r\n\
         x-custom: kept\r\nx-other: 1\r\ncontent-length: {}\r\n\r\n{HELLO}",
        chat_head(KEY),
        HELLO.len()
    );
    let answer = raw(&gateway.url, head.as_bytes()).await;
    assert!(answer.contains("HTTP/1.1 200 "), "{answer}");
    assert!(!answer.contains("set-cookie") && !answer.contains("ARRAffinity"), "{answer}");
    for name in ["apim-request-id: ", "x-request-id: ", "x-ms-region: East US", "x-mine: kept"] {
        assert!(answer.contains(name), "{name} in {answer}");
    }
    let received = backend.requests().remove(0);
    let mut names: Vec<_> = received.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept-encoding", "api-key", "content-length", "content-type", "host", "x-custom"]);
    assert_eq!(received.header("accept-encoding"), Some("identity"));
    assert_eq!(received.header("host"), Some(authority(&server.url())));
}

#[tokio::test]
async fn nothing_that_the_program_writes_tells_a_key_or_where_a_backend_is() {
    const WRONG: &str = "key-of-nobody-d4e5f6";
    for log in ["info", "trace"] {
        let ((east, server), (_west, dead)) = (serve("east").await, serve("west").await);
        let (url, dead_url) = (server.url(), dead.url());
        dead.stop().await;
        let backends = process::backends(&[("east", &url), ("west", &dead_url)]);
        let more = format!("[telemetry]\nlog = \"{log}\"\nbackend_header = true\n");
        let mut gateway = Gateway::start(&[LISTEN, &backends, &process::client(KEY), &more].concat()).await;

        let mut written = String::new();
        let note =
            |answer: Answer, written: &mut String| *written += &format!("{:?}{}\n", answer.headers, answer.text());
        for key in [KEY, WRONG] {
            for (headers, query) in forms(key, key) {
                note(present(&gateway, &headers, &query).await, &mut written);
            }
        }
        for fault in [Fault::status(401), Fault::status(500), Fault::reset(), Fault::throttled(), Fault::status(403)] {
            east.faults().push(fault);
            note(chat(&gateway.url, KEY).await, &mut written);
        }
        let http2 = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .http2_only(true)
            .build_http::<Body>();
        for key in [KEY, WRONG] {
            let request = Request::post(format!("{}{CHAT}&api-key={key}", gateway.url)).header("api-key", key);
            let answer = http2.request(request.body(HELLO.into()).unwrap());
            note(Answer::read(soon("an answer", answer).await.unwrap()).await, &mut written);
        }
        let malformed = format!("POST /openai/%zz?api-key={WRONG} HTTP/1.1\r\nhost: x\r\napi-key {WRONG}\r\n\r\n");
        written.push_str(&raw(&gateway.url, malformed.as_bytes()).await);
        let admin = gateway.admin().await;
        note(get(format!("{admin}/status")).await, &mut written);
        written.push_str(&gateway.stop().await);

        for secret in [KEY, WRONG, "key-of-east", "key-of-west"] {
            let line = written.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} at {log}");
        }
        if log == "info" {
            for url in [&url, &dead_url] {
                let line = written.lines().find(|line| line.contains(authority(url)));
                assert_eq!(line, None, "an address at {log}");
            }
        }
    }
}
