//! An error inside a stream, as the answer that it stands for.
//!
//! Sources: <https://platform.openai.com/docs/api-reference/responses-streaming/error>.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::azure::envelope::{self, ErrorEnvelope};
use crate::azure::hint;
use crate::azure::outcome::Outcome;

/// Length of an error that is not JSON up to which it becomes the message.
const LONGEST_TEXT: usize = 1024;

/// An error that came inside a stream, as the answer that it would have been without the stream.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StreamError {
    status: StatusCode,
    body: Bytes,
}

impl StreamError {
    /// The status that the error stands for.
    ///
    /// The first of code, inner code and type that is known decides, then the message:
    ///
    /// - a number from 400 to 599 is the status itself;
    /// - rate limits, used up quotas and "high demand" are 429;
    /// - the content filter and faults of the request are 400;
    /// - an overloaded or unavailable server is 503, also when it calls that an internal error;
    /// - everything else is 500. What nobody knows is taken for a failure of the backend, which failover may repeat within its
    ///   attempts, because a request that is really at fault fails elsewhere too.
    #[must_use]
    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    /// The error in Azure's shape, with code, message and inner error as they came.
    #[must_use]
    pub(crate) const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Time for which the message asks to wait, where the status is one that waits.
    #[must_use]
    pub(crate) fn hint(&self) -> Option<Duration> {
        self.outcome(HeadHint::default()).hint()
    }

    /// Returns what it means for the attempt, `head` being what the head of the stream said of waiting.
    #[must_use]
    pub(crate) fn outcome(&self, head: HeadHint) -> Outcome {
        match Outcome::of_answer(self.status, &HeaderMap::new(), &self.body, SystemTime::UNIX_EPOCH) {
            Outcome::Throttled { hint } => Outcome::Throttled { hint: head.named.or(hint).or(head.quota) },
            Outcome::ServerFailed { status, hint } => Outcome::ServerFailed { status, hint: head.named.or(hint) },
            outcome => outcome,
        }
    }

    pub(super) fn new(error: &ErrorEnvelope) -> Self {
        let status = status_of(error);
        let kind = error.kind().filter(|kind| *kind != "error").unwrap_or(match status.as_u16() {
            429 => "too_many_requests",
            500.. => "server_error",
            _ => "invalid_request_error",
        });
        let code = error.code().unwrap_or(status.as_str());
        let message = error.message().unwrap_or("The backend failed without saying why.");
        let body = envelope::write_with_inner(code, kind, message, error.param(), error.inner());
        Self { status, body }
    }

    pub(super) fn of_data(data: &[u8]) -> Self {
        Self::new(&envelope::read(data).unwrap_or_else(|| {
            let text = String::from_utf8_lossy(data.get(..LONGEST_TEXT).unwrap_or(data));
            match text.trim() {
                "" | "{}" | "null" => ErrorEnvelope::default(),
                text => ErrorEnvelope::of_message(text),
            }
        }))
    }

    pub(super) fn without_reason() -> Self {
        Self::new(&ErrorEnvelope::default())
    }
}

/// The status, never the content.
impl fmt::Debug for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamError").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Wait that the head of a stream asked for, in case the stream turns out to be a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadHint {
    named: Option<Duration>,
    quota: Option<Duration>,
}

impl HeadHint {
    /// Reads the headers of the stream, `now` being what an HTTP date is compared with.
    ///
    /// A wait by name goes before the message of the error, and that before the reset of a quota, which the head of a success
    /// only reports.
    #[must_use]
    pub(crate) fn of(headers: &HeaderMap, now: SystemTime) -> Self {
        Self { named: hint::retry_after(headers, now), quota: hint::from_headers(headers, now) }
    }

    /// Tells whether the head named a time to wait.
    #[must_use]
    pub(crate) const fn is_named(&self) -> bool {
        self.named.is_some()
    }
}

fn status_of(error: &ErrorEnvelope) -> StatusCode {
    let words = [error.code(), error.inner_code(), error.kind()];
    let known = words.into_iter().flatten().find_map(status_of_word);
    let message = || error.message().unwrap_or_default().to_ascii_lowercase();
    match known {
        Some(StatusCode::INTERNAL_SERVER_ERROR) if is_busy(&message()) => StatusCode::SERVICE_UNAVAILABLE,
        Some(status) => status,
        None => status_of_message(&message()),
    }
}

/// Reads a code or a type, in any spelling: `rate_limit_exceeded`, `RateLimitReached`, `429`.
fn status_of_word(word: &str) -> Option<StatusCode> {
    if let Some(status) =
        StatusCode::from_bytes(word.as_bytes()).ok().filter(|status| (400..600).contains(&status.as_u16()))
    {
        return Some(status);
    }
    let word: String = word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let has = |parts: &[&str]| parts.iter().any(|part| word.contains(part));
    let begins = |parts: &[&str]| parts.iter().any(|part| word.starts_with(part));
    if has(&["ratelimit", "toomanyrequests", "insufficientquota", "quotaexceeded"])
        || word == "tokens"
        || word == "requests"
    {
        return Some(StatusCode::TOO_MANY_REQUESTS);
    }
    if has(&["overload", "unavailable", "nocapacity"]) {
        return Some(StatusCode::SERVICE_UNAVAILABLE);
    }
    if has(&["servererror", "internalerror", "internalserver"]) {
        return Some(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let at_fault =
        has(&["contentfilter", "contentpolicy", "responsibleai", "contextlength", "notsupported", "badrequest"])
            || begins(&[
                "invalid",
                "image",
                "unsupported",
                "emptyimage",
                "failedtodownload",
                "previousresponsenotfound",
            ]);
    at_fault.then_some(StatusCode::BAD_REQUEST)
}

fn status_of_message(message: &str) -> StatusCode {
    let says = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    if says(&["rate limit", "too many requests", "high demand", "temporarily unable", "quota"]) {
        StatusCode::TOO_MANY_REQUESTS
    } else if says(&["content management policy"]) {
        StatusCode::BAD_REQUEST
    } else if is_busy(message) {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

fn is_busy(message: &str) -> bool {
    ["high demand", "temporarily unable", "overloaded", "unavailable", "no healthy upstream"]
        .iter()
        .any(|part| message.contains(part))
}
