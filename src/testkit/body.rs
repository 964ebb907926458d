//! The body of an answer, and the guard that it holds.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use super::deployment::Deployment;
use super::error::TransportError;

/// What a backend is busy with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activity {
    pub(super) in_flight: usize,
    pub(super) received: usize,
}

/// A place in flight, given back when dropped. What the request cost is settled first.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<watch::Sender<Activity>>,
    pub(super) spent: Option<Spent>,
}

/// What a request was reckoned to cost, and what it took.
#[derive(Debug)]
pub(super) struct Spent {
    pub(super) deployment: Arc<Deployment>,
    pub(super) estimate: u64,
    pub(super) actual: u64,
}

impl InFlight {
    pub(super) fn enter(activity: &Arc<watch::Sender<Activity>>) -> Self {
        activity.send_modify(|activity| activity.in_flight += 1);
        Self { activity: Arc::clone(activity), spent: None }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(Spent { deployment, estimate, actual }) = &self.spent {
            deployment.limits().settle(*estimate, *actual, Instant::now());
        }
        self.activity.send_modify(|activity| activity.in_flight -= 1);
    }
}

/// Chunks, with pauses between them, up to the point where they break off.
#[derive(Debug)]
pub(super) struct AnswerBody {
    chunks: VecDeque<Bytes>,
    promised: Option<u64>,
    pause: Duration,
    pausing: Option<Pin<Box<Sleep>>>,
    cut: Option<Cut>,
    in_flight: Option<InFlight>,
}

#[derive(Debug)]
enum Cut {
    After(usize),
    Flushed,
}

impl AnswerBody {
    pub(super) fn new(chunks: Vec<Bytes>, streams: bool, in_flight: InFlight) -> Self {
        let length = chunks.iter().map(Bytes::len).sum::<usize>();
        Self {
            in_flight: (length > 0).then_some(in_flight),
            promised: (!streams).then_some(length as u64),
            chunks: chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect(),
            pause: Duration::ZERO,
            pausing: None,
            cut: None,
        }
    }

    /// Pauses between chunks; a body of one chunk is given in quarters.
    pub(super) fn paused(mut self, pause: Duration) -> Self {
        if let [whole] = &*self.chunks.make_contiguous() {
            self.chunks = quarters(whole.clone()).collect();
        }
        self.pause = pause;
        self
    }

    /// Breaks off after so many bytes, at the latest before the last one.
    pub(super) fn cut(mut self, after: usize) -> Self {
        let length = self.chunks.iter().map(Bytes::len).sum::<usize>();
        self.cut = length.checked_sub(1).map(|longest| Cut::After(after.min(longest)));
        self
    }

    fn next_chunk(&mut self) -> Option<Bytes> {
        let mut chunk = self.chunks.pop_front()?;
        if let Some(Cut::After(left)) = &mut self.cut {
            chunk.truncate(*left);
            *left -= chunk.len();
        }
        if let Some(promised) = &mut self.promised {
            *promised -= chunk.len() as u64;
        }
        Some(chunk)
    }

    fn end(&mut self) {
        self.chunks.clear();
        self.cut = None;
        self.in_flight = None;
    }
}

fn quarters(mut whole: Bytes) -> impl Iterator<Item = Bytes> {
    let size = whole.len().div_ceil(4);
    std::iter::from_fn(move || (!whole.is_empty()).then(|| whole.split_to(size.min(whole.len()))))
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        match self.cut {
            // A server that is given an error drops what it has not written yet: let it write first.
            Some(Cut::After(0)) => {
                self.cut = Some(Cut::Flushed);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Cut::Flushed) => {
                self.end();
                return Poll::Ready(Some(Err(TransportError::cut())));
            }
            Some(Cut::After(_)) | None => {}
        }
        if let Some(pausing) = &mut self.pausing {
            ready!(pausing.as_mut().poll(cx));
            self.pausing = None;
        }
        let Some(chunk) = self.next_chunk() else { return Poll::Ready(None) };
        if self.chunks.is_empty() && self.cut.is_none() {
            self.end();
        } else if !self.pause.is_zero() {
            self.pausing = Some(Box::pin(sleep(self.pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && self.cut.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.promised.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
