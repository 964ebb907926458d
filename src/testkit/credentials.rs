//! Callers that a backend admits.

use std::fmt;

use http::header;

use super::call::query;
use super::received::ReceivedRequest;

/// The credentials that a backend accepts; with none, anyone may call.
#[derive(Default)]
pub(super) struct Credentials {
    pub(super) api_keys: Vec<String>,
    pub(super) bearers: Vec<String>,
}

/// Credential that was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    Key,
    Token,
}

impl Credentials {
    /// Exactly one credential, and one that is known. Azure takes a key as `api-key`, or where a token stands.
    pub(super) fn check(&self, request: &ReceivedRequest) -> Result<(), Rejection> {
        let values = |name| request.headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
        let api_keys: Vec<_> = values(header::HeaderName::from_static("api-key")).collect();
        let bearers: Vec<_> = values(header::AUTHORIZATION).map(strip_scheme).collect();
        let elsewhere = values(header::HeaderName::from_static("ocp-apim-subscription-key")).count()
            + query(request, "api-key").count()
            + query(request, "subscription-key").count();

        let is_key = |given: &str| self.api_keys.iter().any(|key| key == given);
        let is_token = |given: &str| self.bearers.iter().any(|token| token == given);
        match (&*api_keys, &*bearers, elsewhere) {
            _ if self.is_open() && api_keys.len() + bearers.len() + elsewhere <= 1 => Ok(()),
            ([], [], 0) => Err(Rejection::Token),
            ([key], [], 0) if is_key(key) => Ok(()),
            ([], [Some(given)], 0) if is_key(given) || is_token(given) => Ok(()),
            ([], [_], 0) => Err(Rejection::Token),
            _ => Err(Rejection::Key),
        }
    }

    const fn is_open(&self) -> bool {
        self.api_keys.is_empty() && self.bearers.is_empty()
    }
}

fn strip_scheme(value: &str) -> Option<&str> {
    let (scheme, credential) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(credential)
}

/// Shows their number, never which.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("api_keys", &self.api_keys.len())
            .field("bearers", &self.bearers.len())
            .finish()
    }
}
