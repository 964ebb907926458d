//! Circuits that open, for whoever wants to tell other replicas.

use std::sync::Arc;

use super::transition::{Listener, Listeners, Transition};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

/// Number of openings that a listener may be behind before it loses the oldest.
const BACKLOG: usize = 256;

/// A circuit that opened, or that is open for longer than it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opening {
    /// Name of the circuit: those of backend and deployment, with `/` between them, or of the backend alone.
    pub circuit: Arc<str>,
    /// Time until which no request is sent.
    pub until: Instant,
    /// The backend asked to wait, rather than failed.
    pub throttled: bool,
}

impl Opening {
    /// One that another replica told of.
    #[must_use]
    pub const fn new(circuit: Arc<str>, until: Instant, throttled: bool) -> Self {
        Self { circuit, until, throttled }
    }
}

/// The openings of a pool and its successors, as they come.
#[derive(Debug)]
pub struct Openings(broadcast::Receiver<Opening>);

impl Openings {
    /// The next one; `None` when there is no such pool any more. Whoever comes too late misses the oldest.
    pub async fn next(&mut self) -> Option<Opening> {
        loop {
            match self.0.recv().await {
                Ok(opening) => return Some(opening),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Tells whoever listens, of a pool and its successors.
#[derive(Clone, Debug)]
pub(in crate::pool) struct Announcer {
    openings: broadcast::Sender<Opening>,
    listeners: Arc<Listeners>,
}

impl Announcer {
    pub(in crate::pool) fn listen(&self) -> Openings {
        Openings(self.openings.subscribe())
    }

    pub(in crate::pool) fn add(&self, listener: &Listener) {
        self.listeners.add(listener);
    }

    pub(super) fn changed(&self, transition: &Transition<'_>) {
        self.listeners.tell(transition);
    }

    pub(super) fn tell(&self, circuit: &Arc<str>, until: Instant, throttled: bool) {
        if self.openings.receiver_count() > 0 {
            let _ = self.openings.send(Opening::new(circuit.clone(), until, throttled));
        }
    }
}

impl Default for Announcer {
    fn default() -> Self {
        Self { openings: broadcast::channel(BACKLOG).0, listeners: Arc::default() }
    }
}
