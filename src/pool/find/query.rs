//! Query of a request for its target.

use std::fmt;

use super::barriers::{Barrier, Scope};
use super::{Pin, Strength};
use crate::pool::describe::{Constraints, Place, Priority};
use crate::pool::live::{Target, TargetSet};

/// Demands of a request on its target.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The alias that must be served; `None` for a call that names no model.
    pub(in crate::pool) alias: Option<&'a str>,
    /// Demands of the client on every backend.
    pub(in crate::pool) constraints: Option<&'a Constraints>,
    /// Demands of the request beside its client's.
    pub(in crate::pool) narrowed: Option<&'a Constraints>,
    /// Targets that this request has used up.
    pub(in crate::pool) tried: Option<&'a TargetSet>,
    /// True if the client has a token of its own, which some backends ask for.
    pub(in crate::pool) has_token: bool,
    /// Client or session whose request it is: decides the [release](crate::pool::Release) where the alias has several.
    pub(in crate::pool) client: Option<&'a str>,
    /// Aliases that the target's backend must serve too: aliases that the request names beside its own. One that no backend of
    /// the pool serves demands nothing.
    pub(in crate::pool) beside: &'a [Box<str>],
    /// Pin to the state that the request refers to.
    pub(in crate::pool) pin: Option<&'a Pin>,
    /// Priority with which it leaves what is scarce to others.
    pub(in crate::pool) priority: Priority,
}

impl Default for Query<'_> {
    fn default() -> Self {
        Self::new(None)
    }
}

/// Nothing of what may come from headers.
impl fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("alias", &self.alias)
            .field("constraints", &self.constraints)
            .field("tried", &self.tried)
            .field("has_token", &self.has_token)
            .finish_non_exhaustive()
    }
}

impl<'a> Query<'a> {
    /// Targets of an alias, or any backend for a call that names no model.
    #[must_use]
    pub fn new(alias: Option<&'a str>) -> Self {
        Self {
            alias,
            constraints: None,
            narrowed: None,
            tried: None,
            has_token: false,
            client: None,
            beside: &[],
            pin: None,
            priority: Priority::High,
        }
    }

    /// Only targets that comply with these.
    #[must_use]
    pub const fn constraints(mut self, constraints: &'a Constraints) -> Self {
        self.constraints = Some(constraints);
        self
    }

    /// Of those, only targets that comply with these too.
    #[must_use]
    pub const fn narrowed(mut self, constraints: Option<&'a Constraints>) -> Self {
        self.narrowed = constraints;
        self
    }

    /// Of the release that this client, or this session of nobody in particular, has.
    #[must_use]
    pub const fn client(mut self, id: &'a str) -> Self {
        self.client = Some(id);
        self
    }

    /// Only targets that are not among these, and of the same release as they are.
    #[must_use]
    pub const fn tried(mut self, tried: &'a TargetSet) -> Self {
        self.tried = Some(tried);
        self
    }

    /// Only at backends that serve these aliases too, of those that anybody serves.
    #[must_use]
    pub const fn beside(mut self, aliases: &'a [Box<str>]) -> Self {
        self.beside = aliases;
        self
    }

    /// Only where the pin leads.
    #[must_use]
    pub const fn pinned(mut self, pin: Option<&'a Pin>) -> Self {
        self.pin = pin;
        self
    }

    /// Leaves to higher priorities what they are to have by the pool's [`Thresholds`](crate::pool::Thresholds). Default:
    /// [`High`](Priority::High), which leaves nothing to anybody.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Says whether the client has a token of its own.
    #[must_use]
    pub const fn has_token(mut self, has_token: bool) -> Self {
        self.has_token = has_token;
        self
    }

    /// Tells whether the target complies with what client and request demand.
    pub(crate) fn allows(&self, target: &Target) -> bool {
        self.is_clear(&Barrier::COMPLIANCE, target)
    }

    /// Tells whether a backend at this place complies with what client and request demand of places.
    pub(super) fn allows_place(&self, place: &Place) -> bool {
        !violates(self.constraints, place) && !violates(self.narrowed, place)
    }

    /// Tells whether the target may ever serve the request.
    pub(super) fn suits(&self, target: &Target) -> bool {
        self.is_clear(&Barrier::LASTING, target)
    }

    /// Tells whether this [lasting](Barrier::LASTING) barrier stands between the query and the target.
    #[inline]
    pub(super) fn is_barred(&self, barrier: Barrier, target: &Target) -> bool {
        match barrier {
            Barrier::Residency => violates(self.constraints, target.place()),
            Barrier::Narrowed => violates(self.narrowed, target.place()),
            Barrier::NotBeside => {
                !self.beside.iter().all(|alias| target.inner.backend.names.serve_as_far_as_anybody(alias))
            }
            Barrier::TokenMissing => target.inner.pass_through && !self.has_token,
            _ => false,
        }
    }

    fn is_clear(&self, lasting: &[Barrier], target: &Target) -> bool {
        lasting.iter().all(|barrier| !self.is_barred(*barrier, target))
    }

    /// The parts of the pool to look in, one after the other.
    pub(super) fn scopes(&self) -> impl Iterator<Item = Scope<'a>> + use<'a> {
        let backends = self.pin.map_or(&[][..], Pin::backends);
        let drained = self.is_required();
        let pinned = backends.chunks(1).map(move |backend| Scope::of(backend, drained));
        pinned.chain(self.is_movable().then_some(Scope::ALL))
    }

    /// All the parts of the pool that are looked in.
    pub(super) fn reach(&self) -> Scope<'a> {
        match self.pin {
            Some(pin) if !self.is_movable() => Scope::of(pin.backends(), self.is_required()),
            _ => Scope::ALL,
        }
    }

    /// Tells whether a pin leaves no choice but its backend.
    pub(super) fn is_required(&self) -> bool {
        self.pin.is_some_and(|pin| pin.strength() == Strength::Required)
    }

    /// Tells whether a backend of the pin that is merely throttled is waited for.
    pub(super) fn waits(&self) -> bool {
        self.pin.is_some_and(|pin| pin.strength() == Strength::Preferred)
    }

    fn is_movable(&self) -> bool {
        self.pin.is_none_or(|pin| pin.strength() == Strength::Movable)
    }
}

fn violates(demanded: Option<&Constraints>, place: &Place) -> bool {
    demanded.is_some_and(|demanded| !demanded.allow(place))
}
