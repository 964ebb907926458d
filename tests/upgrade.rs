//! WebSockets through the whole stack, between real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/http.rs"]
mod http_support;
#[path = "support/mod.rs"]
mod support;
#[path = "support/websocket.rs"]
mod websocket;

use std::convert::Infallible;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::handshake::client::Response as Accepted;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::client::HttpClient;
use tower_azure_openai::context::{Client, Handshake};
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::gateway;
use tower_azure_openai::pool::{Backend, CircuitConfig, Credential, Deployment, Pool};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment, SimulatedServer};
use tower_azure_openai::upgrade::{Connections, UpgradeLayer};

use http_support::{Answer, connect, send, serve, soon};
use websocket::{CLASSIC, Socket, V1, all, close, is_echoed, next};

const KEY: &str = "key-of-the-client";

async fn simulated(name: &str) -> (SimulatedBackend, SimulatedServer) {
    let backend = SimulatedBackend::builder(name)
        .api_key(format!("key-of-{name}"))
        .deployment(SimulatedDeployment::standard("gpt-4o"))
        .build();
    let server = backend.serve().await.unwrap();
    (backend, server)
}

fn backend(name: &str, url: impl Into<String>, priority: u32) -> Backend {
    Backend::new(name, url)
        .credential(Credential::api_key(format!("key-of-{name}")).unwrap())
        .priority(priority)
        .add_deployment(Deployment::new("gpt-4o"))
}

/// A gateway on a socket, in front of the backends at these places.
struct Front {
    url: String,
    pool: Pool,
    connections: Connections,
}

impl Front {
    async fn of(urls: &[(&str, String)]) -> Self {
        let described = urls.iter().zip(0..).map(|((name, url), priority)| backend(name, url, priority));
        Self::before(described.fold(Pool::builder(), |pool, backend| pool.add_backend(backend)).build().unwrap()).await
    }

    async fn before(pool: Pool) -> Self {
        Self::serving(pool, Client::new("team")).await
    }

    async fn serving(pool: Pool, client: Client) -> Self {
        let upgrade = UpgradeLayer::new();
        let connections = upgrade.connections();
        let clients = ClientRegistry::builder().add_key(client, KEY).build().unwrap();
        let gateway = gateway::builder(pool.clone(), TerminateCredentialsLayer::new(clients))
            .upgrade(upgrade)
            .build(HttpClient::builder().build().unwrap());
        let url = serve(move |request: Request<Incoming>| {
            let gateway = gateway.clone();
            async move { gateway.oneshot(request).await.unwrap() }
        })
        .await;
        Self { url, pool, connections }
    }

    /// A connection with the client's key and these headers.
    async fn open(&self, path: &str, headers: &[(&'static str, &str)]) -> (Socket, Accepted) {
        self.try_open(path, &[&[("api-key", KEY)], headers].concat()).await.unwrap()
    }

    async fn try_open(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<(Socket, Accepted), Error> {
        websocket::open(&self.url, path, headers).await
    }

    fn in_flight(&self) -> u32 {
        self.pool.status().backends.iter().map(|backend| backend.in_flight).sum()
    }

    fn failures(&self) -> u64 {
        self.pool.status().backends.iter().map(|backend| backend.deployments[0].failures).sum()
    }

    async fn becomes_idle(&self) {
        soon("the end of all connections", self.connections.closed()).await;
        assert_eq!((self.connections.count(), self.in_flight()), (0, 0));
    }
}

/// A handshake as an HTTP request, for answers that are none.
fn handshake(url: &str) -> Request<Body> {
    websocket::handshake(url, KEY)
}

#[tokio::test]
async fn messages_are_echoed_on_both_surfaces() {
    let (east, server) = simulated("east").await;
    let front = Front::of(&[("east", server.url())]).await;
    for path in [CLASSIC, V1] {
        let (mut socket, _) = front.open(path, &[]).await;
        is_echoed(&mut socket, Message::text("hällo")).await;
        is_echoed(&mut socket, Message::binary(vec![1, 2, 3])).await;
        is_echoed(&mut socket, Message::text("x".repeat(300))).await;
        socket.send(Message::Ping("p".into())).await.unwrap();
        assert_eq!(next(&mut socket).await.unwrap().unwrap(), Message::Pong("p".into()));
        assert_eq!((front.connections.count(), front.in_flight(), east.in_flight()), (1, 1, 1));
        close(socket).await;
        front.becomes_idle().await;
        soon("the end at the backend", east.wait_until_idle()).await;
    }
    assert_eq!((east.request_count(), front.failures()), (2, 0));
}

#[tokio::test]
async fn the_alias_of_the_query_is_judged_and_rewritten() {
    let (east, server) = simulated("east").await;
    let described = Backend::new("east", server.url())
        .credential(Credential::api_key("key-of-east").unwrap())
        .add_deployment(Deployment::new("gpt-4o").alias("voice"))
        .add_deployment(Deployment::new("other"));
    let client = Client::new("team").allow(["voice"]);
    let front = Front::serving(Pool::builder().add_backend(described).build().unwrap(), client).await;
    for path in ["/openai/v1/realtime?model=voice", "/openai/realtime?api-version=1&deployment=voice"] {
        let (mut socket, _) = front.open(path, &[]).await;
        is_echoed(&mut socket, Message::text("hello")).await;
        close(socket).await;
    }
    for path in ["/openai/v1/realtime?model=other", "/openai/v1/realtime"] {
        let Err(Error::Http(refused)) = front.try_open(path, &[("api-key", KEY)]).await else { panic!("{path}") };
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path}");
    }
    let queries: Vec<_> = east.requests().iter().map(|request| request.uri.query().unwrap().to_owned()).collect();
    assert_eq!(queries, ["model=gpt-4o", "api-version=1&deployment=gpt-4o"]);
}

#[tokio::test]
async fn two_layers_carry_a_connection_once() {
    let (_east, server) = simulated("east").await;
    let pool = Pool::builder().add_backend(backend("east", server.url(), 0)).build().unwrap();
    let outer = UpgradeLayer::new();
    let connections = outer.connections();
    let gateway = gateway::builder(pool, TerminateCredentialsLayer::without_clients())
        .before_clients(outer)
        .build(HttpClient::builder().build().unwrap());
    let url = serve(move |request: Request<Incoming>| {
        let gateway = gateway.clone();
        async move { gateway.oneshot(request).await.unwrap() }
    })
    .await;
    let (mut socket, _) = websocket::open(&url, V1, &[]).await.unwrap();
    is_echoed(&mut socket, Message::text("hello")).await;
    assert_eq!(connections.count(), 1);
    close(socket).await;
    soon("the end of the connection", connections.closed()).await;
}

#[tokio::test]
async fn the_backend_gets_the_handshake_and_nothing_that_concerned_the_gateway() {
    let (east, server) = simulated("east").await;
    let front = Front::of(&[("east", server.url())]).await;
    let mut request = handshake(&format!("{}{V1}", front.url));
    for (name, value) in [
        ("connection", "keep-alive, x-private, Upgrade"),
        ("upgrade", "WebSocket, h2c"),
        ("x-private", "1"),
        ("x-forwarded-for", "1"),
        ("openai-beta", "x"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = soon("an answer", http_support::client().request(request)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(all(answer.headers(), "connection"), ["upgrade"]);
    assert_eq!(all(answer.headers(), "upgrade"), ["websocket"]);
    assert_eq!(all(answer.headers(), "sec-websocket-accept"), ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
    drop(answer);
    front.becomes_idle().await;
    let received = &east.requests()[0];
    assert_eq!((received.version, received.uri.to_string().as_str()), (Version::HTTP_11, V1));
    assert_eq!(all(&received.headers, "connection"), ["upgrade"]);
    assert_eq!(all(&received.headers, "upgrade"), ["websocket"]);
    assert_eq!(all(&received.headers, "sec-websocket-version"), ["13"]);
    assert_eq!(all(&received.headers, "sec-websocket-key").len(), 1);
    assert_eq!(all(&received.headers, "api-key"), ["key-of-east"]);
    assert_eq!(all(&received.headers, "openai-beta"), ["x"]);
    for name in ["x-private", "x-forwarded-for", "content-length", "transfer-encoding"] {
        assert!(!received.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn keys_of_every_form_authenticate_and_go_no_further() {
    let (east, server) = simulated("east").await;
    let front = Front::of(&[("east", server.url())]).await;
    let in_query = |name: &str, key: &str| format!("{CLASSIC}&{name}={key}");
    let protocols = |key: &str| format!("realtime, openai-insecure-api-key.{key}, openai-beta.realtime-v1");
    for (key, accepted) in [(KEY, true), ("wrong", false)] {
        let bearer = format!("Bearer {key}");
        let browser = protocols(key);
        for (path, headers) in [
            (CLASSIC.to_owned(), vec![("api-key", key)]),
            (CLASSIC.to_owned(), vec![("authorization", bearer.as_str())]),
            (in_query("api-key", key), vec![]),
            (in_query("subscription-key", key), vec![]),
            (V1.to_owned(), vec![("sec-websocket-protocol", browser.as_str())]),
        ] {
            east.clear_requests();
            match front.try_open(&path, &headers).await {
                Ok((socket, answer)) => {
                    assert!(accepted, "{path} {headers:?}");
                    let chosen = answer.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
                    assert_eq!(chosen.is_some(), path == V1);
                    close(socket).await;
                    let received = &east.requests()[0];
                    assert_eq!(all(&received.headers, "api-key"), ["key-of-east"]);
                    let shown = format!("{} {:?}", received.uri, received.headers);
                    assert!(!shown.contains(KEY) && !shown.contains("insecure"), "{shown}");
                }
                Err(Error::Http(answer)) => {
                    assert_eq!((answer.status(), accepted), (StatusCode::UNAUTHORIZED, false), "{path} {headers:?}");
                    assert_eq!(east.request_count(), 0);
                }
                Err(error) => panic!("{path}: {error}"),
            }
        }
    }
    front.becomes_idle().await;
}

#[tokio::test]
async fn the_backend_chooses_among_the_subprotocols() {
    let (east, server) = simulated("east").await;
    let front = Front::of(&[("east", server.url())]).await;
    let (socket, answer) = front.open(V1, &[("sec-websocket-protocol", "first, realtime, last")]).await;
    assert_eq!(all(answer.headers(), "sec-websocket-protocol"), ["realtime"]);
    assert_eq!(all(&east.requests()[0].headers, "sec-websocket-protocol"), ["first, realtime, last"]);
    close(socket).await;
    let (socket, answer) = front.open(V1, &[]).await;
    assert!(!answer.headers().contains_key("sec-websocket-protocol"));
    close(socket).await;
}

#[tokio::test]
async fn a_refused_handshake_goes_to_the_next_backend() {
    for (case, fault) in [
        ("throttled", Some(Fault::throttled_for(Duration::from_secs(9)))),
        ("throttled without a hint", Some(Fault::throttled())),
        ("401", Some(Fault::status(401))),
        ("missing deployment", Some(Fault::status(404))),
        ("503", Some(Fault::status(503))),
        ("reset", Some(Fault::reset())),
        ("no listener", None),
    ] {
        let ((first, server), (second, other)) = (simulated("first").await, simulated("second").await);
        let front = Front::of(&[("first", server.url()), ("second", other.url())]).await;
        match &fault {
            Some(fault) => drop(first.faults().push(fault.clone())),
            None => server.stop().await,
        }
        let (mut socket, _) = front.open(V1, &[("sec-websocket-protocol", "realtime")]).await;
        is_echoed(&mut socket, Message::text("hello")).await;
        assert_eq!((first.request_count(), second.request_count()), (usize::from(fault.is_some()), 1), "{case}");
        for received in first.requests().iter().chain(&second.requests()) {
            assert_eq!(all(&received.headers, "upgrade"), ["websocket"], "{case}");
            assert_eq!(all(&received.headers, "sec-websocket-protocol"), ["realtime"], "{case}");
        }
        assert_eq!(first.requests().first().map(|received| all(&received.headers, "sec-websocket-key")), {
            let same = all(&second.requests()[0].headers, "sec-websocket-key");
            fault.is_some().then_some(same)
        });
        close(socket).await;
        front.becomes_idle().await;
    }
}

#[tokio::test]
async fn a_handshake_that_everybody_refuses_is_a_real_429() {
    let ((first, server), (second, other)) = (simulated("first").await, simulated("second").await);
    let front = Front::of(&[("first", server.url()), ("second", other.url())]).await;
    first.faults().always(Fault::throttled_for(Duration::from_secs(30)));
    second.faults().always(Fault::throttled_for(Duration::from_secs(20)));
    for _ in 0..2 {
        let answer = send(handshake(&format!("{}{V1}", front.url))).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        let wait: u64 = answer.header("retry-after-ms").unwrap().parse().unwrap();
        assert!((1..=20_000).contains(&wait), "{wait}");
        assert!(answer.header("retry-after").is_some());
        assert!(answer.header("upgrade").is_none());
        assert!(answer.json()["error"]["code"].is_string());
    }
    assert_eq!((first.request_count(), second.request_count()), (1, 1), "the circuits are open");
    front.becomes_idle().await;
}

#[tokio::test]
async fn other_answers_to_a_handshake_pass() {
    let (east, server) = simulated("east").await;
    let front = Front::of(&[("east", server.url())]).await;
    east.faults().push(Fault::status(400).body("not so").header("x-mine", "kept"));
    let answer = send(handshake(&format!("{}{V1}", front.url))).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::BAD_REQUEST, "not so"));
    assert_eq!(answer.header("x-mine"), Some("kept"));
    front.becomes_idle().await;
}

#[tokio::test]
async fn a_connection_counts_against_max_in_flight_until_it_ends() {
    let (east, server) = simulated("east").await;
    let limited = backend("east", server.url(), 0).max_in_flight(1);
    let front = Front::before(Pool::builder().add_backend(limited).build().unwrap()).await;
    let (socket, _) = front.open(V1, &[]).await;
    assert_eq!(send(handshake(&format!("{}{V1}", front.url))).await.status, StatusCode::TOO_MANY_REQUESTS);
    close(socket).await;
    front.becomes_idle().await;
    let (socket, _) = front.open(V1, &[]).await;
    close(socket).await;
    assert_eq!(east.request_count(), 2);
}

mod ending {
    use super::*;

    /// A backend whose only word is this.
    async fn speaker<F>(speak: impl Fn(Socket) -> F + Send + Sync + 'static) -> String
    where
        F: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                speak(accept_async(stream).await.unwrap()).await;
            }
        });
        url
    }

    #[tokio::test]
    async fn with_the_backends_closing_frame() {
        let url = speaker(|mut socket| async move {
            let frame = CloseFrame { code: CloseCode::Policy, reason: "enough".into() };
            socket.close(Some(frame)).await.unwrap();
            while socket.next().await.is_some_and(|message| message.is_ok()) {}
        })
        .await;
        let front = Front::of(&[("east", url)]).await;
        let (mut socket, _) = front.open(V1, &[]).await;
        let Message::Close(Some(frame)) = next(&mut socket).await.unwrap().unwrap() else { panic!("a closing frame") };
        assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Policy, "enough"));
        assert!(next(&mut socket).await.is_none());
        drop(socket);
        front.becomes_idle().await;
        assert_eq!(front.failures(), 0);
    }

    #[tokio::test]
    async fn with_a_client_that_leaves() {
        for reset in [false, true] {
            let (east, server) = simulated("east").await;
            let front = Front::of(&[("east", server.url())]).await;
            let (mut socket, _) = front.open(V1, &[]).await;
            is_echoed(&mut socket, Message::text("hello")).await;
            if reset {
                socket.get_ref().set_zero_linger().unwrap();
            }
            drop(socket);
            front.becomes_idle().await;
            soon("the end at the backend", east.wait_until_idle()).await;
            assert_eq!(front.failures(), 0, "nobody's failure");
        }
    }

    #[tokio::test]
    async fn with_a_backend_that_dies() {
        let (_east, server) = simulated("east").await;
        let front = Front::of(&[("east", server.url())]).await;
        let (mut socket, _) = front.open(V1, &[]).await;
        is_echoed(&mut socket, Message::text("hello")).await;
        server.stop().await;
        assert!(next(&mut socket).await.is_none_or(|message| message.is_err()));
        front.becomes_idle().await;
    }

    #[tokio::test]
    async fn of_a_client_that_leaves_during_the_handshake() {
        let (east, server) = simulated("east").await;
        let front = Front::of(&[("east", server.url())]).await;
        east.faults().push(Fault::hang());
        let opening = tokio::spawn(http_support::client().request(handshake(&format!("{}{V1}", front.url))));
        soon("the handshake at the backend", east.wait_for_requests(1)).await;
        opening.abort();
        soon("the end at the backend", east.wait_until_idle()).await;
        front.becomes_idle().await;
    }

    #[tokio::test]
    async fn with_a_reason_when_the_gateway_leaves() {
        let (east, server) = simulated("east").await;
        let front = Front::of(&[("east", server.url())]).await;
        let (mut standing, _) = front.open(V1, &[]).await;
        is_echoed(&mut standing, Message::text("hello")).await;
        // These have not said yet what they are for.
        let (mut silent, _) = front.open("/openai/v1/responses", &[]).await;
        front.connections.close(&"leaving ä".repeat(20));
        for socket in [&mut standing, &mut silent] {
            let Message::Close(Some(frame)) = next(socket).await.unwrap().unwrap() else { panic!("a closing frame") };
            assert_eq!(frame.code, CloseCode::Away);
            assert!(frame.reason.starts_with("leaving ä") && frame.reason.len() <= 123, "{}", frame.reason);
            assert!(next(socket).await.is_none());
        }
        front.becomes_idle().await;
        soon("the end at the backend", east.wait_until_idle()).await;
        assert_eq!(front.failures(), 0);
    }

    #[tokio::test]
    async fn is_waited_for() {
        let (_east, server) = simulated("east").await;
        let front = Front::of(&[("east", server.url())]).await;
        soon("no connection", front.connections.closed()).await;
        let (first, _) = front.open(V1, &[]).await;
        let (second, _) = front.open(V1, &[]).await;
        let mut closed = tokio_test::task::spawn(front.connections.closed());
        assert!(closed.poll().is_pending());
        close(first).await;
        assert!(closed.poll().is_pending());
        assert!(format!("{:?}", front.connections).contains("count"));
        close(second).await;
        soon("the end of both", closed).await;
        assert_eq!((front.connections.count(), front.in_flight()), (0, 0));
    }
}

#[tokio::test]
async fn a_mebibyte_goes_both_ways_past_a_slow_reader() {
    let (east, server) = simulated("east").await;
    let front = Front::of(&[("east", server.url())]).await;
    let (socket, _) = front.open(V1, &[]).await;
    let whole: Vec<u8> = (0..1_u32 << 20).map(|n| (n % 251) as u8).collect();
    let (mut write, mut read) = socket.split();
    let sent: Vec<_> = [whole.clone(), whole].concat().chunks(10_000).map(Bytes::copy_from_slice).collect();
    let sending = tokio::spawn({
        let sent = sent.clone();
        async move {
            for message in sent {
                write.send(Message::Binary(message)).await.unwrap();
            }
            write
        }
    });
    for expected in &sent {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(soon("a message", read.next()).await.unwrap().unwrap().into_data() == *expected);
    }
    close(read.reunite(sending.await.unwrap()).unwrap()).await;
    front.becomes_idle().await;
    soon("the end at the backend", east.wait_until_idle()).await;
}

#[tokio::test]
async fn nothing_is_left_of_a_hundred_clients_that_leave_as_they_like() {
    let ((first, server), (second, other)) = (simulated("first").await, simulated("second").await);
    let limited = backend("first", server.url(), 0).max_in_flight(50);
    let pool = Pool::builder().add_backend(limited).add_backend(backend("second", other.url(), 1));
    let front = Front::before(pool.build().unwrap()).await;
    let clients = (0..100).map(async |n| {
        let (mut socket, _) = front.open(V1, &[]).await;
        for _ in 0..n % 7 {
            is_echoed(&mut socket, "x".repeat(n * 100)).await;
        }
        match n % 4 {
            0 => close(socket).await,
            1 => socket.send(Message::text("unheard")).await.unwrap(),
            2 => socket.get_ref().set_zero_linger().unwrap(),
            _ => {}
        }
    });
    futures_util::future::join_all(clients).await;
    front.becomes_idle().await;
    soon("the end at the backends", async { tokio::join!(first.wait_until_idle(), second.wait_until_idle()) }).await;
    assert_eq!((first.request_count() + second.request_count(), front.failures()), (100, 0));
}

#[tokio::test]
async fn what_comes_with_the_handshake_belongs_to_the_connection() {
    let (_east, server) = simulated("east").await;
    let front = Front::of(&[("east", server.url())]).await;
    let head = format!(
        "GET {V1} HTTP/1.1\r\nhost: gateway.example\r\napi-key: {KEY}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut client = connect(&front.url).await;
    client.write_all(&[head.as_bytes(), b"\x82\x81\x00\x00\x00\x00x"].concat()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n\x82\x01x") {
        answer.push(soon("the echo", client.read_u8()).await.unwrap());
    }
    client.write_all(b"\x88\x80\x00\x00\x00\x00").await.unwrap();
    soon("the end", client.read_to_end(&mut answer)).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    assert!(text.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{text}");
    assert!(answer.ends_with(b"\r\n\r\n\x82\x01x\x88\x00"), "{text:?}");
}

mod not_carried {
    use super::*;

    #[tokio::test]
    async fn an_upgrade_elsewhere_or_to_something_else() {
        let (east, server) = simulated("east").await;
        let front = Front::of(&[("east", server.url())]).await;
        let elsewhere =
            ["/openai/v1/files", "/openai/v1/responses/resp_1", "/openai/v1/realtime/calls", "/openai/v1/real%74ime"];
        let mut requests: Vec<_> = elsewhere.iter().map(|path| handshake(&format!("{}{path}", front.url))).collect();
        let changes: [fn(&mut Request<Body>); 4] = [
            |request| *request.method_mut() = Method::POST,
            |request| drop(request.headers_mut().insert("upgrade", "h2c".parse().unwrap())),
            |request| drop(request.headers_mut().insert("connection", "close".parse().unwrap())),
            |request| *request.body_mut() = Body::from("\x01"),
        ];
        requests.extend(changes.map(|change| {
            let mut request = handshake(&format!("{}{V1}", front.url));
            change(&mut request);
            request
        }));
        for request in requests {
            let asked = format!("{request:?}");
            east.clear_requests();
            let answer = send(request).await;
            assert_ne!(answer.status, StatusCode::SWITCHING_PROTOCOLS, "{asked}");
            let received = &east.requests()[0];
            assert!(!received.headers.contains_key("upgrade"), "{asked}");
            assert!(!received.headers.contains_key("connection"), "{asked}");
        }
        front.becomes_idle().await;
    }

    #[tokio::test]
    async fn a_101_that_leads_elsewhere() {
        for (headers, asks) in [
            ("connection: upgrade\r\nupgrade: websocket\r\n", false),
            ("connection: upgrade\r\nupgrade: h2c\r\n", true),
            ("", true),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
                stream.write_all(format!("HTTP/1.1 101 Switching\r\n{headers}\r\n").as_bytes()).await.unwrap();
                drop(stream.read(&mut [0]).await);
            });
            let front = Front::of(&[("east", url)]).await;
            let mut request = handshake(&format!("{}{V1}", front.url));
            if !asks {
                request.headers_mut().remove("upgrade");
            }
            let answer = send(request).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::BAD_GATEWAY, "backend_failed"),
                "{headers}"
            );
            front.becomes_idle().await;
        }
    }
}

/// A service that switches protocols, or breaks, below selection and perhaps a circuit.
fn switching(pool: Pool, with_circuit: bool) -> support::Service {
    let switch = service_fn(async |request: Request<Body>| {
        if request.headers().contains_key("x-fail") {
            return Err(BoxError::from("broken"));
        }
        Ok(support::answer(101))
    });
    let (select, forward) = (SelectBackendLayer::new(pool), ForwardLayer::new().headers(["x-fail"]).unwrap());
    if with_circuit {
        let stack = ServiceBuilder::new().map_response(boxed).layer(select).layer(forward);
        support::Service::new(stack.service(switch))
    } else {
        support::Service::new(ServiceBuilder::new().map_response(boxed).layer(select).layer(forward).service(switch))
    }
}

fn boxed<B>(answer: Response<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    answer.map(Body::new)
}

#[tokio::test(start_paused = true)]
async fn the_body_of_a_101_holds_the_guards_and_its_end_is_the_outcome() {
    for with_circuit in [true, false] {
        let mut circuit = CircuitConfig::default();
        circuit.consecutive_failures = 1;
        // Nothing but a refused connection opens the last one.
        let pool = Pool::builder()
            .circuit(circuit)
            .add_backend(backend("east", "https://east.example", 0))
            .add_backend(backend("west", "https://west.example", 1))
            .build()
            .unwrap();
        let service = switching(pool.clone(), with_circuit);
        let state = || (pool.status().backends[0].in_flight, pool.status().backends[0].deployments[0].circuit);
        let request = || Request::get(support::CHAT);
        let open = async || {
            let answer = service.clone().oneshot(request().body(Body::empty()).unwrap()).await.unwrap();
            assert!(!http_body::Body::is_end_stream(answer.body()));
            answer
        };
        let answer = open().await;
        assert_eq!(state(), (1, "closed"));
        drop(answer);
        assert_eq!(state(), (0, "closed"));
        if !with_circuit {
            assert_eq!(support::bytes(open().await).await, "");
            assert_eq!(state(), (0, "closed"));
            continue;
        }

        let broken = request().header("x-fail", "1").body(Body::empty()).unwrap();
        assert!(service.clone().oneshot(broken).await.is_err());
        assert_eq!(state(), (0, "open"));
        tokio::time::advance(Duration::from_secs(10)).await;
        drop(open().await);
        assert_eq!(state(), (0, "half-open"), "what was cut off teaches nothing");
        tokio::time::advance(Duration::from_secs(10)).await;
        let answer = open().await;
        assert_eq!(state(), (1, "half-open"));
        assert_eq!(support::bytes(answer).await, "");
        assert_eq!(state(), (0, "closed"), "what came to its end was a success");
    }
}

#[tokio::test]
async fn below_it_a_handshake_is_marked_only_where_there_is_a_connection_to_take() {
    let marked = service_fn(|request: Request<Body>| {
        let marked = request.extensions().get::<Handshake>().is_some();
        std::future::ready(Ok::<_, Infallible>(Response::new(Body::from(marked.to_string()))))
    });
    let service = ServiceBuilder::new().layer(RespondLayer::new()).layer(UpgradeLayer::new()).service(marked);
    let in_process = service.clone().oneshot(handshake(V1)).await.unwrap();
    assert_eq!(Answer::read(in_process).await.text(), "false");
    let url = serve(move |request: Request<Incoming>| {
        let service = service.clone();
        async move { service.oneshot(request.map(Body::new)).await.unwrap() }
    })
    .await;
    assert_eq!(send(handshake(&format!("{url}{V1}"))).await.text(), "true");
    assert_eq!(send(Request::get(format!("{url}{V1}")).body(Body::empty()).unwrap()).await.text(), "false");
}

#[tokio::test]
async fn keeps_the_readiness_contract() {
    support::assert_keeps_the_readiness_contract(&UpgradeLayer::new(), support::chat).await;
}

#[test]
fn what_it_offers_can_be_shared() {
    fn assert_shared<T: Clone + Send + Sync + std::fmt::Debug>(_: T) {}
    assert_shared(UpgradeLayer::new());
    assert_shared(UpgradeLayer::new().connections());
}
