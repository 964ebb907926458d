//! Identities of the gateway to its backends: one keeper of tokens for each identity and scope.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use tower::BoxError;
use tower_azure_openai::client::Proxy;
use tower_azure_openai::pool::BearerTokens;
use tower_azure_openai::reissue::TokenKeeper;
use tower_azure_openai::reissue::azure::{Identity, Transport};
use tower_azure_openai::shared::Login;

use crate::config::backends::TokenSource;
use crate::config::redis::{self, Redis};

/// The keepers that backends use, so that a reload goes on with the tokens that there are, and one client for all of them.
///
/// Backends hold the keepers, and this does not: what nobody uses any more ends with the last of its requests.
#[derive(Clone, Default)]
pub(crate) struct Identities {
    proxy: Option<Proxy>,
    transport: Option<Arc<Transport>>,
    keepers: HashMap<(TokenSource, String), Weak<TokenKeeper>>,
}

impl Identities {
    /// Fetches through this proxy from now on.
    pub(crate) fn leave_through(&mut self, proxy: Option<&Proxy>) {
        if self.proxy.as_ref() != proxy {
            // What is kept goes another way.
            *self = Self { proxy: proxy.cloned(), ..Self::default() };
        }
    }

    /// The keeper of an identity and a scope; a new one begins to fetch its first token.
    pub(crate) fn keeper(&mut self, source: &TokenSource, scope: &str) -> Result<Arc<TokenKeeper>, BoxError> {
        self.keepers.retain(|_, keeper| keeper.strong_count() > 0);
        let described = (source.clone(), scope.to_owned());
        if let Some(keeper) = self.keepers.get(&described).and_then(Weak::upgrade) {
            return Ok(keeper);
        }
        let keeper = Arc::new(identity(source).scope(scope).transport(self.transport()?).keeper()?);
        self.keepers.insert(described, Arc::downgrade(&keeper));
        // There is none yet, but asking begins the fetch.
        drop(keeper.current());
        Ok(keeper)
    }

    /// Returns who the gateway is to Redis.
    pub(crate) fn login(&mut self, redis: &Redis) -> Result<Login, BoxError> {
        Ok(match &redis.credential {
            redis::Credential::Nobody => Login::Nobody,
            redis::Credential::Password { user, password } => {
                Login::Password { user: user.clone(), password: password.expose().to_owned() }
            }
            redis::Credential::Token { source, scope } => Login::Tokens(self.keeper(source, scope)?),
        })
    }

    fn transport(&mut self) -> Result<Arc<Transport>, BoxError> {
        if let Some(transport) = &self.transport {
            return Ok(Arc::clone(transport));
        }
        let transport = match &self.proxy {
            Some(proxy) => Transport::through(proxy.clone())?,
            None => Transport::new()?,
        };
        Ok(Arc::clone(self.transport.insert(Arc::new(transport))))
    }
}

fn identity(source: &TokenSource) -> Identity {
    match source {
        TokenSource::ClientSecret { tenant_id, client_id, secret } => {
            Identity::client_secret(tenant_id, client_id, secret.expose())
        }
        TokenSource::DeveloperTools => Identity::developer_tools(),
        TokenSource::ManagedIdentity { client_id: None } => Identity::managed_identity(),
        TokenSource::ManagedIdentity { client_id: Some(id) } => Identity::managed_identity().client_id(id),
        TokenSource::WorkloadIdentity => Identity::workload_identity(),
    }
}
