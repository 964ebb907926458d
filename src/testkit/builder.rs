//! Description of a backend.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use http::HeaderValue;

use super::backend::SimulatedBackend;
use super::credentials::Credentials;
use super::deployment::SimulatedDeployment;
use super::fault::Faults;
use super::objects::Objects;
use super::resource::Resource;

/// Says what a [`SimulatedBackend`] is like.
#[derive(Debug)]
#[must_use]
pub struct Builder {
    name: String,
    region: Option<HeaderValue>,
    host: Option<String>,
    credentials: Credentials,
    deployments: Vec<SimulatedDeployment>,
}

impl Builder {
    pub(super) fn new(name: String) -> Self {
        Self { name, region: None, host: None, credentials: Credentials::default(), deployments: Vec::new() }
    }

    /// Accepts this key, as `api-key` or as `Authorization: Bearer`. May be given several times.
    ///
    /// Without any key or [token](Self::bearer), the backend does not look at credentials, except that a request with
    /// more than one of them is always refused.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.credentials.api_keys.push(key.into());
        self
    }

    /// Accepts this Entra token, as `Authorization: Bearer`. May be given several times.
    pub fn bearer(mut self, token: impl Into<String>) -> Self {
        self.credentials.bearers.push(token.into());
        self
    }

    /// Answers name this region, as Azure displays it (`East US`), in `x-ms-region`. Default: they name none.
    ///
    /// # Panics
    /// When the region is not valid in a header.
    pub fn region(mut self, region: &str) -> Self {
        self.region = Some(region.parse().expect("`Builder::region` takes what is valid in a header"));
        self
    }

    /// Serves only requests whose `Host` (and authority, if they have one) is this; to others the resource does not
    /// exist (404). Without a port, it is served on any.
    ///
    /// Default: any in process, its own address on loopback.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Offers a deployment. One of the same name is replaced.
    pub fn deployment(mut self, deployment: SimulatedDeployment) -> Self {
        self.deployments.retain(|other| other.name() != deployment.name());
        self.deployments.push(deployment);
        self
    }

    /// The backend.
    #[must_use]
    pub fn build(self) -> SimulatedBackend {
        SimulatedBackend::new(Resource {
            name: self.name,
            region: self.region,
            host: self.host,
            credentials: self.credentials,
            deployments: self.deployments.into_iter().map(|spec| Arc::new(spec.into())).collect(),
            faults: Faults::default(),
            received: Mutex::default(),
            activity: Arc::default(),
            ids: AtomicU64::new(0),
            objects: Objects::default(),
        })
    }
}
