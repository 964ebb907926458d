//! Who has a place, where there are fewer than connections.

use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower_azure_openai::body::Body;

use crate::http_support::{self, HELLO, chat, chat_head, connect, get, soon};
use crate::process::{self, Gateway, LISTEN};
use crate::websocket::{V1, is_echoed, open};
use crate::{KEY, gateway_before, serve};

fn places(number: usize) -> String {
    format!("[limits]\nconnections = {number}\n")
}

fn request(key: &str) -> String {
    format!("{}\r\ncontent-length: {}\r\n\r\n{HELLO}", chat_head(key), HELLO.len())
}

/// One request and its answer; the connection stays open.
async fn asks(connection: &mut TcpStream, key: &str, status: &str) {
    connection.write_all(request(key).as_bytes()).await.unwrap();
    let mut answer = vec![0; 64 << 10];
    let read = soon("an answer", connection.read(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
}

async fn is_closed(connection: &mut TcpStream) {
    // A reset is an end too.
    let rest = soon("the end of the connection", connection.read(&mut [0; 64])).await;
    assert!(matches!(rest, Ok(0) | Err(_)), "{rest:?}");
}

/// A backend that answers when it is told to.
async fn patient() -> (String, watch::Sender<bool>, watch::Receiver<usize>) {
    let (go_on, gone_on) = watch::channel(false);
    let (seen, requests) = watch::channel(0);
    let url = http_support::serve(move |_: Request<_>| {
        let mut gone_on = gone_on.clone();
        seen.send_modify(|seen| *seen += 1);
        async move {
            gone_on.wait_for(|go_on| *go_on).await.unwrap();
            Response::builder().header("content-type", "application/json").body(Body::from("{}")).unwrap()
        }
    })
    .await;
    (url, go_on, requests)
}

#[tokio::test]
async fn who_has_no_place_waits_for_one_while_all_are_used() {
    let (url, go_on, mut requests) = patient().await;
    let config = [LISTEN, &process::backends(&[("east", &url)]), &process::client(KEY), &places(2)].concat();
    let mut gateway = Gateway::start(&config).await;
    let admin = gateway.admin().await;
    let mut running = [connect(&gateway.url).await, connect(&gateway.url).await];
    for connection in &mut running {
        connection.write_all(request(KEY).as_bytes()).await.unwrap();
    }
    soon("the requests at the backend", requests.wait_for(|seen| *seen == 2)).await.unwrap();
    let mut third = connect(&gateway.url).await;
    third.write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(get(format!("{admin}/livez")).await.status, 200);
    assert!(third.try_read(&mut [0]).is_err(), "nobody has read its request");
    go_on.send(true).unwrap();
    let mut answer = [0; 12];
    soon("an answer", third.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
}

#[tokio::test]
async fn whoever_says_nothing_gives_way_at_once() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, &places(4)).await;
    let mut silent = Vec::new();
    for begun in ["", "PRI *", "GET / HTTP/1.1\r\nho", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\r\n", "", "", ""] {
        let mut connection = connect(&gateway.url).await;
        connection.write_all(begun.as_bytes()).await.unwrap();
        silent.push(connection);
    }
    // The time for a head is longer than anybody waits here.
    for _ in 0..6 {
        assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    }
    drop(silent);
    gateway.becomes_idle_and_has_learnt_nothing().await;
    gateway.is_well().await;
}

#[tokio::test]
async fn whoever_shows_no_key_goes_before_a_client() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, &places(3)).await;
    let mut client = connect(&gateway.url).await;
    asks(&mut client, KEY, "200").await;
    let mut stranger = connect(&gateway.url).await;
    asks(&mut stranger, "no key of a client", "401").await;
    let _silent = connect(&gateway.url).await;
    for _ in 0..5 {
        let mut other = connect(&gateway.url).await;
        asks(&mut other, "no key of a client", "401").await;
    }
    is_closed(&mut stranger).await;
    asks(&mut client, KEY, "200").await;
    gateway.is_well().await;
}

#[tokio::test]
async fn among_clients_the_one_that_was_left_the_longest_ago_goes() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, &places(2)).await;
    let (mut one, mut other) = (connect(&gateway.url).await, connect(&gateway.url).await);
    asks(&mut one, KEY, "200").await;
    asks(&mut other, KEY, "200").await;
    asks(&mut one, KEY, "200").await;
    let mut third = connect(&gateway.url).await;
    asks(&mut third, KEY, "200").await;
    is_closed(&mut other).await;
    asks(&mut one, KEY, "200").await;
    gateway.is_well().await;
}

#[tokio::test]
async fn what_is_used_stays_however_many_come() {
    let (_west, echoes) = serve("west").await;
    let (url, go_on, mut requests) = patient().await;
    let backends = process::backends(&[("east", &url), ("west", &echoes.url())]);
    let realtime = backends.replacen("\"gpt-4o\"", "\"gpt-4o-slow\"", 1);
    let config = [LISTEN, &realtime, &process::client(KEY), &places(3)].concat();
    let mut gateway = Gateway::start(&config).await;
    let (mut socket, _) = open(&gateway.url, V1, &[("api-key", KEY)]).await.unwrap();
    is_echoed(&mut socket, "hello").await;
    let mut running = connect(&gateway.url).await;
    running.write_all(request(KEY).replace("/gpt-4o/", "/gpt-4o-slow/").as_bytes()).await.unwrap();
    soon("the request at the backend", requests.wait_for(|seen| *seen == 1)).await.unwrap();
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(connect(&gateway.url).await);
    }
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    is_echoed(&mut socket, "still here").await;
    go_on.send(true).unwrap();
    let mut answer = [0; 12];
    soon("an answer", running.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop((strangers, socket, running));
    gateway.is_well().await;
}

#[tokio::test]
async fn a_new_client_is_served_while_silent_connections_would_hold_every_descriptor() {
    let (_east, server) = serve("east").await;
    let config = [LISTEN, &process::backends(&[("east", &server.url())]), &process::client(KEY)].concat();
    let mut gateway = Gateway::start_with_descriptors(128, &config).await;
    let admin = gateway.admin().await;
    let mut old = connect(&gateway.url).await;
    asks(&mut old, KEY, "200").await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(connect(&gateway.url).await);
    }
    for _ in 0..10 {
        assert_eq!(chat(&gateway.url, KEY).await.status, 200);
        silent.push(connect(&gateway.url).await);
    }
    asks(&mut old, KEY, "200").await;
    assert_eq!(get(format!("{admin}/readyz")).await.status, 200);
    drop(silent);
    gateway.becomes_idle_and_has_learnt_nothing().await;
}

#[tokio::test]
async fn silent_connections_do_not_keep_an_administrator_out() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let admin = gateway.admin().await;
    let mut silent = Vec::new();
    for _ in 0..150 {
        silent.push(connect(&admin).await);
    }
    for path in ["livez", "readyz", "status"] {
        assert_eq!(get(format!("{admin}/{path}")).await.status, 200, "{path}");
    }
}
