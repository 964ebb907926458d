//! The body of an answer, as its connection watches it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tower::BoxError;
use tower_azure_openai::body::Body as Answer;

use crate::patience::{Running, Vigil};

/// Bytes that are offered at once over HTTP/2: whoever takes fewer in `timeouts.write` takes nothing.
const OFFER: usize = 16 << 10;

/// The body of an answer. A client of HTTP/2 can leave it lying while it takes others: then what it holds is dropped.
pub(crate) struct Watched(Arc<Mutex<Held>>);

pub(crate) struct Held {
    answer: Option<(Answer, Running)>,
    rest: Bytes,
    /// Time at which something was last offered to a client that has not asked for more.
    offered: Option<Instant>,
    is_shared: bool,
}

impl Watched {
    /// `is_shared`: there are other answers on the connection.
    pub(crate) fn new(body: Answer, running: Running, vigil: &Vigil, is_shared: bool) -> Self {
        let offered = is_shared.then(Instant::now);
        let held = Arc::new(Mutex::new(Held { answer: Some((body, running)), rest: Bytes::new(), offered, is_shared }));
        if is_shared {
            vigil.watch(&held);
        }
        Self(held)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    pub(crate) const fn offered(&self) -> Option<Instant> {
        self.offered
    }

    pub(crate) fn give_up(&mut self) -> impl Sized + use<> {
        self.offered = None;
        (self.answer.take(), std::mem::take(&mut self.rest))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.offered = None;
        let Some((body, _)) = &mut self.answer else {
            return Poll::Ready(Some(Err("the client took nothing for too long".into())));
        };
        if self.rest.is_empty() {
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = if self.is_shared { self.rest.len().min(OFFER) } else { self.rest.len() };
        self.offered = self.is_shared.then(Instant::now);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.lock().poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        let held = self.lock();
        held.rest.is_empty() && held.answer.as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.lock();
        let (mut hint, rest) = (SizeHint::new(), held.rest.len() as u64);
        let Some((body, _)) = &held.answer else { return hint };
        let inner = body.size_hint();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(inner.lower() + rest);
        hint
    }
}
