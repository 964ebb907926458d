//! Deployments that a JSON body names beside the one that answers it.
//!
//! ```
//! use tower_azure_openai::azure::further_names;
//! use tower_azure_openai::azure::operation::Operation;
//!
//! let body = br#"{"model":"gpt-4o","tools":[{"type":"image_generation","model":"images"}]}"#;
//! let names = further_names::find(Operation::Responses, body)?;
//! assert_eq!(names[0].name, "images");
//! assert_eq!(&body[names[0].span.clone()], br#""images""#);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::operation::Operation;
use super::request_body::{Model, ReadBodyError};

/// More than anybody has a use for.
pub(super) const MAX_NAMES: usize = 32;

/// One step on the way to a name.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Into every element of an array.
    Each,
    /// Into every element of an array that has this `type`.
    EachOfType(&'static str),
    /// Into a member of an object.
    In(&'static str),
}

use Step::{Each, EachOfType, In};

/// A word without which no name stands there, and the way to it.
type Way = (&'static str, &'static [Step]);

/// The image tool of Responses: its deployment stands here or in the header `x-ms-oai-image-generation-deployment`.
const IMAGE_TOOL: Way = ("image_generation", &[In("tools"), EachOfType("image_generation"), In("model")]);

/// Azure OpenAI on your data: the deployment that embeds the question (authoring and inference reference, `deployment_name`).
const EMBEDDING: Way = (
    "deployment_name",
    &[In("data_sources"), Each, In("parameters"), In("embedding_dependency"), In("deployment_name")],
);
/// The same as api-versions before 2024-02-01 had it.
const EMBEDDING_BEFORE: Way =
    ("embeddingDeploymentName", &[In("dataSources"), Each, In("parameters"), In("embeddingDeploymentName")]);

/// Transcription of what is said in a realtime session; the session is the body itself where none is inside it.
const TRANSCRIPTION: [Way; 4] = [
    ("transcription", &[In("session"), In("audio"), In("input"), In("transcription"), In("model")]),
    ("input_audio_transcription", &[In("session"), In("input_audio_transcription"), In("model")]),
    ("transcription", &[In("audio"), In("input"), In("transcription"), In("model")]),
    ("input_audio_transcription", &[In("input_audio_transcription"), In("model")]),
];

const fn ways(operation: Operation) -> &'static [Way] {
    match operation {
        Operation::ChatCompletions => &[EMBEDDING, EMBEDDING_BEFORE],
        Operation::Realtime => &TRANSCRIPTION,
        Operation::Responses => &[IMAGE_TOOL],
        _ => &[],
    }
}

/// Whether a body of this operation can name further deployments.
#[must_use]
pub const fn may_name(operation: Operation) -> bool {
    !ways(operation).is_empty()
}

/// Finds the names where the operation defines them, in the order in which they stand. A body that is no JSON object has none.
///
/// # Errors
/// A member on the way to a name stands twice, or in another case; a name is neither a string nor `null`; there are more than 32.
pub fn find(operation: Operation, body: &[u8]) -> Result<Vec<Model>, ReadBodyError> {
    let mut found = Vec::new();
    let mut ways = ways(operation).iter().filter(|(word, _)| has_word(body, word)).peekable();
    if ways.peek().is_none() {
        return Ok(found);
    }
    let Some(text) = std::str::from_utf8(body).ok() else { return Ok(found) };
    let Ok(whole) = serde_json::from_str::<&RawValue>(text) else { return Ok(found) };
    for (_, way) in ways {
        follow(text, whole, way, &mut found)?;
    }
    found.sort_by_key(|name| name.span.start);
    Ok(found)
}

static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\u00"));

/// Whether the word is there, or may be there with an escape in it; much quicker to see than to parse.
fn has_word(body: &[u8], word: &str) -> bool {
    memchr::memmem::find(body, word.as_bytes()).is_some() || ESCAPE.find(body).is_some()
}

fn follow<'a>(text: &str, value: &'a RawValue, way: &[Step], found: &mut Vec<Model>) -> Result<(), ReadBodyError> {
    let Some((step, rest)) = way.split_first() else {
        found.extend(name(text, value)?);
        return if found.len() > MAX_NAMES { Err(ReadBodyError::new("it names too many deployments")) } else { Ok(()) };
    };
    match step {
        In(key) => member(value, key)?.map_or(Ok(()), |value| follow(text, value, rest, found)),
        Each | EachOfType(_) if value.get().starts_with('[') => {
            let mut result = Ok(());
            let each = &mut |element: &'a RawValue| {
                let followed = is_of(element, *step).and_then(|is_of| match is_of {
                    true => follow(text, element, rest, found),
                    false => Ok(()),
                });
                followed.map_err(|error| result = Err(error)).is_ok()
            };
            let read = serde_json::Deserializer::from_str(value.get()).deserialize_seq(Elements(each));
            result.and(read.map_err(|_| ReadBodyError::new("an array in it is not JSON")))
        }
        Each | EachOfType(_) => Ok(()),
    }
}

/// Gives each element of an array to a closure, which says whether to go on. There is no list of them, for they may be many.
struct Elements<F>(F);

impl<'de, F: FnMut(&'de RawValue) -> bool> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        let mut goes_on = true;
        while let Some(element) = array.next_element()? {
            goes_on = goes_on && (self.0)(element);
        }
        Ok(())
    }
}

fn is_of(element: &RawValue, step: Step) -> Result<bool, ReadBodyError> {
    let EachOfType(wanted) = step else { return Ok(true) };
    let kind = member(element, "type")?.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    Ok(kind.as_deref() == Some(wanted))
}

fn name(text: &str, value: &RawValue) -> Result<Option<Model>, ReadBodyError> {
    if value.get() == "null" {
        return Ok(None);
    }
    let name = serde_json::from_str(value.get())
        .map_err(|_| ReadBodyError::new("the name of a further deployment is not a string"))?;
    // A borrowed value is a slice of the text.
    let start = (value.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    Ok(Some(Model { name, span: start..start + value.get().len() }))
}

/// A member of an object; of anything else there is none.
fn member<'a>(value: &'a RawValue, key: &'static str) -> Result<Option<&'a RawValue>, ReadBodyError> {
    if !value.get().starts_with('{') {
        return Ok(None);
    }
    let mut reader = serde_json::Deserializer::from_str(value.get());
    Member(key, PhantomData).deserialize(&mut reader).map_err(|_| {
        ReadBodyError::new(format!(
            "`{key}`, on the way to the name of a deployment, stands in it twice, or in another case"
        ))
    })
}

struct Member<'a>(&'static str, PhantomData<&'a ()>);

impl<'de: 'a, 'a> DeserializeSeed<'de> for Member<'a> {
    type Value = Option<&'a RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Member<'a> {
    type Value = Option<&'a RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(fit) = map.next_key_seed(Fit(self.0))? {
            match fit {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(true) if found.is_none() => found = Some(map.next_value()?),
                Some(_) => return Err(A::Error::custom("twice")),
            }
        }
        Ok(found)
    }
}

/// Whether a key is the one that is looked for: `Some(false)` when only another case says otherwise.
struct Fit(&'static str);

impl<'de> DeserializeSeed<'de> for Fit {
    type Value = Option<bool>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Fit {
    type Value = Option<bool>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(key.eq_ignore_ascii_case(self.0).then_some(key == self.0))
    }
}

/// The model that a request names which stands in a line, as batches have them.
pub(super) fn name_of_line(line: &[u8]) -> Result<Model, ReadBodyError> {
    let text = std::str::from_utf8(line).map_err(|_| ReadBodyError::new("not UTF-8"))?;
    let whole: &RawValue = serde_json::from_str(text).map_err(|_| ReadBodyError::new("not JSON"))?;
    let mut found = Vec::new();
    follow(text, whole, &[In("body"), In("model")], &mut found)?;
    found.pop().ok_or_else(|| ReadBodyError::new("it has no `model` in its `body`, which names the deployment"))
}

/// Whether these bytes are the name as a JSON string.
pub(crate) fn is_name(body: &[u8], span: &Range<usize>, name: &str) -> bool {
    let Some(written) = body.get(span.clone()) else { return false };
    let plain = written.strip_prefix(b"\"").and_then(|written| written.strip_suffix(b"\""));
    plain == Some(name.as_bytes()) && !name.contains(['"', '\\'])
        || serde_json::from_slice::<String>(written).is_ok_and(|written| written == name)
}

#[cfg(test)]
mod tests;
