use std::fmt;
use std::sync::Arc;

use super::Record;

/// Takes the record of each request. See [`observe`](crate::observe).
///
/// Called once for each request, on the thread that ends it, often while it is dropped: what takes long belongs into a bounded
/// queue. A panic is caught and told of in the log.
pub trait Recorder: Send + Sync {
    /// Takes one.
    fn record(&self, record: &Record);
}

impl<R: Recorder + ?Sized> Recorder for Arc<R> {
    fn record(&self, record: &Record) {
        (**self).record(record);
    }
}

/// A recorder made of a function.
pub fn from_fn<F: Fn(&Record) + Send + Sync>(function: F) -> FromFn<F> {
    FromFn(function)
}

/// Recorder made by [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

impl<F: Fn(&Record) + Send + Sync> Recorder for FromFn<F> {
    fn record(&self, record: &Record) {
        (self.0)(record);
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}
