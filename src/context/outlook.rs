use std::fmt;

use crate::pool::{NoTarget, Pool, Query};

/// The pool that chose the target of an attempt, for whoever asks what else could be tried.
#[derive(Clone)]
pub(crate) struct Outlook(Pool);

impl Outlook {
    pub(crate) fn of(pool: &Pool) -> Self {
        Self(pool.clone())
    }

    /// Tells why nothing is left to try, and how long to wait.
    pub(crate) fn now(&self, query: &Query<'_>) -> NoTarget {
        self.0.outlook(query)
    }

    /// Tells what keeps the request from the targets that were not tried, if there are any.
    pub(crate) fn of_untried(&self, query: &Query<'_>) -> Option<NoTarget> {
        self.0.outlook_of_untried(query)
    }

    /// Tells whether another target could be tried now.
    pub(crate) fn is_open(&self, query: &Query<'_>) -> bool {
        self.0.has_eligible(query)
    }
}

impl PartialEq for Outlook {
    fn eq(&self, other: &Self) -> bool {
        self.0.is(&other.0)
    }
}

impl Eq for Outlook {}

impl fmt::Debug for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlook").finish_non_exhaustive()
    }
}
