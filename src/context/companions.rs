use std::fmt;
use std::sync::Arc;

use super::{FurtherPlace, Route};
use crate::pool::Target;

/// On an attempt: where the [further names](Route::further_aliases) of its request stand for deployments of its backend, in their
/// order. Put by selection, used by whoever rewrites the request.
#[derive(Clone)]
pub(crate) struct Companions {
    known: Arc<[Option<Target>]>,
    in_lines: bool,
    /// Finds the deployments of names that were not known when the backend was chosen.
    late: Option<Arc<Find>>,
}

type Find = dyn Fn(&str) -> Option<Target> + Send + Sync;

impl Companions {
    pub(crate) fn new(route: &Route, targets: impl Iterator<Item = Option<Target>>) -> Self {
        let in_lines = route.further_names().iter().any(|further| matches!(further.place, FurtherPlace::Lines(_)));
        Self { known: targets.collect(), in_lines, late: None }
    }

    /// Those of a request with more lines than were read.
    pub(crate) fn with_late(mut self, find: impl Fn(&str) -> Option<Target> + Send + Sync + 'static) -> Self {
        self.in_lines = true;
        self.late = Some(Arc::new(find));
        self
    }

    /// Tells whether there are names in the lines of a file, or may be.
    pub(crate) const fn are_in_lines(&self) -> bool {
        self.in_lines
    }

    /// The deployment that the name stands for; `None` when it passes as it is.
    pub(crate) fn deployment_of(&self, route: &Route, name: &str) -> Option<&Target> {
        let mut pairs = route.further_names().iter().zip(&*self.known);
        pairs.find(|(further, _)| further.name == name).and_then(|(_, target)| target.as_ref())
    }

    /// The same for a name that may not have been known when the backend was chosen.
    pub(crate) fn at_backend(&self, route: &Route, name: &str) -> Option<Target> {
        self.deployment_of(route, name).cloned().or_else(|| self.late.as_ref()?(name))
    }
}

impl fmt::Debug for Companions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Companions").field("known", &self.known).finish_non_exhaustive()
    }
}
