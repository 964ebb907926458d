//! What a backend is, as its owner describes it.

use std::collections::BTreeSet;
use std::fmt;

use super::{Credential, Deployment, Obstacle};

/// One Azure OpenAI resource: an endpoint, a credential, where it stands, and what it serves.
///
/// A description only; [`PoolBuilder::build`](super::PoolBuilder::build) says what is wrong with it.
#[derive(Clone)]
#[must_use]
pub struct Backend {
    pub(super) name: String,
    pub(super) kind: BackendKind,
    pub(super) endpoint: String,
    pub(super) credential: Option<Credential>,
    pub(super) priority: u32,
    pub(super) weight: u32,
    pub(super) region: Option<String>,
    pub(super) geography: Option<String>,
    pub(super) processing: Processing,
    pub(super) max_in_flight: u32,
    pub(super) quota_group: Option<String>,
    pub(super) deployments: Vec<Deployment>,
}

impl Backend {
    /// A backend by its unique name (shown in status and logs) and its endpoint: scheme, host, optional port and path
    /// prefix.
    pub fn new(name: impl Into<String>, endpoint: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: BackendKind::Azure,
            endpoint: endpoint.into(),
            credential: None,
            priority: 0,
            weight: 1,
            region: None,
            geography: None,
            processing: Processing::Regional,
            max_in_flight: 0,
            quota_group: None,
            deployments: Vec::new(),
        }
    }

    /// Which form of the API it speaks. Default [`BackendKind::Azure`].
    pub const fn kind(mut self, kind: BackendKind) -> Self {
        self.kind = kind;
        self
    }

    /// What the backend is shown. Without one, requests go out without a credential.
    pub fn credential(mut self, credential: Credential) -> Self {
        self.credential = Some(credential);
        self
    }

    /// Lower is tried first; the next group when this one has nothing eligible. Default 0, at most
    /// [`MAX_PRIORITY`](super::MAX_PRIORITY).
    pub const fn priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// The share inside its priority group; 0 drains. Default 1, at most [`MAX_WEIGHT`](super::MAX_WEIGHT).
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Shown in the status, and compared with the [gateway's own](super::PoolBuilder::region).
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// What residency constraints compare.
    pub fn geography(mut self, geography: impl Into<String>) -> Self {
        self.geography = Some(geography.into());
        self
    }

    /// Where prompts may be processed. Default [`Processing::Regional`].
    pub const fn processing(mut self, processing: Processing) -> Self {
        self.processing = processing;
        self
    }

    /// Concurrent requests, streams counted to their end. Default 0: unlimited.
    pub const fn max_in_flight(mut self, max: u32) -> Self {
        self.max_in_flight = max;
        self
    }

    /// Backends of one group share a quota: a 429 of one opens the circuits of all, for the same model.
    pub fn quota_group(mut self, group: impl Into<String>) -> Self {
        self.quota_group = Some(group.into());
        self
    }

    /// Adds what it serves; at least one.
    pub fn add_deployment(mut self, deployment: Deployment) -> Self {
        self.deployments.push(deployment);
        self
    }
}

/// Without the endpoint: it names a host, and one that is wrong may carry a key.
impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name)
            .field("credential", &self.credential)
            .field("deployments", &self.deployments)
            .finish_non_exhaustive()
    }
}

/// Which form of the API a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// Azure OpenAI's.
    Azure,
    /// OpenAI's own, as many servers elsewhere speak it: paths begin with `/v1` (below the endpoint, which does not hold it), the
    /// deployment is the `model` of the body, there is no `api-version`, and a key is sent as `Authorization: Bearer`.
    OpenAi,
}

/// Where a backend may process prompts.
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

/// Where a backend keeps and processes what it is sent: all that [`Constraints`] look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) geography: Option<Box<str>>,
    pub(super) processing: Processing,
}

/// What is demanded of every backend that may see a request. Checked before anything else and never relaxed.
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

    pub(super) fn allow(&self, place: &Place) -> bool {
        self.geographies.iter().all(|wanted| place.geography.as_ref() == Some(wanted))
            && self.processing.as_ref().is_none_or(|scopes| scopes.contains(&place.processing))
    }

    pub(super) fn violations(&self, place: &Place) -> Vec<Obstacle> {
        let missed = self.geographies.iter().filter(|wanted| place.geography.as_ref() != Some(wanted));
        let elsewhere =
            missed.map(|wanted| Obstacle::Geography { is: place.geography.clone(), wanted: wanted.clone() });
        let unaccepted = self.processing.as_ref().is_some_and(|scopes| !scopes.contains(&place.processing));
        elsewhere.chain(unaccepted.then_some(Obstacle::Processing { is: place.processing })).collect()
    }
}
