use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// The connections that an [`UpgradeLayer`](super::UpgradeLayer) carries. A clone counts the same ones.
#[derive(Clone, Default)]
pub struct Connections(Arc<State>);

#[derive(Default)]
struct State {
    open: watch::Sender<usize>,
    /// Reason why they end.
    parting: watch::Sender<Option<Arc<str>>>,
}

impl Connections {
    /// Returns how many are open: from the answer 101 until both sides have ended.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.0.open.borrow()
    }

    /// Waits until none is open. More may come while clients are still being accepted. Cancelling changes nothing.
    pub async fn closed(&self) {
        // The sender lives as long as `self`, so there is nothing that could fail.
        drop(self.0.open.subscribe().wait_for(|open| *open == 0).await);
    }

    /// Tells every client that its connection ends, by a close frame of code 1001 with this reason (123 bytes of it at most), those
    /// too that come later. Each has 10 s to close its side.
    pub fn close(&self, reason: &str) {
        let longest = reason.len().min(LONGEST_REASON);
        let end = (0..=longest).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or_default();
        self.0.parting.send_replace(Some(reason.get(..end).unwrap_or_default().into()));
    }

    pub(super) fn enter(&self) -> Open {
        self.0.open.send_modify(|open| *open += 1);
        Open(self.clone())
    }
}

/// A control frame has 125 bytes, two of them for the code: RFC 6455 §5.5.
const LONGEST_REASON: usize = 123;

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("count", &self.count()).finish()
    }
}

/// One of them.
pub(super) struct Open(Connections);

impl Open {
    /// Waits until it is to end, and tells why.
    pub(super) async fn parting(&self) -> Arc<str> {
        let mut parting = self.0.0.parting.subscribe();
        let reason = parting.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.open.send_modify(|open| *open -= 1);
    }
}
