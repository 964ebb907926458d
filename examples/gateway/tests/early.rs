//! Requests that are refused before their body was read, on connections that clients use again.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http_support::{HELLO, connect, soon};
use crate::{KEY, gateway_before, serve};

/// Reads the head of an answer, and its body as far as `content-length` says.
async fn answer(connection: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0_usize) {
                return Some(head.to_owned());
            }
        }
        let mut part = [0; 4096];
        match soon("an answer", connection.read(&mut part)).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => read.extend_from_slice(&part[..length]),
        }
    }
}

fn head(path: &str, key: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\napi-key: {key}\r\ncontent-length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn the_next_request_is_served_or_the_answer_says_that_the_connection_closes() {
    let (_east, server) = serve("east").await;
    let gateway = gateway_before(&server, "[limits]\nrequest_body = \"1MiB\"\n").await;
    let chat = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    for (path, key, length, status, closes) in [
        (chat, "nobody's-key-at-all", 2_000, 401, false),
        ("/elsewhere", KEY, 100_000, 404, false),
        ("/openai//deployments", KEY, 10, 400, false),
        ("/openai/v1/chat/completions", "nobody's-key-at-all", 900_000, 401, true),
        (chat, KEY, 2 << 20, 413, true),
    ] {
        let mut connection = connect(&gateway.url).await;
        connection.write_all(head(path, key, length).as_bytes()).await.unwrap();
        let _ = connection.write_all(&vec![b' '; length.min(200_000)]).await;
        let first = answer(&mut connection).await.expect("an answer");
        assert!(first.starts_with(&format!("http/1.1 {status} ")), "{path}: {first}");
        assert_eq!(first.contains("connection: close"), closes, "{path}: {first}");
        if !closes {
            connection.write_all(format!("{}{HELLO}", head(chat, KEY, HELLO.len())).as_bytes()).await.unwrap();
            let second = answer(&mut connection).await.expect("the connection goes on");
            assert!(second.starts_with("http/1.1 200 "), "{path}: {second}");
        }
    }
}
