//! Answers of backends that are no HTTP, or could be read in two ways: nobody takes a part of them for a whole, and nothing of one is left
//! for the next.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::KEY;
use crate::http_support::{HELLO, chat, chat_head, raw};
use crate::process::{self, Gateway, LISTEN};

const WELL: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"well\":1}\n";

/// A backend that says what it is told to, and keeps its connections open where `stays`.
#[derive(Clone)]
struct Parrot {
    says: Arc<Mutex<(Vec<u8>, bool)>>,
    url: String,
}

impl Parrot {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let parrot = Self { says: Arc::default(), url };
        let says = parrot.says.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let says = says.clone();
                tokio::spawn(async move {
                    let mut seen = Vec::new();
                    while stream.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {
                        if !seen.ends_with(HELLO.as_bytes()) {
                            continue;
                        }
                        seen.clear();
                        let (answer, stays) = says.lock().unwrap().clone();
                        if stream.write_all(&answer).await.is_err() || !stays {
                            return;
                        }
                    }
                });
            }
        });
        parrot
    }

    fn says(&self, answer: impl Into<Vec<u8>>, stays: bool) {
        *self.says.lock().unwrap() = (answer.into(), stays);
    }
}

/// What a client gets that closes behind the answer.
#[derive(Debug, PartialEq)]
enum Got {
    /// The whole of it, with this status and body.
    All(u16, String),
    /// Less than it says of itself, or nothing.
    Part,
}

fn all(status: u16, body: &str) -> Got {
    Got::All(status, body.to_owned())
}

fn got(answer: &str) -> Got {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return Got::Part };
    let status = head[9..12].parse().unwrap();
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let body = match (header("content-length"), header("transfer-encoding")) {
        (Some(length), _) if length.parse() != Ok(body.len()) => return Got::Part,
        (_, Some(_)) => match body.strip_suffix("0\r\n\r\n") {
            Some(chunks) => chunks.split("\r\n").skip(1).step_by(2).collect(),
            None => return Got::Part,
        },
        _ => body.to_owned(),
    };
    match status {
        502 => Got::All(status, if body.contains("backend_failed") { "backend_failed".to_owned() } else { body }),
        _ => Got::All(status, body),
    }
}

#[tokio::test]
async fn what_is_no_answer_is_none_and_the_next_one_is_its_own() {
    let parrot = Parrot::new().await;
    let circuit = "[circuit]\nconsecutive_failures = 100000\nfailure_ratio = 1.0\n";
    let config = [LISTEN, &process::backends(&[("east", &parrot.url)]), &process::client(KEY), circuit].concat();
    let mut gateway = Gateway::start(&config).await;
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}");
    let failed = || all(502, "backend_failed");
    let many: String = (0..200).map(|i| format!("x-{i}: 1\r\n")).collect();
    for (what, answer, stays, expected) in [
        ("nothing", String::new(), false, failed()),
        ("another protocol", "SSH-2.0-x\r\n".into(), false, failed()),
        ("no status line", "hello".into(), false, failed()),
        ("half a head", head("x-a: 1\r\n"), false, failed()),
        ("a status of two digits", "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n".into(), true, failed()),
        ("status 000", "HTTP/1.1 000 X\r\ncontent-length: 0\r\n\r\n".into(), true, failed()),
        ("another version", "HTTP/3.7 200 OK\r\ncontent-length: 0\r\n\r\n".into(), true, failed()),
        (
            "an upgrade that nobody asked for",
            "HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".into(),
            true,
            failed(),
        ),
        ("two lengths", head("content-length: 3\r\ncontent-length: 5\r\n\r\nabcde"), true, failed()),
        ("two lengths in one", head("content-length: 3, 5\r\n\r\nabcde"), true, failed()),
        ("a negative length", head("content-length: -1\r\n\r\nabc"), true, failed()),
        ("a length with a sign", head("content-length: +3\r\n\r\nabc"), true, failed()),
        ("a length in hexadecimal", head("content-length: 0x3\r\n\r\nabc"), true, failed()),
        ("a length without an end", head("content-length: 99999999999999999999\r\n\r\nabc"), true, failed()),
        ("a folded header", head("x-a: 1\r\n 2\r\ncontent-length: 3\r\n\r\nabc"), true, failed()),
        ("a blank before the colon", head("content-length : 3\r\n\r\nabc"), true, failed()),
        ("a NUL in a header", head("x-a: 1\0\r\ncontent-length: 3\r\n\r\nabc"), true, failed()),
        ("too many headers", head(&format!("{many}content-length: 3\r\n\r\nabc")), true, failed()),
        (
            "a head of 1 MiB",
            head(&format!("x-a: {}\r\ncontent-length: 3\r\n\r\nabc", "1".repeat(1 << 20))),
            true,
            failed(),
        ),
        ("a body that is too short", head("content-length: 10\r\n\r\nabc"), false, Got::Part),
        ("a chunk that is too short", head("transfer-encoding: chunked\r\n\r\n5\r\nabc"), false, Got::Part),
        ("no last chunk", head("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"), false, Got::Part),
        ("a chunk of no size", head("transfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"), true, Got::Part),
        (
            "a chunk beyond counting",
            head("transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n"),
            true,
            Got::Part,
        ),
        ("a chunk with a sign", head("transfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n"), true, Got::Part),
        (
            "a chunk that is too long",
            head("transfer-encoding: chunked\r\n\r\n3\r\nabcde\r\n0\r\n\r\n"),
            true,
            Got::Part,
        ),
        (
            "chunks beside a length",
            head("content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            true,
            all(200, "abc"),
        ),
        (
            "a second answer behind the body",
            head("content-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"),
            true,
            all(200, "abc"),
        ),
        (
            "a second answer behind the chunks",
            head(
                "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison",
            ),
            true,
            all(200, "abc"),
        ),
        ("a body of what has none", "HTTP/1.1 204 X\r\ncontent-length: 3\r\n\r\nabc".into(), true, all(204, "")),
        ("a body to the end of the connection", head("content-type: text/plain\r\n\r\nabc"), false, all(200, "abc")),
    ] {
        parrot.says(answer, stays);
        let asks = format!("{}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{HELLO}", chat_head(KEY), HELLO.len());
        assert_eq!(got(&raw(&gateway.url, asks.as_bytes()).await), expected, "{what}");
        parrot.says(WELL, true);
        for _ in 0..2 {
            assert_eq!(chat(&gateway.url, KEY).await.text(), "{\"well\":1}\n", "after {what}");
        }
    }
    gateway.is_well().await;
}
