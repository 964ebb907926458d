use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::QUEUE;

/// Items that wait for the collector, as the fields that they are in what is sent.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    is_half_full: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    batch: Batch,
    is_closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) fields: Vec<u8>,
    pub(super) items: u64,
}

impl Queue {
    /// Takes all of it, or drops and counts it.
    pub(super) fn put(&self, fields: &[u8], items: u64) {
        let mut waiting = self.lock();
        if waiting.is_closed || waiting.batch.fields.len() + fields.len() > QUEUE {
            drop(waiting);
            return self.lost(items);
        }
        waiting.batch.fields.extend_from_slice(fields);
        waiting.batch.items += items;
        if waiting.batch.fields.len() > QUEUE / 2 {
            self.is_half_full.notify_one();
        }
    }

    /// All that waits; `None` where nothing does.
    pub(super) fn take(&self) -> Option<Batch> {
        let batch = std::mem::take(&mut self.lock().batch);
        (batch.items > 0).then_some(batch)
    }

    /// Takes nothing any more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
    }

    pub(super) async fn half_full(&self) {
        self.is_half_full.notified().await;
    }

    pub(super) fn lost(&self, items: u64) {
        self.dropped.fetch_add(items, Relaxed);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
