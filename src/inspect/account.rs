//! How much memory all collected bodies hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::SMALL_BODY;

/// What a body's reservation grows by at least, so that one without a known length does not ask for every frame.
const STEP: usize = 16 * 1024;

/// The account itself. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Account(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    capacity: usize,
    in_use: AtomicUsize,
}

impl Account {
    pub(super) fn new(capacity: usize) -> Self {
        Self(Arc::new(Inner { capacity, in_use: AtomicUsize::new(0) }))
    }

    pub(super) fn in_use(&self) -> usize {
        self.0.in_use.load(Ordering::Acquire)
    }

    /// A reservation of nothing yet.
    pub(super) fn open(&self) -> Reservation {
        Reservation { account: self.clone(), amount: 0 }
    }

    /// All or nothing; `total` is what the body will hold then.
    fn take(&self, more: usize, total: usize) -> bool {
        let capacity = self.0.capacity;
        let ceiling = if total <= SMALL_BODY { capacity } else { capacity - capacity / super::SMALL_SHARE };
        let taken = |used: usize| used.checked_add(more).filter(|used| *used <= ceiling);
        self.0.in_use.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken).is_ok()
    }
}

/// What one body may hold; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    account: Account,
    amount: usize,
}

impl Reservation {
    pub(super) const fn amount(&self) -> usize {
        self.amount
    }

    /// Grows to `needed`, or not at all.
    pub(super) fn cover(&mut self, needed: usize) -> bool {
        let covered = needed <= self.amount || self.account.take(needed - self.amount, needed);
        if covered {
            self.amount = self.amount.max(needed);
        }
        covered
    }

    /// Grows to `needed` and, where there is room, by a step ahead of it, never above `limit`.
    pub(super) fn cover_ahead(&mut self, needed: usize, limit: usize) -> bool {
        if needed <= self.amount {
            return true;
        }
        let ahead = (self.amount + STEP.max(self.amount / 2)).clamp(needed, limit.max(needed));
        self.cover(ahead) || self.cover(needed)
    }

    pub(super) fn shrink_to(&mut self, amount: usize) {
        let back = self.amount.saturating_sub(amount);
        self.amount -= back;
        self.account.0.in_use.fetch_sub(back, Ordering::AcqRel);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_share_is_for_small_bodies() {
        let account = Account::new(8 * SMALL_BODY);
        let (mut large, mut small, mut another) = (account.open(), account.open(), account.open());
        assert!(large.cover(7 * SMALL_BODY));
        assert!(!another.cover(SMALL_BODY + 1), "not for a large one");
        assert!(small.cover(SMALL_BODY));
        assert!(!another.cover(1), "spent");
        drop(large);
        assert!(another.cover(SMALL_BODY + 1));
    }

    #[test]
    fn a_step_that_does_not_fit_is_not_insisted_on() {
        let account = Account::new(1_000);
        let mut reservation = account.open();
        assert!(reservation.cover_ahead(900, usize::MAX));
        assert_eq!(account.in_use(), 900);
        assert!(!reservation.cover_ahead(1_001, usize::MAX));
        assert_eq!(account.in_use(), 900, "all or nothing");
    }

    #[test]
    fn grows_in_steps_up_to_the_limit() {
        let account = Account::new(usize::MAX);
        let mut reservation = account.open();
        assert!(reservation.cover_ahead(1, STEP + 10));
        assert_eq!(reservation.amount(), STEP);
        assert!(reservation.cover_ahead(STEP + 1, STEP + 10));
        assert_eq!(reservation.amount(), STEP + 10);
    }

    proptest! {
        #[test]
        fn every_byte_comes_back(ops in proptest::collection::vec((0_usize..4, 0_usize..3, 0_usize..200_000), 0..60)) {
            let account = Account::new(400_000);
            let mut open: Vec<_> = (0..4).map(|_| account.open()).collect();
            for (which, op, amount) in ops {
                match op {
                    0 => drop(open[which].cover(amount)),
                    1 => drop(open[which].cover_ahead(amount, 150_000)),
                    _ => open[which].shrink_to(amount),
                }
                prop_assert_eq!(account.in_use(), open.iter().map(Reservation::amount).sum::<usize>());
                prop_assert!(account.in_use() <= 400_000);
            }
            drop(open);
            prop_assert_eq!(account.in_use(), 0);
        }
    }
}
