//! A request body within its bounds of size and time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tower::BoxError;

use crate::azure::request_body::ReadBodyError;
use crate::body::Body;
use crate::error::{Error, ErrorKind, no_room};

/// The body as the client sends it.
pub(super) struct Upload {
    body: Body,
    /// Number of bytes that may still come.
    left: u64,
    /// `None` when the limit lies beyond all time.
    deadline: Option<Instant>,
    /// Made when the client is waited for: most bodies are there with their head.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// The clock starts now.
    pub(super) fn new(body: Body, limit: u64, timeout: Duration) -> Self {
        Self { body, left: limit, deadline: Instant::now().checked_add(timeout), sleep: None }
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        sleep.as_mut().poll(cx).is_ready()
    }

    fn admit(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BoxError> {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.left.checked_sub(length) {
            Some(left) => self.left = left,
            None => return Err(too_large().into()),
        }
        Ok(frame)
    }
}

pub(super) fn too_large() -> Error {
    Error::new(ErrorKind::RequestTooLarge, "The request body is above the size limit of this gateway.")
}

/// An encoded body is not what it is said to be: its client's matter, also after a part of it was sent on.
#[cfg(feature = "decompression")]
pub(super) fn undecodable(source: std::io::Error) -> Error {
    Error::new(ErrorKind::UploadFailed, "The body cannot be used: it is not encoded as its content-encoding says.")
        .with_source(source)
}

/// Refuses a body that must name its model and cannot be searched to its end: of the client's share, `needed` bytes are more than
/// there will ever be, or than there are now.
pub(super) fn unnamed(needed: usize, share: usize) -> Error {
    if needed > share {
        return Error::new(
            ErrorKind::RequestTooLarge,
            format!(
                "The body names its `model` behind the first {share} bytes, which is all that is searched: put it first."
            ),
        );
    }
    no_room()
}

/// The rest of a streamed body names a model, after its beginning was sent on as one that names none.
pub(super) fn named_too_late() -> Error {
    Error::new(ErrorKind::RequestTooLarge, "The body names its `model` behind what could be searched: put it first.")
}

/// The rest of a streamed body says something else than its beginning, after that was sent on.
pub(super) fn contradicts(error: &ReadBodyError) -> Error {
    Error::new(ErrorKind::UploadFailed, format!("The body cannot be used: {error}."))
}

/// Tells why a body that has to be read is a stream: it is above `limit`, or the account had no room for it.
pub(super) fn not_collected(body: &Body, limit: usize) -> Error {
    if body.size_hint().lower() > limit as u64 {
        return Error::new(
            ErrorKind::RequestTooLarge,
            format!("The body names the deployment, so it must be read: send at most {limit} bytes."),
        );
    }
    no_room()
}

fn late() -> Error {
    Error::new(ErrorKind::RequestTimeout, "The request body did not arrive in time.")
}

fn broken_off(source: BoxError) -> Error {
    if let Some(cause) = Error::find(source.as_ref()) {
        return cause.without_source().with_source(source);
    }
    Error::new(ErrorKind::UploadFailed, "The request body ended before it was complete.").with_source(source)
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(self.admit(frame))),
            Poll::Ready(Some(Err(source))) => Poll::Ready(Some(Err(broken_off(source).into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if self.is_late(cx) => Poll::Ready(Some(Err(late().into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("body", &self.body).field("left", &self.left).finish_non_exhaustive()
    }
}
