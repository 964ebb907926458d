//! What all collected bodies may hold together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

/// Bodies up to this size may use the part of the account that is closed to larger ones: 64 KiB.
pub const SMALL_BODY: usize = 64 * 1024;

/// The share of the account that only small bodies may use.
const SMALL_SHARE: usize = 8;

#[derive(Clone)]
pub(super) struct Account(Arc<Shared>);

struct Shared {
    limit: usize,
    in_use: AtomicUsize,
}

impl Account {
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Shared { limit, in_use: AtomicUsize::new(0) }))
    }

    pub(super) fn in_use(&self) -> usize {
        self.0.in_use.load(Relaxed)
    }

    /// A charge of nothing, to be grown.
    pub(super) fn open(&self) -> Charge {
        Charge { account: self.clone(), bytes: 0 }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("limit", &self.0.limit).field("in_use", &self.in_use()).finish()
    }
}

/// A part of the account, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    account: Account,
    bytes: usize,
}

impl Charge {
    /// Grows the charge to `bytes`, or leaves it as it is when the account has no room.
    #[must_use]
    pub(super) fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let shared = &self.account.0;
        let closed = if bytes <= SMALL_BODY { 0 } else { shared.limit / SMALL_SHARE };
        let room = shared.limit - closed;
        let grown = |used: usize| used.checked_add(more).filter(|used| *used <= room);
        let fits = more == 0 || shared.in_use.fetch_update(Relaxed, Relaxed, grown).is_ok();
        if fits {
            self.bytes += more;
        }
        fits
    }

    /// Ties the charge to the life of these bytes.
    pub(super) fn attach(self, bytes: Vec<u8>) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        Bytes::from_owner(Charged { bytes, _charge: self })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.0.in_use.fetch_sub(self.bytes, Relaxed);
    }
}

struct Charged {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_eighth_is_for_small_bodies() {
        let account = Account::new(8 * SMALL_BODY);
        let mut large = account.open();
        assert!(large.grow_to(7 * SMALL_BODY));
        assert!(!large.grow_to(7 * SMALL_BODY + 1));
        let mut small = account.open();
        assert!(small.grow_to(SMALL_BODY));
        assert!(!account.open().grow_to(1), "spent");
        drop(large);
        assert_eq!(account.in_use(), SMALL_BODY);
    }

    #[test]
    fn a_charge_lives_as_long_as_the_last_copy_of_its_bytes() {
        let account = Account::new(100);
        let mut charge = account.open();
        assert!(charge.grow_to(10));
        let bytes = charge.attach(vec![0; 10]);
        let part = bytes.slice(3..4);
        drop(bytes);
        assert_eq!(account.in_use(), 10);
        drop(part);
        assert_eq!(account.in_use(), 0);
    }
}
