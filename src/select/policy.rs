use std::fmt;

use crate::context::{Client, Route};
use crate::pool::Target;

/// Chooses among targets that could all serve a request.
///
/// Pure but for its own state: it does no I/O, does not block, and may look at the live figures of the candidates. Closures and
/// functions `Fn(&Choice) -> usize` are accepted; [`from_fn`] takes a closure without annotations.
pub trait Policy: Send + Sync + 'static {
    /// Returns the index of the choice among the [candidates](Choice::candidates).
    ///
    /// An index out of range is a defect of the policy: debug builds panic, others take the last candidate.
    ///
    /// Called once for every attempt, and again when the chosen target gave its last place to another request meanwhile.
    fn choose(&self, choice: &Choice<'_>) -> usize;

    /// Asks the layer to find out the [affinity](Route::affinity) of a route that has none, by reading what the prompt of
    /// a collected body is cached under. Default: no, for it costs a pass over the body.
    fn wants_affinity(&self) -> bool {
        false
    }
}

/// One choice that a [`Policy`] has to make: the request, and the targets that could serve it.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    route: &'a Route,
    client: Option<&'a Client>,
    candidates: &'a [&'a Target],
}

impl<'a> Choice<'a> {
    /// A choice for a request of nobody in particular, among at least one target.
    #[must_use]
    pub const fn new(route: &'a Route, candidates: &'a [&'a Target]) -> Self {
        Self { route, client: None, candidates }
    }

    /// The same for a request of this client.
    #[must_use]
    pub const fn with_client(self, client: Option<&'a Client>) -> Self {
        Self { client, ..self }
    }

    /// The same request, and other candidates: for a policy that asks another one.
    #[must_use]
    pub const fn with_candidates<'b>(self, candidates: &'b [&'b Target]) -> Choice<'b>
    where
        'a: 'b,
    {
        Choice { route: self.route, client: self.client, candidates }
    }

    /// Operation, alias and streaming of the request.
    #[must_use]
    pub const fn route(&self) -> &'a Route {
        self.route
    }

    /// The sender of the request; `None` where nobody has said who it is.
    #[must_use]
    pub const fn client(&self) -> Option<&'a Client> {
        self.client
    }

    /// The eligible targets: at least one, all of one priority and nearness, in the order of configuration.
    #[must_use]
    pub const fn candidates(&self) -> &'a [&'a Target] {
        self.candidates
    }
}

/// Decides by a closure, whose argument needs no annotation.
///
/// ```
/// use tower_azure_openai::select::{self, SelectBackendLayer};
/// # fn layer(pool: tower_azure_openai::pool::Pool) {
/// let fewest_first = select::from_fn(|choice| {
///     let in_flight = choice.candidates().iter().map(|target| target.in_flight());
///     in_flight.enumerate().min_by_key(|(_, count)| *count).map_or(0, |(index, _)| index)
/// });
/// let layer = SelectBackendLayer::new(pool).with_policy(fewest_first);
/// # drop(layer);
/// # }
/// ```
pub const fn from_fn<F>(function: F) -> FromFn<F>
where
    F: Fn(&Choice<'_>) -> usize + Send + Sync + 'static,
{
    FromFn(function)
}

/// Policy made by [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

impl<F> Policy for FromFn<F>
where
    F: Fn(&Choice<'_>) -> usize + Send + Sync + 'static,
{
    fn choose(&self, choice: &Choice<'_>) -> usize {
        (self.0)(choice)
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}

impl<F> Policy for F
where
    F: Fn(&Choice<'_>) -> usize + Send + Sync + 'static,
{
    fn choose(&self, choice: &Choice<'_>) -> usize {
        self(choice)
    }
}

impl Policy for Box<dyn Policy> {
    fn choose(&self, choice: &Choice<'_>) -> usize {
        self.as_ref().choose(choice)
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
