//! A model as a backend offers it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::limits::{Bucket, Limits, Tokens, Window};

/// A deployment of a [`SimulatedBackend`](super::SimulatedBackend): a model under a name, with limits.
///
/// Unlimited until told otherwise, and answers at once.
#[derive(Clone, Debug)]
#[must_use]
pub struct SimulatedDeployment {
    name: String,
    model: Option<String>,
    provisioned: bool,
    tokens_per_minute: Option<u64>,
    requests_per_minute: Option<u64>,
    latency: Duration,
    says: Option<String>,
    async_filter: bool,
}

impl SimulatedDeployment {
    /// A deployment that is billed by use and limited by a quota.
    pub fn standard(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            model: None,
            provisioned: false,
            tokens_per_minute: None,
            requests_per_minute: None,
            latency: Duration::ZERO,
            says: None,
            async_filter: false,
        }
    }

    /// A deployment of provisioned throughput units (PTU).
    ///
    /// Its limit is its utilization: each request adds what it is estimated to cost, time takes away continuously, and
    /// the estimate is corrected when the answer has ended. While utilization is above 100 %, requests are refused with
    /// `retry-after-ms` and `retry-after`.
    pub fn provisioned(name: impl Into<String>) -> Self {
        Self { provisioned: true, ..Self::standard(name) }
    }

    /// The model that answers name. Default: the name of the deployment.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Limits the tokens that it takes in a minute. Default: unlimited.
    ///
    /// A request costs a quarter of the characters of its prompt plus its `max_tokens` (16 when it states none).
    ///
    /// On a standard deployment, the count starts with a request and is reset a minute later; a request that does not
    /// fit is refused and not counted. On a provisioned deployment, this is the utilization of 100 % and what drains in
    /// a minute, at least one token.
    pub const fn tokens_per_minute(mut self, tokens: u64) -> Self {
        self.tokens_per_minute = Some(tokens);
        self
    }

    /// Limits the requests that it takes in a minute. Default: unlimited.
    ///
    /// As Azure does, this is enforced over shorter windows: a sixth of it, rounded up, in ten seconds. Below six
    /// requests a minute, it is one request in each share of the minute.
    pub const fn requests_per_minute(mut self, requests: u64) -> Self {
        self.requests_per_minute = Some(requests);
        self
    }

    /// Time for which it thinks before the head of an answer. Default: not at all. Refusals are answered at once.
    pub const fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Sets what the assistant says, whatever it is asked. A stream tells it word by word, each with the space after it. Default:
    /// `Hello from` and the name of the backend.
    pub fn says(mut self, text: impl Into<String>) -> Self {
        self.says = Some(text.into());
        self
    }

    /// Filters content asynchronously: streams of chat and completions have chunks with a choice without `delta` between
    /// their words, and one after the `finish_reason`.
    pub const fn async_filter(mut self) -> Self {
        self.async_filter = true;
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// A deployment with what has been used of its limits.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) name: String,
    pub(super) model: String,
    pub(super) latency: Duration,
    pub(super) says: Option<String>,
    pub(super) async_filter: bool,
    limits: Mutex<Limits>,
}

impl Deployment {
    pub(super) fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<SimulatedDeployment> for Deployment {
    fn from(spec: SimulatedDeployment) -> Self {
        let tokens = spec.tokens_per_minute.map(|limit| match spec.provisioned {
            true => Tokens::Provisioned(Bucket::tokens_per_minute(limit)),
            false => Tokens::Standard(Window::tokens_per_minute(limit)),
        });
        let limits = Limits { requests: spec.requests_per_minute.map(Window::requests_per_minute), tokens };
        Self {
            model: spec.model.unwrap_or_else(|| spec.name.clone()),
            name: spec.name,
            latency: spec.latency,
            says: spec.says,
            async_filter: spec.async_filter,
            limits: Mutex::new(limits),
        }
    }
}
