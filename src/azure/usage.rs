//! Tokens and seconds that an answer says it used.
//!
//! | API | members | where |
//! |---|---|---|
//! | chat, completions, embeddings, runs | `prompt_tokens`, `completion_tokens` | `usage` of the body, of a chunk, of `thread.run.…` |
//! | Responses, images, batches | `input_tokens`, `output_tokens` | `usage` of the body, of `….completed`; of the `response` in `response.completed`, `.incomplete`, `.failed` |
//! | transcription | `{"type": "tokens", …}` or `{"type": "duration", "seconds": …}` | `usage` of the body, of `transcript.text.done` |
//! | realtime | `input_tokens`, `output_tokens` | the `response` of `response.done`; `usage` of a transcription that is complete |
//! | messages of Anthropic | `input_tokens` without what its cache had, `cache_read_input_tokens`, `cache_creation_input_tokens`, `output_tokens` | `usage` of the body, of `message_delta`; of the `message` in `message_start` |
//!
//! The details of a figure (cached, reasoning, audio, image) are parts of it and never added to it. A figure that is no whole
//! number up to [`Usage::MOST`] makes the whole usage count nothing: a backend that is wrong about one is wrong about all.
//!
//! Sources: the `usage` objects of Azure's and OpenAI's API specifications, and of Anthropic's Messages API.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Add, AddAssign};
use std::sync::LazyLock;
use std::time::Duration;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::sse;

mod members;
mod written;

use self::members::Members;

/// Tokens and seconds that were used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt, those that a cache had included.
    pub input: u64,
    /// Tokens of the answer, those of its reasoning included.
    pub output: u64,
    /// Parts of the two.
    pub details: Details,
    /// Length of the audio, where it is billed by its length.
    pub audio: Duration,
}

/// Parts of [`Usage::input`] and [`Usage::output`], in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Details {
    /// Read from the prompt's cache.
    pub input_cached: u64,
    /// Written into the prompt's cache.
    pub input_cache_write: u64,
    /// Audio of the prompt.
    pub input_audio: u64,
    /// Images of the prompt.
    pub input_image: u64,
    /// Reasoning, shown or not.
    pub output_reasoning: u64,
    /// Audio of the answer.
    pub output_audio: u64,
    /// Images of the answer.
    pub output_image: u64,
}

impl Usage {
    /// The largest figure that is believed: 10^12.
    pub const MOST: u64 = 1_000_000_000_000;

    /// Input and output together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Tells whether there is nothing to count.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// What is known of one answer that was told twice: the larger of each figure, since running counts only grow.
    #[must_use]
    pub fn grown_to(self, later: Self) -> Self {
        self.combined(later, u64::max, Duration::max)
    }

    fn combined(self, other: Self, count: fn(u64, u64) -> u64, time: fn(Duration, Duration) -> Duration) -> Self {
        let (a, b) = (self.details, other.details);
        Self {
            input: count(self.input, other.input),
            output: count(self.output, other.output),
            details: Details {
                input_cached: count(a.input_cached, b.input_cached),
                input_cache_write: count(a.input_cache_write, b.input_cache_write),
                input_audio: count(a.input_audio, b.input_audio),
                input_image: count(a.input_image, b.input_image),
                output_reasoning: count(a.output_reasoning, b.output_reasoning),
                output_audio: count(a.output_audio, b.output_audio),
                output_image: count(a.output_image, b.output_image),
            },
            audio: time(self.audio, other.audio),
        }
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.combined(other, u64::saturating_add, Duration::saturating_add)
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

// ===== Reported =====

/// A usage, and the object that tells it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct Reported {
    /// Tokens and seconds that were used.
    pub(crate) usage: Usage,
    /// The object that will say the same whenever it is read again.
    pub(crate) object: Option<Stored>,
}

/// An object that keeps what it used: a response, a run, a batch.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct Stored {
    /// Its id.
    pub(crate) id: String,
    /// True if it went on when the answer to the call that made it had ended, so that only reading it again tells what it used.
    pub(crate) is_in_background: bool,
}

impl Reported {
    /// Reads an event of a stream.
    ///
    /// Steps of a run are parts of the run's own figure and tell nothing.
    #[must_use]
    pub(crate) fn of_event(event: &sse::Event<'_>) -> Option<Self> {
        mentions_usage(event.as_bytes()).then(|| Self::of_message(event.name(), &event.data()?))?
    }

    /// Reads a text frame of a realtime session, or of Responses over WebSocket. Each frame tells of another answer.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn of_frame(frame: &[u8]) -> Option<Self> {
        mentions_usage(frame).then(|| Self::of_message(None, frame))?
    }

    fn of_message(name: Option<&[u8]>, data: &[u8]) -> Option<Self> {
        let told: Told<'_> = serde_json::from_slice(data).ok()?;
        let name = name.or(told.kind.as_deref().map(str::as_bytes)).unwrap_or_default();
        if name.starts_with(b"thread.run.step") {
            return None;
        }
        let carried = told.response.or(told.message);
        told.reported().or_else(|| serde_json::from_str::<Told<'_>>(carried?.get()).ok()?.reported())
    }
}

/// The figures and no id.
impl fmt::Debug for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reported").field("usage", &self.usage).finish_non_exhaustive()
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("is_in_background", &self.is_in_background).finish_non_exhaustive()
    }
}

/// In a text its quotes would be escaped, so only a member is found.
fn mentions_usage(bytes: &[u8]) -> bool {
    USAGE.find(bytes).is_some()
}

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

/// Members of a message or of an object, by which a usage is told.
#[derive(Default, Deserialize)]
struct Told<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    object: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    background: Option<bool>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

impl Told<'_> {
    fn reported(&self) -> Option<Reported> {
        let usage = written::read(self.usage?.get())?;
        Some(Reported { usage, object: self.stored() })
    }

    fn stored(&self) -> Option<Stored> {
        let is_in_background = match self.object.as_deref()? {
            "response" => self.background.unwrap_or_default(),
            "batch" | "thread.run" => true,
            _ => return None,
        };
        Some(Stored { id: self.id.as_deref()?.to_owned(), is_in_background })
    }
}

// ===== AnswerReader =====

/// Reads the usage of a JSON answer whose bytes pass, in any chopping, and keeps no more of it than a few members.
#[derive(Debug, Default)]
pub(crate) struct AnswerReader(Members);

impl AnswerReader {
    /// At the start of an answer.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Passes what came next.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes);
    }

    /// What the answer reported. `None` without a usage, and for what is not one whole JSON object.
    #[must_use]
    pub(crate) fn finish(self) -> Option<Reported> {
        let members = self.0.finish()?;
        let told = Told {
            object: members.text("object"),
            id: members.text("id"),
            background: members.value("background"),
            usage: members.value("usage"),
            ..Told::default()
        };
        told.reported()
    }
}

#[cfg(test)]
mod tests;
