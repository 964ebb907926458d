use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;

/// Number of aliases that have a ratio of their own. Clients may name what is not served, but nothing is learned of that.
const ALIASES: usize = 1_000;
/// Bound on the correction of an estimate, up or down.
const MOST: f64 = 4.0;
/// Weight of the latest answer.
const SHARE_OF_LATEST: f64 = 0.1;
/// One answer in so many is compared with what it would have been estimated at.
const SAMPLE: u64 = 16;

/// Learns by alias how what is told differs from what would have been estimated.
pub(super) struct Ratios {
    /// As bits, so that what is known of an alias can be changed where it is.
    by_alias: Cache<Box<str>, Arc<AtomicU64>>,
    requests: AtomicU64,
}

impl Ratios {
    pub(super) fn new() -> Self {
        Self { by_alias: Cache::new(ALIASES), requests: AtomicU64::new(0) }
    }

    /// Tells whether the request at hand is one to learn from.
    pub(super) fn is_sample(&self) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE)
    }

    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub(super) fn learn(&self, alias: &str, told: u64, estimated: u64) {
        if estimated == 0 || told == 0 {
            return;
        }
        let latest = (told as f64 / estimated as f64).clamp(1.0 / MOST, MOST);
        let Some(known) = self.by_alias.get(alias) else {
            return self.by_alias.insert(Box::from(alias), Arc::new(AtomicU64::new(latest.to_bits())));
        };
        // Of two answers at once one may teach nothing.
        let ratio = f64::from_bits(known.load(Ordering::Relaxed));
        known.store((ratio + (latest - ratio) * SHARE_OF_LATEST).to_bits(), Ordering::Relaxed);
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a ratio")]
    pub(super) fn correct(&self, alias: Option<&str>, estimated: u64) -> u64 {
        match alias.and_then(|alias| self.by_alias.get(alias)) {
            Some(ratio) if estimated > 0 => {
                let ratio = f64::from_bits(ratio.load(Ordering::Relaxed));
                ((estimated as f64 * ratio).round() as u64).max(1)
            }
            _ => estimated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_what_is_told_within_bounds() {
        let ratios = Ratios::new();
        assert_eq!(ratios.correct(Some("a"), 100), 100, "nothing is known yet");
        ratios.learn("a", 150, 100);
        assert_eq!(ratios.correct(Some("a"), 100), 150);
        assert_eq!((ratios.correct(Some("b"), 100), ratios.correct(None, 100)), (100, 100));
        for _ in 0..200 {
            ratios.learn("a", 1_000_000, 1);
        }
        assert_eq!(ratios.correct(Some("a"), 100), 400, "four times at most");
        ratios.learn("c", 1, 1_000);
        assert_eq!(
            (ratios.correct(Some("c"), 100), ratios.correct(Some("c"), 1)),
            (25, 1),
            "a quarter at least, and never none"
        );
        ratios.learn("d", 0, 100);
        assert_eq!(ratios.correct(Some("d"), 100), 100, "nothing teaches nothing");
    }
}
