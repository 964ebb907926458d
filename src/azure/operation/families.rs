//! The families of the API as a tree of path segments, below `/openai/`, `/openai/v1/` and `/openai/deployments/{name}/`.

use super::{ModelPlace, Operation};

/// A segment of a family's name.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    pub(super) operation: Operation,
    /// A POST to exactly this path leaves nothing behind that a client could name.
    pub(super) stateless: bool,
    pub(super) tail: Tail,
    /// Whether Azure serves it below `deployments/{name}/`.
    pub(super) in_deployment: bool,
    /// Where a call to exactly this path names its model, unless it only reads or deletes.
    pub(super) model: ModelPlace,
    /// The same for a call to one of its objects.
    pub(super) object_model: ModelPlace,
    /// The same for what is asked of an object, by name; nowhere for everything that is not listed.
    within: &'static [(&'static str, ModelPlace)],
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

    pub(super) fn model_within(&self, segment: &str) -> ModelPlace {
        let known = self.within.iter().find(|(name, _)| name.eq_ignore_ascii_case(segment));
        known.map_or(self.object_model.elsewhere_or_nowhere(), |(_, place)| *place)
    }

    /// A call reaches models only where it says so.
    const fn new(name: &'static str, operation: Operation, tail: Tail) -> Self {
        Self {
            name,
            operation,
            stateless: false,
            tail,
            in_deployment: false,
            model: ModelPlace::Nowhere,
            object_model: ModelPlace::Nowhere,
            within: &[],
            children: &[],
        }
    }

    /// A segment above families.
    const fn part(name: &'static str, children: &'static [Self]) -> Self {
        Self { in_deployment: true, ..Self::new(name, Operation::Other, Tail::Nothing).hidden() }.with(children)
    }

    /// A deployment answers here, and nothing is kept.
    const fn stateless(name: &'static str, operation: Operation) -> Self {
        let family = Self::new(name, operation, Tail::Nothing).model(ModelPlace::Body);
        Self { stateless: true, in_deployment: true, ..family }
    }

    /// A deployment answers here, and its answers may be kept as objects.
    const fn storing(name: &'static str, operation: Operation) -> Self {
        Self { stateless: true, ..Self::objects(name, operation).model(ModelPlace::Body) }
    }

    const fn objects(name: &'static str, operation: Operation) -> Self {
        Self::new(name, operation, Tail::Objects)
    }

    const fn anything(name: &'static str, operation: Operation) -> Self {
        Self::new(name, operation, Tail::Anything)
    }

    const fn in_deployment(self) -> Self {
        Self { in_deployment: true, ..self }
    }

    const fn model(self, model: ModelPlace) -> Self {
        Self { model, ..self }
    }

    const fn object_model(self, object_model: ModelPlace) -> Self {
        Self { object_model, ..self }
    }

    /// Uses models that stand in files or in objects.
    const fn hidden(self) -> Self {
        self.model(ModelPlace::Elsewhere).object_model(ModelPlace::Elsewhere)
    }

    const fn within(self, within: &'static [(&'static str, ModelPlace)]) -> Self {
        Self { within, ..self }
    }

    const fn with(self, children: &'static [Self]) -> Self {
        Self { children, ..self }
    }
}

/// Stands above all families. Those that most requests ask for come first.
pub(super) static ROOT: Family = Family::part(
    "",
    &[
        Family::part("chat", &[Family::storing("completions", Operation::ChatCompletions).in_deployment()]),
        Family::storing("responses", Operation::Responses).with(&[
            Family::anything("compact", Operation::Responses).model(ModelPlace::Body),
            Family::anything("input_tokens", Operation::Responses).model(ModelPlace::Body),
        ]),
        Family::stateless("embeddings", Operation::Embeddings),
        Family::stateless("completions", Operation::Completions),
        Family::objects("assistants", Operation::Assistants)
            .model(ModelPlace::Body)
            .object_model(ModelPlace::OptionalBody),
        Family::part(
            "audio",
            &[
                Family::stateless("speech", Operation::AudioSpeech),
                Family::stateless("transcriptions", Operation::AudioTranscriptions),
                Family::stateless("translations", Operation::AudioTranslations),
            ],
        ),
        Family::objects("batches", Operation::Batches).hidden(),
        Family::objects("containers", Operation::Containers),
        Family::objects("conversations", Operation::Conversations),
        Family::objects("evals", Operation::Evals).hidden(),
        Family::part(
            "extensions",
            &[Family::part("chat", &[Family::stateless("completions", Operation::ChatCompletions)])],
        ),
        Family::objects("files", Operation::Files).with(&[Family::anything("import", Operation::Files)]),
        Family::anything("fine_tuning", Operation::FineTuning).hidden().with(&[
            Family::objects("checkpoints", Operation::FineTuning).hidden(),
            Family::objects("jobs", Operation::FineTuning).hidden(),
        ]),
        Family::part(
            "images",
            &[
                Family::stateless("edits", Operation::ImagesEdits),
                Family::stateless("generations", Operation::ImagesGenerations),
            ],
        ),
        Family::objects("models", Operation::Models).hidden(),
        Family::anything("realtime", Operation::Realtime).hidden().with(&[
            Family::objects("calls", Operation::Realtime).hidden(),
            Family::anything("client_secrets", Operation::Realtime).model(ModelPlace::Session),
            Family::anything("sessions", Operation::Realtime).model(ModelPlace::Body),
        ]),
        Family::objects("threads", Operation::Threads)
            .within(&[("runs", ModelPlace::OptionalBody)])
            .with(&[Family::anything("runs", Operation::Threads).model(ModelPlace::OptionalBody)]),
        Family::objects("uploads", Operation::Uploads),
        Family::objects("vector_stores", Operation::VectorStores),
        Family::part(
            "video",
            &[Family::objects("generations", Operation::Videos)
                .with(&[Family::objects("jobs", Operation::Videos).model(ModelPlace::Body)])],
        ),
        Family::objects("videos", Operation::Videos)
            .model(ModelPlace::Body)
            .within(&[("remix", ModelPlace::Elsewhere)]),
    ],
);
