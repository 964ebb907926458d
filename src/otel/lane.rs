//! Each signal has its own way to the collector, so that one which is refused holds up no other.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::collector::{Collector, Sent};
use super::metrics::Metrics;
use super::queue::{Batch, Queue};
use super::resource::Resource;
use super::{FIRST_BACKOFF, LONGEST_BACKOFF, RETRIED_FOR};

/// Once in so long it is said that nothing is taken.
const TELL: Duration = Duration::from_secs(60);

/// The way of one signal.
pub(super) struct Lane {
    pub(super) signal: &'static str,
    pub(super) uri: Uri,
    pub(super) collector: Arc<Collector>,
    pub(super) resource: Arc<Resource>,
    pub(super) interval: Duration,
    /// True once what waits is all that there will be.
    pub(super) ending: watch::Receiver<bool>,
    pub(super) told: Option<Instant>,
}

impl Lane {
    /// Sends what waits, again and again.
    pub(super) async fn run(mut self, queue: Arc<Queue>) {
        loop {
            tokio::select! {
                () = sleep(self.interval) => {}
                () = queue.half_full() => {}
                () = ended(&mut self.ending) => {}
            }
            let is_last = *self.ending.borrow();
            while let Some(batch) = queue.take() {
                self.deliver(batch, &queue).await;
            }
            if is_last {
                return;
            }
        }
    }

    /// Sends totals, which are told again by what comes next: nothing of them is kept for another attempt.
    pub(super) async fn run_totals(mut self, metrics: Arc<Metrics>) {
        let mut pause = self.interval;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = ended(&mut self.ending) => {}
            }
            let is_last = *self.ending.borrow();
            pause = self.interval;
            if let Some(fields) = metrics.fields() {
                let sent = self.collector.post(&self.uri, self.resource.around(&fields)).await;
                self.tell(&sent);
                if let Sent::Unavailable { retry_after: Some(wait), .. } = sent {
                    pause = pause.max(wait.min(RETRIED_FOR));
                }
            }
            if is_last {
                return;
            }
        }
    }

    /// Sends until it is taken, is refused, or has been tried for long enough.
    async fn deliver(&mut self, batch: Batch, queue: &Queue) {
        let (began, mut backoff) = (Instant::now(), FIRST_BACKOFF);
        let mut lost = Lost { queue, items: batch.items };
        let body = self.resource.around(&batch.fields);
        drop(batch.fields);
        loop {
            let sent = self.collector.post(&self.uri, body.clone()).await;
            self.tell(&sent);
            let (wait, is_asked) = match sent {
                Sent::Accepted { rejected } => {
                    lost.items = rejected.min(lost.items);
                    return;
                }
                Sent::Refused(_) => return,
                Sent::Unavailable { retry_after: Some(wait), .. } => (wait, true),
                Sent::Unavailable { .. } => (jittered(backoff), false),
            };
            if *self.ending.borrow() || began.elapsed() + wait > RETRIED_FOR {
                return;
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
            tokio::select! {
                () = sleep(wait) => {}
                // One more attempt at the end, unless the collector has asked for patience.
                () = ended(&mut self.ending) => if is_asked { return },
            }
        }
    }

    fn tell(&mut self, sent: &Sent) {
        let signal = self.signal;
        let why = match sent {
            Sent::Accepted { rejected: 0 } => {
                if self.told.take().is_some() {
                    tracing::info!(signal, "the telemetry collector takes what is sent again");
                }
                return;
            }
            Sent::Accepted { .. } => "it rejects some of it",
            Sent::Refused(_) => "it refuses it",
            Sent::Unavailable { why, .. } => why,
        };
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            let status = if let Sent::Refused(status) = sent { Some(status.as_u16()) } else { None };
            tracing::warn!(signal, why, status, "the telemetry collector does not take what is sent");
        }
    }
}

/// Items that are lost unless somebody says otherwise, also when whoever sends them is given up.
struct Lost<'a> {
    queue: &'a Queue,
    items: u64,
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        if self.items > 0 {
            self.queue.lost(self.items);
        }
    }
}

/// Resolves once there is an end, also where nobody is left to say so.
async fn ended(ending: &mut watch::Receiver<bool>) {
    drop(ending.wait_for(|is_ending| *is_ending).await);
}

/// Between half of it and all, so that a fleet does not come back at once.
fn jittered(backoff: Duration) -> Duration {
    let mut byte = [0];
    let _ = getrandom::fill(&mut byte);
    backoff.mul_f64(0.5 + f64::from(byte[0]) / 512.0)
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("signal", &self.signal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_at_least_half_of_what_was_meant() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(8));
            assert!((Duration::from_secs(4)..=Duration::from_secs(8)).contains(&pause), "{pause:?}");
        }
    }
}
