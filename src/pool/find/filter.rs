//! Filter of many targets for those that can take a request.

use smallvec::SmallVec;

use super::barriers::{Barrier, View};
use super::table::{Group, Places, Seat};
use crate::pool::live::{Target, TargetSet};

/// As many targets as most priority groups have: their list needs no allocation.
const FEW: usize = 8;

pub(super) type Candidates<'a> = SmallVec<[&'a Target; FEW]>;

/// A view, prepared for being asked about many targets: what it says of [plain](Seat::is_plain) ones depends on their place alone.
pub(super) struct Filter<'a> {
    view: View<'a>,
    places: Places,
    /// True if any plain target that admits can take the request.
    any: bool,
}

impl<'a> Filter<'a> {
    pub(super) fn new(group: &Group, view: View<'a>) -> Self {
        let query = view.query;
        let places = group.places(|place| query.allows_place(place));
        let any =
            places.all && view.scope.is_all() && query.beside.is_empty() && query.tried.is_none_or(TargetSet::is_empty);
        Self { view, places, any }
    }

    /// Tells whether nothing stands between the request and the target, its identity aside.
    #[inline]
    pub(super) fn admits(&self, seat: &Seat) -> bool {
        let (target, view) = (seat.target(), &self.view);
        let in_place = || {
            let by_place = view.scope.is_all() && view.query.beside.is_empty();
            let known = if by_place { seat.is_in(self.places) } else { None };
            known.unwrap_or_else(|| self.is_open_to(target))
        };
        target.live.admits(view.since_epoch)
            && (self.any && seat.is_plain() || !view.is_barred(Barrier::Tried, target) && in_place())
            && (view.threshold.is_none() || !view.is_barred(Barrier::Reserved, target))
    }

    /// Apart, so that what is asked of most targets is inlined into the loop over all.
    #[inline(never)]
    fn is_open_to(&self, target: &Target) -> bool {
        self.view.is_clear(&Barrier::UNPREPARED, target)
    }

    /// Apart from [`Pool::acquire`](super::Pool::acquire), which is compiled where it is used.
    pub(super) fn eligible<'t>(&self, tier: &'t [Seat]) -> Candidates<'t> {
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
