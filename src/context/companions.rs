use std::sync::Arc;

use super::Route;
use crate::pool::Target;

/// On an attempt: where the [further names](Route::further_aliases) of its request stand for deployments of its backend, in their
/// order. Put by selection, used by whoever rewrites the request.
#[derive(Clone, Debug)]
pub(crate) struct Companions(Arc<[Option<Target>]>);

impl Companions {
    pub(crate) fn new(targets: impl Iterator<Item = Option<Target>>) -> Self {
        Self(targets.collect())
    }

    /// The deployment that the name stands for; `None` when it passes as it is.
    pub(crate) fn deployment_of(&self, route: &Route, name: &str) -> Option<&Target> {
        let mut pairs = route.further_names().iter().zip(&*self.0);
        pairs.find(|(further, _)| further.name == name).and_then(|(_, target)| target.as_ref())
    }
}
