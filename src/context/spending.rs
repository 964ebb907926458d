use std::sync::{Arc, Mutex, PoisonError};

use http::Extensions;

use crate::azure::usage::Usage;

/// Tells what a request used, to whoever put it on the request. Clones share it.
///
/// Filled by [`MeterUsageLayer`](crate::meter::MeterUsageLayer) when the event passes that tells the usage, before that event is
/// handed on, and at the latest when the answer has ended or its client has left.
#[derive(Clone, Debug, Default)]
pub struct Spending(Arc<Mutex<Option<Spent>>>);

/// What was used, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spent {
    /// The figures.
    pub usage: Usage,
    /// Where they come from.
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

/// Where figures come from.
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
    /// What is on the request already, or a new one that is put there.
    pub fn on(extensions: &mut Extensions) -> Self {
        extensions.get_or_insert_default::<Self>().clone()
    }

    /// Tells what is known now, in place of what was known before.
    pub fn tell(&self, usage: Usage, source: UsageSource, is_final: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Spent { usage, source, is_final });
    }

    /// What is known; `None` while nothing is, and when nothing was processed or nobody meters.
    #[must_use]
    pub fn known(&self) -> Option<Spent> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
