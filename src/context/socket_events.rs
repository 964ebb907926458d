use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tower::BoxError;

use crate::body::Body;

/// On a 101: what the backend says on the WebSocket, as the body of the answer. Each event that is [told](Self::tell) passes that
/// body as an event of a stream, so that whoever learns from streams learns from sockets.
///
/// Put by whoever sends requests to backends, told by whoever carries the connection.
///
/// The body ends with [`end`](Self::end), or with the last clone of this.
#[derive(Clone)]
pub struct SocketEvents(Arc<Teller>);

struct Teller(Arc<Mutex<Slot>>);

#[derive(Default)]
struct Slot {
    event: Option<Bytes>,
    has_ended: bool,
    reader: Option<Waker>,
}

impl SocketEvents {
    /// A body, and what it is told by.
    #[must_use]
    pub fn channel() -> (Self, Body) {
        let slot = Arc::new(Mutex::default());
        (Self(Arc::new(Teller(Arc::clone(&slot)))), Body::new(Events(slot)))
    }

    /// Tells an event: a JSON object, by its `type`. Waits until it has passed `body`, the one of this channel or around it.
    ///
    /// # Errors
    /// What the body fails with.
    pub async fn tell(&self, kind: &str, event: &[u8], body: &mut Body) -> Result<(), BoxError> {
        lock(&self.0.0).event = Some(as_stream(kind, event));
        poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await.transpose().map(drop)
    }

    /// Ends the body.
    pub fn end(&self) {
        self.0.end();
    }
}

impl Teller {
    fn end(&self) {
        let reader = {
            let mut slot = lock(&self.0);
            slot.has_ended = true;
            slot.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The event as one of a stream. What is no name of an event goes without.
fn as_stream(kind: &str, event: &[u8]) -> Bytes {
    let is_name = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let mut written = Vec::with_capacity(event.len() + kind.len() + 32);
    if is_name && !kind.is_empty() {
        written.extend_from_slice(b"event: ");
        written.extend_from_slice(kind.as_bytes());
        written.push(b'\n');
    }
    for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
        written.extend_from_slice(b"data: ");
        written.extend_from_slice(line);
        written.push(b'\n');
    }
    written.push(b'\n');
    written.into()
}

/// Never the content.
impl fmt::Debug for SocketEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketEvents").finish_non_exhaustive()
    }
}

struct Events(Arc<Mutex<Slot>>);

impl HttpBody for Events {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut slot = lock(&self.0);
        match slot.event.take() {
            Some(event) => Poll::Ready(Some(Ok(Frame::data(event)))),
            None if slot.has_ended => Poll::Ready(None),
            None => {
                slot.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_pass_one_by_one_and_then_the_end() {
        let (events, mut body) = SocketEvents::channel();
        assert!(!body.is_end_stream());
        for (kind, event, expected) in [
            ("response.done", "{}", "event: response.done\ndata: {}\n\n"),
            ("x\ny", "{\n\"a\":1}", "data: {\ndata: \"a\":1}\n\n"),
        ] {
            assert_eq!(as_stream(kind, event.as_bytes()), expected);
            events.tell(kind, event.as_bytes(), &mut body).await.unwrap();
        }
        drop(events);
        assert!(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_none());
    }

    #[tokio::test]
    async fn a_body_that_somebody_has_replaced_holds_nobody_up() {
        let (events, _) = SocketEvents::channel();
        for _ in 0..3 {
            events.tell("error", b"{}", &mut Body::empty()).await.unwrap();
        }
    }
}
