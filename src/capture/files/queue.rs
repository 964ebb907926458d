use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines that wait for the disk, of so many bytes at most.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<String>,
    bytes: usize,
    is_writing: bool,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default(), changed: Condvar::new(), dropped: AtomicU64::new(0) }
    }

    /// Never blocks for longer than a line takes to be queued.
    pub(super) fn push(&self, line: String) {
        let mut state = self.lock();
        if state.bytes + line.len() > self.capacity {
            drop(state);
            return self.lost();
        }
        state.bytes += line.len();
        state.waiting.push_back(line);
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn lost(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// The lines that wait, or none when nobody has said anything for so long; `None` at the end.
    pub(super) fn next(&self, patience: Duration) -> Option<VecDeque<String>> {
        let mut state = self.lock();
        state.is_writing = false;
        self.changed.notify_all();
        let waits = |state: &mut State| state.waiting.is_empty() && !state.is_closed;
        let waited = self.changed.wait_timeout_while(state, patience, waits);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.waiting.is_empty() && state.is_closed {
            return None;
        }
        state.is_writing = !state.waiting.is_empty();
        state.bytes = 0;
        Some(std::mem::take(&mut state.waiting))
    }

    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    pub(super) fn drained(&self, patience: Duration) {
        let waits = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        drop(self.changed.wait_timeout_while(self.lock(), patience, waits));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
