//! From the SDK's credentials to tokens that a keeper can hold.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential};
use azure_core::time::OffsetDateTime;
use tokio::time::Instant;
use tower::BoxError;

use super::failure::Failure;
use crate::pool::BoxFuture;
use crate::reissue::{Token, TokenSource};

/// Tokens of any credential of the Azure SDK, for one scope.
///
/// A credential that keeps a cache may answer a forced fetch out of it; [`Identity`](super::Identity) makes a new one instead.
///
/// ```
/// use std::sync::Arc;
/// use azure_core::credentials::TokenCredential;
/// use tower_azure_openai::pool::Credential;
/// use tower_azure_openai::reissue::TokenKeeper;
/// use tower_azure_openai::reissue::azure::{DEFAULT_SCOPE, TokenCredentialSource};
///
/// fn shown_to_a_backend(credential: Arc<dyn TokenCredential>) -> Credential {
///     Credential::bearer(Arc::new(TokenKeeper::new(TokenCredentialSource::new(credential, DEFAULT_SCOPE))))
/// }
/// ```
#[derive(Clone)]
pub struct TokenCredentialSource {
    credential: Arc<dyn TokenCredential>,
    scope: Arc<str>,
}

impl TokenCredentialSource {
    /// Tokens of a credential for a scope such as [`DEFAULT_SCOPE`](super::DEFAULT_SCOPE).
    pub fn new(credential: Arc<dyn TokenCredential>, scope: impl Into<Arc<str>>) -> Self {
        Self { credential, scope: scope.into() }
    }
}

impl TokenSource for TokenCredentialSource {
    fn fetch(&self, _forced: bool) -> BoxFuture<Result<Token, BoxError>> {
        let Self { credential, scope } = self.clone();
        Box::pin(async move { Ok(fetch(credential.as_ref(), &scope).await?) })
    }
}

impl fmt::Debug for TokenCredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCredentialSource").field("scope", &self.scope).finish_non_exhaustive()
    }
}

pub(super) async fn fetch(credential: &dyn TokenCredential, scope: &str) -> Result<Token, Failure> {
    let token = credential.get_token(&[scope], None).await.map_err(|error| Failure::of(&error))?;
    keepable(&token, OffsetDateTime::now_utc())
}

fn keepable(token: &AccessToken, now: OffsetDateTime) -> Result<Token, Failure> {
    let secret = token.token.secret();
    if secret.is_empty() {
        return Err(Failure::EMPTY);
    }
    // One that has ended has no time left, which the keeper refuses.
    let left = Duration::try_from(token.expires_on - now).unwrap_or_default();
    let expires_at = Instant::now().checked_add(left).ok_or(Failure::ENDLESS)?;
    Ok(Token::new(secret, expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wall_clock_becomes_the_time_that_is_left() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let left = |seconds: i64| {
            let expires_on = OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).unwrap();
            keepable(&AccessToken::new("t", expires_on), now).unwrap().expires_at - Instant::now()
        };
        assert_eq!(left(3_600), Duration::from_secs(3_600));
        assert_eq!(left(-60), Duration::ZERO);
        let empty = keepable(&AccessToken::new("", now), now).unwrap_err();
        assert_eq!(empty.to_string(), "the identity endpoint answered without a token");
    }
}
