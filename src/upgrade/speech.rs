//! Messages of WebSockets, as far as they have to be understood.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use memchr::memchr2_iter;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::SESSION_NAME_TIME;
use crate::azure::further_names;
use crate::azure::operation::Operation;
use crate::azure::request_body::{self, ModelIn};
use crate::context::SocketFrame;

/// The part of the API that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// Sessions, whose settings name models.
    Realtime,
    /// One call after the other.
    Responses,
}

impl Speech {
    /// Tells whether a frame of a client goes through the stack. One that cannot be read does, and is refused there.
    pub(super) fn asks(self, frame: &[u8]) -> bool {
        match self {
            Self::Realtime => has_model(frame) && names_model(frame),
            Self::Responses => is_call(frame),
        }
    }

    /// Returns what such a frame is to the stack once the connection stands.
    pub(super) const fn later(self) -> SocketFrame {
        match self {
            Self::Realtime => SocketFrame::Settings,
            Self::Responses => SocketFrame::Later,
        }
    }

    /// Time that the first frame may take.
    pub(super) fn patience(self, first_frame: Duration) -> Duration {
        match self {
            Self::Realtime => first_frame.min(SESSION_NAME_TIME),
            Self::Responses => first_frame,
        }
    }
}

/// The type of an event of a backend, if it may tell what it made, what it used or how it failed.
pub(super) fn tells(event: &[u8]) -> Option<Cow<'_, str>> {
    let start = event.get(..BEGINNING).unwrap_or(event);
    if event.len() > LONGEST_TOLD || DELTA.find(start).is_some() {
        return None;
    }
    serde_json::from_slice(event).ok().map(|Event { kind }| kind)
}

/// Longer ones are read by nobody.
const LONGEST_TOLD: usize = 1 << 20;
/// The type of an event stands in its beginning.
const BEGINNING: usize = 160;
/// Mark of what comes bit by bit, and is most of all that comes. In a text the quote would be escaped.
static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b".delta\""));

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

fn is_call(frame: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Said<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        model: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Said<'_>>(frame)
        .map_or(true, |said| said.kind == "response.create" || said.model.is_some())
}

/// Tells whether a frame can name a model at all: most are pieces of audio, and need no parser.
fn has_model(frame: &[u8]) -> bool {
    let starts =
        |at: usize, word: &[u8]| frame.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word));
    memchr2_iter(b'm', b'M', frame).any(|at| starts(at, b"model")) || ESCAPE.find(frame).is_some()
}

static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\u00"));

fn names_model(frame: &[u8]) -> bool {
    let further = || further_names::find(Operation::Realtime, frame);
    request_body::read_json(frame, ModelIn::Session)
        .map_or(true, |said| said.model.is_some() || further().map_or(true, |found| !found.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realtime_frame_asks_where_it_names_a_model() {
        for (frame, asks) in [
            (r#"{"type":"input_audio_buffer.append","audio":"bW9kZWw="}"#, false),
            (r#"{"type":"session.update","session":{"instructions":"be a model","voice":"x"}}"#, false),
            (r#"{"type":"conversation.item.create","item":{"model":"x","content":[{"text":"model"}]}}"#, false),
            (r#"{"type":"session.update","session":{"model":null}}"#, false),
            (r#"{"type":"session.update","session":{"model":"a"}}"#, true),
            (r#"{"type":"session.update","session":{"m\u006fdel":"a"}}"#, true),
            (r#"{"type":"session.update","session":{"Model":"a"}}"#, true),
            (r#"{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"a"}}}}}"#, true),
            (r#"{"type":"transcription_session.update","session":{"input_audio_transcription":{"model":"a"}}}"#, true),
            (r#"{"type":"transcription_session.update","input_audio_transcription":{"model":"a"}}"#, true),
            (r#"{"type":"x","session":{},"session":{"model":"a"}}"#, true),
            (r#"["model""#, true),
        ] {
            assert_eq!(Speech::Realtime.asks(frame.as_bytes()), asks, "{frame}");
        }
        assert!(!Speech::Realtime.asks(&[0xff, b'\\', b'u']));
    }

    #[test]
    fn what_comes_bit_by_bit_tells_nothing() {
        assert_eq!(tells(br#"{"type":"response.output_text.delta","delta":"x"}"#), None);
        assert_eq!(tells(br#"{"type":"response.done","text":"a .delta\" b"}"#).as_deref(), Some("response.done"));
        assert_eq!(tells(b"no JSON"), None);
    }
}
