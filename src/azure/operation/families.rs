//! The families of the API as a tree of path segments, below `/openai/`, `/openai/v1/` and `/openai/deployments/{name}/`.

use super::Operation;

/// A segment of a family's name.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    pub(super) operation: Operation,
    /// A POST to exactly this path leaves nothing behind that a client could name.
    pub(super) stateless: bool,
    pub(super) tail: Tail,
    children: &'static [Self],
}

/// What may stand below a family, besides its children.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tail {
    /// Anything, but no ids.
    Anything,
    /// Nothing that is known.
    Nothing,
    /// An object's id, then what is asked of it, then perhaps the id of an object inside it, and so on.
    Objects,
}

impl Family {
    pub(super) fn child(&'static self, segment: &str) -> Option<&'static Self> {
        self.children.iter().find(|child| child.name.eq_ignore_ascii_case(segment))
    }

    const fn new(name: &'static str, operation: Operation, tail: Tail) -> Self {
        Self { name, operation, stateless: false, tail, children: &[] }
    }

    const fn part(name: &'static str, children: &'static [Self]) -> Self {
        Self::new(name, Operation::Other, Tail::Nothing).with(children)
    }

    const fn stateless(name: &'static str, operation: Operation) -> Self {
        Self { stateless: true, ..Self::new(name, operation, Tail::Nothing) }
    }

    const fn objects(name: &'static str, operation: Operation) -> Self {
        Self::new(name, operation, Tail::Objects)
    }

    const fn anything(name: &'static str, operation: Operation) -> Self {
        Self::new(name, operation, Tail::Anything)
    }

    /// Answers are made here, and may be kept as objects.
    const fn storing(name: &'static str, operation: Operation) -> Self {
        Self { stateless: true, ..Self::objects(name, operation) }
    }

    const fn with(self, children: &'static [Self]) -> Self {
        Self { children, ..self }
    }
}

/// Stands above all families. Those that most requests ask for come first.
pub(super) static ROOT: Family = Family::part(
    "",
    &[
        Family::part("chat", &[Family::storing("completions", Operation::ChatCompletions)]),
        Family::storing("responses", Operation::Responses).with(&[
            Family::anything("compact", Operation::Responses),
            Family::anything("input_tokens", Operation::Responses),
        ]),
        Family::stateless("embeddings", Operation::Embeddings),
        Family::stateless("completions", Operation::Completions),
        Family::objects("assistants", Operation::Assistants),
        Family::part(
            "audio",
            &[
                Family::stateless("speech", Operation::AudioSpeech),
                Family::stateless("transcriptions", Operation::AudioTranscriptions),
                Family::stateless("translations", Operation::AudioTranslations),
            ],
        ),
        Family::objects("batches", Operation::Batches),
        Family::objects("containers", Operation::Containers),
        Family::objects("conversations", Operation::Conversations),
        Family::objects("evals", Operation::Evals),
        Family::part(
            "extensions",
            &[Family::part("chat", &[Family::stateless("completions", Operation::ChatCompletions)])],
        ),
        Family::objects("files", Operation::Files).with(&[Family::anything("import", Operation::Files)]),
        Family::anything("fine_tuning", Operation::FineTuning).with(&[
            Family::objects("checkpoints", Operation::FineTuning),
            Family::objects("jobs", Operation::FineTuning),
        ]),
        Family::part(
            "images",
            &[
                Family::stateless("edits", Operation::ImagesEdits),
                Family::stateless("generations", Operation::ImagesGenerations),
            ],
        ),
        Family::anything("models", Operation::Models),
        Family::anything("realtime", Operation::Realtime).with(&[Family::objects("calls", Operation::Realtime)]),
        Family::objects("threads", Operation::Threads).with(&[Family::anything("runs", Operation::Threads)]),
        Family::objects("uploads", Operation::Uploads),
        Family::objects("vector_stores", Operation::VectorStores),
        Family::part(
            "video",
            &[Family::objects("generations", Operation::Videos).with(&[Family::objects("jobs", Operation::Videos)])],
        ),
        Family::objects("videos", Operation::Videos),
    ],
);
