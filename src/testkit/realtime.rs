//! A realtime session over WebSocket, in which the backend says what it hears. Settings that name a deployment which it does not
//! have are answered with an error event instead.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};

use super::answer::{self, Answer};
use super::body::InFlight;
use super::received::ReceivedRequest;
use crate::body::Body;

/// Text that every key is hashed with: RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The subprotocol that the API knows.
const PROTOCOL: &str = "realtime";

/// The answer to a handshake.
pub(super) fn answer(request: &ReceivedRequest) -> Answer {
    let headers = &request.headers;
    let asks = has(headers, CONNECTION, "upgrade") && has(headers, UPGRADE, "websocket");
    let Some(accept) = headers.get(SEC_WEBSOCKET_KEY).filter(|_| asks).and_then(accept) else {
        return answer::invalid(None, "The request is not the handshake of a WebSocket.");
    };
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut answer = answer::of_status(StatusCode::UPGRADE_REQUIRED);
        answer.headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return answer;
    }
    let mut answer = answer::of_status(StatusCode::SWITCHING_PROTOCOLS);
    answer.headers = HeaderMap::from_iter([
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ]);
    if has(headers, SEC_WEBSOCKET_PROTOCOL, PROTOCOL) {
        answer.headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    answer
}

fn has(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(GUID).finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).ok()
}

/// The body of a 101: holds the place in flight until it is dropped.
struct Held(#[expect(dead_code, reason = "a guard")] InFlight);

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

/// The names of the deployments that a session may use.
#[derive(Clone)]
struct Names(Vec<String>);

pub(super) fn accepted(answer: Answer, in_flight: InFlight, names: Vec<String>) -> Response<Body> {
    let mut response = Response::new(Body::new(Held(in_flight)));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.extensions_mut().insert(Names(names));
    response
}

// ===== impl Session =====

/// A session whose handshake a server is about to answer.
pub(super) struct Session {
    upgrade: OnUpgrade,
    held: Body,
    names: Vec<String>,
}

impl Session {
    /// Takes over from a response.
    pub(super) fn begin(upgrade: OnUpgrade, response: &mut Response<Body>) -> Self {
        let names = response.extensions_mut().remove::<Names>().map_or_else(Vec::new, |names| names.0);
        Self { upgrade, held: std::mem::take(response.body_mut()), names }
    }

    /// Says what it hears until either side closes. Gives the socket, for its owner to end.
    pub(super) async fn run(self) -> Option<BufStream<TokioIo<Upgraded>>> {
        let mut socket = BufStream::new(TokioIo::new(self.upgrade.await.ok()?));
        let ended = echo(&mut socket, &self.names).await;
        drop(self.held);
        ended.ok().map(|()| socket)
    }
}

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const MASKED: u8 = 0x80;
/// The first byte of a text that is one frame.
const WHOLE_TEXT: u8 = 0x80 | TEXT;
/// Settings are shorter.
const MAX_SETTINGS: u64 = 64 * 1024;
/// Bytes of a frame that are in hand at a time.
const PIECE: usize = 8 * 1024;

/// Returns every frame as it came, unmasked; pings as pongs; settings that are wrong as an error. Ends after the closing frame, or
/// where frames end.
async fn echo(socket: &mut (impl AsyncRead + AsyncWrite + Unpin), names: &[String]) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let Some(head) = Head::read(socket).await? else { return socket.shutdown().await };
        if head.first == WHOLE_TEXT && head.length <= MAX_SETTINGS {
            let text = head.read_all(socket).await?;
            let said = refusal(&text, names).unwrap_or(text);
            Head { length: said.len() as u64, ..head }.write(socket).await?;
            socket.write_all(&said).await?;
            if let Some(done) = response_to(&said) {
                Head { first: WHOLE_TEXT, length: done.len() as u64, mask: [0; 4] }.write(socket).await?;
                socket.write_all(&done).await?;
            }
            socket.flush().await?;
            continue;
        }
        let is_heard = head.opcode() != PONG;
        if is_heard {
            head.write(socket).await?;
        }
        let (mut left, mut mask) = (head.length, head.mask.into_iter().cycle());
        while left > 0 {
            let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let (piece, _) = buffer.split_at_mut(size);
            socket.read_exact(piece).await?;
            piece.iter_mut().zip(&mut mask).for_each(|(byte, mask)| *byte ^= mask);
            if is_heard {
                socket.write_all(piece).await?;
            }
            left -= size as u64;
        }
        socket.flush().await?;
        if head.opcode() == CLOSE {
            return socket.shutdown().await;
        }
    }
}

/// What ends the response that an event asks for, and tells what it used: a token for four characters of the event, and one of answer.
fn response_to(event: &[u8]) -> Option<Vec<u8>> {
    let asked: Value = serde_json::from_slice(event).ok()?;
    if asked["type"] != "response.create" {
        return None;
    }
    let input = (event.len() as u64).div_ceil(4);
    let usage = json!({
        "input_tokens": input,
        "output_tokens": 1,
        "total_tokens": input + 1,
        "input_token_details": { "text_tokens": input, "audio_tokens": 0, "cached_tokens": 0 },
        "output_token_details": { "text_tokens": 1, "audio_tokens": 0 },
    });
    let response =
        json!({ "id": "resp_of_the_backend", "object": "realtime.response", "status": "completed", "usage": usage });
    Some(
        json!({ "type": "response.done", "event_id": "event_of_the_backend", "response": response })
            .to_string()
            .into_bytes(),
    )
}

/// The error event for settings that name a deployment which is not there.
fn refusal(event: &[u8], names: &[String]) -> Option<Vec<u8>> {
    let event: Value = serde_json::from_slice(event).ok()?;
    if !matches!(event["type"].as_str()?, "session.update" | "transcription_session.update") {
        return None;
    }
    let session = &event["session"];
    let places = ["/model", "/audio/input/transcription/model", "/input_audio_transcription/model"];
    let named = places.iter().filter_map(|place| session.pointer(place)?.as_str());
    named.into_iter().find(|name| !names.iter().any(|known| known == name)).map(|_| {
        let message = "The API deployment for this resource does not exist.";
        let error = json!({
            "type": "invalid_request_error", "code": "DeploymentNotFound", "message": message, "param": null,
            "event_id": event["event_id"],
        });
        json!({"type": "error", "event_id": "event_of_the_backend", "error": error}).to_string().into_bytes()
    })
}

/// The head of a client's frame: RFC 6455, section 5.2.
struct Head {
    first: u8,
    length: u64,
    mask: [u8; 4],
}

impl Head {
    /// `None` where the client has ended without a frame more.
    async fn read(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut first = [0];
        if socket.read(&mut first).await? == 0 {
            return Ok(None);
        }
        let second = socket.read_u8().await?;
        if second & MASKED == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a client's frame without a mask"));
        }
        let length = match second & !MASKED {
            126 => socket.read_u16().await?.into(),
            127 => socket.read_u64().await?,
            length => length.into(),
        };
        let mut mask = [0; 4];
        socket.read_exact(&mut mask).await?;
        Ok(Some(Self { first: first[0], length, mask }))
    }

    /// The whole payload, unmasked.
    async fn read_all(&self, socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
        let mut payload = vec![0; usize::try_from(self.length).unwrap_or_default()];
        socket.read_exact(&mut payload).await?;
        payload.iter_mut().zip(self.mask.into_iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        Ok(payload)
    }

    const fn opcode(&self) -> u8 {
        self.first & 0xf
    }

    async fn write(&self, socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        socket.write_u8(if self.opcode() == PING { self.first ^ PING ^ PONG } else { self.first }).await?;
        match self.length {
            length @ 0..126 => socket.write_u8(length as u8).await,
            length @ 126..=0xffff => {
                socket.write_u8(126).await?;
                socket.write_u16(length as u16).await
            }
            length => {
                socket.write_u8(127).await?;
                socket.write_u64(length).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_accepted_as_the_rfc_says() {
        let accepted = accept(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")).unwrap();
        assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
