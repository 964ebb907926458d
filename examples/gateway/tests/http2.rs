//! Requests of HTTP/2 that no library sends, frame by frame.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower_azure_openai::testkit::SimulatedBackend;

use crate::http_support::{CHAT, HELLO, connect, soon};
use crate::process::Gateway;
use crate::{KEY, gateway_before, serve};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

type Fields<'a> = Vec<(&'a str, &'a [u8])>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as they are written, none of them in a table (RFC 7541 §6.2.3).
fn block(fields: &Fields<'_>) -> Vec<u8> {
    let text = |text: &[u8]| match u8::try_from(text.len()) {
        Ok(length) if length < 127 => [&[length], text].concat(),
        _ => [&[127, (text.len() - 127) as u8 | 0x80, ((text.len() - 127) >> 7) as u8], text].concat(),
    };
    fields.iter().flat_map(|(name, value)| [vec![0x10], text(name.as_bytes()), text(value)].concat()).collect()
}

fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*frame(SETTINGS, 0, 0, &[])].concat()
}

fn chat() -> Fields<'static> {
    vec![
        (":method", b"POST"),
        (":scheme", b"http"),
        (":authority", b"gateway.example"),
        (":path", CHAT.as_bytes()),
        ("api-key", KEY.as_bytes()),
        ("content-type", b"application/json"),
    ]
}

/// The usual request with one field of another value, or without it.
fn with(name: &'static str, value: Option<&'static [u8]>) -> Fields<'static> {
    let fields =
        chat().into_iter().filter_map(|field| if field.0 == name { Some((name, value?)) } else { Some(field) });
    fields.collect()
}

fn and(name: &'static str, value: &'static [u8]) -> Fields<'static> {
    chat().into_iter().chain([(name, value)]).collect()
}

fn first(name: &'static str, value: &'static [u8]) -> Fields<'static> {
    [(name, value)].into_iter().chain(chat()).collect()
}

fn request(stream: u32, fields: &Fields<'_>, body: &[u8]) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, &block(fields)), frame(DATA, END_STREAM, stream, body)].concat()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Served,
    /// Another status.
    Refused,
    Reset,
    /// The connection is over.
    Closed,
}

/// What becomes of the first stream.
async fn end(stream: &mut TcpStream) -> End {
    loop {
        let mut head = [0; 9];
        if soon("a frame", stream.read_exact(&mut head)).await.is_err() {
            return End::Closed;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if soon("its payload", stream.read_exact(&mut payload)).await.is_err() {
            return End::Closed;
        }
        match (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]])) {
            // Index 8 of the static table is `:status: 200`.
            (HEADERS, 1) => return if payload[0] == 0x88 { End::Served } else { End::Refused },
            (RESET, 1) => return End::Reset,
            (GO_AWAY, _) => return End::Closed,
            _ => {}
        }
    }
}

async fn sends(gateway: &Gateway, bytes: &[u8]) -> End {
    let mut stream = connect(&gateway.url).await;
    // Whoever has seen enough closes while bytes still come.
    drop(stream.write_all(&[preface(), bytes.to_vec()].concat()).await);
    end(&mut stream).await
}

async fn is_not_served(east: &SimulatedBackend, gateway: &Gateway, what: &str, bytes: &[u8]) {
    let end = sends(gateway, bytes).await;
    assert_ne!(end, End::Served, "{what}");
    assert_eq!(east.request_count(), 0, "{what}: {end:?}");
}

#[tokio::test]
async fn fields_that_http1_would_read_otherwise_are_refused() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let tables = [
        // RFC 9113 §8.2.2: fields of one connection.
        and("connection", b"keep-alive"),
        and("connection", b"close, x-hop"),
        and("keep-alive", b"1"),
        and("proxy-connection", b"close"),
        and("transfer-encoding", b"chunked"),
        and("transfer-encoding", b"identity"),
        and("upgrade", b"h2c"),
        and("te", b"gzip"),
        // §8.2.1: what is no field's name or value.
        and("Content-Type", b"application/json"),
        and("x-a\r\nx-b", b"1"),
        and("x-a: 1\r\nx-b", b"1"),
        and("x a", b"1"),
        and("x:a", b"1"),
        and("", b"1"),
        and("x-a", b"1\r\nx-b: 2"),
        and("x-a", b"1\nx-b: 2"),
        and("x-a", b"1\0"),
        // §8.3: fields of the request line.
        and(":path", b"/openai/v1/models"),
        first(":path", b"/openai/v1/models"),
        first(":method", b"GET"),
        first(":authority", b"other.example"),
        first("x-a", b"1"),
        and(":status", b"200"),
        first(":unknown", b"1"),
        with(":method", None),
        with(":path", None),
        with(":path", Some(b"")),
        with(":path", Some(b"openai/deployments/gpt-4o/chat/completions")),
        with(":path", Some(b"*")),
        with(":path", Some(b"/openai/v1/models HTTP/1.1\r\nx-a: 1")),
        with(":path", Some(b"/openai/deployments/gpt-4o/chat/completions x")),
        with(":path", Some(b"/openai/deployments/gpt-4o/../x/chat/completions")),
        with(":path", Some(b"/openai/deployments/gpt-4o/%2e%2E/x/chat/completions")),
        with(":path", Some(b"//openai//deployments/gpt-4o/chat/completions")),
        with(":path", Some(b"/openai/deployments/gpt-4o%00/chat/completions")),
        with(":method", Some(b"POST / HTTP/1.1\r\nx-a: 1\r\n\r\nPOST")),
        with(":method", Some(b"PO ST")),
        with(":method", Some(b"")),
        with(":method", Some(b"TRACE")),
        with(":method", Some(b"CONNECT")),
        with(":scheme", Some(b"http://other.example/?")),
        with(":authority", Some(b"gateway.example\r\nx-a: 1")),
        with(":authority", Some(b"user@gateway.example")),
        with(":authority", Some(b"gateway.example/x")),
        with(":authority", Some(b"gateway example")),
        and("host", b"other.example"),
        // What is ambiguous in HTTP/1.1 is so here.
        and("api-key", b"another key"),
        and("content-length", b"44, 45"),
        and("content-length", b"+45"),
        and("content-length", b"0x2d"),
        and("api_key", b"another key"),
    ];
    for fields in tables {
        let shown: Vec<_> = fields.iter().map(|(name, value)| (*name, String::from_utf8_lossy(value))).collect();
        is_not_served(&east, &gateway, &format!("{shown:?}"), &request(1, &fields, HELLO.as_bytes())).await;
    }
    assert_eq!(sends(&gateway, &request(1, &chat(), HELLO.as_bytes())).await, End::Served);
    assert_eq!(east.requests().pop().unwrap().body, HELLO);
    gateway.is_well().await;
}

#[tokio::test]
async fn a_length_that_is_not_that_of_the_body_is_refused() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let (shorter, longer) = ((HELLO.len() - 1).to_string(), (HELLO.len() + 1).to_string());
    for length in ["0", "1", &shorter, &longer, "1000", "18446744073709551615", "99999999999999999999"] {
        let fields: Fields<'_> = chat().into_iter().chain([("content-length", length.as_bytes())]).collect();
        is_not_served(&east, &gateway, length, &request(1, &fields, HELLO.as_bytes())).await;
    }
    let ends = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&and("content-length", b"45")));
    is_not_served(&east, &gateway, "no body at all", &ends).await;
    let twice: Fields<'_> =
        chat().into_iter().chain([("content-length", &b"45"[..]), ("content-length", b"46")]).collect();
    is_not_served(&east, &gateway, "two lengths", &request(1, &twice, HELLO.as_bytes())).await;
    gateway.is_well().await;
}

#[tokio::test]
async fn trailers_are_no_second_head() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let trailed = |fields: &Fields<'_>| {
        [
            frame(HEADERS, END_HEADERS, 1, &block(&chat())),
            frame(DATA, 0, 1, HELLO.as_bytes()),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields)),
        ]
        .concat()
    };
    let tables: [Fields<'_>; 4] = [
        vec![(":path", b"/openai/v1/models"), (":method", b"GET")],
        vec![("connection", b"x"), ("transfer-encoding", b"chunked")],
        vec![("api-key", b"another key"), ("host", b"other.example"), ("content-length", b"3")],
        vec![("x-ms-oai-image-generation-deployment", b"o3"), ("authorization", b"Bearer another")],
    ];
    for fields in tables {
        let (before, end) = (east.request_count(), sends(&gateway, &trailed(&fields)).await);
        assert_eq!(east.request_count() - before, usize::from(end == End::Served), "{end:?}");
        let Some(received) = east.requests().pop() else { continue };
        let (method, uri, body) = (received.method.as_str(), received.uri.to_string(), received.body);
        assert_eq!((method, uri.as_str(), body), ("POST", CHAT, HELLO.into()), "as the first head says");
        assert_eq!(received.headers.get_all("api-key").iter().collect::<Vec<_>>(), ["key-of-east"]);
        for name in ["x-ms-oai-image-generation-deployment", "authorization", "transfer-encoding"] {
            assert!(!received.headers.contains_key(name), "{name}");
        }
    }
    gateway.is_well().await;
}

#[tokio::test]
async fn frames_out_of_their_order_end_the_connection() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let head = block(&chat());
    let (one, two) = head.split_at(head.len() / 2);
    for (what, bytes) in [
        ("data of no stream", frame(DATA, END_STREAM, 1, b"{}")),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &head)),
        (
            "a frame inside of a head",
            [frame(HEADERS, END_STREAM, 1, one), frame(PING, 0, 0, &[0; 8]), frame(CONTINUATION, END_HEADERS, 1, two)]
                .concat(),
        ),
        (
            "the head of another stream inside",
            [frame(HEADERS, END_STREAM, 1, one), request(3, &chat(), HELLO.as_bytes())].concat(),
        ),
        ("a stream of a server's number", request(2, &chat(), HELLO.as_bytes())),
        ("stream 0", request(0, &chat(), HELLO.as_bytes())),
        ("a frame that is too large", frame(HEADERS, END_HEADERS, 1, &[0; 17_000])),
        ("a head that cannot be read", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 20])),
        ("padding longer than the frame", frame(HEADERS, END_HEADERS | 8, 1, &[200, 0, 0])),
    ] {
        let end = sends(&gateway, &bytes).await;
        assert_eq!(end, End::Closed, "{what}");
        assert_eq!(east.request_count(), 0, "{what}");
    }
    gateway.is_well().await;
}

#[tokio::test]
async fn floods_of_frames_end_the_connection_that_sends_them() {
    const MANY: usize = 30_000;
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let resets = |stream: usize| {
        let stream = u32::try_from(2 * stream + 1).unwrap();
        [frame(HEADERS, END_HEADERS, stream, &block(&chat())), frame(RESET, 0, stream, &[0, 0, 0, 8])].concat()
    };
    let endless_head = [frame(HEADERS, END_STREAM, 1, &[]), frame(CONTINUATION, 0, 1, &[]).repeat(MANY)].concat();
    for (what, bytes) in [
        ("streams that are reset at once", (0..MANY).flat_map(resets).collect()),
        ("a head without an end", endless_head),
    ] {
        let mut stream = connect(&gateway.url).await;
        drop(soon(what, stream.write_all(&[preface(), bytes].concat())).await);
        soon(what, async {
            let mut rest = [0; 4096];
            while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        assert_eq!(sends(&gateway, &request(1, &chat(), HELLO.as_bytes())).await, End::Served, "{what}");
    }
    assert!(east.requests().iter().all(|request| request.body == HELLO));
    gateway.becomes_idle_and_has_learnt_nothing().await;
}

/// HTTP/1.1 §3.9.2 of old, which nobody needs: a second way to begin.
#[tokio::test]
async fn an_upgrade_to_http2_is_not_taken() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: gateway.example\r\napi-key: {KEY}\r\ncontent-type: application/json\r\n\
         connection: upgrade, http2-settings, close\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\
         content-length: {}\r\n\r\n{HELLO}",
        HELLO.len()
    );
    let mut stream = connect(&gateway.url).await;
    stream.write_all(&[request.into_bytes(), preface()].concat()).await.unwrap();
    let mut answer = Vec::new();
    drop(soon("the end of the connection", stream.read_to_end(&mut answer)).await);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    let received = east.requests().pop().unwrap();
    assert!(!received.headers.contains_key("upgrade") && !received.headers.contains_key("http2-settings"));
    gateway.is_well().await;
}
