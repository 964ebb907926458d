//! Several event loops: who serves what, and what they share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tower_azure_openai::body::Body;

use crate::KEY;
use crate::http_support::{self, Answer, chat_request, connect, get, soon};
use crate::process::{self, Gateway, LISTEN};

/// A backend that answers when it is told to, and how many connections it has got.
async fn held() -> (String, watch::Sender<bool>, Arc<AtomicUsize>, mpsc::UnboundedReceiver<()>) {
    let (go_on, gone_on) = watch::channel(false);
    let (arrived, arrivals) = mpsc::unbounded_channel();
    let (front, connections) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(AtomicUsize::new(0)));
    let url = format!("http://{}", front.local_addr().unwrap());
    let behind = http_support::serve(move |_| {
        let (mut gone_on, arrived) = (gone_on.clone(), arrived.clone());
        async move {
            arrived.send(()).unwrap();
            gone_on.wait_for(|go_on| *go_on).await.unwrap();
            Response::builder().header("content-type", "application/json").body(Body::from("{}")).unwrap()
        }
    })
    .await;
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = front.accept().await {
            count.fetch_add(1, SeqCst);
            let mut far = connect(&behind).await;
            tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut near, &mut far).await) });
        }
    });
    (url, go_on, connections, arrivals)
}

async fn start(url: &str, of_backend: &str, more: &str) -> Gateway {
    let backends =
        process::backends(&[("east", url)]).replace("[[backends]]\n", &format!("[[backends]]\n{of_backend}"));
    Gateway::start(&[LISTEN, more, &backends, &process::client(KEY)].concat()).await
}

/// What a gauge says of each of two loops.
async fn gauge(gateway: &mut Gateway, name: &str) -> Vec<usize> {
    let page = get(format!("{}/metrics", gateway.admin().await)).await.text();
    let of = |index: usize| {
        let sample = format!("{name}{{loop=\"{index}\"}} ");
        let line =
            page.lines().find_map(|line| line.strip_prefix(&sample)).unwrap_or_else(|| panic!("{sample}: {page}"));
        line.parse::<f64>().unwrap() as usize
    };
    (0..2).map(of).collect()
}

fn request() -> Request<Body> {
    let mut request = chat_request("", KEY);
    request.headers_mut().insert(HOST, HeaderValue::from_static("gateway.example"));
    request
}

/// A connection that stays open, for one request after the other.
async fn kept(gateway: &Gateway) -> http1::SendRequest<Body> {
    let io = TokioIo::new(connect(&gateway.url).await);
    let (sender, connection) = http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut http1::SendRequest<Body>, request: Request<Body>) -> Answer {
    soon("a connection that is ready", sender.ready()).await.unwrap();
    Answer::read(soon("an answer", sender.send_request(request)).await.unwrap()).await
}

#[tokio::test]
async fn a_few_connections_are_served_by_all_loops() {
    let (url, go_on, _, mut arrivals) = held().await;
    let mut gateway = start(&url, "", "threads = 2\n").await;
    let mut senders = Vec::new();
    for _ in 0..4 {
        let mut sender = kept(&gateway).await;
        let running = tokio::spawn(sender.send_request(request()));
        soon("a request at the backend", arrivals.recv()).await;
        senders.push((sender, running));
    }
    assert_eq!(gauge(&mut gateway, "gateway_loop_connections").await, [2, 2]);
    assert_eq!(gauge(&mut gateway, "gateway_loop_requests").await, [2, 2]);
    gateway.signal("TERM").await;
    gateway.stderr.line(&["stopping"]).await;
    go_on.send(true).unwrap();
    for (_, running) in senders {
        assert_eq!(Answer::read(soon("an answer", running).await.unwrap().unwrap()).await.status, 200);
    }
    assert_eq!(gateway.ended().await.code(), Some(0), "every loop has finished what it ran");
}

#[tokio::test]
async fn one_connection_of_http2_is_work_for_all_loops() {
    const REQUESTS: usize = 60;
    let (url, go_on, _, mut arrivals) = held().await;
    let mut gateway = start(&url, "", "threads = 2\n").await;
    let io = TokioIo::new(connect(&gateway.url).await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut running = Vec::new();
    for _ in 0..REQUESTS {
        running.push(tokio::spawn(sender.send_request(chat_request("http://gateway.example", KEY))));
    }
    for _ in 0..REQUESTS {
        soon("a request at the backend", arrivals.recv()).await;
    }
    let counts = gauge(&mut gateway, "gateway_loop_requests").await;
    assert_eq!(counts.iter().sum::<usize>(), REQUESTS);
    assert!(counts.iter().all(|count| *count >= REQUESTS / 3), "{counts:?}");
    go_on.send(true).unwrap();
    for running in running {
        assert_eq!(Answer::read(soon("an answer", running).await.unwrap().unwrap()).await.status, 200);
    }
    assert!(!gateway.stop().await.contains("panicked"));
}

#[tokio::test]
async fn loops_have_connections_of_their_own_unless_a_backend_takes_few() {
    for (of_backend, expected) in [("", 2), ("max_in_flight = 1\n", 1)] {
        let (url, go_on, connections, _arrivals) = held().await;
        go_on.send(true).unwrap();
        let gateway = start(&url, of_backend, "threads = 2\n").await;
        let (mut one, mut other) = (kept(&gateway).await, kept(&gateway).await);
        for round in 0..6 {
            let answer = ask(if round % 2 == 0 { &mut one } else { &mut other }, request()).await;
            assert_eq!(answer.status, 200);
            // Whatever was to be done for that answer is done when another loop, or the same, has served more.
            for sender in [&mut one, &mut other] {
                let mut nothing = request();
                *nothing.uri_mut() = Uri::from_static("/nothing");
                assert_eq!(ask(sender, nothing).await.status, 404);
            }
        }
        assert_eq!(connections.load(SeqCst), expected, "{of_backend}");
    }
}

#[tokio::test]
async fn as_many_loops_as_the_file_says() {
    let (url, ..) = held().await;
    for (threads, expected) in [(1, 1), (3, 3)] {
        let mut gateway = start(&url, "", &format!("threads = {threads}\n")).await;
        let page = get(format!("{}/metrics", gateway.admin().await)).await.text();
        assert_eq!(page.matches("gateway_loop_connections{").count(), expected);
    }
}
