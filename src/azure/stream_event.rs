//! What one event of a streamed answer means.
//!
//! A status of 200 is not yet success: rate limits and failures come as events after it, in one shape or the other, before the
//! first content or after it. [`StreamEvent::of`] reads a single event, [`Reader`] the events of a passing stream.
//!
//! | event | meaning |
//! |---|---|
//! | comments | [`Preamble`](StreamEvent::Preamble) |
//! | `[DONE]`, also in an event called `done` | [`Done`](StreamEvent::Done) |
//! | a chunk of chat or completions that says nothing yet: no choices, or only roles, empty texts and verdicts of the content filter; no usage | `Preamble` |
//! | `response.created`, `response.queued`, `response.in_progress` | `Preamble` |
//! | `thread.created`, `thread.run.created`, `thread.run.queued`, `thread.run.in_progress`, `thread.run.step.created`, `thread.run.step.in_progress`, `thread.message.created`, `thread.message.in_progress` | `Preamble` |
//! | `error`, with details under `error` or at the top; a frame with an `error` of its own; `response.failed` with a reason; `response.done` of a realtime session with an error in its `status_details` | [`Error`](StreamEvent::Error) |
//! | `response.failed` with a null `error`: the `error` event that follows has the reason | [`FailedWithoutReason`](StreamEvent::FailedWithoutReason) |
//! | `thread.run.failed` | [`RunFailed`](StreamEvent::RunFailed) |
//! | everything else, and what cannot be parsed | [`Content`](StreamEvent::Content) |
//!
//! A stream is complete once one of these has come ([`Reader::is_complete`]); one that ends before that was cut, however clean its
//! end looks:
//!
//! | surface | closing event |
//! |---|---|
//! | chat, completions | a `finish_reason` |
//! | responses | `response.completed`, `.incomplete`, `.failed`, `.cancelled` |
//! | runs | `thread.run.completed`, `.incomplete`, `.failed`, `.cancelled`, `.expired`, `.requires_action` |
//! | all | `[DONE]`, an error |

use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::envelope::{self, ErrorEnvelope};
use super::operation::Operation;
use super::outcome::Outcome;
use super::{hint, sse};

const PREAMBLE: [&str; 11] = [
    "response.created",
    "response.in_progress",
    "response.queued",
    "thread.created",
    "thread.message.created",
    "thread.message.in_progress",
    "thread.run.created",
    "thread.run.in_progress",
    "thread.run.queued",
    "thread.run.step.created",
    "thread.run.step.in_progress",
];

/// After one of these nothing more is owed.
const CLOSING: [&str; 10] = [
    "response.cancelled",
    "response.completed",
    "response.failed",
    "response.incomplete",
    "thread.run.cancelled",
    "thread.run.completed",
    "thread.run.expired",
    "thread.run.failed",
    "thread.run.incomplete",
    "thread.run.requires_action",
];

const DONE: &[u8] = b"[DONE]";

/// Tells whether an operation streams its answers in the events that are described here.
#[must_use]
pub(crate) const fn is_spoken_by(operation: Operation) -> bool {
    matches!(operation, Operation::ChatCompletions | Operation::Completions | Operation::Responses | Operation::Threads)
}

/// How much of an error that is not JSON becomes its message.
const LONGEST_TEXT: usize = 1024;

/// What one event means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum StreamEvent {
    /// The answer has begun, or the event is of a kind that nothing is known of.
    Content,
    /// The mark after which a stream ends.
    Done,
    /// The backend failed, or refuses.
    Error(StreamError),
    /// A `response.failed` whose `error` is null.
    FailedWithoutReason,
    /// Something that comes before the answer.
    Preamble,
    /// A run failed. The run is an object that exists, and this event a state of it: an answer, but not a success.
    RunFailed(StreamError),
}

impl StreamEvent {
    /// Reads an event.
    #[must_use]
    pub(crate) fn of(event: &sse::Event<'_>) -> Self {
        let Some(data) = event.data() else {
            return if event.is_comment() { Self::Preamble } else { Self::Content };
        };
        match name(event) {
            Some(b"error") => Self::Error(StreamError::of_data(&data)),
            None | Some(b"done") if data.trim_ascii() == DONE => Self::Done,
            None => Self::of_frame(None, &data),
            Some(name) => match str::from_utf8(name) {
                Ok(name) if may_fail(name) || PREAMBLE.contains(&name) => Self::of_frame(Some(name), &data),
                _ => Self::Content,
            },
        }
    }

    fn of_frame(name: Option<&str>, data: &[u8]) -> Self {
        let Ok(frame) = serde_json::from_slice::<Frame>(data) else { return Self::Content };
        let kind = name.or(frame.kind.as_deref());
        if let Some(error) = frame.error.as_ref().filter(|error| !is_empty(error)).and_then(envelope::of_value) {
            return Self::Error(StreamError::new(&error));
        }
        match kind {
            Some("error") => Self::Error(StreamError::of_data(data)),
            Some("response.failed") => match frame.response.and_then(|response| envelope::of_value(&response.error?)) {
                Some(error) => Self::Error(StreamError::new(&error)),
                None => Self::FailedWithoutReason,
            },
            // A realtime session closes every response so, and goes on.
            Some("response.done") => {
                let details = frame.response.and_then(|response| response.status_details);
                let error = details.and_then(|details| envelope::of_value(&details.error?));
                error.map_or(Self::Content, |error| Self::Error(StreamError::new(&error)))
            }
            Some("thread.run.failed") => {
                let error = frame.last_error.as_ref().and_then(envelope::of_value).unwrap_or_default();
                Self::RunFailed(StreamError::new(&error))
            }
            Some(kind) if PREAMBLE.contains(&kind) => Self::Preamble,
            None if frame.is_empty_chunk() => Self::Preamble,
            _ => Self::Content,
        }
    }
}

/// The name of an event; the standard's default is none.
fn name<'a>(event: &sse::Event<'a>) -> Option<&'a [u8]> {
    event.name().filter(|name| *name != b"message")
}

/// Tells whether an event is one after which nothing more is owed.
fn closes(event: &sse::Event<'_>) -> bool {
    let data = || event.data().unwrap_or_default();
    match name(event) {
        Some(b"done") => data().trim_ascii() == DONE,
        Some(name) => name == b"error" || str::from_utf8(name).is_ok_and(|name| CLOSING.contains(&name)),
        None => {
            names_a_finish(event.as_bytes())
                || speaks_of_end(event.as_bytes()) && (data().trim_ascii() == DONE || is_closing_frame(&data()))
        }
    }
}

fn is_closing_frame(data: &[u8]) -> bool {
    let kind = serde_json::from_slice::<Frame>(data).ok().and_then(|frame| frame.kind);
    kind.is_some_and(|kind| CLOSING.contains(&kind.as_str()))
}

/// Tells whether a `finish_reason` has a value. In a text its quotes would be escaped, so only a member is found.
fn names_a_finish(bytes: &[u8]) -> bool {
    FINISH.find_iter(bytes).any(|at| {
        let value = bytes.get(at + FINISH.needle().len()..).unwrap_or_default().trim_ascii_start().strip_prefix(b":");
        let value = value.map(<[u8]>::trim_ascii_start).unwrap_or_default();
        value.starts_with(b"\"") && !value.starts_with(b"\"\"")
    })
}

fn may_fail(name: &str) -> bool {
    matches!(name, "error" | "response.done" | "response.failed" | "thread.run.failed")
}

/// What an event is known by; everything else in it is skipped.
#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: Option<String>,
    choices: Option<Vec<Map<String, Value>>>,
    error: Option<Value>,
    last_error: Option<Value>,
    object: Option<IgnoredAny>,
    #[serde(alias = "prompt_annotations")]
    prompt_filter_results: Option<IgnoredAny>,
    response: Option<FailedResponse>,
    usage: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct FailedResponse {
    error: Option<Value>,
    status_details: Option<StatusDetails>,
}

#[derive(Deserialize)]
struct StatusDetails {
    error: Option<Value>,
}

impl Frame {
    /// A chunk of chat or completions that says nothing.
    fn is_empty_chunk(&self) -> bool {
        let is_chunk = self.choices.is_some() || self.object.is_some() || self.prompt_filter_results.is_some();
        let says_nothing = || self.choices.iter().flatten().flatten().all(|(name, value)| is_silent(name, value));
        is_chunk && self.usage.is_none() && says_nothing()
    }
}

/// Tells whether a member of a choice carries nothing of the answer.
fn is_silent(name: &str, value: &Value) -> bool {
    match (name, value) {
        ("index" | "logprobs", _) => true,
        ("delta", Value::Object(delta)) => delta.iter().all(|(name, value)| name == "role" || is_empty(value)),
        _ => name.starts_with("content_filter_") || is_empty(value),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

// ===== StreamError =====

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

    /// What it means for the attempt, `head` being what the head of the stream said of waiting.
    #[must_use]
    pub(crate) fn outcome(&self, head: HeadHint) -> Outcome {
        match Outcome::of_answer(self.status, &HeaderMap::new(), &self.body, SystemTime::UNIX_EPOCH) {
            Outcome::Throttled { hint } => Outcome::Throttled { hint: head.named.or(hint).or(head.quota) },
            Outcome::ServerFailed { status, hint } => Outcome::ServerFailed { status, hint: head.named.or(hint) },
            outcome => outcome,
        }
    }

    fn new(error: &ErrorEnvelope) -> Self {
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

    fn of_data(data: &[u8]) -> Self {
        Self::new(&envelope::read(data).unwrap_or_else(|| {
            let text = String::from_utf8_lossy(data.get(..LONGEST_TEXT).unwrap_or(data));
            match text.trim() {
                "" | "{}" | "null" => ErrorEnvelope::default(),
                text => ErrorEnvelope::of_message(text),
            }
        }))
    }

    fn without_reason() -> Self {
        Self::new(&ErrorEnvelope::default())
    }
}

/// The status, never the content.
impl fmt::Debug for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamError").field("status", &self.status).finish_non_exhaustive()
    }
}

/// What the head of a stream said of waiting, in case the stream turns out to be a refusal.
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

// ===== Reader =====

/// Reads the events of a passing stream.
///
/// A `response.failed` without a reason counts as preamble until the next event: an `error` is the reason, anything else, or
/// the end, makes it an error without one. An event above the limit is [`StreamEvent::Content`], and taken for a closing one: a
/// response that ends comes as a whole once more.
#[derive(Debug)]
pub(crate) struct Reader {
    events: sse::Reader,
    failures_only: bool,
    failed: bool,
    complete: bool,
}

impl Reader {
    /// Reads every event of up to `limit` bytes.
    #[must_use]
    pub(crate) const fn new(limit: usize) -> Self {
        Self { events: sse::Reader::new(limit), failures_only: false, failed: false, complete: false }
    }

    /// Tells failures only: what cannot be one is given as [`StreamEvent::Content`] unread, or not at all. For streams that have
    /// begun.
    #[must_use]
    pub(crate) const fn failures_only(mut self) -> Self {
        self.failures_only = true;
        self
    }

    /// The next event that ends in `chunk`, as [`sse::Reader::next_event`].
    pub(crate) fn next_event(&mut self, chunk: &mut &[u8]) -> Option<StreamEvent> {
        let needs_reading = !self.failures_only || self.failed;
        let may_say_something = needs_reading || speaks_of_failure(chunk) || !self.complete && may_close(chunk);
        if !may_say_something && self.events.skip(chunk) {
            *chunk = &[];
            return None;
        }
        let event = self.events.next_event(chunk)?;
        self.complete = self.complete || event.as_ref().map_or(true, closes);
        let meaning = event.ok().filter(|event| needs_reading || could_fail(event)).as_ref().map(StreamEvent::of);
        Some(self.resolve(meaning.unwrap_or(StreamEvent::Content)))
    }

    /// Tells whether a closing event has come. What follows one may be skipped unread.
    #[must_use]
    pub(crate) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// What the stream ended with, if that was no whole event or a failure without a reason.
    pub(crate) fn finish(&mut self) -> Option<StreamEvent> {
        let rest = self.events.finish();
        self.complete = self.complete || rest.as_ref().is_some_and(closes);
        let rest = rest.as_ref().map(StreamEvent::of);
        let rest = rest.map(|event| self.resolve(event));
        let failed = std::mem::take(&mut self.failed);
        if failed { Some(StreamEvent::Error(StreamError::without_reason())) } else { rest }
    }

    fn resolve(&mut self, event: StreamEvent) -> StreamEvent {
        match event {
            StreamEvent::FailedWithoutReason => {
                self.failed = true;
                StreamEvent::Preamble
            }
            StreamEvent::Preamble => event,
            StreamEvent::Error(_) => {
                self.failed = false;
                event
            }
            _ if std::mem::take(&mut self.failed) => StreamEvent::Error(StreamError::without_reason()),
            _ => event,
        }
    }
}

/// A quote inside a text is escaped, so a delta that quotes an error does not have this.
fn could_fail(event: &sse::Event<'_>) -> bool {
    match name(event) {
        Some(name) => str::from_utf8(name).is_ok_and(may_fail),
        None => ERROR_KEY.find(event.as_bytes()).is_some(),
    }
}

/// One of these stands in every failure, and seldom elsewhere.
fn speaks_of_failure(chunk: &[u8]) -> bool {
    ERROR.find(chunk).is_some() || FAILED.find(chunk).is_some()
}

/// Nothing that closes a stream is without one of these, and little else has them.
fn may_close(chunk: &[u8]) -> bool {
    names_a_finish(chunk) || speaks_of_end(chunk)
}

fn speaks_of_end(bytes: &[u8]) -> bool {
    ENDS.iter().any(|word| word.find(bytes).is_some())
}

static ENDS: LazyLock<[Finder<'static>; 6]> = LazyLock::new(|| {
    [DONE, b"complete", b"cancelled", b"expired", b"failed", b"requires_action"].map(|word: &[u8]| Finder::new(word))
});
static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));
static ERROR_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"error"));
static FAILED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"failed"));

#[cfg(test)]
mod tests;
