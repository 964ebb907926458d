use crate::context::Route;
use crate::pool::Target;

/// Chooses among targets that could all serve a request.
///
/// Pure but for its own state: it does no I/O, does not block, and may look at the live figures of the candidates. Closures
/// are accepted.
pub trait Policy: Send + Sync + 'static {
    /// The index of the choice among `eligible`, which holds at least one target, all of one priority and nearness, in
    /// the order of configuration. An index out of range stands for the last.
    ///
    /// Called once for every attempt, and again when the chosen target gave its last place to another request meanwhile.
    fn choose(&self, route: &Route, eligible: &[&Target]) -> usize;

    /// Whether the layer should find out the [affinity](Route::affinity) of a route that has none, by reading what the prompt of
    /// a collected body [is cached under](crate::azure::prompt::CacheKey). Default: no, for it costs a pass over the body.
    fn wants_affinity(&self) -> bool {
        false
    }
}

impl<F> Policy for F
where
    F: Fn(&Route, &[&Target]) -> usize + Send + Sync + 'static,
{
    fn choose(&self, route: &Route, eligible: &[&Target]) -> usize {
        self(route, eligible)
    }
}

impl Policy for Box<dyn Policy> {
    fn choose(&self, route: &Route, eligible: &[&Target]) -> usize {
        self.as_ref().choose(route, eligible)
    }

    fn wants_affinity(&self) -> bool {
        self.as_ref().wants_affinity()
    }
}

/// State of a policy by [`Target::slot`].
pub(super) fn slot<T: Clone + Default>(by_slot: &mut Vec<T>, slot: usize) -> &mut T {
    if by_slot.len() <= slot {
        grow(by_slot, slot);
    }
    &mut by_slot[slot]
}

/// Once in the life of a target.
#[cold]
fn grow<T: Clone + Default>(by_slot: &mut Vec<T>, slot: usize) {
    by_slot.resize(slot + 1, T::default());
}
