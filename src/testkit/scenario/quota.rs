//! Admission to a deployment, computed from the moment that the caller gives.
//!
//! Milliseconds since the start throughout. Unlike the limits of a [`SimulatedBackend`](crate::testkit::SimulatedBackend), a
//! window of tokens admits until its limit is reached, as Azure's documentation puts it, stands at a phase of its own, and can
//! be looked at without taking anything.

const MINUTE: u64 = 60_000;
const REQUEST_WINDOW: u64 = 10_000;
pub(super) const SECOND: u64 = 1_000;

/// The quota of one deployment.
#[derive(Clone, Debug)]
pub(super) enum Quota {
    Provisioned(Bucket),
    Standard { tokens: Option<Window>, requests: Option<Window> },
}

impl Quota {
    /// Time until a request is admitted, when `share` of the quota is there; `None` when it is at once.
    pub(super) fn wait(&self, share: f64, now: u64) -> Option<u64> {
        match self {
            Self::Provisioned(bucket) => bucket.wait(now),
            Self::Standard { tokens, requests } => {
                let waits = [tokens, requests].map(|window| window.as_ref().and_then(|window| window.wait(share, now)));
                waits.into_iter().flatten().max()
            }
        }
    }

    /// Counts a request that is estimated to cost so many tokens.
    pub(super) fn take(&mut self, estimate: u64, now: u64) {
        match self {
            Self::Provisioned(bucket) => bucket.add(estimate, now),
            Self::Standard { tokens, requests } => {
                tokens.iter_mut().for_each(|window| window.take(estimate, now));
                requests.iter_mut().for_each(|window| window.take(1, now));
            }
        }
    }

    /// Corrects the estimate of a request that has ended. The count of a standard deployment stays what was estimated.
    pub(super) fn settle(&mut self, estimate: u64, actual: u64, now: u64) {
        if let Self::Provisioned(bucket) = self {
            bucket.drain(now);
            bucket.level = (bucket.level + actual * MINUTE).saturating_sub(estimate * MINUTE);
        }
    }

    /// The share of a provisioned deployment's time in which it worked.
    pub(super) fn utilization(&mut self, now: u64) -> Option<f64> {
        let Self::Provisioned(bucket) = self else { return None };
        bucket.drain(now);
        Some(bucket.drained as f64 / (bucket.per_minute * now.max(1)) as f64)
    }

    /// Returns what a provisioned deployment says of itself: how full it is, as a share.
    pub(super) fn told(&self, now: u64) -> Option<f64> {
        let Self::Provisioned(bucket) = self else { return None };
        let level = bucket.level.saturating_sub(bucket.per_minute * (now - bucket.at));
        Some(level as f64 / bucket.full.max(1) as f64)
    }

    /// A provisioned deployment could have been given more to work on during this second.
    pub(super) fn want(&mut self, second: usize) {
        if let Self::Provisioned(bucket) = self {
            bucket.second(second).wanted = true;
        }
    }

    /// The share of the wanted seconds in which a provisioned deployment had nothing to work on.
    pub(super) fn idle(&mut self, now: u64) -> Option<f64> {
        let Self::Provisioned(bucket) = self else { return None };
        bucket.drain(now);
        let whole = bucket.seconds.iter().take((now / SECOND) as usize);
        let empty: Vec<_> = whole.filter(|second| second.wanted).map(|second| second.empty).collect();
        Some(empty.iter().sum::<u64>() as f64 / (SECOND * empty.len().max(1) as u64) as f64)
    }
}

/// A count of what was used in each stretch of time.
#[derive(Clone, Debug)]
pub(super) struct Window {
    limit: u64,
    length: u64,
    phase: u64,
    stretch: u64,
    used: u64,
}

impl Window {
    pub(super) const fn tokens(per_minute: u64, phase: u64) -> Self {
        Self { limit: per_minute, length: MINUTE, phase: phase % MINUTE, stretch: 0, used: 0 }
    }

    /// A sixth in each ten seconds.
    pub(super) const fn requests(per_minute: u64, phase: u64) -> Self {
        let limit = per_minute.div_ceil(6);
        Self { limit, length: REQUEST_WINDOW, phase: phase % REQUEST_WINDOW, stretch: 0, used: 0 }
    }

    fn wait(&self, share: f64, now: u64) -> Option<u64> {
        let used = if self.stretch_at(now) == self.stretch { self.used } else { 0 };
        let reached = used as f64 >= self.limit as f64 * share;
        reached.then(|| self.length - (now + self.phase) % self.length)
    }

    const fn take(&mut self, cost: u64, now: u64) {
        let stretch = self.stretch_at(now);
        if stretch != self.stretch {
            (self.stretch, self.used) = (stretch, 0);
        }
        self.used += cost;
    }

    const fn stretch_at(&self, now: u64) -> u64 {
        (now + self.phase) / self.length
    }
}

/// Holds the tokens of some time and drains continuously; full is a utilization of 100 %.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    per_minute: u64,
    full: u64,
    /// In tokens × milliseconds per minute, so that nothing is lost to rounding.
    level: u64,
    drained: u64,
    at: u64,
    seconds: Vec<Second>,
}

/// Facts of a second of a bucket.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    wanted: bool,
    /// Milliseconds.
    empty: u64,
}

impl Bucket {
    /// `holds` milliseconds' worth of tokens.
    pub(super) fn new(per_minute: u64, holds: u64) -> Self {
        let per_minute = per_minute.max(1);
        Self { per_minute, full: per_minute * holds, level: 0, drained: 0, at: 0, seconds: Vec::new() }
    }

    fn wait(&self, now: u64) -> Option<u64> {
        let level = self.level.saturating_sub(self.per_minute * (now - self.at));
        let excess = level.saturating_sub(self.full);
        (excess > 0).then(|| excess.div_ceil(self.per_minute))
    }

    fn add(&mut self, tokens: u64, now: u64) {
        self.drain(now);
        self.level += tokens * MINUTE;
    }

    fn drain(&mut self, now: u64) {
        let drained = self.level.min(self.per_minute * (now - self.at));
        self.level -= drained;
        self.drained += drained;
        self.was_empty(self.at + drained.div_ceil(self.per_minute), now);
        self.at = now;
    }

    fn was_empty(&mut self, mut from: u64, to: u64) {
        while from < to {
            let end = to.min(from - from % SECOND + SECOND);
            self.second((from / SECOND) as usize).empty += end - from;
            from = end;
        }
    }

    fn second(&mut self, index: usize) -> &mut Second {
        if self.seconds.len() <= index {
            self.seconds.resize(index + 1, Second::default());
        }
        &mut self.seconds[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_admits_until_its_limit_is_reached() {
        let mut quota = Quota::Standard { tokens: Some(Window::tokens(100, 20_000)), requests: None };
        quota.take(99, 0);
        assert_eq!(quota.wait(1.0, 10), None);
        assert_eq!(quota.wait(0.5, 10), Some(39_990), "half of the quota is there");
        quota.take(500, 10);
        assert_eq!(quota.wait(1.0, 10), Some(39_990));
        assert_eq!(quota.wait(1.0, 40_000), None, "the next minute has begun");
    }

    #[test]
    fn requests_are_counted_by_ten_seconds() {
        let mut quota = Quota::Standard { tokens: None, requests: Some(Window::requests(12, 0)) };
        quota.take(9, 0);
        quota.take(9, 1);
        assert_eq!(quota.wait(1.0, 1_000), Some(9_000));
    }

    #[test]
    fn a_bucket_drains_and_is_corrected() {
        let mut quota = Quota::Provisioned(Bucket::new(60_000, MINUTE));
        quota.take(60_000, 0);
        assert_eq!(quota.wait(1.0, 0), None, "at 100 %");
        quota.take(2_000, 0);
        assert_eq!(quota.wait(1.0, 500), Some(1_500));
        quota.settle(2_000, 500, 500);
        assert_eq!(quota.wait(1.0, 500), None);
        assert_eq!(quota.utilization(30_000), Some(1.0));
        quota.settle(60_000, 0, 30_000);
        assert_eq!(quota.utilization(60_000), Some(0.5), "nothing was left to work on");
        assert_eq!(quota.idle(60_000), Some(0.0), "and nobody wanted it to");
        quota.want(29);
        quota.want(45);
        assert_eq!(quota.idle(60_000), Some(0.5), "in one of two seconds in which somebody did");
    }
}
