//! Everything that may stand between a query and a target, said once.
//!
//! [`View::is_barred`] is the one rule. The [`Filter`](super::filter::Filter) asks the same of a thousand targets with part of the
//! answer prepared; why a request finds no target, [`Pool::explain_query`](super::Pool::explain_query) and the obstacles of the status
//! are read from the [`Barriers`] that it gives.

use std::sync::Arc;

use tokio::time::Instant;

use super::Query;
use crate::pool::describe::Thresholds;
use crate::pool::live::{Live, Target};

/// One thing that stands between a query and a target; the weightiest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::pool) enum Barrier {
    /// It does not serve the alias.
    NotServed,
    /// It serves another release than the request's.
    OtherRelease,
    /// It does not comply with what the client demands.
    Residency,
    /// It does not comply with what the request demands beside its client.
    Narrowed,
    /// Its backend does not serve what else the request names.
    NotBeside,
    /// It is outside of the part of the pool that is looked at.
    PinnedElsewhere,
    /// It is shown the client's own token, and the client has none.
    TokenMissing,
    /// It gets nothing new.
    Drained,
    /// Its token is not at hand, or was refused.
    NoIdentity,
    /// Its circuit refuses because it failed.
    Failing,
    /// Its circuit refuses because its backend asked to wait.
    Throttled,
    /// Its backend has as many requests in flight as it may.
    Full,
    /// The rest of it is for higher priorities.
    Reserved,
    /// The request was sent there before.
    Tried,
    /// Others come first.
    Behind,
}

impl Barrier {
    const ALL: [Self; 15] = [
        Self::NotServed,
        Self::OtherRelease,
        Self::Residency,
        Self::Narrowed,
        Self::NotBeside,
        Self::PinnedElsewhere,
        Self::TokenMissing,
        Self::Drained,
        Self::NoIdentity,
        Self::Failing,
        Self::Throttled,
        Self::Full,
        Self::Reserved,
        Self::Tried,
        Self::Behind,
    ];

    /// Those that hold for as long as the configuration, whoever asks where.
    pub(super) const COMPLIANCE: [Self; 3] = [Self::Residency, Self::Narrowed, Self::NotBeside];
    /// Those that no time takes away from this request.
    pub(super) const LASTING: [Self; 4] = [Self::Residency, Self::Narrowed, Self::NotBeside, Self::TokenMissing];
    /// Those that keep a target from ever taking the request, where it is looked for.
    pub(super) const UNABLE: [Self; 6] =
        [Self::Residency, Self::Narrowed, Self::NotBeside, Self::TokenMissing, Self::PinnedElsewhere, Self::Drained];
    /// Those for which it is worth waiting.
    pub(super) const WAITED_FOR: [Self; 3] = [Self::Throttled, Self::Full, Self::Reserved];
    /// Those that are left where all that can be prepared was, the circuit and the identity aside.
    pub(super) const UNPREPARED: [Self; 7] = [
        Self::Residency,
        Self::Narrowed,
        Self::NotBeside,
        Self::TokenMissing,
        Self::PinnedElsewhere,
        Self::Drained,
        Self::Full,
    ];
}

/// All that stands between one query and one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::pool) struct Barriers(u16);

impl Barriers {
    pub(in crate::pool) const fn only(barrier: Barrier) -> Self {
        Self(1 << barrier as u8)
    }

    pub(super) const fn with(self, barrier: Barrier) -> Self {
        Self(self.0 | 1 << barrier as u8)
    }

    pub(in crate::pool) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn has(self, barrier: Barrier) -> bool {
        self.0 & 1 << barrier as u8 != 0
    }

    pub(super) fn has_any(self, barriers: &[Barrier]) -> bool {
        barriers.iter().any(|barrier| self.has(*barrier))
    }

    /// The weightiest first.
    pub(in crate::pool) fn iter(self) -> impl Iterator<Item = Barrier> {
        Barrier::ALL.into_iter().filter(move |barrier| self.has(*barrier))
    }
}

/// A part of the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// Backends by name; `None` stands for all of them.
    backends: Option<&'a [Arc<str>]>,
    /// True if drained targets may be used.
    drained: bool,
}

impl<'a> Scope<'a> {
    pub(super) const ALL: Self = Self { backends: None, drained: false };

    pub(super) const fn of(backends: &'a [Arc<str>], drained: bool) -> Self {
        Self { backends: Some(backends), drained }
    }

    pub(super) const fn is_all(&self) -> bool {
        self.backends.is_none()
    }

    /// Tells whether no other backend than one is in it.
    pub(super) fn is_one(&self) -> bool {
        self.backends.is_some_and(|backends| backends.len() == 1)
    }

    pub(super) fn holds(&self, target: &Target) -> bool {
        self.backends.is_none_or(|backends| backends.iter().any(|backend| **backend == *target.backend()))
    }
}

/// View of a part of the pool at one moment, as a query has it.
#[derive(Clone, Copy)]
pub(in crate::pool) struct View<'a> {
    pub(in crate::pool) query: &'a Query<'a>,
    pub(super) scope: Scope<'a>,
    pub(in crate::pool) now: Instant,
    pub(in crate::pool) since_epoch: u64,
    /// From which utilization on a target is left to others.
    pub(in crate::pool) threshold: Option<f64>,
}

impl<'a> View<'a> {
    pub(super) fn new(query: &'a Query<'a>, thresholds: &Thresholds, epoch: Instant, now: Instant) -> Self {
        let threshold = thresholds.of(query.priority);
        Self { query, scope: query.reach(), now, since_epoch: Live::since(epoch, now), threshold }
    }

    pub(super) fn within(self, scope: Scope<'a>) -> Self {
        Self { scope, ..self }
    }

    /// Tells whether this stands between the query and a target of its alias and release.
    #[inline]
    pub(super) fn is_barred(&self, barrier: Barrier, target: &Target) -> bool {
        match barrier {
            Barrier::PinnedElsewhere => !self.scope.holds(target),
            Barrier::Drained => target.is_drained() && !self.scope.drained,
            Barrier::NoIdentity => !target.has_identity(self.now),
            Barrier::Failing => !target.live.admits(self.since_epoch) && !target.live.is_throttled(self.now),
            Barrier::Throttled => !target.live.admits(self.since_epoch) && target.live.is_throttled(self.now),
            Barrier::Full => target.is_full(),
            Barrier::Reserved => target.is_reserved(self.threshold, self.since_epoch),
            Barrier::Tried => self.query.tried.is_some_and(|tried| tried.contains(target)),
            Barrier::Residency | Barrier::Narrowed | Barrier::NotBeside | Barrier::TokenMissing => {
                self.query.is_barred(barrier, target)
            }
            // Which targets there are, and in which order, is a matter of their group.
            Barrier::NotServed | Barrier::OtherRelease | Barrier::Behind => false,
        }
    }

    /// Tells whether none of these stands between them.
    #[inline]
    pub(super) fn is_clear(&self, barriers: &[Barrier], target: &Target) -> bool {
        barriers.iter().all(|barrier| !self.is_barred(*barrier, target))
    }

    /// Tells whether the target could take the request some time, where it is looked for.
    pub(super) fn is_able(&self, target: &Target) -> bool {
        self.is_clear(&Barrier::UNABLE, target)
    }

    /// All that stands between them.
    pub(super) fn barriers(&self, target: &Target) -> Barriers {
        let barred = Barrier::ALL.into_iter().filter(|barrier| self.is_barred(*barrier, target));
        barred.fold(Barriers::default(), Barriers::with)
    }
}
