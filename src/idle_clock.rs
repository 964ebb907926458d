//! Time for which nothing has come, told without a timer that is set for every frame.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// "Never", as far as timers go.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);

/// The moment so long after `start`.
pub(crate) fn after(start: Instant, limit: Duration) -> Instant {
    start.checked_add(limit.min(FAR)).unwrap_or(start)
}

pin_project! {
    /// Runs while somebody waits for a frame.
    #[derive(Debug)]
    pub(crate) struct IdleClock {
        limit: Duration,
        waiting_since: Option<Instant>,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl IdleClock {
    pub(crate) const fn new(limit: Duration) -> Self {
        Self { limit, waiting_since: None, timer: None }
    }

    /// Something came.
    pub(crate) fn moved(self: Pin<&mut Self>) {
        *self.project().waiting_since = None;
    }

    /// Resolves when the wait has lasted too long. A timer that is set for an earlier wait is left to fire before it is set
    /// anew: most never do.
    pub(crate) fn poll_expired(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let deadline = after(*this.waiting_since.get_or_insert_with(Instant::now), *this.limit);
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(deadline)));
        }
        while let Some(mut timer) = this.timer.as_mut().as_pin_mut() {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                break;
            }
            timer.reset(deadline);
        }
        Poll::Ready(())
    }
}
