//! Changes by an operator while the gateway runs, and how a reload keeps them.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tower_azure_openai::health::Health;
use tower_azure_openai::pool::Pool;

/// So many may wait for the program to notice that they want a reload.
const WAITING: usize = 16;

/// Sender by which a reload says what came of it: the problems, if it changed nothing.
pub(crate) type Reloaded = oneshot::Sender<Result<(), String>>;

/// Steering of the gateway that runs. Clones are the same.
#[derive(Clone)]
pub(crate) struct Steering(Arc<Inner>);

struct Inner {
    current: Mutex<Steered>,
    /// The process is about to end, which nobody takes back.
    is_stopping: AtomicBool,
    reloads: mpsc::Sender<Reloaded>,
}

/// The pool and the health that are in use.
pub(crate) struct Steered {
    pub(crate) pool: Pool,
    pub(crate) health: Health,
}

impl Steering {
    /// The receiver gets what wants a reload.
    pub(crate) fn new(pool: Pool, health: Health) -> (Self, mpsc::Receiver<Reloaded>) {
        let (reloads, wanted) = mpsc::channel(WAITING);
        let (current, is_stopping) = (Mutex::new(Steered { pool, health }), AtomicBool::new(false));
        (Self(Arc::new(Inner { current, is_stopping, reloads })), wanted)
    }

    /// Returns what is in use. While it is held nothing takes its place, so that no order is lost between two configurations.
    pub(crate) fn current(&self) -> MutexGuard<'_, Steered> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process is about to end.
    pub(crate) fn stop(&self) {
        let current = self.current();
        self.0.is_stopping.store(true, SeqCst);
        current.health.start_draining();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(SeqCst)
    }

    /// Makes this process unready, or ready again unless it is about to end.
    pub(super) fn drain(&self, is_drained: bool) {
        let current = self.current();
        if is_drained {
            current.health.start_draining();
        } else if !self.is_stopping() {
            current.health.end_draining();
        }
    }

    /// Has the configuration read again, and says what is wrong with it.
    pub(super) async fn reload(&self) -> Result<(), String> {
        let (reply, reloaded) = oneshot::channel();
        let is_asked = self.0.reloads.send(reply).await.is_ok();
        let reloaded = if is_asked { reloaded.await.ok() } else { None };
        reloaded.unwrap_or_else(|| Err("the gateway is being stopped\n".to_owned()))
    }
}
