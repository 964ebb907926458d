use std::fmt;

use crate::directory::ObjectKey;
use crate::pool::BoxFuture;

/// Remembers which objects were counted, where others count them too.
///
/// Asked for objects that go on in the background (runs, batches, background responses), once they have ended: whoever reads one
/// then sees what it used, at any replica.
pub trait CountOnce: fmt::Debug + Send + Sync + 'static {
    /// Tells whether nobody has counted this object yet; from then on it is counted. Asking and remembering are one step. The
    /// event that tells the usage waits for this, so it has to be quick; whoever cannot find out says yes.
    fn is_first(&self, object: ObjectKey) -> BoxFuture<bool>;
}
