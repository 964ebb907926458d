use std::fmt;
use std::sync::Arc;

use super::Captured;

/// Takes what was captured. See the [module docs](super).
///
/// Called once for each, on the thread that ends the answer, often while it is dropped: it must not block, and what takes long belongs
/// into a bounded queue. A panic is caught and told of in the log.
pub trait Sink: Send + Sync {
    /// Takes one.
    fn take(&self, captured: &Captured);
}

impl<S: Sink + ?Sized> Sink for Arc<S> {
    fn take(&self, captured: &Captured) {
        (**self).take(captured);
    }
}

/// A sink made of a function.
pub fn from_fn<F: Fn(&Captured) + Send + Sync>(function: F) -> FromFn<F> {
    FromFn(function)
}

/// Sink made by [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

impl<F: Fn(&Captured) + Send + Sync> Sink for FromFn<F> {
    fn take(&self, captured: &Captured) {
        (self.0)(captured);
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}
