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
//!
//! Sources: <https://platform.openai.com/docs/api-reference/responses/object>, <https://github.com/Azure/azure-rest-api-specs>,
//! <https://docs.anthropic.com/en/api/messages>.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Add, AddAssign};
use std::sync::LazyLock;
use std::time::Duration;

use memchr::memmem::Finder;
use serde::Deserialize;
use smallvec::SmallVec;

use super::sse;

mod members;
mod written;

use self::members::{Members, Picked};

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

    /// Merges what is known of one answer that was told twice: the larger of each figure, since running counts only grow.
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
    id: Id,
    /// True if it went on when the answer to the call that made it had ended, so that only reading it again tells what it used.
    pub(crate) is_in_background: bool,
}

/// Bytes of an id. Those of Azure lie within it.
type Id = SmallVec<[u8; 64]>;

/// Kinds of objects, by what reading one again means.
#[derive(Clone, Copy, Default, PartialEq)]
enum Family {
    /// It is made by the call that tells its usage, and cannot be read again.
    #[default]
    Passing,
    Response,
    /// It always goes on in the background.
    Work,
}

impl Family {
    fn of(object: &str) -> Self {
        match object {
            "response" => Self::Response,
            "batch" | "thread.run" => Self::Work,
            _ => Self::Passing,
        }
    }

    fn stored(self, id: Option<Id>, is_in_background: bool) -> Option<Stored> {
        let is_in_background = match self {
            Self::Passing => return None,
            Self::Response => is_in_background,
            Self::Work => true,
        };
        Some(Stored { id: id?, is_in_background })
    }
}

impl Stored {
    /// Its id.
    pub(crate) fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }
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
    #[cfg(any(fuzzing, test))]
    #[must_use]
    pub(crate) fn of_frame(frame: &[u8]) -> Option<Self> {
        mentions_usage(frame).then(|| Self::of_message(None, frame))?
    }

    fn of_message(name: Option<&[u8]>, data: &[u8]) -> Option<Self> {
        let picked = Picked::of_message(data)?;
        let is_step = name.map_or(picked.is_step, is_step);
        if is_step { None } else { Self::of_picked(picked) }
    }

    fn of_picked(picked: Picked) -> Option<Self> {
        let usage = picked.usage?;
        Some(Self { usage, object: picked.family.stored(picked.id, picked.is_in_background) })
    }
}

/// Tells whether a message is about a part of a run.
fn is_step(name: &[u8]) -> bool {
    name.starts_with(b"thread.run.step")
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

/// Tells whether bytes may have a usage: a stream whose client asks for it says `"usage":null` in every event but one.
///
/// In a text its quotes would be escaped, so only a member is found.
pub(crate) fn mentions_usage(bytes: &[u8]) -> bool {
    USAGE.find_iter(bytes).any(|at| {
        let value = bytes[at + USAGE.needle().len()..].trim_ascii_start();
        !value.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"null"))
    })
}

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

/// Tells whether a request for a stream asks for its usage, as chat and completions have to.
pub(crate) fn asks_for_usage(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct StreamOptions {
        include_usage: bool,
    }
    let options = || serde_json::from_slice::<StreamOptions>(Members::stream_options(body)?).ok();
    // Most do not, and bodies are long.
    INCLUDE_USAGE.find(body).is_some() && options().is_some_and(|options| options.include_usage)
}

static INCLUDE_USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"include_usage\""));

/// A JSON string, which is copied only where it has escapes.
fn text(written: &str) -> Option<Cow<'_, str>> {
    let borrowed = serde_json::from_str::<&str>(written).map(Cow::Borrowed);
    borrowed.or_else(|_| serde_json::from_str::<String>(written).map(Cow::Owned)).ok()
}

// ===== AnswerReader =====

/// Reads the usage of a JSON answer whose bytes pass, in any chopping, and keeps no more of it than a few members.
pub(crate) struct AnswerReader(Members);

impl AnswerReader {
    /// At the start of an answer.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self(Members::new())
    }

    /// Passes what came next.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes);
    }

    /// Returns what the answer reported. `None` without a usage, and for what is not one whole JSON object.
    #[must_use]
    pub(crate) fn finish(self) -> Option<Reported> {
        Reported::of_picked(self.0.finish()?)
    }
}

#[cfg(test)]
mod tests;
