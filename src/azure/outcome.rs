//! Meaning of an answer, or of its absence.
//!
//! Most answers are known by status and headers ([`Outcome::of_head`]); for a few the error body decides
//! ([`Outcome::of_answer`]). What a transport error means is for its client to say.
//!
//! Sources: statuses as in <https://learn.microsoft.com/azure/ai-foundry/openai/reference> and <https://platform.openai.com/docs/guides/error-codes>; a 429 of a provisioned deployment as in
//! <https://learn.microsoft.com/azure/ai-foundry/openai/concepts/provisioned-throughput>.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};

use super::envelope::{self, ErrorEnvelope};
use super::hint;

/// Outcome of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The client went away, its upload failed, or a key of its own was of no use. Nobody's verdict.
    Abandoned,
    /// A 4xx that every other backend would answer too.
    ClientFault,
    /// 409 with a `Retry-After`, as for a thread with an active run.
    Conflict {
        /// Time to wait.
        hint: Option<Duration>,
    },
    /// The backend did not accept our credential, lacks a role for it, or does not let us in: 401 or 403.
    CredentialRefused {
        /// 401 or 403.
        status: StatusCode,
    },
    /// 400: the request carries encrypted content that only the resource which made it can read.
    ContentUnreadable,
    /// We could not get our own token for the backend. Nothing was sent.
    CredentialUnavailable,
    /// 424: what the backend itself depends on failed.
    DependencyFailed,
    /// The backend has no such deployment, or its region lacks the API: a 404 that says so.
    DeploymentMissing,
    /// The connection broke after something had been sent, or the answer was cut before its end.
    Reset,
    /// 408 or 5xx. With a hint the backend is busy rather than broken.
    ServerFailed {
        /// The status as it was sent; 529, which some proxies send, is read like 503.
        status: StatusCode,
        /// Time to wait.
        hint: Option<Duration>,
    },
    /// 1xx, 2xx or 3xx; 101 begins a WebSocket.
    Success,
    /// 429.
    Throttled {
        /// Time to wait.
        hint: Option<Duration>,
    },
    /// The backend took too long.
    TimedOut(Phase),
    /// A stream that ended as if it were complete, but without its closing event: before any content it delivered nothing, after
    /// it a part.
    Unfinished,
    /// A transport error that nobody could classify.
    Unknown,
    /// No connection: refused, unknown name, failed TLS handshake, connect timeout. Nothing was sent.
    Unreachable,
}

/// Phase that took a backend too long, once the request had been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The head of an answer that is not streamed; it comes after the whole generation.
    Answer,
    /// The head of a streamed answer.
    FirstByte,
    /// The next part of a body.
    Idle,
}

/// Meaning of the head of an answer, as far as that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeadVerdict {
    /// The body would change nothing.
    Known(Outcome),
    /// The body decides: read it, and ask [`Outcome::of_answer`]; with an empty one if it cannot be read.
    NeedsBody,
}

impl Outcome {
    /// Returns what the head of an answer means, `now` being what an HTTP date is compared with.
    ///
    /// The body is needed for every 400 and 404, and for a 429, 503 or 529 whose headers do not say how long to wait.
    #[must_use]
    pub fn of_head(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> HeadVerdict {
        let outcome = Self::without_body(status, headers, now);
        let body_decides = match status.as_u16() {
            400 | 404 => true,
            429 | 503 | 529 => outcome.hint().is_none(),
            _ => false,
        };
        if body_decides { HeadVerdict::NeedsBody } else { HeadVerdict::Known(outcome) }
    }

    /// Returns what an answer with its error body means. A body, or a part of one, that cannot be read is as good as an empty
    /// one.
    #[must_use]
    pub fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Self {
        match Self::of_head(status, headers, now) {
            HeadVerdict::Known(outcome) => outcome,
            HeadVerdict::NeedsBody => Self::with_body(status, body),
        }
    }

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::ClientFault => "client_fault",
            Self::Conflict { .. } => "conflict",
            Self::ContentUnreadable => "content_unreadable",
            Self::CredentialRefused { .. } => "credential_refused",
            Self::CredentialUnavailable => "credential_unavailable",
            Self::DependencyFailed => "dependency_failed",
            Self::DeploymentMissing => "deployment_missing",
            Self::Reset => "reset",
            Self::ServerFailed { .. } => "server_failed",
            Self::Success => "success",
            Self::Throttled { .. } => "throttled",
            Self::TimedOut(_) => "timed_out",
            Self::Unfinished => "unfinished",
            Self::Unknown => "unknown",
            Self::Unreachable => "unreachable",
        }
    }

    /// The backend proved that it processed nothing: the request may go elsewhere, whatever it asks for.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::ContentUnreadable
                | Self::CredentialRefused { .. }
                | Self::CredentialUnavailable
                | Self::DeploymentMissing
                | Self::Throttled { .. }
                | Self::Unreachable
        )
    }

    /// A circuit counts this as a failure of the backend. A backend that names a time to wait has not failed.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Reset
                | Self::ServerFailed { hint: None, .. }
                | Self::TimedOut(_)
                | Self::Unfinished
                | Self::Unknown
                | Self::Unreachable
        )
    }

    /// Time for which the backend asks us to wait. Not capped: see [`hint`].
    #[must_use]
    pub const fn hint(&self) -> Option<Duration> {
        match self {
            Self::Conflict { hint } | Self::ServerFailed { hint, .. } | Self::Throttled { hint } => *hint,
            _ => None,
        }
    }

    fn without_body(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Self {
        match status.as_u16() {
            100..=399 => Self::Success,
            401 | 403 => Self::CredentialRefused { status },
            409 => {
                hint::retry_after(headers, now).map_or(Self::ClientFault, |hint| Self::Conflict { hint: Some(hint) })
            }
            424 => Self::DependencyFailed,
            429 => Self::Throttled { hint: hint::from_headers(headers, now) },
            408 | 500.. => Self::ServerFailed { status, hint: hint::retry_after(headers, now) },
            _ => Self::ClientFault,
        }
    }

    fn with_body(status: StatusCode, body: &[u8]) -> Self {
        let error = envelope::read(body);
        if status == StatusCode::BAD_REQUEST {
            return if error.is_some_and(|error| error.cannot_read_content()) {
                Self::ContentUnreadable
            } else {
                Self::ClientFault
            };
        }
        if status == StatusCode::NOT_FOUND {
            return if error.is_some_and(|error| misses_deployment(&error)) {
                Self::DeploymentMissing
            } else {
                Self::ClientFault
            };
        }
        let hint = match &error {
            Some(error) => error.message().and_then(hint::from_message),
            None => str::from_utf8(body).ok().and_then(hint::from_message),
        };
        if status == StatusCode::TOO_MANY_REQUESTS {
            Self::Throttled { hint }
        } else {
            Self::ServerFailed { status, hint }
        }
    }
}

/// Other 404s speak of the path (code `404`, wrong for every backend) or of an object, which only its owner knows.
fn misses_deployment(error: &ErrorEnvelope) -> bool {
    let is = |name: &str| error.code().is_some_and(|code| code.eq_ignore_ascii_case(name));
    let says = |what| error.message().is_some_and(|message| message.to_ascii_lowercase().contains(what));
    is("DeploymentNotFound")
        || is("model_not_found")
        || (is("NotFound") && (says("not enabled") || says("deployment") || says("model")))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn answer(code: u16, pairs: &[(&'static str, &'static str)], body: &str) -> Outcome {
        Outcome::of_answer(status(code), &headers(pairs), body.as_bytes(), NOW)
    }

    const fn s(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn the_status_speaks_first() {
        for (codes, outcome) in [
            (&[100, 101, 200, 204, 302, 304][..], Outcome::Success),
            (&[400, 402, 404, 405, 409, 410, 413, 415, 422, 431, 451, 499], Outcome::ClientFault),
            (&[401], Outcome::CredentialRefused { status: StatusCode::UNAUTHORIZED }),
            (&[403], Outcome::CredentialRefused { status: StatusCode::FORBIDDEN }),
            (&[424], Outcome::DependencyFailed),
            (&[429], Outcome::Throttled { hint: None }),
        ] {
            for code in codes {
                assert_eq!(answer(*code, &[], ""), outcome, "{code}");
            }
        }
        for code in [408, 500, 501, 502, 503, 504, 529, 599, 999] {
            assert_eq!(answer(code, &[], ""), Outcome::ServerFailed { status: status(code), hint: None });
        }
    }

    #[test]
    fn the_body_is_asked_for_only_where_it_decides() {
        let head = |code, pairs| Outcome::of_head(status(code), &headers(pairs), NOW);
        for code in [400, 404, 429, 503, 529] {
            assert_eq!(head(code, &[]), HeadVerdict::NeedsBody, "{code}");
        }
        assert_eq!(head(404, &[("retry-after", "1")]), HeadVerdict::NeedsBody);
        assert_eq!(head(503, &[("x-ratelimit-reset-tokens", "1")]), HeadVerdict::NeedsBody);
        let throttled = HeadVerdict::Known(Outcome::Throttled { hint: s(1) });
        assert_eq!(head(429, &[("retry-after-ms", "1000")]), throttled);
        assert_eq!(head(429, &[("x-ratelimit-reset-tokens", "1")]), throttled);
        assert_eq!(
            head(503, &[("retry-after", "1")]),
            HeadVerdict::Known(Outcome::ServerFailed { status: status(503), hint: s(1) })
        );
        for code in [200, 401, 403, 408, 409, 424, 500, 502, 504] {
            assert!(matches!(head(code, &[]), HeadVerdict::Known(_)), "{code}");
        }
    }

    #[test]
    fn a_404_is_a_missing_deployment_when_it_says_so() {
        for body in [
            r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#,
            r#"{"error":{"code":"model_not_found","message":"The model `x` does not exist","type":"invalid_request_error"}}"#,
            r#"{"error":{"code":"NotFound","message":"Azure OpenAI Responses API is not enabled in this region"}}"#,
            r#"{"error":{"code":"NotFound","message":"The deployment x was not found"}}"#,
        ] {
            assert_eq!(answer(404, &[], body), Outcome::DeploymentMissing, "{body}");
        }
        for body in [
            r#"{"error":{"code":"404","message":"Resource not found"}}"#,
            r#"{"error":{"code":404,"message":"Resource not found"}}"#,
            r#"{"statusCode":404,"message":"Resource not found"}"#,
            r#"{"error":{"message":"No thread found with id 'thread_1'","type":"invalid_request_error","code":null}}"#,
            r#"{"error":{"code":"NotFound","message":"No file found with id 'file-1'"}}"#,
            r#"{"error":{"code":"NotFound"}}"#,
            "<html>DeploymentNotFound</html>",
            "",
        ] {
            assert_eq!(answer(404, &[], body), Outcome::ClientFault, "{body}");
        }
    }

    #[test]
    fn the_message_gives_the_hint_that_the_headers_lack() {
        let body = r#"{"error":{"code":"429","message":"Rate limit is exceeded. Try again in 40 seconds."}}"#;
        assert_eq!(answer(429, &[], body), Outcome::Throttled { hint: s(40) });
        assert_eq!(answer(429, &[("retry-after", "-1")], body), Outcome::Throttled { hint: s(40) });
        assert_eq!(answer(429, &[("retry-after", "2")], body), Outcome::Throttled { hint: s(2) });
        assert_eq!(answer(429, &[("retry-after", "0")], body), Outcome::Throttled { hint: s(0) });
        assert_eq!(answer(429, &[], "Too busy. Retry after 5 seconds"), Outcome::Throttled { hint: s(5) });
        for code in [503, 529] {
            assert_eq!(answer(code, &[], body), Outcome::ServerFailed { status: status(code), hint: s(40) });
        }
        assert_eq!(answer(500, &[], body), Outcome::ServerFailed { status: status(500), hint: None });
    }

    #[test]
    fn reported_quota_is_no_hint_of_a_failure() {
        let quota = &[("x-ratelimit-reset-requests", "30"), ("x-ratelimit-reset-tokens", "30")];
        for code in [408, 500, 503] {
            let outcome = answer(code, quota, "");
            assert_eq!(outcome, Outcome::ServerFailed { status: status(code), hint: None });
            assert!(outcome.is_failure());
        }
        assert_eq!(answer(409, quota, ""), Outcome::ClientFault);
        assert_eq!(answer(429, quota, ""), Outcome::Throttled { hint: s(30) });
    }

    #[test]
    fn a_conflict_with_a_wait_is_worth_a_repeat() {
        assert_eq!(answer(409, &[("retry-after", "3")], ""), Outcome::Conflict { hint: s(3) });
        assert_eq!(answer(409, &[("retry-after", "soon")], ""), Outcome::ClientFault);
    }

    #[test]
    fn content_that_another_resource_encrypted_is_refused() {
        for body in [
            r#"{"error":{"message":"x","type":"invalid_request_error","param":null,"code":"invalid_encrypted_content"}}"#,
            r#"{"error":{"message":"The encrypted content gAAA... could not be verified. Reason: x","code":null}}"#,
            r#"{"error":{"message":"The encrypted content for item rs_1 could not be verified."}}"#,
        ] {
            assert_eq!(answer(400, &[], body), Outcome::ContentUnreadable, "{body}");
        }
        for body in [
            r#"{"error":{"message":"Encrypted content is not supported with this model.","code":"invalid_request"}}"#,
            r#"{"error":{"message":"The image could not be verified.","code":null}}"#,
            "The encrypted content could not be verified",
        ] {
            assert_eq!(answer(400, &[], body), Outcome::ClientFault, "{body}");
        }
        assert_eq!(answer(422, &[], r#"{"error":{"code":"invalid_encrypted_content"}}"#), Outcome::ClientFault);
    }

    #[test]
    fn a_content_filter_is_the_clients_matter() {
        let body = r#"{"error":{"code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
        assert_eq!(answer(400, &[], body), Outcome::ClientFault);
    }

    #[test]
    fn refusals_failures_and_hints_are_told_apart() {
        let failed = |hint| Outcome::ServerFailed { status: status(503), hint };
        for (outcome, refusal, failure, hint) in [
            (Outcome::Abandoned, false, false, None),
            (Outcome::ClientFault, false, false, None),
            (Outcome::Conflict { hint: s(1) }, false, false, s(1)),
            (Outcome::CredentialRefused { status: status(401) }, true, false, None),
            (Outcome::ContentUnreadable, true, false, None),
            (Outcome::CredentialUnavailable, true, false, None),
            (Outcome::DependencyFailed, false, false, None),
            (Outcome::DeploymentMissing, true, false, None),
            (Outcome::Reset, false, true, None),
            (failed(None), false, true, None),
            (failed(s(2)), false, false, s(2)),
            (Outcome::Success, false, false, None),
            (Outcome::Throttled { hint: None }, true, false, None),
            (Outcome::Throttled { hint: s(3) }, true, false, s(3)),
            (Outcome::TimedOut(Phase::Answer), false, true, None),
            (Outcome::TimedOut(Phase::FirstByte), false, true, None),
            (Outcome::TimedOut(Phase::Idle), false, true, None),
            (Outcome::Unfinished, false, true, None),
            (Outcome::Unknown, false, true, None),
            (Outcome::Unreachable, true, true, None),
        ] {
            assert_eq!(outcome.is_refusal(), refusal, "{outcome:?}");
            assert_eq!(outcome.is_failure(), failure, "{outcome:?}");
            assert_eq!(outcome.hint(), hint, "{outcome:?}");
        }
    }

    proptest! {
        #[test]
        fn a_known_head_stands_whatever_the_body_says(
            code in 100..1000u16, name in 0..4usize, value in "-?[0-9]{0,3}(ms)?", body in "(?s).*",
        ) {
            let name = ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "date"][name];
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())]);
            let answer = Outcome::of_answer(status(code), &headers, body.as_bytes(), NOW);
            if let HeadVerdict::Known(outcome) = Outcome::of_head(status(code), &headers, NOW) {
                prop_assert_eq!(answer, outcome);
            }
            prop_assert!((200..300).contains(&code) <= (answer == Outcome::Success));
        }
    }
}
