//! A backend that costs as little as one can: the same answer for every request, or the same stream.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};
use tower::BoxError;

use crate::{CHUNKS, PAUSE};

/// Tells where it listens, and serves until it is killed.
pub(crate) async fn run() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move { drop(serve(stream).await) });
    }
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut read, whole) = (Vec::with_capacity(16 << 10), whole());
    loop {
        let Some(length) = request(&mut stream, &mut read).await? else { return Ok(()) };
        let is_streamed = memchr::memmem::find(&read[..length], b"\"stream\":true").is_some();
        let is_idle = memchr::memmem::find(&read[..length], b"\"idle\"").is_some();
        read.drain(..length);
        match (is_streamed, is_idle) {
            (false, _) => stream.write_all(&whole).await?,
            (true, false) => streamed(&mut stream).await?,
            (true, true) => {
                stream.write_all(STREAM.as_bytes()).await?;
                stream.write_all(&chunk()).await?;
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Reads one request; its length, unless the connection has ended.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
    loop {
        if let Some(end) = memchr::memmem::find(read, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let body = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let length = end + 4 + body.unwrap_or(0);
            if read.len() >= length {
                return Ok(Some(length));
            }
        }
        if stream.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
}

fn whole() -> Vec<u8> {
    let body = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":280,"completion_tokens":120,"total_tokens":400}}}}"#,
        "words ".repeat(90)
    );
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: 1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

async fn streamed(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(STREAM.as_bytes()).await?;
    let began = Instant::now();
    for number in 1..=CHUNKS {
        stream.write_all(&chunk()).await?;
        sleep_until(began + PAUSE * number as u32).await;
    }
    let last = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    stream.write_all(format!("{:x}\r\n{last}\r\n0\r\n\r\n", last.len()).as_bytes()).await
}

/// One word, and when it was said.
fn chunk() -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let event = format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"at={now};\"}},\"finish_reason\":null}}]}}\n\n"
    );
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}
