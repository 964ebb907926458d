//! A backend, as its owner describes it.

use std::fmt;

use super::{Credential, Deployment, Processing};

/// One Azure OpenAI resource: an endpoint, a credential, where it stands, and what it serves.
///
/// A description only; [`PoolBuilder::build`](crate::pool::PoolBuilder::build) says what is wrong with it.
#[derive(Clone)]
#[must_use]
pub struct Backend {
    pub(in crate::pool) name: String,
    pub(in crate::pool) kind: BackendKind,
    pub(in crate::pool) endpoint: String,
    pub(in crate::pool) credential: Option<Credential>,
    pub(in crate::pool) priority: u32,
    pub(in crate::pool) weight: u32,
    pub(in crate::pool) region: Option<String>,
    pub(in crate::pool) geography: Option<String>,
    pub(in crate::pool) processing: Processing,
    pub(in crate::pool) max_in_flight: u32,
    pub(in crate::pool) quota_group: Option<String>,
    pub(in crate::pool) deployments: Vec<Deployment>,
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

    /// Sets the form of the API that it speaks. Default [`BackendKind::Azure`].
    pub const fn kind(mut self, kind: BackendKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the credential that the backend is shown. Without one, requests go out without a credential.
    pub fn credential(mut self, credential: Credential) -> Self {
        self.credential = Some(credential);
        self
    }

    /// Lower is tried first; the next group when this one has nothing eligible. Default 0, at most
    /// [`MAX_PRIORITY`](crate::pool::MAX_PRIORITY).
    pub const fn priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// The share inside its priority group; 0 drains. Default 1, at most [`MAX_WEIGHT`](crate::pool::MAX_WEIGHT).
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Shown in the status, and compared with the [gateway's own](crate::pool::PoolBuilder::region).
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets the geography that residency constraints compare.
    pub fn geography(mut self, geography: impl Into<String>) -> Self {
        self.geography = Some(geography.into());
        self
    }

    /// Sets where prompts may be processed. Default [`Processing::Regional`].
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

/// Form of the API that a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// Azure OpenAI's.
    Azure,
    /// OpenAI's own, as many servers elsewhere speak it: paths begin with `/v1` (below the endpoint, which does not hold it), the
    /// deployment is the `model` of the body, there is no `api-version`, and a key is sent as `Authorization: Bearer`.
    OpenAi,
}
