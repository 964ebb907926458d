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

use std::time::Duration;

use super::operation::{Operation, Surface};

mod answer;
mod json;
mod look_alike;
mod places;
mod request;
mod sealed;
mod shown;
mod stored;

pub use self::answer::Answered;
pub(crate) use self::look_alike::{LookAlikes, is_json};
pub use self::request::{MAX_REFERENCES, References, Unreadable};
pub use self::sealed::Sealed;
pub(crate) use self::stored::reads_stored;

/// The longest text that can be an id, in bytes.
pub const MAX_LEN: usize = 256;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What kind of object an id names. Only objects that can be reached by their own id have a family: a run or a message is
/// reached through its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// `asst_…`.
    Assistant,
    /// `batch_…`.
    Batch,
    /// `rtc_…`: a realtime session over WebRTC or SIP.
    Call,
    /// `chatcmpl-…`, kept only when the request says `store`.
    Completion,
    /// `cntr_…`: a container of the code interpreter.
    Container,
    /// `conv_…`.
    Conversation,
    /// `eval_…`.
    Eval,
    /// `file-…`, or `assistant-…` for a file whose purpose is assistants.
    File,
    /// `ftjob-…`.
    FineTuningJob,
    /// `rs_…`, `fc_…`, `mcpr_…` and others: an item of a stored response or conversation.
    Item,
    /// `resp_…`.
    Response,
    /// `thread_…`.
    Thread,
    /// `upload_…`.
    Upload,
    /// `vs_…`.
    VectorStore,
    /// `video_…`.
    Video,
}

/// Prefixes of objects with a family of their own.
const PREFIXES: [(&str, Family); 16] = [
    ("asst_", Family::Assistant),
    ("assistant-", Family::File),
    ("batch_", Family::Batch),
    ("chatcmpl-", Family::Completion),
    ("cntr_", Family::Container),
    ("conv_", Family::Conversation),
    ("eval_", Family::Eval),
    ("file-", Family::File),
    ("ftjob-", Family::FineTuningJob),
    ("resp_", Family::Response),
    ("rs_", Family::Item),
    ("rtc_", Family::Call),
    ("thread_", Family::Thread),
    ("upload_", Family::Upload),
    ("video_", Family::Video),
    ("vs_", Family::VectorStore),
];

impl Family {
    /// The family that an id's prefix tells.
    #[must_use]
    pub fn of_prefix(id: &str) -> Option<Self> {
        PREFIXES.iter().find(|(prefix, _)| id.starts_with(prefix)).map(|(_, family)| *family)
    }

    /// The family of the first id in the paths of an operation.
    #[must_use]
    pub const fn of_operation(operation: Operation) -> Option<Self> {
        Some(match operation {
            Operation::Assistants => Self::Assistant,
            Operation::Batches => Self::Batch,
            Operation::ChatCompletions => Self::Completion,
            Operation::Containers => Self::Container,
            Operation::Conversations => Self::Conversation,
            Operation::Evals => Self::Eval,
            Operation::Files => Self::File,
            Operation::FineTuning => Self::FineTuningJob,
            Operation::Realtime => Self::Call,
            Operation::Responses => Self::Response,
            Operation::Threads => Self::Thread,
            Operation::Uploads => Self::Upload,
            Operation::VectorStores => Self::VectorStore,
            Operation::Videos => Self::Video,
            _ => return None,
        })
    }

    /// How long an id is worth remembering. What lives until it is deleted is remembered for as long as a response lives.
    #[must_use]
    pub const fn lifetime(self) -> Duration {
        match self {
            Self::Container | Self::Video => DAY,
            Self::Call | Self::Upload => HOUR.saturating_mul(2),
            _ => DAY.saturating_mul(30),
        }
    }

    /// Where the objects of the family stand below the API prefix, if one of them can be read with a GET of its own.
    #[must_use]
    pub const fn collection(self) -> Option<&'static str> {
        Some(match self {
            Self::Assistant => "assistants",
            Self::Batch => "batches",
            Self::Completion => "chat/completions",
            Self::Container => "containers",
            Self::Conversation => "conversations",
            Self::Eval => "evals",
            Self::File => "files",
            Self::FineTuningJob => "fine_tuning/jobs",
            Self::Response => "responses",
            Self::Thread => "threads",
            Self::VectorStore => "vector_stores",
            Self::Video => "videos",
            Self::Call | Self::Item | Self::Upload => return None,
        })
    }

    /// What an object of the family says of itself as `object`, if it can be read with a GET of its own.
    #[must_use]
    pub const fn object(self) -> Option<&'static str> {
        Some(match self {
            Self::Assistant => "assistant",
            Self::Batch => "batch",
            Self::Completion => "chat.completion",
            Self::Container => "container",
            Self::Conversation => "conversation",
            Self::Eval => "eval",
            Self::File => "file",
            Self::FineTuningJob => "fine_tuning.job",
            Self::Response => "response",
            Self::Thread => "thread",
            Self::VectorStore => "vector_store",
            Self::Video => "video",
            Self::Call | Self::Item | Self::Upload => return None,
        })
    }
}

/// An id, and what it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId {
    family: Family,
    text: Box<str>,
}

impl ObjectId {
    /// An id of a family; `None` for a text that is empty or longer than [`MAX_LEN`].
    #[must_use]
    pub fn new(family: Family, text: &str) -> Option<Self> {
        (1..=MAX_LEN).contains(&text.len()).then(|| Self { family, text: text.into() })
    }

    /// What it names.
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

/// Whether a text means in a path or a query what it says: unreserved characters only, and no dot segment.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    !text.is_empty() && text.bytes().all(unreserved) && !text.bytes().all(|byte| byte == b'.')
}

#[cfg(test)]
mod tests;
