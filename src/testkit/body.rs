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

/// Work that a backend is busy with.
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

/// Cost of a request, as reckoned and as it was.
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

/// Flow of the chunks of a body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    /// Between chunks; a body of one chunk is given in quarters.
    pub(super) pause: Option<Duration>,
    /// Pieces of so many bytes take the place of the chunks.
    pub(super) pieces: Option<usize>,
    pub(super) stop: Option<Stop>,
}

/// The point at which a body does not go on, at the latest before its last byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) after: After,
    pub(super) ending: Ending,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum After {
    Bytes(usize),
    Chunks(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Cut,
    Stall,
}

impl Flow {
    pub(super) fn and(self, other: Self) -> Self {
        Self { pause: other.pause.or(self.pause), pieces: other.pieces.or(self.pieces), stop: other.stop.or(self.stop) }
    }
}

impl After {
    fn bytes(self, chunks: &[Bytes]) -> usize {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Chunks(count) => length(chunks.get(..count).unwrap_or(chunks)),
        }
    }
}

fn length(chunks: &[Bytes]) -> usize {
    chunks.iter().map(Bytes::len).sum()
}

/// Chunks, with pauses between them, up to the point where they stop.
#[derive(Debug)]
pub(super) struct AnswerBody {
    chunks: VecDeque<Bytes>,
    promised: Option<u64>,
    pause: Option<Duration>,
    pausing: Option<Pin<Box<Sleep>>>,
    stop: Option<Stopping>,
    in_flight: Option<InFlight>,
}

#[derive(Debug)]
struct Stopping {
    left: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Cut { flushed: bool },
    Stalled,
}

impl AnswerBody {
    pub(super) fn new(chunks: Vec<Bytes>, streams: bool, flow: Flow, in_flight: InFlight) -> Self {
        let length = length(&chunks);
        let stop = flow.stop.zip(length.checked_sub(1)).map(|(stop, longest)| Stopping {
            left: stop.after.bytes(&chunks).min(longest),
            state: match stop.ending {
                Ending::Cut => State::Cut { flushed: false },
                Ending::Stall => State::Stalled,
            },
        });
        let size = match (&*chunks, flow) {
            (_, Flow { pieces: Some(pieces), .. }) => Some(pieces.max(1)),
            ([whole], Flow { pause: Some(_), .. }) => Some(whole.len().div_ceil(4)),
            _ => None,
        };
        Self {
            in_flight: (length > 0).then_some(in_flight),
            promised: (!streams).then_some(length as u64),
            chunks: match size {
                Some(size) => pieces(&chunks, size).collect(),
                None => chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect(),
            },
            pause: flow.pause,
            pausing: None,
            stop,
        }
    }

    fn next_chunk(&mut self) -> Option<Bytes> {
        let mut chunk = self.chunks.pop_front()?;
        if let Some(stop) = &mut self.stop {
            chunk.truncate(stop.left);
            stop.left -= chunk.len();
        }
        if let Some(promised) = &mut self.promised {
            *promised -= chunk.len() as u64;
        }
        Some(chunk)
    }

    fn end(&mut self) {
        self.chunks.clear();
        self.stop = None;
        self.in_flight = None;
    }
}

/// The same bytes in pieces of this size, of which the last may be smaller.
fn pieces(chunks: &[Bytes], size: usize) -> impl Iterator<Item = Bytes> + use<> {
    let mut whole = Bytes::from(chunks.concat());
    std::iter::from_fn(move || (!whole.is_empty()).then(|| whole.split_to(size.min(whole.len()))))
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        match &mut self.stop {
            // A server that is given an error drops what it has not written yet: let it write first.
            Some(Stopping { left: 0, state: State::Cut { flushed: flushed @ false } }) => {
                *flushed = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Stopping { left: 0, state: State::Cut { .. } }) => {
                self.end();
                return Poll::Ready(Some(Err(TransportError::cut())));
            }
            Some(Stopping { left: 0, state: State::Stalled }) => return Poll::Pending,
            Some(_) | None => {}
        }
        if let Some(pausing) = &mut self.pausing {
            ready!(pausing.as_mut().poll(cx));
            self.pausing = None;
        }
        let Some(chunk) = self.next_chunk() else { return Poll::Ready(None) };
        if self.chunks.is_empty() && self.stop.is_none() {
            self.end();
        } else if let Some(pause) = self.pause {
            self.pausing = Some(Box::pin(sleep(pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && self.stop.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.promised.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
