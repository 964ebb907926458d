//! Credentials that backends are shown instead of the client's.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderValue;
use http::header::InvalidHeaderValue;
use tower::BoxError;

/// The credential of one backend: an API key, tokens that somebody keeps fresh, or the client's own token.
///
/// Cheap to clone; `Debug` shows the kind only.
#[derive(Clone)]
pub struct Credential(Kind);

#[derive(Clone)]
enum Kind {
    ApiKey { key: HeaderValue, bearer: HeaderValue },
    Bearer(Arc<dyn BearerTokens>),
    PassThrough,
}

impl Credential {
    /// An API key, sent as `api-key`, or as `Authorization: Bearer` to a backend that is not of Azure.
    ///
    /// # Errors
    /// The key holds a byte that a header cannot carry.
    pub fn api_key(key: impl AsRef<[u8]>) -> Result<Self, InvalidHeaderValue> {
        let secret = |bytes: &[u8]| {
            let mut value = HeaderValue::from_bytes(bytes)?;
            value.set_sensitive(true);
            Ok(value)
        };
        let bearer = secret(&[b"Bearer ", key.as_ref()].concat())?;
        Ok(Self(Kind::ApiKey { key: secret(key.as_ref())?, bearer }))
    }

    /// Tokens, sent as `Authorization: Bearer`; see [`TokenKeeper`](crate::reissue::TokenKeeper).
    #[must_use]
    pub fn bearer(tokens: Arc<dyn BearerTokens>) -> Self {
        Self(Kind::Bearer(tokens))
    }

    /// The client's own token, as [`Client::token`](crate::context::Client::token) has it; never its key.
    ///
    /// What the backend then allows is the client's affair: a 401 or 403 is its answer. Clients without a token are not
    /// served by such a backend.
    #[must_use]
    pub const fn pass_through() -> Self {
        Self(Kind::PassThrough)
    }

    /// The value of the `api-key` header, if this is a key.
    #[must_use]
    pub const fn as_api_key(&self) -> Option<&HeaderValue> {
        match &self.0 {
            Kind::ApiKey { key, .. } => Some(key),
            Kind::Bearer(_) | Kind::PassThrough => None,
        }
    }

    /// The key as the value of `Authorization`, if this is one.
    pub(crate) const fn as_bearer_key(&self) -> Option<&HeaderValue> {
        match &self.0 {
            Kind::ApiKey { bearer, .. } => Some(bearer),
            Kind::Bearer(_) | Kind::PassThrough => None,
        }
    }

    /// The source of tokens, if this is one.
    #[must_use]
    pub const fn as_bearer(&self) -> Option<&Arc<dyn BearerTokens>> {
        match &self.0 {
            Kind::Bearer(tokens) => Some(tokens),
            Kind::ApiKey { .. } | Kind::PassThrough => None,
        }
    }

    /// Tells whether it is the client's own token.
    #[must_use]
    pub const fn is_pass_through(&self) -> bool {
        matches!(self.0, Kind::PassThrough)
    }

    /// Returns what is wrong with it, as a sentence without secrets.
    pub(in crate::pool) fn problem(&self) -> Option<String> {
        self.as_bearer().and_then(|tokens| tokens.problem())
    }

    /// Tells whether a request would carry it without waiting. What can be fetched anew is begun to be.
    pub(in crate::pool) fn is_at_hand(&self) -> bool {
        self.as_bearer().is_none_or(|tokens| tokens.current().is_some())
    }

    /// Tells whether a request could carry it now, or as soon as a first token is there.
    pub(in crate::pool) fn is_usable(&self) -> bool {
        self.is_at_hand() || self.problem().is_none()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::ApiKey { .. } => "Credential::ApiKey",
            Kind::Bearer(_) => "Credential::Bearer",
            Kind::PassThrough => "Credential::PassThrough",
        })
    }
}

/// A boxed future that borrows nothing.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Bearer tokens that are kept fresh off the request path.
pub trait BearerTokens: Send + Sync + 'static {
    /// The token in hand, while it is valid, as the value of `Authorization`. Called for every request and every look at the
    /// pool: must not block. Whoever can fetch another begins to when it is time, beside the caller.
    fn current(&self) -> Option<HeaderValue>;

    /// Waits for a first token, or a new one after the last has expired. Concurrent callers share one fetch and its failure.
    fn wait(&self) -> BoxFuture<Result<HeaderValue, BoxError>>;

    /// A backend answered 401 to this token. Resolves to whether another one is in hand now, so that a repeat makes sense.
    fn rejected(&self, token: &HeaderValue) -> BoxFuture<bool>;

    /// Returns why there is no usable token, as a sentence without secrets; `None` while there is one or the first is being
    /// fetched.
    fn problem(&self) -> Option<String>;
}
