//! Who can take a request, asked of many targets.

use smallvec::SmallVec;
use tokio::time::Instant;

use super::table::{Group, Places, Seat};
use super::{Pool, Query};
use crate::pool::live::{Live, NoTargetReason, Target, TargetSet};

/// As many targets as most priority groups have: their list needs no allocation.
const FEW: usize = 8;

pub(in crate::pool) type Candidates<'a> = SmallVec<[&'a Target; FEW]>;

/// A part of the pool.
#[derive(Clone, Copy)]
pub(in crate::pool) struct Scope<'a> {
    /// `None`: all of them.
    pub(in crate::pool) backend: Option<&'a str>,
    /// Whether drained targets may be used.
    pub(in crate::pool) drained: bool,
}

/// A query, prepared for being asked of many targets.
pub(in crate::pool) struct Filter<'a> {
    query: &'a Query<'a>,
    scope: Scope<'a>,
    places: Places,
    since_epoch: u64,
    /// Whether any [plain](Seat::is_plain) target that admits can take the request.
    any: bool,
}

impl<'a> Filter<'a> {
    pub(in crate::pool) fn new(
        pool: &Pool,
        group: &Group,
        query: &'a Query<'a>,
        scope: Scope<'a>,
        now: Instant,
    ) -> Self {
        let places = group.places(|place| query.allows_place(place));
        let any = places.all
            && scope.backend.is_none()
            && query.beside.is_empty()
            && query.tried.is_none_or(TargetSet::is_empty);
        Self { query, scope, places, since_epoch: Live::since(pool.0.epoch, now), any }
    }

    /// Whether the target can take the request now, its identity aside.
    #[inline]
    pub(in crate::pool) fn admits(&self, seat: &Seat) -> bool {
        let target = seat.target();
        let in_place = || match self.scope.backend {
            None if self.query.beside.is_empty() => seat.is_in(self.places).unwrap_or_else(|| self.is_open_to(target)),
            _ => self.is_open_to(target),
        };
        target.live.admits(self.since_epoch) && (self.any && seat.is_plain() || self.query.is_new(target) && in_place())
    }

    /// Apart, so that what is asked of most targets is inlined into the loop over all.
    #[inline(never)]
    fn is_open_to(&self, target: &Target) -> bool {
        self.query.suits(target) && self.scope.is_open_to(target) && !target.is_full()
    }

    /// Apart from [`Pool::acquire`], which is compiled where it is used.
    pub(in crate::pool) fn eligible<'t>(&self, tier: &'t [Seat]) -> Candidates<'t> {
        if tier.len() <= FEW {
            return tier.iter().filter(|seat| self.admits(seat)).map(Seat::target).collect();
        }
        let mut eligible = Vec::with_capacity(tier.len());
        // With a thousand targets a plain loop takes two thirds of the time of `extend` with a filter.
        for seat in tier {
            if self.admits(seat) {
                eligible.push(seat.target());
            }
        }
        Candidates::from_vec(eligible)
    }
}

impl Scope<'_> {
    pub(in crate::pool) const ALL: Self = Self { backend: None, drained: false };

    pub(in crate::pool) fn holds(&self, target: &Target) -> bool {
        self.backend.is_none_or(|backend| target.backend() == backend)
    }

    pub(in crate::pool) fn is_open_to(&self, target: &Target) -> bool {
        (self.drained || !target.is_drained()) && self.holds(target)
    }

    /// The same reason, said of one backend.
    pub(in crate::pool) const fn reason(&self, reason: NoTargetReason) -> NoTargetReason {
        match (self.backend, reason) {
            (Some(_), NoTargetReason::Down) => NoTargetReason::Pinned,
            (Some(_), NoTargetReason::NotServed) => NoTargetReason::NotServedThere,
            (_, reason) => reason,
        }
    }
}
