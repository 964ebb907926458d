//! Fields of a request body that the gateway needs to know, read where they stand and without building a tree.
//!
//! Sources: RFC 8259 (<https://www.rfc-editor.org/rfc/rfc8259>) and RFC 7578 (<https://www.rfc-editor.org/rfc/rfc7578>).

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

mod form;
mod json;
mod scan;

pub(crate) use self::form::parts;
#[cfg(test)]
use self::form::read_form;
pub(super) use self::form::{FormReader, Piece, each_field};
pub(crate) use self::form::{find_field, read_form_with};
pub(crate) use self::scan::BodyScan;

/// The fields of a JSON body by which a gateway decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct Fields {
    /// The model, if the body names one; `null` names none.
    pub(crate) model: Option<Model>,
    /// True if `stream` is true.
    pub(crate) streams: bool,
    /// True if the answer is kept in a way that the client can name beforehand: `background` is true, or there is a
    /// `conversation`.
    pub(crate) keeps: bool,
    /// True if an `agent_reference`, or an `agent` as it was called before, says what answers: an agent of Foundry, with a model of its
    /// own.
    pub(crate) refers_to_agent: bool,
    /// Place for a `model` that is not there: after the opening brace of the object that would hold it.
    pub(crate) opening: Opening,
}

/// A model's name and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct Model {
    /// The name, unescaped.
    pub(crate) name: String,
    /// Span of its value in the body, in bytes: a JSON string with its quotes, or the value of a form field.
    pub(crate) span: Range<usize>,
}

/// The place after the opening brace of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct Opening {
    /// In bytes.
    pub(crate) at: usize,
    /// True if other members follow.
    pub(crate) is_empty: bool,
}

/// Object of a JSON body that holds `model`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum ModelIn {
    /// The body's own.
    Object,
    /// The one under `session`.
    Session,
}

/// Reason why a body cannot be read. The message repeats nothing of the body.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub(crate) struct ReadBodyError {
    message: String,
    is_ambiguous: bool,
}

impl ReadBodyError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_ambiguous: false }
    }

    pub(super) fn ambiguous(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_ambiguous: true }
    }

    /// Tells whether another reader could find something else there, so that nothing must be guessed.
    #[must_use]
    pub(crate) const fn is_ambiguous(&self) -> bool {
        self.is_ambiguous
    }
}

/// Reads a JSON object.
///
/// # Errors
/// The body is not UTF-8 or not JSON, or not an object; a field that is read stands twice, or a `model` beside one that
/// differs in case only, so that two readers could see two values; `model` is neither a string nor `null`.
pub(crate) fn read_json(body: &[u8], model_in: ModelIn) -> Result<Fields, ReadBodyError> {
    let text = std::str::from_utf8(body)
        .map_err(|error| ReadBodyError::new(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    if !text.trim_start().starts_with('{') {
        return Err(ReadBodyError::new("not a JSON object"));
    }
    let members: Members<'_> = serde_json::from_str(text).map_err(|error| not_json(&error))?;
    let span_of = |raw: &RawValue| {
        // A borrowed value is a slice of the text.
        let start = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        start..start + raw.get().len()
    };
    let is_true = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get() == "true");
    let holder = match (model_in, members.session) {
        (ModelIn::Object, _) => Some((members.model, 0..text.len())),
        (ModelIn::Session, None) => None,
        (ModelIn::Session, Some(session)) => {
            let inner: Members<'_> = serde_json::from_str(session.get())
                .map_err(|_| ReadBodyError::new("`session` is not an object whose `model` stands in it once"))?;
            Some((inner.model, span_of(session)))
        }
    };
    let (raw_model, object) = holder.unwrap_or_default();
    let model = match raw_model.filter(|raw| raw.get() != "null") {
        Some(raw) => {
            let name = serde_json::from_str(raw.get()).map_err(|_| ReadBodyError::new("`model` is not a string"))?;
            Some(Model { name, span: span_of(raw) })
        }
        None => None,
    };
    Ok(Fields {
        model,
        streams: is_true(members.stream),
        keeps: is_true(members.background) || members.conversation.is_some_and(|raw| raw.get() != "null"),
        refers_to_agent: [members.agent, members.agent_reference].into_iter().flatten().any(|raw| raw.get() != "null"),
        opening: opening(text, object),
    })
}

/// The JSON text that says what a realtime session is, and where it begins: the field `session` of a form with this boundary, or
/// the whole body. A form without the field has none.
///
/// # Errors
/// As [`find_field`].
pub(crate) fn session_part<'a>(boundary: Option<&str>, body: &'a [u8]) -> Result<(usize, &'a [u8]), ReadBodyError> {
    let Some(boundary) = boundary else { return Ok((0, body)) };
    let span = find_field(boundary, body, "session")?.unwrap_or_default();
    Ok((span.start, body.get(span).unwrap_or_default()))
}

impl Fields {
    /// The same fields of a JSON text that begins at `start` of a larger one.
    #[must_use]
    pub(crate) fn moved_by(mut self, start: usize) -> Self {
        self.opening.at += start;
        self.model = self.model.map(|model| model.moved_by(start));
        self
    }
}

impl Model {
    /// The same name in a text that begins at `start` of a larger one.
    #[must_use]
    pub(crate) fn moved_by(mut self, start: usize) -> Self {
        self.span = self.span.start + start..self.span.end + start;
        self
    }
}

fn opening(text: &str, object: Range<usize>) -> Opening {
    let brace = text.get(object.clone()).and_then(|object| object.find('{')).map_or(0, |at| at + 1);
    let at = object.start + brace;
    let is_empty = text.get(at..).is_none_or(|rest| rest.trim_start().starts_with('}'));
    Opening { at, is_empty }
}

/// Says where, and what is wrong in the words of the parser, which repeats nothing of the text.
fn not_json(error: &serde_json::Error) -> ReadBodyError {
    ReadBodyError::new(format!("not the JSON it should be: {error}"))
}

// ===== impl Members =====

#[derive(Default)]
struct Members<'a> {
    agent: Option<&'a RawValue>,
    agent_reference: Option<&'a RawValue>,
    model: Option<&'a RawValue>,
    stream: Option<&'a RawValue>,
    background: Option<&'a RawValue>,
    conversation: Option<&'a RawValue>,
    session: Option<&'a RawValue>,
}

enum Key {
    Agent,
    AgentReference,
    Background,
    Conversation,
    Model,
    Other,
    Session,
    Stream,
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some(key) = map.next_key()? {
            let (name, place) = match key {
                Key::Agent => ("agent", &mut members.agent),
                Key::AgentReference => ("agent_reference", &mut members.agent_reference),
                Key::Background => ("background", &mut members.background),
                Key::Conversation => ("conversation", &mut members.conversation),
                Key::Model => ("model", &mut members.model),
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Key::Session => ("session", &mut members.session),
                Key::Stream => ("stream", &mut members.stream),
            };
            if place.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom(format_args!("`{name}` stands in it twice")));
            }
        }
        Ok(members)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Key, E> {
                Ok(match key {
                    "agent" => Key::Agent,
                    "agent_reference" => Key::AgentReference,
                    "background" => Key::Background,
                    "conversation" => Key::Conversation,
                    "model" => Key::Model,
                    "session" => Key::Session,
                    "stream" => Key::Stream,
                    key if key.eq_ignore_ascii_case("model") => {
                        return Err(E::custom("`model` is not spelt in lower case"));
                    }
                    _ => Key::Other,
                })
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(test)]
mod tests;
