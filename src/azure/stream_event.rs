//! Meaning of one event of a streamed answer.
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
//!
//! Sources: <https://platform.openai.com/docs/api-reference/chat-streaming>, <https://platform.openai.com/docs/api-reference/responses-streaming>,
//! <https://platform.openai.com/docs/api-reference/assistants-streaming/events>; the filter's first event as in <https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-streaming>.

mod error;
mod reader;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

pub(crate) use self::error::{HeadHint, StreamError};
pub(crate) use self::reader::Reader;
use super::envelope;
use super::json_text;
use super::operation::Operation;
use super::sse;

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

/// Meaning of one event.
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
        let Ok(frame) = json_text::read::<Frame>(data) else { return Self::Content };
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
            let bytes = event.as_bytes();
            names_a_finish(bytes)
                || speaks_of_end(bytes, speaks_of_objects(bytes))
                    && (data().trim_ascii() == DONE || is_closing_frame(&data()))
        }
    }
}

fn is_closing_frame(data: &[u8]) -> bool {
    let kind = json_text::read::<Frame>(data).ok().and_then(|frame| frame.kind);
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

/// Members by which an event is known; everything else in it is skipped.
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

/// Tells whether responses or runs are spoken of, as chunks of chat do not: most words need be looked for only there.
fn speaks_of_objects(bytes: &[u8]) -> bool {
    OBJECTS.iter().any(|word| word.find(bytes).is_some())
}

/// `of_objects`: whether [`speaks_of_objects`].
fn speaks_of_end(bytes: &[u8], of_objects: bool) -> bool {
    MARK.find(bytes).is_some() || of_objects && ENDS.iter().any(|word| word.find(bytes).is_some())
}

static OBJECTS: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| [b"response.".as_slice(), b"thread.run."].map(Finder::new));
static MARK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(DONE));
static ENDS: LazyLock<[Finder<'static>; 5]> = LazyLock::new(|| {
    [b"complete".as_slice(), b"cancelled", b"expired", b"failed", b"requires_action"].map(Finder::new)
});
static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));
