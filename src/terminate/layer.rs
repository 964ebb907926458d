use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::{Authenticate, ClientRegistry, TerminateCredentials};
use crate::context::EphemeralKeys;

/// Identifies clients by their credentials. See the [module docs](super).
#[must_use]
pub struct TerminateCredentialsLayer<A = ClientRegistry> {
    authenticator: Option<Arc<A>>,
    ephemeral: Option<EphemeralKeys>,
}

impl<A: Authenticate> TerminateCredentialsLayer<A> {
    /// Asks `authenticator` about every request. All clones share it.
    pub fn new(authenticator: A) -> Self {
        Self { authenticator: Some(Arc::new(authenticator)), ephemeral: None }
    }
}

impl TerminateCredentialsLayer<ClientRegistry> {
    /// Asks nobody and lets everybody in. Credentials are removed all the same.
    ///
    /// A gateway that uses this must be guarded by something else.
    pub const fn without_clients() -> Self {
        Self { authenticator: None, ephemeral: None }
    }
}

impl<A> TerminateCredentialsLayer<A> {
    /// Admits who presents one of these keys, to open a realtime session and for nothing else. Default: nobody.
    ///
    /// The keys are those that [`StickySessionLayer::ephemeral_keys`](crate::session::StickySessionLayer::ephemeral_keys) learns.
    pub fn ephemeral_keys(mut self, keys: EphemeralKeys) -> Self {
        self.ephemeral = Some(keys);
        self
    }
}

impl<A, S> Layer<S> for TerminateCredentialsLayer<A> {
    type Service = TerminateCredentials<A, S>;

    fn layer(&self, inner: S) -> TerminateCredentials<A, S> {
        TerminateCredentials { inner, authenticator: self.authenticator.clone(), ephemeral: self.ephemeral.clone() }
    }
}

impl<A> Clone for TerminateCredentialsLayer<A> {
    fn clone(&self) -> Self {
        Self { authenticator: self.authenticator.clone(), ephemeral: self.ephemeral.clone() }
    }
}

impl<A> fmt::Debug for TerminateCredentialsLayer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TerminateCredentialsLayer")
            .field("clients", &self.authenticator.is_some())
            .field("ephemeral", &self.ephemeral)
            .finish()
    }
}
