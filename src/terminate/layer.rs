use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::{Authenticate, ClientRegistry, TerminateCredentials};

/// Who is it? See the [module docs](super).
#[must_use]
pub struct TerminateCredentialsLayer<A = ClientRegistry>(Option<Arc<A>>);

impl<A: Authenticate> TerminateCredentialsLayer<A> {
    /// Asks `authenticator` about every request. All clones share it.
    pub fn new(authenticator: A) -> Self {
        Self(Some(Arc::new(authenticator)))
    }
}

impl TerminateCredentialsLayer<ClientRegistry> {
    /// Asks nobody and lets everybody in. Credentials are removed all the same.
    ///
    /// A gateway that uses this must be guarded by something else.
    pub const fn without_clients() -> Self {
        Self(None)
    }
}

impl<A, S> Layer<S> for TerminateCredentialsLayer<A> {
    type Service = TerminateCredentials<A, S>;

    fn layer(&self, inner: S) -> TerminateCredentials<A, S> {
        TerminateCredentials { inner, authenticator: self.0.clone() }
    }
}

impl<A> Clone for TerminateCredentialsLayer<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A> fmt::Debug for TerminateCredentialsLayer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TerminateCredentialsLayer").field("clients", &self.0.is_some()).finish()
    }
}
