//! Clients that are known by Microsoft Entra ID tokens.
//!
//! 1. Only `Authorization: Bearer` is looked at, and only what has the shape of a JWT of at most 16 KiB, signed
//!    with RS256 by a key whose id is in the [`KeySet`]. What a token says of its own algorithm or keys is never followed.
//! 2. The signature, `aud`, `iss`, `exp`, `nbf` and `tid` must be right, all of them there, with 60 s for the clocks. Tokens of
//!    version 1 (`iss` is `https://sts.windows.net/{tenant}/`) and of version 2 are accepted alike.
//! 3. The client is the first, in the order in which they were added, whose [`Caller`] the token names. A valid token that
//!    names none identifies nobody.
//! 4. Signing keys are fetched when they are needed, kept, refreshed beside the requests and, for an id that is not known,
//!    looked for again: see [`KeySet`].
//!
//! It does not keep the token, does not ask anybody about groups, and does not notice a revocation before the token ends.
//! Whatever is wrong with a token, the request is told no more than that nobody was identified; the log says why at `debug`,
//! without the token.
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{BoxError, service_fn};
//! use tower_azure_openai::body::Body;
//! use tower_azure_openai::context::Client;
//! use tower_azure_openai::terminate::entra::{Caller, Entra, KeySet};
//! use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};
//!
//! # fn main() -> Result<(), BoxError> {
//! let tenant = "6f1b3a0e-9c43-4f0c-8d6b-0d2f1c3b5a77";
//! # let http_client = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
//! // `http_client` is any `Service<Request<Body>>`; with the feature `client`, `client::HttpClient::builder().build()?`.
//! let entra = Entra::builder(tenant, KeySet::of_tenant(tenant, http_client)?)
//!     .add_audience("api://contoso-gateway")
//!     .add_client(Caller::app_id("2c0f7e0a-55c1-4a43-8f39-3a0c4be1d1f2"), Client::new("batch-jobs"))
//!     .add_client(Caller::role("Gateway.Chat"), Client::new("people").allow(["gpt-4o"]))
//!     .build()?;
//! // Keys first, then tokens.
//! let registry = ClientRegistry::builder().add_key(Client::new("team-a"), "…a long random key…").build()?;
//! let layer = TerminateCredentialsLayer::new((registry, entra));
//! # let _ = layer;
//! # Ok(())
//! # }
//! ```
//!
//! A sovereign cloud has another authority:
//!
//! ```
//! # use http::{Request, Response};
//! # use tower::{BoxError, service_fn};
//! # use tower_azure_openai::{body::Body, terminate::entra::{Entra, KeySet}};
//! # fn main() -> Result<(), BoxError> {
//! # let http_client = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
//! let tenant = "6f1b3a0e-9c43-4f0c-8d6b-0d2f1c3b5a77";
//! let authority = format!("https://login.microsoftonline.us/{tenant}");
//! let keys = KeySet::new(&format!("{authority}/discovery/v2.0/keys"), http_client)?;
//! let entra = Entra::builder(tenant, keys).issuer(format!("{authority}/v2.0")).add_audience("api://contoso-gateway").build()?;
//! # let _ = entra;
//! # Ok(())
//! # }
//! ```
//!
//! # Cancellation
//! Dropping the future leaves a fetch of keys to those who wait for it too.

mod callers;
mod jwks;
mod keys;
mod token;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

pub use self::callers::Caller;
use self::callers::Callers;
pub use self::keys::KeySet;
use self::token::{Rules, Token};
use tower::BoxError;

use super::{Authenticate, Presented};
use crate::context::Client;
use crate::pool::BoxFuture;
use crate::problems::Problems;

/// The largest token that is looked at, in bytes: 16 KiB. One with two hundred groups has about nine.
pub(crate) const MAX_TOKEN: usize = 16 << 10;
/// Difference that the clocks of Entra and of this machine may have.
pub(crate) const LEEWAY: Duration = Duration::from_secs(60);
/// The largest document of signing keys that is read, in bytes: 256 KiB, ten times that of Entra.
pub(crate) const MAX_KEY_SET: usize = 256 << 10;
/// Time that fetching the signing keys may take.
pub(crate) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// From this age on, signing keys are refreshed beside the requests that use them.
pub(crate) const REFRESH_AFTER: Duration = Duration::from_secs(3_600);
/// From this age on, as after a quiet night, they are refreshed before they are used; if that fails they are used all the same.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(24 * 3_600);
/// Interval in which keys are fetched at most once because of an id that is not among them, or again after a fetch that failed.
pub(crate) const SEARCH_INTERVAL: Duration = Duration::from_secs(60);
/// The same while there are no keys at all, so that nobody could be let in.
pub(crate) const FIRST_KEYS_INTERVAL: Duration = Duration::from_secs(5);

/// Knows clients by their Entra ID tokens. Cheap to clone. See the [module docs](self).
#[derive(Clone)]
pub struct Entra(Arc<Inner>);

struct Inner {
    rules: Rules,
    keys: KeySet,
    callers: Callers,
}

impl Entra {
    /// Tokens of the tenant with this id, a GUID, signed by one of these keys.
    pub fn builder(tenant_id: impl Into<String>, keys: KeySet) -> EntraBuilder {
        let tenant_id = tenant_id.into();
        let issuer = format!("https://login.microsoftonline.com/{tenant_id}/v2.0");
        EntraBuilder { tenant_id, keys, issuer, audiences: Vec::new(), clients: Vec::new() }
    }
}

impl Authenticate for Entra {
    type Future = ResponseFuture;

    fn authenticate(&self, presented: &Presented) -> ResponseFuture {
        let Some(token) = Token::read(presented) else { return ResponseFuture(State::Done(None)) };
        if let Some(key) = self.0.keys.known(token.key_id()) {
            return ResponseFuture(State::Done(self.0.identify(&token, &key)));
        }
        let inner = self.0.clone();
        ResponseFuture(State::Seeking(Box::pin(async move {
            inner.keys.seek(token.key_id()).await.and_then(|key| inner.identify(&token, &key))
        })))
    }
}

impl Inner {
    fn identify(&self, token: &Token, key: &jsonwebtoken::DecodingKey) -> Option<Client> {
        match self.rules.check(token, key) {
            Ok(claims) => {
                let client = self.callers.find(&claims);
                if client.is_none() {
                    tracing::debug!("a valid token that names no client");
                }
                client.map(|client| token.go_with(client))
            }
            Err(why) => {
                tracing::debug!(why, "a token was refused");
                None
            }
        }
    }
}

impl fmt::Debug for Entra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entra").field("keys", &self.0.keys).finish_non_exhaustive()
    }
}

/// The future of [`Entra`]: done at once while the token's key is in hand.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(State);

enum State {
    Done(Option<Client>),
    Seeking(BoxFuture<Option<Client>>),
}

impl Future for ResponseFuture {
    type Output = Result<Option<Client>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Done(client) => Poll::Ready(Ok(client.take())),
            State::Seeking(future) => future.as_mut().poll(cx).map(Ok),
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Describes an [`Entra`]; made by [`Entra::builder`].
#[derive(Debug)]
#[must_use]
pub struct EntraBuilder {
    tenant_id: String,
    keys: KeySet,
    issuer: String,
    audiences: Vec<String>,
    clients: Vec<(Caller, Client)>,
}

impl EntraBuilder {
    /// Whom tokens must be meant for: one of these, each as it stands in `aud`. At least one.
    pub fn add_audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// The issuer of version 2 tokens. Default: `https://login.microsoftonline.com/{tenant}/v2.0`.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = issuer.into();
        self
    }

    /// Adds a client by what a token says of its caller; call it again for each further one.
    pub fn add_client(mut self, caller: Caller, client: Client) -> Self {
        self.clients.push((caller, client));
        self
    }

    /// Checks the description.
    ///
    /// # Errors
    /// A tenant, issuer, audience or caller that is empty, no audience, or a caller that stands for two clients: every problem
    /// at once.
    pub fn build(self) -> Result<Entra, BuildError> {
        let mut problems = Problems::default();
        if self.tenant_id.is_empty() || self.issuer.is_empty() {
            problems.add("tenant and issuer must not be empty");
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            problems.add("at least one audience is needed, and none may be empty");
        }
        let callers = Callers::new(self.clients, &mut problems);
        problems.check().map_err(BuildError)?;
        let rules = Rules::new(&self.tenant_id, &self.issuer, &self.audiences);
        Ok(Entra(Arc::new(Inner { rules, keys: self.keys, callers })))
    }
}

/// Problems of a description, all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(Problems);

impl BuildError {
    /// One sentence for each problem.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.0.iter()
    }
}
