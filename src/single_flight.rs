//! Work of which one piece at a time is enough for all who wait for it.

use std::fmt;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The piece of work that is under way, if any. Dropping it ends the work.
pub(crate) struct SingleFlight<T>(Option<Running<T>>);

struct Running<T> {
    landing: Landing<T>,
    task: AbortHandle,
}

/// Result of the work, now or later.
pub(crate) struct Landing<T>(watch::Receiver<Option<T>>);

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// The work under way. Work that ended without a word, because it panicked, is none.
    pub(crate) fn flying(&self) -> Option<Landing<T>> {
        self.0.as_ref().filter(|running| !running.task.is_finished()).map(|running| running.landing.clone())
    }

    /// Starts work on the runtime of the caller; outside a runtime nothing can be done. It says that it has ended by
    /// [`end`](Self::end), before those who wait are told.
    pub(crate) fn start(&mut self, work: impl Future<Output = Option<T>> + Send + 'static) -> Option<Landing<T>> {
        let runtime = Handle::try_current().ok()?;
        let (tell, told) = watch::channel(None);
        let task = runtime.spawn(async move {
            let landed = work.await;
            tell.send_replace(landed);
        });
        let landing = Landing(told);
        self.0 = Some(Running { landing: landing.clone(), task: task.abort_handle() });
        Some(landing)
    }

    /// Forgets the work, which has ended, so that the next piece may start.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Drop for SingleFlight<T> {
    fn drop(&mut self) {
        if let Some(running) = &self.0 {
            running.task.abort();
        }
    }
}

impl<T> fmt::Debug for SingleFlight<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SingleFlight").field(&self.0.is_some()).finish()
    }
}

impl<T: Clone> Landing<T> {
    /// Lands at once with what is known already.
    pub(crate) fn known(value: T) -> Self {
        Self(watch::channel(Some(value)).1)
    }

    /// Waits for the end; `None` when the work was given up or ended without a word.
    pub(crate) async fn landed(mut self) -> Option<T> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone())
    }
}

impl<T> Clone for Landing<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_are_told_and_the_next_may_start() {
        let mut flight = SingleFlight::default();
        let (go, wait) = oneshot::channel();
        let first = flight.start(async move { wait.await.ok() }).unwrap();
        let second = flight.flying().unwrap();
        go.send(7).unwrap();
        assert_eq!((first.landed().await, second.landed().await), (Some(7), Some(7)));
        flight.end();
        assert!(flight.flying().is_none());
        assert_eq!(Landing::known(8).landed().await, Some(8));
    }

    #[tokio::test]
    async fn work_that_panics_is_none() {
        let mut flight = SingleFlight::<()>::default();
        let landing = flight.start(async { panic!("a source that panics") }).unwrap();
        assert_eq!(landing.landed().await, None);
        while flight.flying().is_some() {
            tokio::task::yield_now().await;
        }
        assert!(flight.start(async { Some(()) }).is_some());
    }

    #[tokio::test]
    async fn dropping_it_ends_the_work() {
        let mut flight = SingleFlight::<()>::default();
        let (held, dropped) = oneshot::channel::<()>();
        let landing = flight.start(async move {
            let _held = held;
            pending().await
        });
        drop(flight);
        assert!(dropped.await.is_err());
        assert_eq!(landing.unwrap().landed().await, None);
    }

    #[test]
    fn nothing_is_started_outside_a_runtime() {
        assert!(SingleFlight::<()>::default().start(async { Some(()) }).is_none());
    }
}
