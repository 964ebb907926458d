//! Places where a backend keeps and processes data, and demands on them.

use std::collections::BTreeSet;

/// Processing of prompts that a backend promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Processing {
    /// Inside a group of regions, such as the EU.
    DataZone,
    /// Anywhere.
    Global,
    /// In the backend's region.
    Regional,
}

impl Processing {
    /// `data-zone`, `global` or `regional`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DataZone => "data-zone",
            Self::Global => "global",
            Self::Regional => "regional",
        }
    }
}

/// Place in which a backend keeps and processes what it is sent: all that [`Constraints`] look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pool) struct Place {
    pub(in crate::pool) geography: Option<Box<str>>,
    pub(in crate::pool) processing: Processing,
}

/// Demands on every backend that may see a request. Checked before anything else and never relaxed.
///
/// A client's stand in its [`Client`](crate::context::Client). Those in the extensions of a request hold beside them: they can
/// narrow where it may go, and never widen it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// Each of them; with several, nobody complies.
    geographies: Vec<Box<str>>,
    processing: Option<BTreeSet<Processing>>,
}

impl Constraints {
    /// Only backends of this geography, by its exact name, instead of what was said before. To narrow use [`and`](Self::and).
    #[must_use]
    pub fn geography(mut self, geography: impl Into<Box<str>>) -> Self {
        self.geographies = vec![geography.into()];
        self
    }

    /// Only backends with one of these processing scopes, instead of what was said before. To narrow use [`and`](Self::and).
    #[must_use]
    pub fn processing(mut self, scopes: impl IntoIterator<Item = Processing>) -> Self {
        self.processing = Some(scopes.into_iter().collect());
        self
    }

    /// Only backends that comply with both, which are none where the two contradict each other.
    ///
    /// ```
    /// use tower_azure_openai::pool::{Constraints, Processing};
    ///
    /// let (eu, regional) = (Constraints::default().geography("eu"), Constraints::default().processing([Processing::Regional]));
    /// assert_eq!(eu.clone().and(regional), eu.processing([Processing::Regional]));
    /// ```
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.geographies.extend(other.geographies);
        self.geographies.sort_unstable();
        self.geographies.dedup();
        self.processing = match (self.processing, other.processing) {
            (Some(one), Some(other)) => Some(&one & &other),
            (one, other) => one.or(other),
        };
        self
    }

    pub(in crate::pool) fn allow(&self, place: &Place) -> bool {
        self.missed(place).next().is_none() && !self.refuse_processing_of(place)
    }

    /// The geographies that are demanded and not those of the place.
    pub(in crate::pool) fn missed<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a str> {
        self.geographies.iter().filter(|wanted| place.geography.as_ref() != Some(wanted)).map(|wanted| &**wanted)
    }

    /// Tells whether the place may process prompts where that is not accepted.
    pub(in crate::pool) fn refuse_processing_of(&self, place: &Place) -> bool {
        self.processing.as_ref().is_some_and(|scopes| !scopes.contains(&place.processing))
    }
}
