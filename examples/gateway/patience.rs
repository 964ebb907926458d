//! Time for which a connection may keep its places: until a head has arrived, between requests, and while its client takes nothing.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::answer::Held;

use crate::accept::Place;
use crate::loops::Seat;

/// Between requests; longer than front ends of Azure keep a connection for.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// A connection that was told to close, and has nothing to do, has so long for it.
const CLOSING: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Time until the head of a request has arrived.
    pub(crate) head: Duration,
    /// While a client takes nothing.
    pub(crate) write: Duration,
}

/// The clocks of one connection.
pub(crate) struct Vigil {
    patience: Patience,
    state: Mutex<State>,
    /// The client does not take what was written.
    is_blocked: AtomicBool,
    is_cut: AtomicBool,
    /// Another connection needs its place.
    is_asked_to_go: AtomicBool,
    reader: AtomicWaker,
}

struct State {
    requests: usize,
    /// `None` while a request runs.
    idle_since: Option<Instant>,
    /// It carries requests side by side.
    is_shared: bool,
    /// It carries no requests any more, and lasts.
    is_upgraded: bool,
    /// A client that is known has asked on it.
    is_of_client: bool,
    /// Deadline for its head; `None` while a request runs.
    deadline: Option<Instant>,
    is_head_begun: bool,
    answers: Vec<Weak<Mutex<Held>>>,
}

impl Vigil {
    /// The clock of the first head runs.
    pub(crate) fn new(patience: Patience) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            requests: 0,
            idle_since: Some(now),
            is_shared: false,
            is_upgraded: false,
            is_of_client: false,
            deadline: Some(now + patience.head),
            is_head_begun: true,
            answers: Vec::new(),
        };
        Arc::new(Self {
            patience,
            state: Mutex::new(state),
            is_blocked: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            is_asked_to_go: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        })
    }

    /// A head has arrived.
    pub(crate) fn request(self: &Arc<Self>, seat: Option<Seat>) -> Running {
        let mut state = self.lock();
        state.requests += 1;
        state.deadline = None;
        state.idle_since = None;
        self.is_asked_to_go.store(false, Relaxed);
        Running { vigil: Arc::clone(self), _seat: seat }
    }

    /// Drops the answer when it is not taken.
    pub(crate) fn watch(&self, answer: &Arc<Mutex<Held>>) {
        let mut state = self.lock();
        state.answers.retain(|answer| answer.strong_count() > 0);
        state.answers.push(Arc::downgrade(answer));
    }

    /// Ends the connection, whatever it does.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Relaxed);
        self.reader.wake();
    }

    /// Returns how much its place is needed here, where it is not used at all: the less, the lower.
    pub(crate) fn worth(&self) -> Option<Worth> {
        let state = self.lock();
        let is_going = self.is_asked_to_go.load(Relaxed) || self.is_cut.load(Relaxed);
        let idle_since = state.idle_since.filter(|_| !state.is_upgraded && !is_going)?;
        Some(Worth { is_of_client: state.is_of_client, idle_since })
    }

    /// Ends the connection as if its client had, when nothing has come by then that would be lost.
    pub(crate) fn give_way(&self) {
        self.is_asked_to_go.store(true, Relaxed);
        self.reader.wake();
    }

    fn gives_way(&self) -> bool {
        self.is_asked_to_go.load(Relaxed) && {
            let state = self.lock();
            state.idle_since.is_some() && !state.is_upgraded
        }
    }

    /// A client that is known has asked on it.
    pub(crate) fn known(&self) {
        self.lock().is_of_client = true;
    }

    /// It lasts from now on, though no request runs.
    pub(crate) fn upgrade(&self) {
        self.lock().is_upgraded = true;
    }

    /// Waits until the client has been silent for too long.
    pub(crate) async fn is_over(&self) {
        let shortest = self.patience.head.min(self.patience.write).min(KEEP_ALIVE);
        loop {
            let stalled = self.sweep();
            let deadline = self.lock().deadline.filter(|_| !self.is_blocked.load(Relaxed));
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return;
            }
            // Clocks that start meanwhile run for longer.
            let next = Instant::now() + shortest;
            sleep_until([stalled, deadline].into_iter().flatten().fold(next, Instant::min)).await;
        }
    }

    /// The connection is one of HTTP/2, whose client can be told that nothing more is taken.
    pub(crate) fn share(&self) {
        self.lock().is_shared = true;
    }

    /// Waits until nothing was asked for a little while: a client of HTTP/1.1 that has just connected, or got an answer, may have sent
    /// its next request, which is lost when it meets a connection that is closed.
    pub(crate) async fn is_quiet(&self) {
        loop {
            let (idle_since, is_shared) = {
                let state = self.lock();
                (state.idle_since, state.is_shared)
            };
            let quiet = idle_since.map(|since| since + CLOSING);
            if is_shared || quiet.is_some_and(|at| at <= Instant::now()) {
                return;
            }
            sleep_until(quiet.unwrap_or_else(|| Instant::now() + CLOSING)).await;
        }
    }

    /// Waits until a connection that was told to close has nothing to do.
    pub(crate) async fn is_done(&self) {
        loop {
            sleep(CLOSING).await;
            self.sweep();
            if self.lock().requests == 0 && !self.is_blocked.load(Relaxed) {
                return;
            }
        }
    }

    /// Drops answers that nobody takes; gives the time when the next one may be such.
    fn sweep(&self) -> Option<Instant> {
        let answers: Vec<_> = self.lock().answers.iter().filter_map(Weak::upgrade).collect();
        let mut next = None;
        for answer in answers {
            let mut held = answer.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(until) = held.offered().map(|offered| offered + self.patience.write) else { continue };
            if until <= Instant::now() {
                let dropped = held.give_up();
                drop(held);
                drop(dropped);
            } else {
                next = Some(next.map_or(until, |next: Instant| next.min(until)));
            }
        }
        next
    }

    fn read(&self) {
        let mut state = self.lock();
        if state.requests == 0 && !state.is_head_begun {
            state.is_head_begun = true;
            let head = Instant::now() + self.patience.head;
            state.deadline = Some(state.deadline.map_or(head, |deadline| deadline.min(head)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Worth of a connection, taken from it when it has to close while nothing runs on it.
///
/// Whoever shows no key can open any number and leave them, so that those go first; among equals the one that was left the longest ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Worth {
    is_of_client: bool,
    idle_since: Instant,
}

/// A request that runs.
pub(crate) struct Running {
    vigil: Arc<Vigil>,
    _seat: Option<Seat>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.vigil.lock();
        state.requests -= 1;
        if state.requests == 0 {
            state.is_head_begun = false;
            state.idle_since = Some(Instant::now());
            state.deadline = Some(Instant::now() + KEEP_ALIVE.max(self.vigil.patience.head));
        }
    }
}

/// A connection that fails when its client takes nothing for too long. It keeps its place to the end, upgraded or not.
pub(crate) struct Patient<I> {
    io: I,
    vigil: Arc<Vigil>,
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl<I> Patient<I> {
    pub(crate) fn new(io: I, vigil: Arc<Vigil>, place: Place) -> Self {
        Self { io, vigil, stalled: None, _place: place }
    }

    fn written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.vigil.is_blocked.store(written.is_pending(), Relaxed);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let write = self.vigil.patience.write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(write)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.vigil.reader.register(cx.waker());
        if self.vigil.is_cut.load(Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, into);
        if into.filled().len() > before {
            self.vigil.read();
        }
        // Nothing is there to be read, and so nothing is lost.
        if read.is_pending() && self.vigil.gives_way() { Poll::Ready(Ok(())) } else { read }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
