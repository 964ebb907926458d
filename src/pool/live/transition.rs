//! Listeners to changes of circuits.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::CircuitState;

/// A change of the circuit of one target.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Transition<'a> {
    /// Time at which it was seen: a circuit whose wait is over closes without a request, and is seen to have closed by the next
    /// one.
    pub at: Instant,
    /// `backend/deployment`, or the backend for calls that name no model.
    pub target: &'a str,
    /// State before.
    pub from: &'static str,
    /// State now.
    pub to: CircuitState,
    pub(crate) identity: u64,
}

pub(in crate::pool) type Listener = Arc<dyn Fn(&Transition<'_>) + Send + Sync>;

/// All who are told, of a pool and its successors.
#[derive(Default)]
pub(super) struct Listeners(ArcSwap<Vec<Listener>>);

impl Listeners {
    pub(super) fn add(&self, listener: &Listener) {
        self.0.rcu(|listeners| [&listeners[..], std::slice::from_ref(listener)].concat());
    }

    pub(super) fn tell(&self, transition: &Transition<'_>) {
        self.0.load().iter().for_each(|listener| listener(transition));
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}
