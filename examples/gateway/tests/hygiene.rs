//! Requests that two parsers could read differently, as raw bytes: refused, or forwarded in one reading.

use http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::{Fault, SimulatedBackend};

use crate::http_support::{self, Answer, CHAT, HELLO, chat, chat_head, connect, raw, soon};
use crate::process::{self, Gateway, LISTEN};
use crate::{KEY, gateway_before, serve};

/// The head without its credential.
fn head() -> String {
    chat_head(KEY).replace(&format!("api-key: {KEY}\r\n"), "")
}

fn with_length(head: &str) -> String {
    format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{HELLO}", HELLO.len())
}

/// Sends each on a connection of its own: it must end with this status and reach nobody.
async fn refuses(east: &SimulatedBackend, gateway: &mut Gateway, status: u16, code: &str, requests: &[String]) {
    for request in requests {
        let answer = raw(&gateway.url, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}\n{answer}");
        assert!(answer.contains(code), "{request:?}\n{answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{request:?}\n{answer}");
    }
    assert_eq!(east.request_count(), 0);
    gateway.is_well().await;
}

#[tokio::test]
async fn framing_that_is_unclear_is_refused() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let chunked = "2\r\n{}\r\n0\r\n\r\n";
    let requests = [
        "content-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
        "content-length: 3\r\ncontent-length: 2\r\n\r\n{} ",
        "content-length: 2, 3\r\n\r\n{} ",
        "content-length: +2\r\n\r\n{}",
        "content-length: 0x2\r\n\r\n{}",
        "content-length: 2 2\r\n\r\n{}",
        "content-length: -2\r\n\r\n{}",
        "content-length: 99999999999999999999\r\n\r\n{}",
        "content-length : 2\r\n\r\n{}",
        "transfer-encoding: identity\r\n\r\n{}",
        "transfer-encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "transfer-encoding: \"chunked\"\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "transfer-encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ];
    let requests = requests.map(|rest| format!("{}\r\n{rest}", chat_head(KEY)));
    refuses(&east, &mut gateway, 400, "", &requests).await;
    let old =
        format!("{}\r\ntransfer-encoding: chunked\r\n\r\n{chunked}", chat_head(KEY)).replace("HTTP/1.1", "HTTP/1.0");
    let answer = raw(&gateway.url, old.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.0 400 ") || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(east.request_count(), 0);
}

#[tokio::test]
async fn chunks_that_are_unclear_are_refused() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let requests = [
        "0x2\r\n{}",
        "+2\r\n{}",
        "-2\r\n{}",
        "2\n{}",
        "2\r\n{}x\r\n0",
        "fffffffffffffffff\r\n{}",
        "2 2\r\n{}",
        "\r\n{}",
        "2\r{}",
        "2;\n{}",
        "2;a=\n{}",
        "2;a=\"\n\"\r\n{}",
        "2;a\rb\r\n{}",
        " 2\r\n{}",
        "2_\r\n{}",
        "2\r\n{}\n0",
    ];
    let requests =
        requests.map(|chunk| format!("{}\r\ntransfer-encoding: chunked\r\n\r\n{chunk}\r\n0\r\n\r\n", chat_head(KEY)));
    refuses(&east, &mut gateway, 400, "", &requests).await;
}

/// Some servers end a line there, and some only pass it over: what goes on is written anew.
#[tokio::test]
async fn line_feeds_alone_hide_no_request() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let whole = with_length(&chat_head(KEY));
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    for (number, request) in [
        format!("{}\n\n{body}", head.replace("\r\n", "\n")),
        format!("{head}\n\n{body}"),
        whole.replacen("\r\n", "\n", 2),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = raw(&gateway.url, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.matches("HTTP/1.").count() == 1, "{answer}");
        assert_eq!(east.request_count(), number + 1);
        assert_eq!(east.requests().pop().unwrap().body, HELLO);
    }
    gateway.is_well().await;
}

#[tokio::test]
async fn a_length_beside_chunks_is_dropped_and_the_connection_closed() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let size = format!("{:x}", HELLO.len());
    let smuggled = format!(
        "GET /openai/models?api-version=2024-10-21 HTTP/1.1\r\nhost: gateway.example\r\napi-key: {KEY}\r\n\r\n"
    );
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "content-length: 4\r\ntransfer-encoding: Chunked\r\ncontent-length: 5",
    ] {
        let before = east.request_count();
        let request = format!("{}\r\n{framing}\r\n\r\n{size}\r\n{HELLO}\r\n0\r\n\r\n{smuggled}", chat_head(KEY));
        // That it ends at all shows that the connection was closed: nothing in the request asked for it.
        let answer = raw(&gateway.url, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{framing}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{framing}: what follows is not read: {answer}");
        assert_eq!(east.request_count(), before + 1, "{framing}");
        let received = east.requests().pop().unwrap();
        assert_eq!(received.body, HELLO);
        let framing: Vec<_> = ["content-length", "transfer-encoding"]
            .iter()
            .flat_map(|name| received.headers.get_all(*name))
            .map(|value| value.to_str().unwrap())
            .collect();
        assert_eq!(framing, [HELLO.len().to_string()]);
    }
    gateway.is_well().await;
}

/// A backend that writes down what comes in, byte for byte, and says 200 to it.
async fn scribe() -> (String, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let written = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(HELLO.as_bytes()) && !seen.ends_with(b"0\r\n\r\n") {
            assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        seen
    });
    (url, written)
}

#[tokio::test]
async fn what_goes_on_is_framed_once_on_the_wire() {
    let (url, written) = scribe().await;
    let config = [LISTEN, &process::backends(&[("east", &url)]), &process::client(KEY)].concat();
    let gateway = Gateway::start(&config).await;
    let request = format!(
        "{}\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\nte: trailers\r\ntrailer: x-a\r\nconnection: x-hop, te\r\n\
         x-hop: 1\r\nkeep-alive: 1\r\nproxy-authorization: Basic x\r\nx-gateway-backend: west\r\nX-Gateway-Anything: 1\r\n\r\n\
         {:x};name=value\r\n{HELLO}\r\n0\r\nx-a: 1\r\n\r\n",
        chat_head(KEY),
        HELLO.len()
    );
    let answer = raw(&gateway.url, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("x-gateway-"), "{answer}");
    let seen = String::from_utf8(soon("the request at the backend", written).await.unwrap()).unwrap();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, HELLO);
    let mut names: Vec<_> =
        head.lines().skip(1).map(|line| line.split_once(':').unwrap().0.to_ascii_lowercase()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept-encoding", "api-key", "content-length", "content-type", "host"]);
    assert!(head.starts_with(&format!("POST {CHAT} HTTP/1.1\r\n")) && head.contains("api-key: key-of-east"), "{head}");
}

#[tokio::test]
async fn two_values_of_one_credential_are_refused_and_one_value_twice_is_not() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let requests = [
        format!("api-key: {KEY}\r\napi-key: other"),
        format!("API-Key: other\r\napi-key: {KEY}"),
        format!("authorization: Bearer {KEY}\r\nauthorization: Bearer other"),
        format!("authorization: Bearer {KEY}\r\nAuthorization: Basic b3RoZXI="),
        format!("ocp-apim-subscription-key: {KEY}\r\nocp-apim-subscription-key: other"),
    ];
    let mut requests: Vec<_> = requests.iter().map(|keys| with_length(&format!("{}\r\n{keys}", head()))).collect();
    requests.push(with_length(&head().replace("?api-version", &format!("?api-key={KEY}&API-KEY=other&api-version"))));
    refuses(&east, &mut gateway, 400, "ambiguous_request", &requests).await;

    let twice = with_length(&format!("{}\r\napi-key: {KEY}\r\napi-key: {KEY}", head()));
    assert!(raw(&gateway.url, twice.as_bytes()).await.starts_with("HTTP/1.1 200 "));
    let received = east.requests().pop().unwrap();
    assert_eq!(received.headers.get_all("api-key").iter().collect::<Vec<_>>(), ["key-of-east"]);
}

#[tokio::test]
async fn targets_that_are_unclear_are_refused() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let targets = [
        "/openai/deployments/gpt-4o%2fchat/completions",
        "/openai/deployments/gpt-4o%2Fx/chat/completions",
        "/openai/deployments/gpt-4o%5cx/chat/completions",
        "/openai/deployments/gpt-4o\\x/chat/completions",
        "/openai/deployments/x/../gpt-4o/chat/completions",
        "/openai/deployments/x/%2e%2e/gpt-4o/chat/completions",
        "/openai/deployments/x/.%2E/gpt-4o/chat/completions",
        "/openai/deployments/./gpt-4o/chat/completions",
        "/openai//deployments/gpt-4o/chat/completions",
        "/openai/deployments/gpt-4o/chat/completions//",
        "/openai/deployments/gpt-4o/%252e%252e/x/chat/completions",
        "/openai/deployments/gpt-4o/..;/x/chat/completions",
        "/openai/deployments/gpt-4o%252fx/chat/completions",
        "/openai/deployments/gpt-4o%00/chat/completions",
        "/openai/deployments/gpt-4o%0d%0ax/chat/completions",
        "/openai/deployments/gpt-4o%7f/chat/completions",
        "/openai/deployments/gpt-4o%c0%af/chat/completions",
        "/openai/deployments/gpt-4o%c2%85/chat/completions",
        "/openai/deployments/gpt-4o%/chat/completions",
    ];
    let request = |target: &str| with_length(&chat_head(KEY).replace(CHAT, target));
    let targets: Vec<_> = targets.iter().map(|target| request(target)).collect();
    refuses(&east, &mut gateway, 400, "ambiguous_request", &targets).await;

    let absolute =
        ["http://other.example", "http://gateway.example:81", "http://a@gateway.example", "https://other.example"];
    let absolute: Vec<_> = absolute.iter().map(|origin| request(&format!("{origin}{CHAT}"))).collect();
    refuses(&east, &mut gateway, 400, "ambiguous_request", &absolute).await;
    let hosts = [with_length(&format!("{}\r\nHost: other.example", chat_head(KEY)))];
    refuses(&east, &mut gateway, 400, "ambiguous_request", &hosts).await;

    let same = request(&format!("http://gateway.example{CHAT}"));
    let answer = raw(&gateway.url, same.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(east.requests().pop().unwrap().uri, CHAT);
}

#[tokio::test]
async fn control_characters_are_refused() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let requests = [
        chat_head(KEY).replace(CHAT, "/openai/deployments/gpt-4o\u{1}/chat/completions"),
        chat_head(KEY).replace(CHAT, "/openai/deployments/gpt-4o\t/chat/completions"),
        chat_head(KEY).replace(CHAT, "/openai/deployments/gpt 4o/chat/completions"),
        chat_head(KEY).replace(CHAT, "/openai/deployments/gpt-4o\u{7f}/chat/completions"),
        chat_head(KEY).replace("POST", "PO\u{1}ST"),
        chat_head(KEY).replace("HTTP/1.1", "HTTP/1.1\u{0}"),
        format!("{}\r\nx-a: a\u{0}b", chat_head(KEY)),
        format!("{}\r\nx-a: a\u{1}b", chat_head(KEY)),
        format!("{}\r\nx-a: a\u{7f}b", chat_head(KEY)),
        format!("{}\r\nx-a: a\rb", chat_head(KEY)),
        format!("{}\r\nx-a: a\nb", chat_head(KEY)),
        format!("{}\r\nx-a: a\r\n folded", chat_head(KEY)),
        format!("{}\r\n x-a: folded", chat_head(KEY)),
        format!("{}\r\nx\u{0}a: a", chat_head(KEY)),
        format!("{}\r\nx(a): a", chat_head(KEY)),
        format!("{}\r\n: a", chat_head(KEY)),
    ];
    let requests = requests.map(|head| with_length(&head));
    refuses(&east, &mut gateway, 400, "", &requests).await;
}

#[tokio::test]
async fn redirects_of_a_backend_are_neither_followed_nor_named() {
    let (east, server) = serve("east").await;
    let (west, elsewhere) = serve("west").await;
    let mut gateway = gateway_before(&server, "").await;
    let (own, other) = (server.url(), elsewhere.url());
    for (location, expected) in [
        (format!("{own}/openai/files/f?a=b"), Some("/openai/files/f?a=b")),
        ("/openai/files/f".to_owned(), Some("/openai/files/f")),
        (format!("{other}/openai/files/f"), None),
        ("//evil.example/".to_owned(), None),
        ("https://east.example.internal/".to_owned(), None),
    ] {
        for status in [301, 302, 303, 307, 308] {
            east.faults().push(Fault::status(status).header("location", &location));
            let answer = chat(&gateway.url, KEY).await;
            assert_eq!((answer.status.as_u16(), answer.header("location")), (status, expected), "{location}");
        }
    }
    assert_eq!((east.request_count(), west.request_count()), (25, 0));
    gateway.is_well().await;
}

/// Trailers of HTTP/2 reach any client, and those of HTTP/1.1 one that asks for them.
#[tokio::test]
async fn what_a_backend_may_not_say_in_a_header_it_may_not_say_in_a_trailer() {
    for kind in ["application/json", "text/event-stream"] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\ntrailer: set-cookie, x-where\r\n\r\n\
             10\r\ndata: [DONE]\n\n  \r\n0\r\nset-cookie: a=b\r\nx-where: http://127.0.0.1/\r\nlocation: //evil.example\r\n\
             access-control-allow-origin: *\r\nx-checksum: 1\r\n\r\n"
        );
        let url = answers_with(answer).await;
        let config = [LISTEN, &process::backends(&[("east", &url)]), &process::client(KEY)].concat();
        let mut gateway = Gateway::start(&config).await;
        let io = TokioIo::new(connect(&gateway.url).await);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let request = http_support::chat_request("http://gateway.example", KEY);
        let answer = soon("an answer", sender.send_request(request)).await.unwrap();
        let body = soon("its body", answer.collect()).await.unwrap();
        let trailers = body.trailers().unwrap();
        assert!(trailers.len() == 1 && trailers["x-checksum"] == "1", "{kind}: {trailers:?}");
        assert_eq!(body.to_bytes(), "data: [DONE]\n\n  ", "{kind}");
        let asks = with_length(&format!("{}\r\nte: trailers", chat_head(KEY)));
        let answer = raw(&gateway.url, asks.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("//"), "{answer}");
        gateway.becomes_idle_and_has_learnt_nothing().await;
    }
}

/// A backend that says the same to every request, byte for byte, and closes.
async fn answers_with(answer: impl Into<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, answer) = (format!("http://{}", listener.local_addr().unwrap()), answer.into());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !seen.ends_with(HELLO.as_bytes()) {
                    if stream.read_buf(&mut seen).await.is_ok_and(|read| read == 0) {
                        return;
                    }
                }
                drop(stream.write_all(&answer).await);
            });
        }
    });
    url
}

#[tokio::test]
async fn a_second_request_on_a_connection_is_read_where_the_first_ended() {
    let (east, server) = serve("east").await;
    let gateway = gateway_before(&server, "").await;
    let first = format!("{}\r\ncontent-length: {}\r\n\r\n{HELLO}", chat_head(KEY), HELLO.len());
    let mut stream = connect(&gateway.url).await;
    stream.write_all([&*first, &with_length(&chat_head(KEY))].concat().as_bytes()).await.unwrap();
    let mut answers = String::new();
    soon("the end of the connection", stream.read_to_string(&mut answers)).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
    assert!(east.requests().iter().all(|request| request.body == HELLO));
}

#[tokio::test]
async fn over_http2_too_an_authority_must_be_the_host() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let io = TokioIo::new(connect(&gateway.url).await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    for (host, status) in [("other.example", 400), ("gateway.example:8080", 400), ("Gateway.Example", 200)] {
        let request = Request::post(format!("http://gateway.example{CHAT}"))
            .header("host", host)
            .header("api-key", KEY)
            .header("content-type", "application/json")
            .body(Body::from(HELLO));
        let answer = soon("an answer", sender.send_request(request.unwrap())).await.unwrap();
        assert_eq!(Answer::read(answer).await.status, status, "{host}");
    }
    assert_eq!(east.request_count(), 1);
    gateway.is_well().await;
}
