//! Exact counts over a sliding span of time.

use std::time::Duration;

use tokio::time::Instant;

const BUCKETS: usize = 10;

/// Requests and failures of the last span, in ten buckets; the oldest falls out as a whole.
#[derive(Debug)]
pub(crate) struct Window {
    width: Duration,
    /// The start of the newest bucket; `None` while nothing was counted.
    newest: Option<Instant>,
    /// Newest first.
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    requests: u64,
    failures: u64,
}

impl Window {
    pub(crate) fn new(span: Duration) -> Self {
        let width = (span / BUCKETS as u32).max(Duration::from_nanos(1));
        Self { width, newest: None, buckets: [Bucket::default(); BUCKETS] }
    }

    pub(crate) fn add(&mut self, failed: bool, now: Instant) {
        let behind = self.buckets_behind(now);
        let newest = *self.newest.get_or_insert(now);
        if behind > 0 {
            self.buckets.rotate_right(behind.min(BUCKETS));
            self.buckets[..behind.min(BUCKETS)].fill(Bucket::default());
            self.newest = Some(if behind < BUCKETS { newest + self.width * behind as u32 } else { now });
        }
        let bucket = &mut self.buckets[0];
        bucket.requests += 1;
        bucket.failures += u64::from(failed);
    }

    /// Requests and failures among them.
    pub(crate) fn counts(&self, now: Instant) -> (u64, u64) {
        let kept = BUCKETS - self.buckets_behind(now).min(BUCKETS);
        self.buckets[..kept].iter().fold((0, 0), |(r, f), bucket| (r + bucket.requests, f + bucket.failures))
    }

    pub(crate) fn clear(&mut self) {
        self.newest = None;
        self.buckets = [Bucket::default(); BUCKETS];
    }

    fn buckets_behind(&self, now: Instant) -> usize {
        let age = self.newest.map_or(Duration::ZERO, |newest| now.saturating_duration_since(newest));
        usize::try_from(age.as_nanos() / self.width.as_nanos()).unwrap_or(BUCKETS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_younger_than_the_span() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut window = Window::new(Duration::from_secs(10));
        window.add(true, at(0));
        window.add(false, at(900));
        window.add(true, at(5_000));
        assert_eq!(window.counts(at(5_000)), (3, 2));
        assert_eq!(window.counts(at(9_999)), (3, 2));
        assert_eq!(window.counts(at(10_000)), (1, 1), "the first second has left");
        assert_eq!(window.counts(at(60_000)), (0, 0), "idle time clears it");
        window.add(false, at(60_000));
        assert_eq!(window.counts(at(60_000)), (1, 0));
    }
}
