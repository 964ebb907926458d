//! The client against servers on loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{WebSocketStream, accept_async};
use tower::{BoxError, ServiceExt};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::client::{Destination, HttpClient};
use tower_azure_openai::context::{AttemptFailed, Handshake};
use tower_azure_openai::pool::{Backend, Deployment, Pool};
use tower_azure_openai::{Error, ErrorKind};

/// A server that echoes the body and tells protocol and authority in headers.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicU32>,
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn server(tls: Option<TlsAcceptor>) -> Server {
    let (listener, address) = listen().await;
    let connections = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, SeqCst);
            match tls.clone() {
                None => drop(tokio::spawn(serve(tcp, None))),
                Some(tls) => drop(tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(tcp).await {
                        let sni = stream.get_ref().1.server_name().map(str::to_owned);
                        serve(stream, sni).await;
                    }
                })),
            }
        }
    });
    Server { address, connections }
}

async fn serve<S>(stream: S, sni: Option<String>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let echo = service_fn(move |request: Request<Incoming>| {
        let sni = sni.clone().unwrap_or_default();
        async move {
            let (parts, body) = request.into_parts();
            let authority = parts.uri.authority().map(ToString::to_string);
            let host = parts.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
            let answer = Response::builder()
                .header("x-version", format!("{:?}", parts.version))
                .header("x-host", authority.or(host).unwrap_or_default())
                .header("x-sni", sni);
            let body = body.collect().await.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
            Ok::<_, Infallible>(answer.body(Full::new(body)).unwrap())
        }
    });
    // A client that leaves in the middle is none of the server's business.
    drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), echo).await);
}

/// An acceptor for `contoso.example`, and the CA behind it as PEM.
fn tls() -> (TlsAcceptor, String) {
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["contoso.example".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), ca_pem)
}

fn client() -> HttpClient {
    HttpClient::builder().build().unwrap()
}

fn post(url: impl std::fmt::Display, body: impl Into<Body>) -> Request<Body> {
    Request::post(url.to_string()).body(body.into()).unwrap()
}

fn upload(frames: Vec<Result<&'static str, BoxError>>) -> Body {
    let frames = frames.into_iter().map(|frame| frame.map(|text| Frame::data(Bytes::from_static(text.as_bytes()))));
    Body::new(StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())))
}

/// Everything an error shows, to anybody.
fn shown(error: &(dyn StdError + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| (*error).source());
    chain.map(|error| format!("{error} {error:?}\n")).collect()
}

/// Reads one request head, writes `answer`, and closes; with unread bytes in the socket that is a reset.
async fn one_answer(answer: &'static str) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            read_head(&mut tcp).await;
            tcp.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

async fn read_head(tcp: &mut TcpStream) {
    let mut seen = Vec::new();
    while !seen.windows(4).any(|window| window == b"\r\n\r\n") && tcp.read_buf(&mut seen).await.unwrap() > 0 {}
}

#[tokio::test]
async fn connections_are_reused() {
    let server = server(None).await;
    let client = client();
    for _ in 0..5 {
        let answer = client.clone().oneshot(post(format_args!("http://{}/", server.address), "abc")).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "abc");
    }
    assert_eq!(server.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn any_body_of_bytes_is_sent() {
    let server = server(None).await;
    let (client, url) = (client(), format!("http://{}/", server.address));
    let whole = Request::post(&url).body("text".to_owned()).unwrap();
    let full = Request::post(&url).body(Full::new(Bytes::from("text"))).unwrap();
    let pieces = ["te", "xt"].map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
    let stream = Request::post(&url).body(StreamBody::new(futures_util::stream::iter(pieces))).unwrap();
    for answer in
        [client.clone().oneshot(whole).await, client.clone().oneshot(full).await, client.oneshot(stream).await]
    {
        assert_eq!(answer.unwrap().into_body().collect().await.unwrap().to_bytes(), "text");
    }
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let (listener, address) = listen().await;
    drop(listener);
    let failed = client().oneshot(post(format_args!("http://{address}/"), "abc")).await.unwrap_err();
    assert_eq!(failed.outcome(), Outcome::Unreachable);
    let shown = shown(&failed);
    assert!(shown.contains("connection refused") && !shown.contains("127.0.0.1"), "{shown}");
}

#[tokio::test]
async fn an_unknown_name_is_unreachable_and_not_told() {
    let failed = client().oneshot(post("https://secret-name.invalid/", "abc")).await.unwrap_err();
    assert_eq!(failed.outcome(), Outcome::Unreachable);
    let shown = shown(&failed);
    assert!(shown.contains("could not be resolved") && !shown.contains("secret-name"), "{shown}");
}

#[tokio::test]
async fn tls_with_its_own_ca_at_another_address_speaks_http2_under_its_own_name() {
    let (acceptor, ca_pem) = tls();
    let server = server(Some(acceptor)).await;
    let destination = Destination::new("https://contoso.example").address(server.address.to_string()).ca_pem(ca_pem);
    let client = HttpClient::builder().add_destination(destination).build().unwrap();
    let answer = client.oneshot(post("https://contoso.example/x", "abc")).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    for (name, expected) in [("x-version", "HTTP/2.0"), ("x-host", "contoso.example"), ("x-sni", "contoso.example")] {
        assert_eq!(answer.headers()[name], expected, "{name}");
    }
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "abc");
}

#[tokio::test]
async fn a_handshake_speaks_http1_over_a_connection_of_its_own() {
    let (acceptor, ca_pem) = tls();
    let server = server(Some(acceptor)).await;
    let destination = Destination::new("https://contoso.example").address(server.address.to_string()).ca_pem(ca_pem);
    let client = HttpClient::builder().add_destination(destination).build().unwrap();
    for connections in 1..=3 {
        let request = Request::get("https://contoso.example/").extension(Handshake).body(Body::empty()).unwrap();
        let answer = client.clone().oneshot(request).await.unwrap();
        assert_eq!(
            (answer.version(), &answer.headers()["x-version"]),
            (Version::HTTP_11, &"HTTP/1.1".parse().unwrap())
        );
        answer.into_body().collect().await.unwrap();
        assert_eq!(server.connections.load(SeqCst), connections);
    }
    let answer = client.oneshot(post("https://contoso.example/", "abc")).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2, "others are not concerned");
}

#[tokio::test]
async fn an_accepted_handshake_gives_the_connection() {
    let (acceptor, ca_pem) = tls();
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut socket = accept_async(acceptor.accept(tcp).await.unwrap()).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    });
    let destination = Destination::new("https://contoso.example").address(address.to_string()).ca_pem(ca_pem);
    let client = HttpClient::builder().add_destination(destination).build().unwrap();
    let request = Request::get("https://contoso.example/")
        .extension(Handshake)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut answer = client.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 101);
    let upgraded = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    socket.send("hello".into()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), "hello");
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn an_unknown_ca_is_unreachable_and_no_name_is_told() {
    let (acceptor, ca_pem) = tls();
    let server = server(Some(acceptor)).await;
    let at = |url: &str| Destination::new(url).address(server.address.to_string());
    let client = HttpClient::builder()
        .add_destination(at("https://contoso.example"))
        .add_destination(at("https://fabrikam.example").ca_pem(ca_pem))
        .build()
        .unwrap();
    for (url, why) in [
        ("https://contoso.example/", "the issuer of the certificate is not trusted"),
        ("https://fabrikam.example/", "the certificate is for another name"),
    ] {
        let failed = client.clone().oneshot(post(url, "abc")).await.unwrap_err();
        assert_eq!(failed.outcome(), Outcome::Unreachable);
        let shown = shown(&failed);
        assert!(shown.contains(why) && !shown.contains("contoso") && !shown.contains("fabrikam"), "{shown}");
    }
}

#[tokio::test]
async fn what_breaks_after_sending_is_a_reset() {
    for answer in ["", "HTTP/1.1 2", "no HTTP at all\r\n\r\n"] {
        let address = one_answer(answer).await;
        let failed = client().oneshot(post(format_args!("http://{address}/"), "abc")).await.unwrap_err();
        assert_eq!(failed.outcome(), Outcome::Reset, "{answer:?}: {failed:?}");
        assert!(!shown(&failed).contains("127.0.0.1"));
    }
}

#[tokio::test]
async fn a_cut_body_is_a_reset() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let address = one_answer(answer).await;
        let answer = client().oneshot(post(format_args!("http://{address}/"), "")).await.unwrap();
        let error = answer.into_body().collect().await.unwrap_err();
        assert_eq!(error.downcast_ref::<AttemptFailed>().unwrap().outcome(), Outcome::Reset);
    }
}

#[tokio::test]
async fn a_failed_upload_is_told_apart_over_http2_too() {
    let (acceptor, ca_pem) = tls();
    let secure = server(Some(acceptor)).await;
    let plain = server(None).await;
    let destination = Destination::new("https://contoso.example").address(secure.address.to_string()).ca_pem(ca_pem);
    let client = HttpClient::builder().add_destination(destination).build().unwrap();
    for url in ["https://contoso.example/".to_owned(), format!("http://{}/", plain.address)] {
        let broken = upload(vec![Ok("x"), Err(Error::new(ErrorKind::UploadFailed, "gone").into())]);
        let failed = client.clone().oneshot(post(url, broken)).await.unwrap_err();
        assert_eq!(failed.outcome(), Outcome::Abandoned);
        assert_eq!(Error::find(&failed).unwrap().message(), "gone");
    }
}

/// Interim heads, and after them an answer.
async fn talks(heads: usize, head: String) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        read_head(&mut tcp).await;
        // The client may have heard enough before the end.
        drop(tcp.write_all(head.repeat(heads).as_bytes()).await);
        drop(tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await);
        read_head(&mut tcp).await;
    });
    address
}

#[tokio::test]
async fn heads_that_do_not_count_are_heard_for_a_while_and_not_for_ever() {
    let processing = "HTTP/1.1 102 Processing\r\n\r\n".to_owned();
    let large = format!("HTTP/1.1 103 Early Hints\r\nlink: <{}>\r\n\r\n", "x".repeat(300 << 10));
    for (heads, head) in [(1, &processing), (1000, &processing), (20, &large)] {
        let url = format!("http://{}/", talks(heads, head.clone()).await);
        assert_eq!(client().oneshot(post(url, "{}")).await.unwrap().status(), 200, "{heads}");
    }
    let url = format!("http://{}/", talks(2_000_000, processing).await);
    let failed = client().oneshot(post(url, "{}")).await.unwrap_err();
    assert_eq!(failed.outcome(), Outcome::Reset);
    assert!(shown(&failed).contains("1xx"), "{}", shown(&failed));
}

/// Reads what a client of HTTP/2 sends, up to the head of its first request.
async fn read_http2_head(from: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let (mut seen, mut at) = (Vec::new(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len());
    loop {
        assert!(from.read_buf(&mut seen).await.unwrap() > 0);
        while let Some([a, b, c, kind, ..]) = seen.get(at..).filter(|frame| frame.len() >= 9) {
            if *kind == 1 {
                return;
            }
            at += 9 + u32::from_be_bytes([0, *a, *b, *c]) as usize;
        }
    }
}

/// A backend of HTTP/2 that sends so many heads of 103 and then an answer, frame by frame; gives how many of them were taken.
async fn talks_over_http2(acceptor: TlsAcceptor, heads: usize) -> (SocketAddr, tokio::task::JoinHandle<usize>) {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // `:status` is the eighth of the static table of RFC 7541, there with the value 200.
    const INTERIM: [u8; 14] = [0, 0, 5, 1, 4, 0, 0, 0, 1, 0x08, 3, b'1', b'0', b'3'];
    const ANSWER: [u8; 10] = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
    let (listener, address) = listen().await;
    let sent = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = tokio::io::split(acceptor.accept(tcp).await.unwrap());
        write.write_all(&SETTINGS).await.unwrap();
        read_http2_head(&mut read).await;
        tokio::spawn(async move { while read.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} });
        let (mut sent, hundred) = (0, INTERIM.repeat(100));
        while sent < heads {
            let more = 100.min(heads - sent);
            if write.write_all(&hundred[..more * INTERIM.len()]).await.is_err() {
                return sent;
            }
            sent += more;
        }
        drop(write.write_all(&ANSWER).await);
        drop(write.flush().await);
        sent
    });
    (address, sent)
}

#[tokio::test]
async fn heads_that_do_not_count_have_an_end_over_http2_too() {
    const MANY: usize = 5_000_000;
    for heads in [0, 1, 1000, MANY] {
        let (acceptor, ca_pem) = tls();
        let (address, sent) = talks_over_http2(acceptor, heads).await;
        let destination = Destination::new("https://contoso.example").address(address.to_string()).ca_pem(ca_pem);
        let client = HttpClient::builder().add_destination(destination).build().unwrap();
        let answered = client.oneshot(Request::get("https://contoso.example/").body(Body::empty()).unwrap()).await;
        match answered {
            Ok(answer) => assert!(answer.status() == 200 && heads < MANY, "{heads}"),
            Err(failed) => assert!(failed.outcome() == Outcome::Reset && heads == MANY, "{heads}: {}", shown(&failed)),
        }
        if heads == MANY {
            assert!(sent.await.unwrap() < MANY, "nobody listens to the end");
        }
    }
}

#[test]
fn every_problem_of_a_description_is_told_at_once() {
    let error = HttpClient::builder()
        .add_destination(Destination::new("contoso.example"))
        .add_destination(Destination::new("https://user:secret@contoso.example"))
        .add_destination(Destination::new("https://a.example").address("no address").ca_pem("no PEM"))
        .add_destination(Destination::new("https://b.example").ca_pem("-----BEGIN CERTIFICATE-----\n"))
        .build()
        .unwrap_err();
    let problems: Vec<_> = error.problems().collect();
    assert_eq!(problems.len(), 5, "{problems:#?}");
    assert!(problems[2..].iter().all(|problem| problem.contains(".example:443")), "{problems:#?}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn is_shared_between_tasks() {
    fn assert_service<T: Clone + Send + Sync + std::fmt::Debug>(_: &T) {}
    assert_service(&client());
}

/// What drives a connection has seen the end of an answer too, and the connection is idle.
async fn settled() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Sends requests from a runtime of its own, one after the other, and gives the runtime back.
fn sends(client: &HttpClient, requests: impl IntoIterator<Item = Request<Body>> + Send) -> tokio::runtime::Runtime {
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for request in requests {
                    let answer = client.clone().oneshot(request).await.unwrap();
                    answer.into_body().collect().await.unwrap();
                    settled().await;
                }
            });
            runtime
        });
        sending.join().unwrap()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_runtime_keeps_the_connections_that_it_opened() {
    let (server, client) = (server(None).await, client());
    let url = format!("http://{}/", server.address);
    let first = sends(&client, [post(&url, "1"), post(&url, "2")]);
    let second = sends(&client, [post(&url, "3"), post(&url, "4")]);
    assert_eq!(server.connections.load(SeqCst), 2);
    // What a runtime that is gone has left behind stands in nobody's way.
    first.shutdown_background();
    second.shutdown_background();
    assert_eq!(client.oneshot(post(&url, "5")).await.unwrap().status(), 200);
    assert_eq!(server.connections.load(SeqCst), 3);
}

#[tokio::test]
async fn connections_to_a_backend_that_takes_few_are_no_runtimes_own() {
    let (server, client) = (server(None).await, client());
    let url = format!("http://{}", server.address);
    let backend = Backend::new("east", &url).max_in_flight(1).add_deployment(Deployment::new("gpt-4o"));
    let pool = Pool::builder().add_backend(backend).build().unwrap();
    let target = pool.targets("gpt-4o").first().cloned();
    for (target, expected) in [(&target, 1), (&target, 1), (&None, 2), (&None, 2), (&target, 2)] {
        let mut request = post(&url, "1");
        if let Some(target) = target.clone() {
            request.extensions_mut().insert(target);
        }
        client.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap();
        settled().await;
        assert_eq!(server.connections.load(SeqCst), expected);
    }
}
