//! Places of ids in the bodies of requests: a positive list by kind of call.
//!
//! Made from the specifications of `OpenAI` (`openai-openapi`, and the types that `openai-python` generates from it) and of
//! Azure OpenAI (`azure-rest-api-specs`, the Assistants of both versions). The fields of a form are places like the members of JSON.
//! What is not listed is the client's own: `metadata`,
//! `client_metadata`, the arguments and parameters of functions, the items of an evaluation, fields that nobody knows.
//!
//! Sources: the request bodies of <https://github.com/openai/openai-openapi>, <https://github.com/Azure/azure-rest-api-specs>.

use std::sync::LazyLock;

use super::Family;
use crate::azure::operation::Operation;

/// Content of a place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holds {
    /// The id of a file in `id`, if `type` says `file_id`.
    FileSource,
    /// An id that the backend must know.
    Id(Family),
    /// An item of a response's input or of a conversation: what its own `id` means depends on the rest of it.
    Item,
    /// A part of a body that stands in several places.
    Part(Rows),
    /// An id that what is carried in full came from.
    Repeated(Family),
    /// Content that only its maker reads.
    Sealed,
    /// Voice in which the answer is to be said aloud.
    Speech,
    /// True if the answer is kept.
    Store,
}

/// Places, and what they hold. `.` leads to a member, `[]` to the elements of an array, `*` to every member.
type Rows = &'static [(&'static str, Holds)];

const FILE: Holds = Holds::Id(Family::File);
const CONTAINER: Holds = Holds::Id(Family::Container);
const SKILL: Holds = Holds::Id(Family::Skill);
const VOICE: Holds = Holds::Id(Family::Voice);
const VECTOR_STORE: Holds = Holds::Id(Family::VectorStore);

static PLACES: &[(&[Operation], Rows)] = &[
    // A voice of one's own, for what is read aloud.
    (&[Operation::AudioSpeech], &[("voice.id", VOICE)]),
    (&[Operation::AudioVoices], &[("consent", Holds::Id(Family::VoiceConsent))]),
    (
        &[Operation::Assistants],
        &[("file_id", FILE), ("file_ids[]", FILE), ("tool_resources", Holds::Part(TOOL_RESOURCES))],
    ),
    (&[Operation::Batches], &[("input_file_id", FILE)]),
    (
        &[Operation::ChatCompletions],
        &[
            ("audio", Holds::Speech),
            ("audio.voice.id", VOICE),
            // What an earlier turn said aloud is kept where it was made.
            ("messages[].audio.id", Holds::Id(Family::Audio)),
            ("messages[].content[].file.file_id", FILE),
            ("store", Holds::Store),
        ],
    ),
    (&[Operation::Containers], &[("file_id", FILE), ("file_ids[]", FILE), ("skills[].skill_id", SKILL)]),
    (&[Operation::Conversations], &[("items[]", Holds::Part(ITEM))]),
    (
        &[Operation::Evals],
        &[
            ("data_source.input_messages.template[].content[].file_id", FILE),
            ("data_source.sampling_params.tools[]", Holds::Part(TOOL)),
            ("data_source.source", Holds::FileSource),
        ],
    ),
    (&[Operation::FineTuning], &[("training_file", FILE), ("validation_file", FILE)]),
    (&[Operation::ImagesEdits], &[("images[].file_id", FILE), ("mask.file_id", FILE)]),
    // A call is accepted with the session itself as the body.
    (&[Operation::Realtime], &[("", Holds::Part(SESSION)), ("session", Holds::Part(SESSION))]),
    (
        &[Operation::Responses],
        &[
            ("conversation", Holds::Id(Family::Conversation)),
            ("conversation.id", Holds::Id(Family::Conversation)),
            ("input[]", Holds::Part(ITEM)),
            ("previous_response_id", Holds::Id(Family::Response)),
            ("prompt", Holds::Part(PROMPT)),
            ("store", Holds::Store),
            ("tools[]", Holds::Part(TOOL)),
        ],
    ),
    (
        &[Operation::Threads],
        &[
            ("", Holds::Part(THREAD_MESSAGE)),
            ("additional_messages[]", Holds::Part(THREAD_MESSAGE)),
            ("assistant_id", Holds::Id(Family::Assistant)),
            ("messages[]", Holds::Part(THREAD_MESSAGE)),
            ("thread.messages[]", Holds::Part(THREAD_MESSAGE)),
            ("thread.tool_resources", Holds::Part(TOOL_RESOURCES)),
            ("tool_resources", Holds::Part(TOOL_RESOURCES)),
        ],
    ),
    (&[Operation::VectorStores], &[("file_id", FILE), ("file_ids[]", FILE), ("files[].file_id", FILE)]),
    (&[Operation::Videos], &[("input_reference.file_id", FILE), ("video.id", Holds::Id(Family::Video))]),
];

/// An item of a response's input or of a conversation.
const ITEM: Rows = &[
    ("", Holds::Item),
    ("content[].encrypted_content", Holds::Sealed),
    ("content[].file_id", FILE),
    ("container_id", Holds::Repeated(Family::Container)),
    ("encrypted_content", Holds::Sealed),
    ("environment.container_id", Holds::Repeated(Family::Container)),
    ("output.file_id", FILE),
    ("output[].file_id", FILE),
    ("tools[]", Holds::Part(TOOL)),
];

/// A prompt that is kept, and what is put into it.
const PROMPT: Rows = &[("variables.*.file_id", FILE)];

/// A realtime session.
const SESSION: Rows = &[("audio.output.voice.id", VOICE), ("prompt", Holds::Part(PROMPT)), ("voice.id", VOICE)];

/// A message of a thread, and the body of the call that adds one.
const THREAD_MESSAGE: Rows =
    &[("attachments[].file_id", FILE), ("content[].image_file.file_id", FILE), ("file_ids[]", FILE)];

/// A tool of a response.
const TOOL: Rows = &[
    ("container", CONTAINER),
    ("container.file_ids[]", FILE),
    ("environment.container_id", CONTAINER),
    ("environment.file_ids[]", FILE),
    ("environment.skills[].skill_id", SKILL),
    ("input_image_mask.file_id", FILE),
    ("vector_store_ids[]", VECTOR_STORE),
];

/// Objects that the tools of an assistant or a thread reach.
const TOOL_RESOURCES: Rows = &[
    ("code_interpreter.file_ids[]", FILE),
    ("file_search.vector_store_ids[]", VECTOR_STORE),
    ("file_search.vector_stores[].file_ids[]", FILE),
];

/// The places of one kind of call as a tree.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) holds: Option<Holds>,
    members: Vec<(&'static str, Self)>,
    every: Option<Box<Self>>,
    pub(super) elements: Option<Box<Self>>,
}

static TREES: LazyLock<Vec<(Operation, Node)>> = LazyLock::new(|| {
    let tree = |rows: &Rows| {
        let mut root = Node::default();
        root.add(rows);
        root
    };
    PLACES.iter().flat_map(|(calls, rows)| calls.iter().map(move |call| (*call, tree(rows)))).collect()
});

/// The places of a kind of call, if it has any.
pub(super) fn places(operation: Operation) -> Option<&'static Node> {
    TREES.iter().find(|(call, _)| *call == operation).map(|(_, root)| root)
}

/// Every place of a kind of call, with the parts put in.
#[cfg(any(fuzzing, test))]
pub(super) fn rows(operation: Operation) -> Vec<(String, Holds)> {
    fn put(rows: Rows, before: &str, all: &mut Vec<(String, Holds)>) {
        for (path, holds) in rows {
            let dot = if before.is_empty() || path.is_empty() { "" } else { "." };
            let path = format!("{before}{dot}{path}");
            match holds {
                Holds::Part(rows) => put(rows, &path, all),
                holds => all.push((path, *holds)),
            }
        }
    }
    let mut all = Vec::new();
    let of_call = PLACES.iter().filter(|(calls, _)| calls.contains(&operation));
    of_call.for_each(|(_, rows)| put(rows, "", &mut all));
    all
}

impl Node {
    /// No place at all.
    pub(super) const NONE: Self = Self { holds: None, members: Vec::new(), every: None, elements: None };

    /// Returns what a member leads to. Keys are compared without regard to ASCII case, as some backends' readers do.
    pub(super) fn member(&self, key: &str) -> Option<&Self> {
        let known = self.members.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, node)| node);
        known.or(self.every.as_deref())
    }

    /// Returns what the field of a form leads to, by a name such as `video[id]`, `files[0][file_id]` or `file_ids[]`.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        let (first, rest) = name.split_at(name.find('[').unwrap_or(name.len()));
        let steps = rest.split('[').skip(1).map(|step| step.strip_suffix(']'));
        steps.into_iter().try_fold(self.member(first)?, |node, step| match step? {
            element if element.bytes().all(|byte| byte.is_ascii_digit()) => node.elements.as_deref(),
            member => node.member(member),
        })
    }

    /// Tells whether anything inside of it is a place.
    pub(super) fn leads_on(&self) -> bool {
        !self.members.is_empty() || self.every.is_some() || self.elements.is_some()
    }

    fn add(&mut self, rows: Rows) {
        for (path, holds) in rows {
            let node = path.split('.').filter(|step| !step.is_empty()).fold(&mut *self, Self::step);
            match holds {
                Holds::Part(rows) => node.add(rows),
                holds => node.holds = Some(*holds),
            }
        }
    }

    fn step(&mut self, step: &'static str) -> &mut Self {
        let name = step.trim_end_matches("[]");
        let member = if name == "*" { self.every.get_or_insert_default() } else { self.named(name) };
        if name.len() == step.len() { member } else { member.elements.get_or_insert_default() }
    }

    fn named(&mut self, name: &'static str) -> &mut Self {
        let at = self.members.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.members.push((name, Self::default()));
            self.members.len() - 1
        });
        &mut self.members[at].1
    }
}
