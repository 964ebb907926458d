//! A client's body on its way in, under the limits of size and time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::Body;
use crate::error::{Error, ErrorKind};

pub(super) struct Upload {
    body: Body,
    left: u64,
    until: Instant,
    /// Made when the client is first waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    pub(super) const fn new(body: Body, limit: usize, until: Instant) -> Self {
        Self { body, left: limit as u64, until, timer: None }
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let until = self.until;
        self.timer.get_or_insert_with(|| Box::pin(sleep_until(until))).as_mut().poll(cx).is_ready()
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let len = frame.data_ref().map_or(0, |data| data.len() as u64);
                match self.left.checked_sub(len) {
                    Some(left) => {
                        self.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => Poll::Ready(Some(Err(too_large()))),
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let broken = Error::new(ErrorKind::UploadFailed, "The request body broke off before its end.");
                Poll::Ready(Some(Err(broken.with_source(error))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if self.is_late(cx) => Poll::Ready(Some(Err(Error::new(
                ErrorKind::RequestTimeout,
                "The request body did not arrive in time.",
            )))),
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

pub(super) fn too_large() -> Error {
    Error::new(ErrorKind::RequestTooLarge, "The request body is larger than this gateway accepts.")
}
