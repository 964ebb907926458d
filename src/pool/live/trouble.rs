//! Trouble of a backend to which no connection can be made, and since when.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ceil_ms;

/// A backend that comes and goes for the same reason is told of once in so long: 10 s.
const TELL: Duration = Duration::from_secs(10);

/// The connections of one backend: of none could be made, and why, until one was answered again. Each change is logged once.
#[derive(Debug, Default)]
pub(in crate::pool) struct Trouble {
    /// For looking without a lock, which every answer does.
    is_down: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    now: Option<Cause>,
    /// Cause that was logged last.
    told: Option<Cause>,
}

#[derive(Clone, Debug)]
struct Cause {
    text: Cow<'static, str>,
    since: Instant,
}

impl Trouble {
    /// No connection; `text` holds no address.
    pub(super) fn begin(&self, backend: &str, text: Cow<'static, str>, now: Instant) {
        let mut state = self.lock();
        if state.now.as_ref().is_some_and(|cause| cause.text == text) {
            return;
        }
        // What is told is how long it is down, for whatever reason.
        let since = state.now.as_ref().map_or(now, |cause| cause.since);
        let cause = Cause { text, since };
        let is_known = state.told.as_ref().is_some_and(|told| told.text == cause.text && now < told.since + TELL);
        state.now = Some(cause.clone());
        self.is_down.store(true, Relaxed);
        if !is_known {
            state.told = Some(Cause { text: cause.text.clone(), since: now });
            drop(state);
            tracing::warn!(backend, cause = %cause.text, "no connection to the backend");
        }
    }

    /// A request that was sent then has been answered.
    pub(super) fn answered(&self, backend: &str, sent: Instant, now: Instant) {
        if !self.is_down.load(Relaxed) {
            return;
        }
        let mut state = self.lock();
        // A connection from before says nothing of new ones.
        let Some(cause) = state.now.take_if(|cause| cause.since <= sent) else { return };
        self.is_down.store(false, Relaxed);
        let was_told = state.told.as_ref().is_some_and(|told| told.since >= cause.since);
        drop(state);
        if was_told {
            let after_ms = ceil_ms(now.saturating_duration_since(cause.since));
            tracing::info!(backend, after_ms, "connections to the backend can be made again");
        }
    }

    /// The cause and for how long, while it lasts.
    pub(in crate::pool) fn report(&self, now: Instant) -> Option<(String, Duration)> {
        let state = self.lock();
        let cause = state.now.as_ref()?;
        Some((cause.text.to_string(), now.saturating_duration_since(cause.since)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
