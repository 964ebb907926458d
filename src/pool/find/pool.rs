//! The handle of a pool.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::Table;
use crate::pool::live::{Live, Neighbours, Spread, Target};
use crate::sync::{Mutex, MutexGuard};

/// The backends, their targets and their live state. See the [module docs](crate::pool).
#[derive(Clone)]
pub struct Pool(pub(in crate::pool) Arc<Shared>);

pub(in crate::pool) struct Shared {
    pub(in crate::pool) epoch: Instant,
    pub(in crate::pool) table: ArcSwap<Table>,
    /// Held while the table is rebuilt, and while a failure looks whether others still admit. Shared with successors.
    pub(in crate::pool) changing: Arc<Mutex<()>>,
    /// Number of requests of nobody in particular that were given a release.
    pub(in crate::pool) draws: AtomicU64,
    /// Of those who are told of an outage.
    pub(in crate::pool) spread: Spread,
}

impl Pool {
    /// Tells whether both are handles of one pool.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn probe_interval(&self) -> std::time::Duration {
        self.0.table.load().description.circuit.probe_interval
    }

    pub(super) fn next_draw(&self) -> u64 {
        self.0.draws.fetch_add(1, Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    pub(in crate::pool) fn changing(&self) -> MutexGuard<'_, ()> {
        self.0.changing()
    }
}

impl Shared {
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Neighbours for Shared {
    fn with_others_admitting(&self, target: &Target, now: Instant, then: &mut dyn FnMut(bool)) {
        let _alone = self.changing();
        let (table, since) = (self.table.load(), Live::since(self.epoch, now));
        let admits = |other: &Target| !other.is_drained() && other.live.admits(since);
        let has_others = |target: &Target| {
            table.group(target.alias()).is_some_and(|group| {
                group.targets().any(|other| other != target && other.shares_release_with(target) && admits(other))
            })
        };
        // A deployment closes for all aliases that it serves.
        then(has_others(target) && table.deployed().filter(|twin| *twin == target).all(has_others));
    }

    fn siblings(&self, target: &Target) -> Vec<Target> {
        self.table.load().others(|other| other != target && other.shares_place_with(target))
    }

    fn quota_members(&self, target: &Target) -> Vec<Target> {
        self.table.load().others(|other| other != target && other.shares_quota_with(target))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0.table.load();
        f.debug_struct("Pool").field("targets", &table.deployed().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}
