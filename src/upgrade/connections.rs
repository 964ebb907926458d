use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// The connections that an [`UpgradeLayer`](super::UpgradeLayer) carries. A clone counts the same ones.
#[derive(Clone, Default)]
pub struct Connections(Arc<watch::Sender<usize>>);

impl Connections {
    /// How many are open: from the answer 101 until both sides have ended.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until none is open. More may come while clients are still being accepted. Cancelling changes nothing.
    pub async fn closed(&self) {
        // The sender lives as long as `self`, so there is nothing that could fail.
        drop(self.0.subscribe().wait_for(|open| *open == 0).await);
    }

    pub(super) fn enter(&self) -> Open {
        self.0.send_modify(|open| *open += 1);
        Open(self.clone())
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("count", &self.count()).finish()
    }
}

/// One of them.
pub(super) struct Open(Connections);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}
