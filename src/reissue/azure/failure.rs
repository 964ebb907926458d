//! Reasons why no token came, in words that hold no secret, no host and nothing of an answer but its codes.

use std::borrow::Cow;
use std::error::Error as StdError;

use azure_core::error::ErrorKind;
use azure_core::http::StatusCode;
use serde::Deserialize;

use crate::azure::Outcome;
use crate::context::AttemptFailed;
use crate::error::{Chain, causes};

/// Has no source: what the SDK's errors display holds bodies and URLs.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failure(Cow<'static, str>);

impl Failure {
    pub(super) const EMPTY: Self = Self(Cow::Borrowed("the identity endpoint answered without a token"));
    pub(super) const ENDLESS: Self = Self(Cow::Borrowed("the end of the token lies too far ahead"));
    pub(super) const PLAIN: Self = Self(Cow::Borrowed("the identity endpoint is neither https nor on this machine"));
    pub(super) const UNREADABLE: Self = Self(Cow::Borrowed("the answer of the identity endpoint cannot be read"));
    pub(super) const UNSENDABLE: Self = Self(Cow::Borrowed("the request to the identity endpoint cannot be sent"));

    /// Reads what any credential's error tells.
    pub(super) fn of(error: &azure_core::Error) -> Self {
        let kinds = || causes(error).filter_map(|cause| cause.downcast_ref()).map(azure_core::Error::kind);
        if let Some(known) = causes(error).find_map(|cause| cause.downcast_ref::<Self>()) {
            return known.clone();
        }
        let answered = kinds().find_map(|kind| match kind {
            ErrorKind::HttpResponse { status, raw_response, .. } => {
                Some(Self::answered(*status, raw_response.as_ref().map_or(&[], |answer| answer.body().as_ref())))
            }
            _ => None,
        });
        answered.unwrap_or_else(|| match kinds().last() {
            Some(ErrorKind::Connection | ErrorKind::Io) => Self("the identity endpoint could not be reached".into()),
            Some(ErrorKind::DataConversion) => Self::UNREADABLE,
            _ => Self("the credential gave no token".into()),
        })
    }

    pub(super) fn of_attempt(failed: &AttemptFailed) -> Self {
        let what = match failed.outcome() {
            Outcome::TimedOut(_) => return Self("the identity endpoint did not answer in time".into()),
            Outcome::Unreachable => "the identity endpoint could not be reached",
            _ => "the connection to the identity endpoint broke",
        };
        Self(match failed.source() {
            Some(why) => format!("{what}: {}", Chain(why)).into(),
            None => what.into(),
        })
    }

    /// An answer that is none: its status, and Entra's codes for it where the body has them.
    pub(super) fn answered(status: StatusCode, body: &[u8]) -> Self {
        let told: Codes<'_> = serde_json::from_slice(body).unwrap_or_default();
        let name = told.error.filter(|name| is_code(name)).map(Cow::into_owned);
        let codes: Vec<_> =
            name.into_iter().chain(told.error_codes.iter().map(|code| format!("AADSTS{code}"))).collect();
        let status = u16::from(status);
        Self(match codes.as_slice() {
            [] => format!("the identity endpoint answered {status}").into(),
            codes => format!("the identity endpoint answered {status} ({})", codes.join(", ")).into(),
        })
    }

    /// As an error that the SDK does not repeat the request for: that is the keeper's business.
    pub(super) fn into_sdk(self) -> azure_core::Error {
        azure_core::Error::new(ErrorKind::Other, self)
    }
}

#[derive(Default, Deserialize)]
struct Codes<'a> {
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
    #[serde(default)]
    error_codes: Vec<u32>,
}

fn is_code(name: &str) -> bool {
    const LONGEST: usize = 64;
    !name.is_empty() && name.len() <= LONGEST && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_shows_its_codes_and_nothing_else() {
        for (body, expected) in [
            ("", ""),
            ("<html>hunter2</html>", ""),
            (r#"{"error":"hunter 2","error_description":"hunter2"}"#, ""),
            (r#"{"error":{"message":"hunter2"}}"#, ""),
            (r#"{"error":"invalid_request","error_description":"hunter2\r\n"}"#, " (invalid_request)"),
            (r#"{"error":"invalid_client","error_codes":[7000215]}"#, " (invalid_client, AADSTS7000215)"),
        ] {
            let failure = Failure::answered(StatusCode::from(401), body.as_bytes());
            assert_eq!(failure.to_string(), format!("the identity endpoint answered 401{expected}"), "{body}");
        }
    }

    #[test]
    fn a_foreign_error_shows_its_kind_only() {
        let of = |kind: ErrorKind| {
            let inner = azure_core::Error::with_message(kind, "hunter2 at https://login.example");
            Failure::of(&azure_core::Error::with_error(ErrorKind::Credential, inner, "hunter2")).to_string()
        };
        assert_eq!(of(ErrorKind::Io), "the identity endpoint could not be reached");
        assert_eq!(of(ErrorKind::DataConversion), "the answer of the identity endpoint cannot be read");
        assert_eq!(of(ErrorKind::Other), "the credential gave no token");
        let refused = ErrorKind::HttpResponse { status: StatusCode::from(403), error_code: None, raw_response: None };
        assert_eq!(of(refused), "the identity endpoint answered 403");
    }
}
