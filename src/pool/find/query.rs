//! What a request asks of its target.

use std::fmt;

use super::filter::Scope;
use super::{Pin, Strength};
use crate::pool::describe::{Constraints, Place};
use crate::pool::live::{Target, TargetSet};

/// What a request asks of its target.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct Query<'a> {
    /// The alias that must be served; `None` for a call that names no model.
    pub alias: Option<&'a str>,
    /// What the client demands of every backend.
    pub constraints: Option<&'a Constraints>,
    /// What the request demands beside its client.
    pub narrowed: Option<&'a Constraints>,
    /// Targets that this request has used up.
    pub tried: Option<&'a TargetSet>,
    /// Whether the client has a token of its own, which some backends ask for.
    pub has_token: bool,
    /// Whose request it is, a client's or a session's: decides the [release](crate::pool::Release) where the alias has several.
    pub client: Option<&'a str>,
    /// What else the target's backend must serve: aliases that the request names beside its own. One that no backend of the pool
    /// serves demands nothing.
    pub beside: &'a [Box<str>],
    /// Where the state is that the request refers to.
    pub pin: Option<&'a Pin>,
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
        Self { alias, ..Self::default() }
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

    /// Whether a pin leaves no choice but its backend.
    pub(in crate::pool) fn is_required(&self) -> bool {
        self.pin.is_some_and(|pin| pin.strength() == Strength::Required)
    }

    pub(in crate::pool) fn may_go_to(&self, target: &Target) -> bool {
        let leads_to = |pin: &Pin| pin.backends().iter().any(|backend| **backend == *target.backend());
        self.pin.is_none_or(|pin| pin.strength() == Strength::Movable || leads_to(pin))
    }

    /// Says whether the client has a token of its own.
    #[must_use]
    pub const fn has_token(mut self, has_token: bool) -> Self {
        self.has_token = has_token;
        self
    }

    pub(in crate::pool) fn can_show(&self, target: &Target) -> bool {
        self.has_token || !target.inner.pass_through
    }

    /// Whether the target complies with what client and request demand.
    pub(crate) fn allows(&self, target: &Target) -> bool {
        self.allows_place(target.place()) && self.has_beside(target)
    }

    /// Whether the target's backend serves what else the request names.
    pub(in crate::pool) fn has_beside(&self, target: &Target) -> bool {
        self.beside.iter().all(|alias| target.inner.backend.names.serve_as_far_as_anybody(alias))
    }

    pub(in crate::pool) fn allows_place(&self, place: &Place) -> bool {
        [self.constraints, self.narrowed].into_iter().flatten().all(|demanded| demanded.allow(place))
    }

    /// Whether the target may ever serve the request.
    pub(in crate::pool) fn suits(&self, target: &Target) -> bool {
        self.can_show(target) && self.allows(target)
    }

    pub(in crate::pool) fn is_new(&self, target: &Target) -> bool {
        self.tried.is_none_or(|tried| !tried.contains(target))
    }

    /// Where to look, one after the other.
    pub(in crate::pool) fn scopes(&self) -> impl Iterator<Item = Scope<'a>> + use<'a> {
        let (backends, strength) =
            self.pin.map_or((&[][..], Strength::Movable), |pin| (pin.backends(), pin.strength()));
        let drained = strength == Strength::Required;
        let pinned = backends.iter().map(move |backend| Scope { backend: Some(backend), drained });
        pinned.chain((strength == Strength::Movable).then_some(Scope::ALL))
    }
}
