//! Ids of the objects that a resource keeps: which family an id belongs to, and where ids stand in bodies, answers and events.
//!
//! An id is opaque. Its prefix tells the family where its place does not, nothing else, and no id tells which resource made it.
//!
//! ```
//! use tower_azure_openai::azure::object_id::{Family, References};
//! use tower_azure_openai::azure::operation::Operation;
//!
//! let body = br#"{"model":"gpt-4o","previous_response_id":"resp_1","metadata":{"thread_id":"a word of the client's own"}}"#;
//! let references = References::read(Operation::Responses, body)?;
//! let named: Vec<_> = references.ids().iter().map(|id| (id.family(), id.as_str())).collect();
//! assert_eq!(named, [(Family::Response, "resp_1")]);
//! # Ok::<_, tower_azure_openai::azure::object_id::Unreadable>(())
//! ```
//!
//! Sources: <https://github.com/openai/openai-openapi>; which calls need their resource: <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/responses>.

use super::operation::Surface;

mod answer;
mod family;
mod json;
mod look_alike;
mod places;
mod request;
mod sealed;
mod shown;
mod stored;

pub use self::answer::Answered;
pub(crate) use self::answer::{AnswerScan, EventScan};
pub use self::family::Family;
#[cfg(any(fuzzing, test))]
pub(crate) use self::look_alike::is_look_alike;
pub(crate) use self::look_alike::{LookAlikes, is_json};
pub(crate) use self::request::MAX_REFERENCES;
pub use self::request::{References, Unreadable};
pub use self::sealed::Sealed;
pub(crate) use self::stored::reads_stored;

/// The longest text that can be an id, in bytes.
pub(crate) const MAX_LEN: usize = 256;

/// An id, and what it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId {
    family: Family,
    text: Box<str>,
}

impl ObjectId {
    /// An id of a family; `None` for a text that is empty or longer than 256 bytes.
    #[must_use]
    pub fn new(family: Family, text: &str) -> Option<Self> {
        (1..=MAX_LEN).contains(&text.len()).then(|| Self { family, text: text.into() })
    }

    /// Returns the kind of object that it names.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The id as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path of the call that reads the object; `None` where there is none, and for an id that is not made of characters
    /// that mean nothing in a path: letters, digits, `-`, `_`, `~` and, between others, `.`.
    #[must_use]
    pub fn read_path(&self, surface: Surface) -> Option<String> {
        let collection = self.family.collection()?;
        let prefix = match surface {
            Surface::Classic => "/openai",
            // A Foundry resource keeps its objects there.
            Surface::Foundry | Surface::V1 => "/openai/v1",
        };
        is_plain(&self.text).then(|| format!("{prefix}/{collection}/{}", self.text))
    }
}

/// Tells whether a text means in a path or a query what it says: unreserved characters only, and no dot segment.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    !text.is_empty() && text.bytes().all(unreserved) && !text.bytes().all(|byte| byte == b'.')
}

/// Every place of a kind of call, and what it holds, for whoever looks there without these readers.
#[cfg(any(fuzzing, test))]
pub(crate) fn rows_of(operation: super::operation::Operation) -> Vec<(String, String)> {
    places::rows(operation).into_iter().map(|(path, holds)| (path, format!("{holds:?}"))).collect()
}

#[cfg(test)]
mod tests;
