//! Heads of 1xx, of which a backend may send any number before the one that counts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use http::Request;

use super::INTERIM_HEADS;

/// Counts the heads of 1xx that come before the answer to a request. Those of HTTP/2 are not told of, and counted by
/// [`heads`](super::heads).
pub(super) fn watch<B>(request: &mut Request<B>) -> Interim {
    let interim = Interim::default();
    let heard = interim.clone();
    hyper::ext::on_informational(request, move |_| heard.add());
    interim
}

#[derive(Clone, Default)]
pub(super) struct Interim(Arc<Heard>);

#[derive(Default)]
struct Heard {
    heads: AtomicU32,
    waiting: AtomicWaker,
}

impl Interim {
    fn add(&self) {
        if self.0.heads.fetch_add(1, Relaxed) == INTERIM_HEADS {
            self.0.waiting.wake();
        }
    }

    /// Resolves when there were more than 1,000 heads of 1xx.
    pub(super) fn poll_exceeded(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.waiting.register(cx.waker());
        if self.0.heads.load(Relaxed) > INTERIM_HEADS { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interim").field(&self.0.heads.load(Relaxed)).finish()
    }
}
