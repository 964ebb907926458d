//! What asks: connections that stay open, each with one request after the other.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::BoxError;

use crate::CHUNKS;
use crate::proxies::KEY;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Streams that say one word and nothing more.
    Idle,
    Streamed,
    Whole,
}

impl Kind {
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Idle => "idle streams",
            Self::Streamed => "one chunk of a stream",
            Self::Whole => "one request: 1.4 KB in, 0.8 KB out, keep-alive",
        }
    }
}

/// What was done.
#[derive(Default)]
pub(crate) struct Done {
    /// Requests, or chunks.
    pub(crate) units: usize,
    lags: Vec<f64>,
}

impl Done {
    /// In milliseconds.
    pub(crate) fn lag(&self, share: f64) -> f64 {
        let mut lags = self.lags.clone();
        lags.sort_by(f64::total_cmp);
        lags.get(((lags.len() as f64 * share) as usize).min(lags.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

pub(crate) fn request(kind: Kind) -> Vec<u8> {
    let text = "Summarise the following minutes of a meeting in three sentences. ".repeat(20);
    let more = match kind {
        Kind::Idle => r#","user":"idle","stream":true"#,
        Kind::Streamed => r#","stream":true"#,
        Kind::Whole => "",
    };
    let body = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]{more}}}"#);
    format!(
        "POST /openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21 HTTP/1.1\r\nhost: gateway.example\r\n\
         accept: application/json\r\ncontent-type: application/json\r\nuser-agent: AzureOpenAI/Python 1.54.0\r\n\
         x-stainless-lang: python\r\nx-stainless-os: Linux\r\napi-key: {KEY}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Asks until so many requests, or as many chunks, were answered.
pub(crate) async fn run(address: &str, kind: Kind, connections: usize, requests: usize) -> Result<Done, BoxError> {
    let each = match kind {
        Kind::Whole => requests / connections,
        Kind::Idle | Kind::Streamed => (requests / connections / CHUNKS).max(2),
    };
    let done = try_join_all((0..connections).map(|_| ask(address, kind, each))).await?;
    Ok(done.into_iter().fold(Done::default(), |mut all, one| {
        all.units += one.units;
        all.lags.extend(one.lags);
        all
    }))
}

async fn ask(address: &str, kind: Kind, times: usize) -> Result<Done, BoxError> {
    let (mut stream, request, mut read, mut done) =
        (TcpStream::connect(address).await?, request(kind), Vec::with_capacity(16 << 10), Done::default());
    stream.set_nodelay(true)?;
    for _ in 0..times {
        stream.write_all(&request).await?;
        read.clear();
        while !is_whole(&read, kind)? {
            let before = read.len();
            if stream.read_buf(&mut read).await? == 0 {
                return Err("the connection has ended".into());
            }
            done.lags.extend(lags(&read[before..]));
        }
        done.units += if kind == Kind::Whole { 1 } else { CHUNKS };
    }
    Ok(done)
}

fn is_whole(read: &[u8], kind: Kind) -> Result<bool, BoxError> {
    let Some(end) = memchr::memmem::find(read, b"\r\n\r\n") else { return Ok(false) };
    if !read.starts_with(b"HTTP/1.1 200") {
        return Err(String::from_utf8_lossy(read).into_owned().into());
    }
    if kind != Kind::Whole {
        return Ok(read.ends_with(b"0\r\n\r\n"));
    }
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    Ok(length.map_or_else(|| read.ends_with(b"0\r\n\r\n"), |length| read.len() >= end + 4 + length))
}

/// By the times that stand in what was read.
fn lags(read: &[u8]) -> Vec<f64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as f64;
    let said = memchr::memmem::find_iter(read, b"at=").filter_map(|at| {
        let digits = read.get(at + 3..)?.split(|byte| *byte == b';').next()?;
        std::str::from_utf8(digits).ok()?.parse::<f64>().ok()
    });
    // A number that a read has cut is much smaller.
    said.filter(|said| *said > now / 2.0).map(|said| (now - said) / 1000.0).collect()
}
