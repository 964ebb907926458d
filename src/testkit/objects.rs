//! The objects that a backend keeps. No other backend knows them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::call::Payload;

/// A kind of object, with an id space of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    Assistant,
    Batch,
    File,
    Response,
    Run,
    Thread,
}

impl Family {
    /// The family whose objects stand directly below this segment of a path.
    pub(super) fn in_path(segment: &str) -> Option<Self> {
        match segment {
            "assistants" => Some(Self::Assistant),
            "batches" => Some(Self::Batch),
            "files" => Some(Self::File),
            "responses" => Some(Self::Response),
            "threads" => Some(Self::Thread),
            _ => None,
        }
    }

    /// Ids start with it. Files for assistants are the exception of their family.
    pub(super) fn id_prefix(self, payload: &Payload) -> &'static str {
        match self {
            Self::Assistant => "asst_",
            Self::Batch => "batch_",
            Self::File if payload.text("purpose") == Some("assistants") => "assistant-",
            Self::File => "file-",
            Self::Response => "resp_",
            Self::Run => "run_",
            Self::Thread => "thread_",
        }
    }

    /// What the answer to a deletion calls itself; nothing for what cannot be deleted.
    pub(super) const fn deleted(self) -> Option<&'static str> {
        match self {
            Self::Assistant => Some("assistant.deleted"),
            Self::File => Some("file"),
            Self::Response => Some("response"),
            Self::Thread => Some("thread.deleted"),
            Self::Batch | Self::Run => None,
        }
    }

    /// What a backend says of an id that it does not know.
    pub(super) fn unknown(self, id: &str) -> String {
        match self {
            Self::Assistant => format!("No assistant found with id '{id}'."),
            Self::Batch => format!("No batch found with id '{id}'."),
            Self::File => format!("No such File object: {id}"),
            Self::Response => format!("Response with id '{id}' not found."),
            Self::Run => format!("No run found with id '{id}'."),
            Self::Thread => format!("No thread found with id '{id}'."),
        }
    }

    /// What an object calls itself.
    const fn kind(self) -> &'static str {
        match self {
            Self::Assistant => "assistant",
            Self::Batch => "batch",
            Self::File => "file",
            Self::Response => "response",
            Self::Run => "thread.run",
            Self::Thread => "thread",
        }
    }

    /// A new object of this family. Responses and runs are made of what the assistant says.
    pub(super) fn object(self, id: &str, created_at: u64, payload: &Payload) -> Value {
        let field = |name| payload.field(name).cloned().unwrap_or_default();
        let mut object = match self {
            Self::Assistant => json!({
                "model": field("model"), "name": field("name"), "description": field("description"),
                "instructions": field("instructions"), "tools": [], "metadata": {},
            }),
            Self::Batch => json!({
                "status": "validating", "input_file_id": field("input_file_id"), "endpoint": field("endpoint"),
                "completion_window": field("completion_window"),
            }),
            Self::File => json!({
                "status": "processed", "purpose": field("purpose"), "filename": field("file")["filename"],
                "bytes": field("file")["bytes"],
            }),
            Self::Response | Self::Run => json!({}),
            Self::Thread => json!({ "metadata": {}, "tool_resources": {} }),
        };
        object["id"] = id.into();
        object["object"] = self.kind().into();
        object["created_at"] = created_at.into();
        object
    }
}

/// The objects of one backend, by their ids.
#[derive(Debug, Default)]
pub(super) struct Objects(Mutex<HashMap<(Family, String), Value>>);

impl Objects {
    pub(super) fn keep(&self, family: Family, object: Value) {
        let id = object["id"].as_str().unwrap_or_default().to_owned();
        self.lock().insert((family, id), object);
    }

    pub(super) fn find(&self, family: Family, id: &str) -> Option<Value> {
        self.lock().get(&(family, id.to_owned())).cloned()
    }

    pub(super) fn remove(&self, family: Family, id: &str) -> Option<Value> {
        self.lock().remove(&(family, id.to_owned()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Family, String), Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
