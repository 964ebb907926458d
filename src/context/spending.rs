use std::fmt;

use http::Extensions;

use super::Observation;
use crate::azure::usage::Usage;

/// Tells what a request used, to whoever put it on the request, or the [`Observation`] of which it is a part. Clones share it.
///
/// Filled by [`MeterUsageLayer`](crate::meter::MeterUsageLayer) when the event passes that tells the usage, before that event is
/// handed on, and at the latest when the answer has ended or its client has left.
#[derive(Clone, Default)]
pub struct Spending(Observation);

/// Usage, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spent {
    /// The figures.
    pub usage: Usage,
    /// Source of the figures.
    pub source: UsageSource,
    /// True if nothing more will come.
    pub is_final: bool,
}

impl Spent {
    /// All that was used, and how that is known.
    #[must_use]
    pub const fn new(usage: Usage, source: UsageSource) -> Self {
        Self { usage, source, is_final: true }
    }
}

/// Source of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UsageSource {
    /// Made from the text that passed, because nobody told.
    Estimated,
    /// Told by the backend.
    Reported,
}

impl UsageSource {
    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Estimated => "estimated",
            Self::Reported => "reported",
        }
    }
}

impl Spending {
    /// Returns what is on the request already, or that of a new observation that is put there.
    pub fn on(extensions: &mut Extensions) -> Self {
        Self::find(extensions).unwrap_or_else(|| Self(extensions.get_or_insert_default::<Observation>().clone()))
    }

    /// Returns what somebody has put on the request, as such or with its observation.
    pub(crate) fn find(extensions: &Extensions) -> Option<Self> {
        extensions.get::<Self>().cloned().or_else(|| extensions.get().cloned().map(Self))
    }

    /// Tells what is known now, in place of what was known before.
    pub fn tell(&self, usage: Usage, source: UsageSource, is_final: bool) {
        self.0.note_spent(Spent { usage, source, is_final });
    }

    /// Returns what is known; `None` while nothing is, and when nothing was processed or nobody meters.
    #[must_use]
    pub fn known(&self) -> Option<Spent> {
        self.0.spent()
    }
}

impl fmt::Debug for Spending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spending").field(&self.known()).finish()
    }
}
