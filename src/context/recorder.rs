use std::fmt;
use std::sync::Arc;

use super::{Record, TraceContext};

/// Takes the record of each request. See [`observe`](crate::observe).
///
/// Called once for each request, on the thread that ends it, often while it is dropped: what takes long belongs into a bounded
/// queue. A panic is caught and told of in the log.
pub trait Recorder: Send + Sync {
    /// Takes one.
    fn record(&self, record: &Record);

    /// Begins the span of a request, below its caller's if that told one.
    ///
    /// Called when a request comes. What the first recorder of a layer says holds: it stands in the [`Record`], and each attempt gets
    /// a span below it, which its `traceparent` names. Default: nothing, and the caller's header stays as it is.
    fn trace(&self, caller: Option<&TraceContext>) -> Option<TraceContext> {
        let _ = caller;
        None
    }
}

impl<R: Recorder + ?Sized> Recorder for Arc<R> {
    fn record(&self, record: &Record) {
        (**self).record(record);
    }

    fn trace(&self, caller: Option<&TraceContext>) -> Option<TraceContext> {
        (**self).trace(caller)
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
