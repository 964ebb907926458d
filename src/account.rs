//! Memory that bodies in hand hold together, and how much of it one client.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::sync::{Mutex, MutexGuard};

/// Memory that collected bodies hold together by default: 256 MiB.
pub(crate) const REPLAY_MEMORY: usize = 256 << 20;
/// Bodies up to this size have the whole account: 64 KiB.
pub(crate) const SMALL_BODY: usize = 64 << 10;
/// One part in this many of an account, and of each client's share of it, is kept for small bodies.
pub(crate) const SMALL_SHARE: usize = 8;
/// One client holds at most one part in this many of an account.
pub(crate) const CLIENT_SHARE: usize = 2;

/// Growth of a reservation ahead of a body: one part in this many of what has arrived.
const AHEAD: usize = 2;

/// Memory that bodies and messages in hand hold together. Clones share it.
#[derive(Clone, Debug)]
pub struct Account(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    capacity: usize,
    /// Clients are known by a digest of their id, so that an entry owns nothing.
    digest: RandomState,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    in_use: usize,
    /// Bytes of each client that holds any.
    clients: HashMap<u64, usize>,
}

impl Default for Account {
    fn default() -> Self {
        Self::new(REPLAY_MEMORY)
    }
}

impl Account {
    /// Nothing is held yet, of this many bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Inner { capacity, digest: RandomState::new(), ledger: Mutex::default() }))
    }

    /// Returns the bytes that are held at this moment.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.ledger().in_use
    }

    /// From 0 to 1; an account that never holds anything is not full.
    pub(crate) fn share_in_use(&self) -> f64 {
        if self.0.capacity == 0 { 0.0 } else { self.in_use() as f64 / self.0.capacity as f64 }
    }

    /// A reservation of nothing yet, for a client; requests without one are one client.
    pub(crate) fn open(&self, client: Option<&str>) -> Reservation {
        let client = self.0.digest.hash_one(client);
        Reservation { account: self.clone(), client, amount: 0 }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All or nothing; `total` is what the body will hold then.
    fn take(&self, client: u64, more: usize, total: usize) -> bool {
        let mut ledger = self.ledger();
        let held = ledger.clients.get(&client).copied().unwrap_or(0);
        let fits = |used: usize, capacity| used.checked_add(more).is_some_and(|used| used <= ceiling(capacity, total));
        let granted = fits(ledger.in_use, self.0.capacity) && fits(held, self.0.capacity / CLIENT_SHARE);
        if granted && more > 0 {
            ledger.in_use += more;
            ledger.clients.insert(client, held + more);
        }
        granted
    }

    fn give_back(&self, client: u64, amount: usize) {
        if amount == 0 {
            return;
        }
        let mut ledger = self.ledger();
        ledger.in_use -= amount;
        let left = ledger.clients.get(&client).map_or(0, |held| held - amount);
        match left {
            0 => drop(ledger.clients.remove(&client)),
            left => drop(ledger.clients.insert(client, left)),
        }
    }
}

/// Returns the part of a share that bodies of `total` bytes may use.
const fn ceiling(share: usize, total: usize) -> usize {
    if total <= SMALL_BODY { share } else { share - share / SMALL_SHARE }
}

/// Memory that one body may hold; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    account: Account,
    client: u64,
    amount: usize,
}

impl Reservation {
    pub(crate) const fn amount(&self) -> usize {
        self.amount
    }

    /// Returns the most that a body of `total` bytes could ever hold.
    pub(crate) fn share(&self, total: usize) -> usize {
        ceiling(self.account.0.capacity / CLIENT_SHARE, total)
    }

    /// Grows to `needed`, or not at all.
    pub(crate) fn cover(&mut self, needed: usize) -> bool {
        let covered = needed <= self.amount || self.account.take(self.client, needed - self.amount, needed);
        if covered {
            self.amount = self.amount.max(needed);
        }
        covered
    }

    /// Grows to `needed` and, where there is room, ahead of it by a part of what is held, never above `limit`.
    pub(crate) fn cover_ahead(&mut self, needed: usize, limit: usize) -> bool {
        if needed <= self.amount {
            return true;
        }
        let ahead = (self.amount + self.amount / AHEAD).clamp(needed, limit.max(needed));
        self.cover(ahead) || self.cover(needed)
    }

    pub(crate) fn shrink_to(&mut self, amount: usize) {
        let back = self.amount.saturating_sub(amount);
        self.amount -= back;
        self.account.give_back(self.client, back);
    }
}

impl Reservation {
    /// Bytes that the account knows of for as long as anybody has them.
    pub(crate) fn charge(mut self, bytes: Bytes) -> Bytes {
        self.shrink_to(bytes.len());
        if bytes.is_empty() { bytes } else { Bytes::from_owner(Charged { bytes, _reservation: self }) }
    }
}

struct Charged {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
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
        let account = Account::new(16 * SMALL_BODY);
        let open = |id: &str| account.open(Some(id));
        let (mut large, mut other, mut small) = (open("a"), open("b"), open("a"));
        assert!(large.cover(7 * SMALL_BODY));
        assert!(!small.cover(SMALL_BODY + 1), "not for a large one");
        assert!(small.cover(SMALL_BODY));
        assert!(!open("a").cover(1), "a's half is spent");
        assert!(other.cover(6 * SMALL_BODY), "b's is not");
        assert!(!open("c").cover(SMALL_BODY + 1), "together they leave room for small ones only");
        drop(large);
        assert!(open("a").cover(SMALL_BODY + 1));
    }

    #[test]
    fn a_step_that_does_not_fit_is_not_insisted_on() {
        let account = Account::new(2_000);
        let mut reservation = account.open(None);
        assert!(reservation.cover_ahead(900, usize::MAX));
        assert!(reservation.cover_ahead(901, usize::MAX));
        assert_eq!(account.in_use(), 901);
        assert!(!reservation.cover_ahead(1_001, usize::MAX));
        assert_eq!(account.in_use(), 901, "all or nothing");
    }

    #[test]
    fn grows_ahead_up_to_the_limit() {
        let account = Account::new(usize::MAX);
        let mut reservation = account.open(None);
        let mut held = |needed| {
            assert!(reservation.cover_ahead(needed, 1_600));
            reservation.amount()
        };
        assert_eq!([1_000, 1_001, 1_501, 1_600].map(&mut held), [1_000, 1_500, 1_600, 1_600]);
    }

    proptest! {
        #[test]
        fn every_byte_comes_back_and_no_client_holds_more_than_half(
            ops in proptest::collection::vec((0_usize..6, 0_usize..3, 0_usize..200_000), 0..80),
        ) {
            const CAPACITY: usize = 400_000;
            let account = Account::new(CAPACITY);
            let clients = [Some("a"), Some("b"), None];
            let mut open: Vec<_> = (0..6).map(|i| account.open(clients[i % 3])).collect();
            for (which, op, amount) in ops {
                match op {
                    0 => drop(open[which].cover(amount)),
                    1 => drop(open[which].cover_ahead(amount, 150_000)),
                    _ => open[which].shrink_to(amount),
                }
                let held = |client: usize| open[client].amount() + open[client + 3].amount();
                prop_assert_eq!(account.in_use(), (0..3).map(held).sum::<usize>());
                prop_assert!(account.in_use() <= CAPACITY);
                prop_assert!((0..3).all(|client| held(client) <= CAPACITY / 2));
            }
            drop(open);
            prop_assert_eq!(account.in_use(), 0);
            prop_assert!(account.ledger().clients.is_empty(), "nobody is remembered who holds nothing");
        }
    }
}
