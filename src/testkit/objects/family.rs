//! Objects that a backend keeps, family by family.

use serde_json::{Value, json};

use super::super::call::Payload;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Family {
    Assistant,
    Batch,
    ChatCompletion,
    Container,
    ContainerFile,
    Conversation,
    Eval,
    EvalRun,
    File,
    FileBatch,
    FineTuningJob,
    Item,
    Message,
    Response,
    Run,
    Skill,
    Step,
    Thread,
    Upload,
    UploadPart,
    VectorStore,
    VectorStoreFile,
    Video,
    VoiceConsent,
}

/// Action that can be asked of an object by a word below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Stops its work.
    Cancel,
    /// Makes a file of an upload.
    Complete,
    /// Shows what is in it.
    Content,
    /// Makes another of the kind.
    Copy,
    /// Lists what is not simulated: nothing.
    List,
    /// Goes on with its work.
    Proceed,
}

/// Shape of a family: how its objects are reached, and what they are called.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) family: Family,
    /// The family of the objects in which these lie.
    pub(super) within: Option<Family>,
    /// The segments of the collection.
    pub(super) name: &'static [&'static str],
    prefix: &'static str,
    kind: &'static str,
    /// Verbs that the API serves: `c`reate, `r`ead, `u`pdate, `d`elete, `l`ist.
    verbs: &'static str,
    actions: &'static [(&'static str, &'static str, Action)],
}

const CANCEL: (&str, &str, Action) = ("POST", "cancel", Action::Cancel);
const CONTENT: (&str, &str, Action) = ("GET", "content", Action::Content);

const fn top(
    family: Family,
    name: &'static [&'static str],
    prefix: &'static str,
    kind: &'static str,
    verbs: &'static str,
) -> Shape {
    Shape { family, within: None, name, prefix, kind, verbs, actions: &[] }
}

impl Shape {
    const fn within(self, family: Family) -> Self {
        Self { within: Some(family), ..self }
    }

    const fn actions(self, actions: &'static [(&'static str, &'static str, Action)]) -> Self {
        Self { actions, ..self }
    }

    pub(super) fn serves(&self, verb: char) -> bool {
        self.verbs.contains(verb)
    }

    pub(super) fn action(&self, method: &str, word: &str) -> Option<Action> {
        self.actions.iter().find(|action| (action.0, action.1) == (method, word)).map(|action| action.2)
    }
}

/// In the order of [`Family`].
#[rustfmt::skip]
pub(super) static SHAPES: [Shape; 24] = [
    top(Family::Assistant, &["assistants"], "asst_", "assistant", "crudl"),
    top(Family::Batch, &["batches"], "batch_", "batch", "crl").actions(&[CANCEL]),
    top(Family::ChatCompletion, &["chat", "completions"], "chatcmpl-", "chat.completion", "rudl")
        .actions(&[("GET", "messages", Action::List)]),
    top(Family::Container, &["containers"], "cntr_", "container", "crdl"),
    top(Family::ContainerFile, &["files"], "cfile_", "container.file", "crdl").within(Family::Container).actions(&[CONTENT]),
    top(Family::Conversation, &["conversations"], "conv_", "conversation", "crud"),
    top(Family::Eval, &["evals"], "eval_", "eval", "crudl"),
    top(Family::EvalRun, &["runs"], "evalrun_", "eval.run", "crdl").within(Family::Eval)
        .actions(&[("GET", "output_items", Action::List)]),
    top(Family::File, &["files"], "file-", "file", "crdl").actions(&[CONTENT]),
    top(Family::FileBatch, &["file_batches"], "vsfb_", "vector_store.file_batch", "cr").within(Family::VectorStore)
        .actions(&[CANCEL, ("GET", "files", Action::List)]),
    top(Family::FineTuningJob, &["fine_tuning", "jobs"], "ftjob-", "fine_tuning.job", "crl")
        .actions(&[CANCEL, ("GET", "checkpoints", Action::List), ("GET", "events", Action::List)]),
    top(Family::Item, &["items"], "msg_", "conversation.item", "crdl").within(Family::Conversation),
    top(Family::Message, &["messages"], "msg_", "thread.message", "crudl").within(Family::Thread),
    top(Family::Response, &["responses"], "resp_", "response", "rd").actions(&[CANCEL, ("GET", "input_items", Action::List)]),
    top(Family::Run, &["runs"], "run_", "thread.run", "rul").within(Family::Thread)
        .actions(&[CANCEL, ("POST", "submit_tool_outputs", Action::Proceed)]),
    top(Family::Skill, &["skills"], "skill_", "skill", "crudl").actions(&[CONTENT, ("GET", "versions", Action::List)]),
    top(Family::Step, &["steps"], "step_", "thread.run.step", "rl").within(Family::Run),
    top(Family::Thread, &["threads"], "thread_", "thread", "crud"),
    top(Family::Upload, &["uploads"], "upload_", "upload", "c").actions(&[CANCEL, ("POST", "complete", Action::Complete)]),
    top(Family::UploadPart, &["parts"], "part_", "upload.part", "c").within(Family::Upload),
    top(Family::VectorStore, &["vector_stores"], "vs_", "vector_store", "crudl").actions(&[("POST", "search", Action::List)]),
    top(Family::VectorStoreFile, &["files"], "file-", "vector_store.file", "crdl").within(Family::VectorStore)
        .actions(&[CONTENT]),
    top(Family::Video, &["videos"], "video_", "video", "crdl").actions(&[CONTENT, ("POST", "remix", Action::Copy)]),
    top(Family::VoiceConsent, &["audio", "voice_consents"], "cons_", "audio.voice_consent", "crudl"),
];

impl Family {
    pub(super) fn shape(self) -> &'static Shape {
        &SHAPES[self as usize]
    }

    /// Ids start with it. Files for assistants are the exception of their family.
    pub(super) fn id_prefix(self, payload: &Payload) -> &'static str {
        let for_assistants = self == Self::File && payload.text("purpose") == Some("assistants");
        if for_assistants { "assistant-" } else { self.shape().prefix }
    }

    /// Returns what the answer to a deletion calls itself.
    pub(super) fn deleted(self) -> String {
        let kind = self.shape().kind;
        if matches!(self, Self::File | Self::Response) { kind.to_owned() } else { format!("{kind}.deleted") }
    }

    /// Returns what an object calls the id of the object around it.
    pub(super) fn outer_id(self) -> Option<String> {
        Some(format!("{}_id", self.shape().within?.shape().kind))
    }

    /// Returns what a backend says of an id that it does not know.
    pub(in super::super) fn unknown(self, id: &str) -> String {
        let kind = self.shape().kind;
        match self {
            Self::Conversation => format!("Conversation with id '{id}' not found."),
            Self::File => format!("No such File object: {id}"),
            Self::Item => format!("Item with id '{id}' not found."),
            Self::Response => format!("Response with id '{id}' not found."),
            _ => format!("No {} found with id '{id}'.", kind.rsplit('.').next().unwrap_or(kind).replace('_', " ")),
        }
    }

    /// A new object of this family: what was asked for, and what every object of the kind has.
    pub(in super::super) fn object(self, id: &str, created_at: u64, payload: &Payload) -> Value {
        let mut object = self.unasked();
        amend(&mut object, payload.fields());
        match (self, payload.field("file"), payload.text("content")) {
            (Self::ContainerFile | Self::File, file @ Some(_), _) => {
                object.as_object_mut().and_then(|object| object.remove("file"));
                amend(&mut object, file);
            }
            (Self::Message, _, Some(text)) => {
                object["content"] = json!([{ "type": "text", "text": { "value": text, "annotations": [] } }]);
            }
            _ => {}
        }
        object["id"] = id.into();
        object["created_at"] = created_at.into();
        object["object"] = self.shape().kind.into();
        object
    }

    /// Returns what an object has that nobody asked for.
    fn unasked(self) -> Value {
        match self {
            Self::Assistant => {
                json!({ "name": null, "description": null, "instructions": null, "tools": [], "metadata": {} })
            }
            Self::Batch => json!({ "status": "validating", "output_file_id": null, "error_file_id": null }),
            Self::Container => json!({ "status": "running" }),
            Self::EvalRun | Self::FineTuningJob | Self::Video => json!({ "status": "queued" }),
            Self::File => json!({ "status": "processed", "bytes": 0, "filename": "", "purpose": null }),
            Self::FileBatch | Self::VectorStoreFile => json!({ "status": "in_progress" }),
            Self::Thread => json!({ "metadata": {}, "tool_resources": {} }),
            Self::Upload => json!({ "status": "pending", "file": null }),
            Self::VectorStore => json!({ "status": "completed", "name": null, "metadata": {} }),
            _ => json!({ "metadata": {} }),
        }
    }
}

/// Puts fields in the place of those of the same names.
pub(super) fn amend(object: &mut Value, fields: Option<&Value>) {
    for (name, value) in fields.and_then(Value::as_object).into_iter().flatten() {
        object[name] = value.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_finds_its_own_shape() {
        for shape in &SHAPES {
            assert_eq!(shape.family.shape().kind, shape.kind, "{:?}", shape.family);
        }
        assert_eq!(SHAPES.len(), Family::VoiceConsent as usize + 1, "all have one");
    }
}
