//! What a connection may hold, and for how long.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tower_azure_openai::body::Body;

use crate::http_support::{self, CHAT, HELLO, authority, chat, chat_head, connect, get, soon};
use crate::process::{self, Gateway, LISTEN};
use crate::websocket::{V1, is_echoed, open};
use crate::{KEY, gateway_before, serve};

const QUICK: &str = "[timeouts]\nhead = \"1s\"\nwrite = \"1s\"\n";

async fn ends(mut stream: TcpStream, what: &str) {
    let mut rest = Vec::new();
    // A reset is an end too.
    drop(soon(what, stream.read_to_end(&mut rest)).await);
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4") || rest.starts_with(b"\0\0"), "{what}: {rest:?}");
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, QUICK).await;
    let admin = gateway.admin().await;
    for url in [&gateway.url, &admin] {
        for begun in ["", "PRI *", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nho", "\r\n"] {
            let started = Instant::now();
            let mut stream = connect(url).await;
            stream.write_all(begun.as_bytes()).await.unwrap();
            ends(stream, begun).await;
            assert!(started.elapsed() > Duration::from_millis(800), "{begun}");
        }
    }
    gateway.is_well().await;
}

#[tokio::test]
async fn a_head_that_drips_ends_the_connection() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, QUICK).await;
    let admin = gateway.admin().await;
    for url in [&gateway.url, &admin] {
        let mut stream = connect(url).await;
        soon("the end of the connection", async {
            while stream.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
    gateway.is_well().await;
}

#[tokio::test]
async fn between_requests_and_while_one_runs_a_connection_has_longer() {
    let url = http_support::serve(|_| async {
        sleep(Duration::from_millis(2_500)).await;
        Response::new(Body::from("{}"))
    })
    .await;
    let gateway =
        Gateway::start(&[LISTEN, &process::backends(&[("east", &url)]), &process::client(KEY), QUICK].concat()).await;
    let mut stream = connect(&gateway.url).await;
    let request = format!("{}\r\ncontent-length: {}\r\n\r\n{HELLO}", chat_head(KEY), HELLO.len());
    for _ in 0..2 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        soon("an answer", stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let mut rest = Vec::new();
        drop(timeout(Duration::from_secs(2), stream.read_to_end(&mut rest)).await);
    }
}

/// A backend whose answers have no end that a client would wait for.
async fn endless() -> String {
    http_support::serve(|_| async { Response::new(Body::from(vec![b'x'; 64 << 20])) }).await
}

fn is_idle(status: &Value) -> bool {
    status["backends"][0]["in_flight"] == 0
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_answer() {
    let backends = process::backends(&[("east", &endless().await)]);
    let mut gateway = Gateway::start(&[LISTEN, &backends, &process::client(KEY), QUICK].concat()).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(authority(&gateway.url).parse().unwrap()).await.unwrap();
    let request = format!("{}\r\ncontent-length: {}\r\n\r\n{HELLO}", chat_head(KEY), HELLO.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    gateway.status_becomes("a request in flight", |status| !is_idle(status)).await;
    gateway.status_becomes("none in flight", is_idle).await;
    drop(stream);
    gateway.becomes_idle_and_has_learnt_nothing().await;
}

#[tokio::test]
async fn a_client_of_http2_that_takes_nothing_loses_that_answer_and_no_other() {
    let url = http_support::serve(|request: Request<_>| async move {
        let length = if request.uri().path().contains("chat") { 64 << 20 } else { 2 };
        Response::new(Body::from(vec![b' '; length]))
    })
    .await;
    let mut gateway =
        Gateway::start(&[LISTEN, &process::backends(&[("east", &url)]), &process::client(KEY), QUICK].concat()).await;
    let io = TokioIo::new(connect(&gateway.url).await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = |path: &str| {
        Request::post(format!("http://gateway.example{path}"))
            .header("api-key", KEY)
            .header("content-type", "application/json")
            .body(Body::from(HELLO))
            .unwrap()
    };
    let ignored = soon("an answer", sender.send_request(request(CHAT))).await.unwrap();
    assert_eq!(ignored.status(), 200);
    gateway.status_becomes("a request in flight", |status| !is_idle(status)).await;
    gateway.status_becomes("none in flight", is_idle).await;
    let other = CHAT.replace("chat/completions", "embeddings");
    let answer = soon("another answer", sender.send_request(request(&other))).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(soon("its body", answer.collect()).await.unwrap().to_bytes().len(), 2);
    assert!(soon("the end of the first", ignored.collect()).await.is_err());
}

/// A client of HTTP/2, and with it the receiver of one who opens no window for answers.
async fn http2(gateway: &Gateway, window: Option<u32>) -> hyper::client::conn::http2::SendRequest<Body> {
    let io = TokioIo::new(connect(&gateway.url).await);
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.initial_stream_window_size(window).handshake(io).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn answers_whose_windows_stay_closed_are_dropped_and_the_connection_stays() {
    const ANSWERS: usize = 20;
    let backends = process::backends(&[("east", &endless().await)]);
    let mut gateway = Gateway::start(&[LISTEN, &backends, &process::client(KEY), QUICK].concat()).await;
    let mut sender = http2(&gateway, Some(0)).await;
    let mut ignored = Vec::new();
    for _ in 0..ANSWERS {
        let request = http_support::chat_request("http://gateway.example", KEY);
        ignored.push(soon("the head of an answer", sender.send_request(request)).await.unwrap());
    }
    gateway.status_becomes("none in flight", is_idle).await;
    let probe = Request::get("http://gateway.example/status-0123456789abcdef").body(Body::empty()).unwrap();
    assert_eq!(soon("an answer", sender.send_request(probe)).await.unwrap().status(), 200);
    drop(ignored);
    gateway.becomes_idle_and_has_learnt_nothing().await;
}

#[tokio::test]
async fn a_connection_of_http2_has_two_hundred_requests_at_once() {
    const STREAMS: usize = 200;
    let (go_on, gone_on) = watch::channel(false);
    let (seen, mut all_seen) = watch::channel(0);
    let url = http_support::serve(move |_| {
        let mut gone_on = gone_on.clone();
        seen.send_modify(|seen| *seen += 1);
        async move {
            gone_on.wait_for(|go_on| *go_on).await.unwrap();
            Response::builder().header("content-type", "application/json").body(Body::from("{}")).unwrap()
        }
    })
    .await;
    let backends = process::backends(&[("east", &url)]);
    let mut gateway = Gateway::start(&[LISTEN, &backends, &process::client(KEY)].concat()).await;
    let mut sender = http2(&gateway, None).await;
    let mut ask = || {
        let answer = sender.send_request(http_support::chat_request("http://gateway.example", KEY));
        async { http_support::Answer::read(answer.await.unwrap()).await.status }
    };
    let running: FuturesUnordered<_> = (0..STREAMS + 50).map(|_| ask()).collect();
    let running = tokio::spawn(running.collect::<Vec<_>>());
    soon("as many as there may be", all_seen.wait_for(|seen| *seen == STREAMS)).await.unwrap();
    // Whoever comes beside them is served all the same, and none of the others has come in the meantime.
    assert_eq!(get(format!("{}/status-0123456789abcdef", gateway.url)).await.status, 200);
    assert_eq!(*all_seen.borrow(), STREAMS);
    go_on.send(true).unwrap();
    let answered = soon("all answers", running).await.unwrap();
    assert!(answered.len() == STREAMS + 50 && answered.iter().all(|status| *status == 200), "{answered:?}");
    gateway.becomes_idle_and_has_learnt_nothing().await;
}

/// A backend that accepts every WebSocket and talks without an end.
async fn talkative() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = tcp.read(&mut [0; 4096]).await?;
                let accepted =
                    "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";
                tcp.write_all(accepted.as_bytes()).await?;
                let frame = [&[0x82, 126, 0xff, 0xff][..], &[0; 0xffff]].concat();
                loop {
                    tcp.write_all(&frame).await?;
                }
                #[allow(unreachable_code, reason = "the type of what ends it")]
                std::io::Result::Ok(())
            });
        }
    });
    url
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_a_websocket_loses_it() {
    let backends = process::backends(&[("east", &talkative().await)]);
    let mut gateway = Gateway::start(&[LISTEN, &backends, &process::client(KEY), QUICK].concat()).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(authority(&gateway.url).parse().unwrap()).await.unwrap();
    let handshake = format!(
        "GET {V1} HTTP/1.1\r\nhost: x\r\napi-key: {KEY}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(handshake.as_bytes()).await.unwrap();
    gateway.status_becomes("a WebSocket in flight", |status| !is_idle(status)).await;
    gateway.status_becomes("none in flight", is_idle).await;
    drop(stream);
    gateway.becomes_idle_and_has_learnt_nothing().await;
}

#[tokio::test]
async fn a_first_frame_that_drips_ends_a_websocket() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, QUICK).await;
    let (mut socket, _) = open(&gateway.url, "/openai/v1/responses", &[("api-key", KEY)]).await.unwrap();
    let raw = socket.get_mut();
    // A frame of 125 bytes, masked with zeros, of which one comes now and then.
    raw.write_all(&[0x81, 0x80 | 125, 0, 0, 0, 0]).await.unwrap();
    let mut heard = Vec::new();
    soon("the end", async {
        while !String::from_utf8_lossy(&heard).contains("request_timeout") {
            let _ = raw.write_all(b" ").await;
            let mut part = [0; 1024];
            if let Ok(read) = timeout(Duration::from_millis(50), raw.read(&mut part)).await {
                heard.extend_from_slice(&part[..read.unwrap()]);
            }
        }
    })
    .await;
    gateway.is_well().await;
}

#[tokio::test]
async fn silent_connections_do_not_take_the_descriptors_of_others() {
    let (_east, server) = serve("east").await;
    let config = [LISTEN, &process::backends(&[("east", &server.url())]), &process::client(KEY)].concat();
    let mut gateway = Gateway::start_with_descriptors(128, &config).await;
    let admin = gateway.admin().await;
    let mut open = connect(&gateway.url).await;
    let request = format!("{}\r\ncontent-length: {}\r\n\r\n{HELLO}", chat_head(KEY), HELLO.len());
    let mut silent = Vec::new();
    for round in 0..5 {
        for _ in 0..40 {
            silent.push(connect(&gateway.url).await);
        }
        open.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 64 << 10];
        let read = soon("an answer", open.read(&mut answer)).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "round {round}");
        for path in ["livez", "readyz"] {
            assert_eq!(get(format!("{admin}/{path}")).await.status, 200, "round {round}");
        }
    }
    drop((silent, open));
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    gateway.becomes_idle_and_has_learnt_nothing().await;
}

/// One connection of a client can need many to backends.
#[tokio::test]
async fn want_of_descriptors_is_no_backends_failure() {
    const REQUESTS: usize = 120;
    let (go_on, gone_on) = watch::channel(false);
    let url = http_support::serve(move |_| {
        let mut gone_on = gone_on.clone();
        async move {
            gone_on.wait_for(|go_on| *go_on).await.unwrap();
            Response::builder().header("content-type", "application/json").body(Body::from("{}")).unwrap()
        }
    })
    .await;
    let backends = process::backends(&[("east", &url), ("west", &url)]);
    let config = [LISTEN, &backends, &process::client(KEY)].concat();
    let mut gateway = Gateway::start_with_descriptors(64, &config).await;
    let admin = gateway.admin().await;
    let io = TokioIo::new(connect(&gateway.url).await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut ask = || {
        let answer = sender.send_request(http_support::chat_request("http://gateway.example", KEY));
        async { http_support::Answer::read(answer.await.unwrap()).await }
    };
    let mut running: FuturesUnordered<_> = (0..REQUESTS).map(|_| ask()).collect();
    let mut refused = 0;
    while refused < REQUESTS - 64 {
        let answer = soon("a refusal", running.next()).await.unwrap();
        process::is(&answer, 503, "overloaded");
        refused += 1;
    }
    for path in ["livez", "readyz"] {
        assert_eq!(get(format!("{admin}/{path}")).await.status, 200, "{path}");
    }
    go_on.send(true).unwrap();
    while let Some(answer) = soon("an answer", running.next()).await {
        refused += usize::from(answer.status == 503);
        assert!(answer.status == 200 || answer.code() == "overloaded", "{}", answer.text());
    }
    assert!(refused < REQUESTS, "some were served");
    assert_eq!(soon("an answer", ask()).await.status, 200, "descriptors have returned");
    gateway.becomes_idle_and_has_learnt_nothing().await;
    let told = gateway.stderr.lines(&["WARN", "out of file descriptors"]).len();
    assert!((1..refused / 4).contains(&told), "{told} lines for {refused} requests");
}

#[tokio::test]
async fn a_websocket_ends_with_the_key_that_opened_it() {
    let (_east, server) = serve("east").await;
    let config = |keys: &str| {
        let client = process::client(KEY).replace(&format!("\"{KEY}\""), keys);
        [LISTEN, &process::backends(&[("east", &server.url())]), &client].concat()
    };
    let (other, third) = ("another-key-of-the-client", "third-key-of-the-client");
    let file = process::file(&config(&format!("[\"{KEY}\", \"{other}\"]")));
    let mut gateway = Gateway::start_file(&file).await;
    let (mut revoked, _) = open(&gateway.url, V1, &[("api-key", KEY)]).await.unwrap();
    let offered = format!("realtime, openai-insecure-api-key.{other}");
    let (mut kept, _) = open(&gateway.url, V1, &[("sec-websocket-protocol", offered.as_str())]).await.unwrap();
    is_echoed(&mut revoked, "hello").await;
    std::fs::write(&file, config(&format!("[\"{other}\", \"{third}\"]"))).unwrap();
    gateway.signal("HUP").await;
    gateway.stderr.line(&["was reloaded"]).await;
    assert!(!matches!(soon("its end", next_of(&mut revoked)).await, Some(Ok(_))));
    is_echoed(&mut kept, "still here").await;
}

async fn next_of(
    socket: &mut crate::websocket::Socket,
) -> Option<Result<tokio_tungstenite::tungstenite::Message, tokio_tungstenite::tungstenite::Error>> {
    socket.next().await
}

#[tokio::test]
async fn a_file_that_does_not_come_delays_a_reload_and_nothing_else() {
    let (_east, server) = serve("east").await;
    let config = |client: &str| [LISTEN, &process::backends(&[("east", &server.url())]), client].concat();
    let file = process::file(&config(&process::client(KEY)));
    let mut gateway = Gateway::start_file(&file).await;
    let fifo = file.with_file_name("key");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let client = format!("[[clients]]\nid = \"team\"\nkey_file = {fifo:?}\n");
    std::fs::write(&file, config(&client)).unwrap();
    gateway.signal("HUP").await;
    for _ in 0..3 {
        assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    }
    let new = "key-that-comes-late";
    tokio::task::spawn_blocking(move || std::fs::write(fifo, new)).await.unwrap().unwrap();
    gateway.stderr.line(&["was reloaded"]).await;
    assert_eq!(chat(&gateway.url, new).await.status, 200);
    assert_eq!(chat(&gateway.url, KEY).await.status, 401);
    gateway.is_well().await;
}
