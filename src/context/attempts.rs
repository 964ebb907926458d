use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pool::{NoTarget, Pool, Query, Target, TargetSet};

/// What has been tried for one client request, shared by every layer that might send again. Cheap to clone.
///
/// Created once per request by whichever layer comes first.
#[derive(Clone, Default)]
pub struct Attempts(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    tried: TargetSet,
    sent: u32,
    last: Option<Target>,
    repeat: Option<Target>,
    pool: Option<Pool>,
}

impl Attempts {
    /// Nothing tried yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that the request is being sent to a target of this pool.
    pub fn sent_to(&self, target: &Target, pool: &Pool) {
        let mut state = self.lock();
        state.tried.insert(target);
        state.sent += 1;
        state.last = Some(target.clone());
        state.pool.get_or_insert_with(|| pool.clone());
    }

    /// How many attempts were sent.
    #[must_use]
    pub fn sent(&self) -> u32 {
        self.lock().sent
    }

    /// The targets that were tried: each is tried once.
    #[must_use]
    pub fn tried(&self) -> TargetSet {
        self.lock().tried.clone()
    }

    /// Asks for the next attempt to go to `target` once more.
    pub fn repeat_on(&self, target: Target) {
        self.lock().repeat = Some(target);
    }

    /// The target that the next attempt must go to, once.
    #[must_use]
    pub fn take_repeat(&self) -> Option<Target> {
        self.lock().repeat.take()
    }

    /// The target that the request was sent to last.
    #[must_use]
    pub fn last(&self) -> Option<Target> {
        self.lock().last.clone()
    }

    /// Why nothing is left to try, and how long to wait, as far as selection took part.
    #[must_use]
    pub fn outlook(&self, query: &Query<'_>) -> Option<NoTarget> {
        let pool = self.lock().pool.clone();
        pool.map(|pool| pool.outlook(query))
    }

    /// What keeps the request from the targets that were not tried, if there are any, as far as selection took part.
    pub(crate) fn outlook_of_untried(&self, query: Query<'_>) -> Option<NoTarget> {
        let (pool, tried) = {
            let state = self.lock();
            (state.pool.clone(), state.tried.clone())
        };
        pool?.outlook_of_untried(&query.tried(&tried))
    }

    /// Whether another target could be tried now; without selection nobody knows, and it is taken to be so.
    #[must_use]
    pub fn can_go_on(&self, query: Query<'_>) -> bool {
        let (pool, tried) = {
            let state = self.lock();
            (state.pool.clone(), state.tried.clone())
        };
        pool.is_none_or(|pool| pool.has_eligible(&query.tried(&tried)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").field("sent", &self.sent()).finish_non_exhaustive()
    }
}
