//! A token bucket with debt and reservations: pure arithmetic over times that the caller gives.

use std::time::Duration;

use tokio::time::Instant;

/// A minute's nanoseconds: at a limit of `n` a minute, `n` of these parts of a token flow in with every nanosecond, so that no
/// refill is ever rounded.
const PARTS: i128 = 60_000_000_000;

/// Bucket of one limit by the minute: what is left of it. Full at first, and never above the limit; below nothing when more was
/// spent than was reserved, which is paid back by what flows in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    limit: u64,
    parts: i128,
    /// Tokens that are taken and may yet come back.
    reserved: i128,
    /// Part of that which has flowed in again meanwhile: were it given back too, a span could see more than flowed in.
    replaced: i128,
    at: Instant,
}

impl Bucket {
    pub(super) const fn full(limit: u64, now: Instant) -> Self {
        Self { limit, parts: limit as i128 * PARTS, reserved: 0, replaced: 0, at: now }
    }

    /// One that is full after `until_full`, and of which nothing is reserved.
    #[cfg(feature = "redis")]
    pub(super) fn full_after(limit: u64, until_full: Duration, now: Instant) -> Self {
        let missing = i128::try_from(until_full.as_nanos()).unwrap_or(i128::MAX).saturating_mul(i128::from(limit));
        let full = Self::full(limit, now);
        Self { parts: full.parts.saturating_sub(missing), ..full }
    }

    /// Lets flow in what has come until `now`. Under another limit, what was spent stays spent.
    pub(super) fn refill(&mut self, limit: u64, now: Instant) {
        if limit != self.limit {
            self.parts += (i128::from(limit) - i128::from(self.limit)) * PARTS;
            self.limit = limit;
        }
        let elapsed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        let elapsed = i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX);
        self.parts = self.parts.saturating_add(elapsed.saturating_mul(i128::from(limit))).min(self.most());
        self.replaced = self.replaced.max(self.parts + self.reserved - self.most()).min(self.reserved);
    }

    /// The same under the limit that holds.
    pub(super) fn refill_as_it_is(&mut self, now: Instant) {
        self.refill(self.limit, now);
    }

    /// Tells whether one is left.
    pub(super) const fn admits(&self) -> bool {
        self.parts >= PARTS
    }

    /// Takes any number, into debt if need be, that may yet come back. Where nothing is limited nobody gets into debt.
    pub(super) fn reserve(&mut self, count: u64) {
        if self.limit > 0 {
            self.parts -= parts(count);
            self.reserved += parts(count);
        }
    }

    /// Corrects a reservation to what was used.
    pub(super) fn settle(&mut self, reserved: u64, used: u64) {
        if self.limit == 0 {
            return;
        }
        let (reserved, used) = (parts(reserved), parts(used));
        self.reserved = (self.reserved - reserved).max(0);
        let unused = (reserved - used).max(0);
        let absorbed = unused.min(self.replaced);
        self.replaced = (self.replaced - absorbed).min(self.reserved);
        self.parts = (self.parts + unused - absorbed - (used - reserved).max(0)).min(self.most());
    }

    /// Time until one is left.
    pub(super) fn wait(&self) -> Duration {
        self.until(PARTS)
    }

    /// Time until nothing is missing.
    pub(super) fn until_full(&self) -> Duration {
        self.until(self.most())
    }

    /// Returns how many are left; none in debt.
    pub(super) fn left(&self) -> u64 {
        u64::try_from(self.parts.max(0) / PARTS).unwrap_or(u64::MAX)
    }

    fn most(&self) -> i128 {
        i128::from(self.limit) * PARTS
    }

    fn until(&self, parts: i128) -> Duration {
        let missing = (parts - self.parts).max(0);
        let rate = i128::from(self.limit.max(1));
        Duration::from_nanos(u64::try_from((missing + rate - 1) / rate).unwrap_or(u64::MAX))
    }
}

fn parts(count: u64) -> i128 {
    i128::from(count) * PARTS
}
