//! Every call of the API, as the specifications of `OpenAI` and Microsoft list them: what is a word of the API, and what an id.
//!
//! Below `/openai/`, `/openai/v1/` and `/openai/deployments/{name}/` stands [`OPENAI`]; beside them, [`FOUNDRY`].
//!
//! Sources: <https://github.com/openai/openai-openapi>, <https://github.com/Azure/azure-rest-api-specs/tree/main/specification/ai/data-plane/OpenAI.v1>,
//! <https://github.com/Azure/azure-rest-api-specs/tree/main/specification/cognitiveservices/data-plane/AzureOpenAI>.

use super::ModelPlace::{Body, DefaultBody, Elsewhere, Nowhere, Object, OptionalBody, Query, Session};
use super::Operation as O;
use super::{ModelPlace, Operation, Repeat};

/// One path of the table; `{}` is the id of an object.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) path: &'static str,
    pub(super) operation: Operation,
    /// Place in which a call names its model, unless it only reads or deletes.
    pub(super) model: ModelPlace,
    /// True if a POST may be repeated.
    pub(super) repeat: Repeat,
    /// True if Azure serves it below `deployments/{name}/`.
    pub(super) in_deployment: bool,
    /// True if a call that says neither `v1` nor a version is of the v1 API: @ai-sdk/azure with a base URL that ends in
    /// `/openai` sends such, and the classic API refuses them.
    pub(super) is_v1_unversioned: bool,
}

impl Row {
    /// A deployment answers, and nothing is kept that a client could name.
    const fn answer(path: &'static str, operation: Operation) -> Self {
        Self { in_deployment: true, ..Self::pure(path, operation, Body) }
    }

    /// The same, where OpenAI has a model of its own.
    const fn image(path: &'static str, operation: Operation) -> Self {
        Self { model: DefaultBody, ..Self::answer(path, operation) }
    }

    /// A POST leaves nothing behind that a client could name.
    const fn pure(path: &'static str, operation: Operation, model: ModelPlace) -> Self {
        Self { repeat: Repeat::Safe, ..Self::new(path, operation, model) }
    }

    /// No model is used, or one with which another call began.
    const fn plain(path: &'static str, operation: Operation) -> Self {
        Self::new(path, operation, Nowhere)
    }

    /// Uses models that stand in files, in objects or in places of their own.
    const fn hidden(path: &'static str, operation: Operation) -> Self {
        Self::new(path, operation, Elsewhere)
    }

    const fn new(path: &'static str, operation: Operation, model: ModelPlace) -> Self {
        Self { path, operation, model, repeat: Repeat::Creates, in_deployment: false, is_v1_unversioned: false }
    }

    const fn v1_unversioned(self) -> Self {
        Self { is_v1_unversioned: true, ..self }
    }

    /// Returns the collection of the path: its words before the first id.
    pub(super) fn collection(&self) -> &'static str {
        self.path.split_once("/{}").map_or(self.path, |(collection, _)| collection)
    }
}

/// Those that most requests ask for come first.
pub(super) const OPENAI: &[Row] = &[
    Row::answer("chat/completions", O::ChatCompletions),
    Row { in_deployment: true, ..Row::plain("chat/completions/{}", O::ChatCompletions) },
    Row { in_deployment: true, ..Row::plain("chat/completions/{}/messages", O::ChatCompletions) },
    Row::pure("responses", O::Responses, DefaultBody).v1_unversioned(),
    Row::pure("responses/compact", O::Responses, Body).v1_unversioned(),
    Row::pure("responses/input_tokens", O::Responses, DefaultBody).v1_unversioned(),
    Row::plain("responses/{}", O::Responses).v1_unversioned(),
    Row::plain("responses/{}/cancel", O::Responses).v1_unversioned(),
    Row::plain("responses/{}/input_items", O::Responses).v1_unversioned(),
    Row::answer("embeddings", O::Embeddings),
    Row::answer("completions", O::Completions),
    Row::new("assistants", O::Assistants, Body),
    Row::new("assistants/{}", O::Assistants, OptionalBody),
    Row::plain("assistants/{}/files", O::Assistants),
    Row::plain("assistants/{}/files/{}", O::Assistants),
    Row::answer("audio/speech", O::AudioSpeech),
    Row::answer("audio/transcriptions", O::AudioTranscriptions),
    Row::answer("audio/translations", O::AudioTranslations),
    Row::plain("audio/voice_consents", O::AudioVoices),
    Row::plain("audio/voice_consents/{}", O::AudioVoices),
    Row::plain("audio/voices", O::AudioVoices),
    Row::plain("audio/voices/{}", O::AudioVoices),
    Row::hidden("batches", O::Batches),
    Row::hidden("batches/{}", O::Batches),
    Row::hidden("batches/{}/cancel", O::Batches),
    // A session runs a workflow, which names its own models.
    Row::hidden("chatkit/sessions", O::ChatKit),
    Row::plain("chatkit/sessions/{}/cancel", O::ChatKit),
    Row::plain("chatkit/threads", O::ChatKit),
    Row::plain("chatkit/threads/{}", O::ChatKit),
    Row::plain("chatkit/threads/{}/items", O::ChatKit),
    Row::plain("containers", O::Containers),
    Row::plain("containers/{}", O::Containers),
    Row::plain("containers/{}/files", O::Containers),
    Row::plain("containers/{}/files/{}", O::Containers),
    Row::plain("containers/{}/files/{}/content", O::Containers),
    // Looks at a file that comes with it, and keeps nothing.
    Row::pure("content_provenance_checks", O::ContentProvenance, Nowhere),
    Row::plain("conversations", O::Conversations),
    Row::plain("conversations/{}", O::Conversations),
    Row::plain("conversations/{}/items", O::Conversations),
    Row::plain("conversations/{}/items/{}", O::Conversations),
    Row::hidden("evals", O::Evals),
    Row::hidden("evals/{}", O::Evals),
    Row::hidden("evals/{}/runs", O::Evals),
    Row::hidden("evals/{}/runs/{}", O::Evals),
    Row::hidden("evals/{}/runs/{}/cancel", O::Evals),
    Row::hidden("evals/{}/runs/{}/output_items", O::Evals),
    Row::hidden("evals/{}/runs/{}/output_items/{}", O::Evals),
    Row::answer("extensions/chat/completions", O::ChatCompletions),
    Row::plain("files", O::Files),
    Row::plain("files/import", O::Files),
    Row::plain("files/{}", O::Files),
    Row::plain("files/{}/content", O::Files),
    Row::pure("fine_tuning/alpha/graders/run", O::FineTuning, Elsewhere),
    Row::pure("fine_tuning/alpha/graders/validate", O::FineTuning, Elsewhere),
    Row::hidden("fine_tuning/checkpoints/{}/permissions", O::FineTuning),
    Row::hidden("fine_tuning/checkpoints/{}/permissions/{}", O::FineTuning),
    Row::hidden("fine_tuning/jobs", O::FineTuning),
    Row::hidden("fine_tuning/jobs/{}", O::FineTuning),
    Row::hidden("fine_tuning/jobs/{}/cancel", O::FineTuning),
    Row::hidden("fine_tuning/jobs/{}/checkpoints", O::FineTuning),
    Row::hidden("fine_tuning/jobs/{}/checkpoints/{}", O::FineTuning),
    Row::hidden("fine_tuning/jobs/{}/checkpoints/{}/copy", O::FineTuning),
    Row::hidden("fine_tuning/jobs/{}/events", O::FineTuning),
    Row::hidden("fine_tuning/jobs/{}/pause", O::FineTuning),
    Row::hidden("fine_tuning/jobs/{}/resume", O::FineTuning),
    Row::image("images/edits", O::ImagesEdits),
    Row::image("images/generations", O::ImagesGenerations),
    Row::image("images/variations", O::ImagesVariations),
    // A client gives a job its id, and the embedding model stands in what the job writes to.
    Row::hidden("ingestion/jobs", O::Ingestion),
    Row::hidden("ingestion/jobs/{}", O::Ingestion),
    Row::hidden("ingestion/jobs/{}/runs", O::Ingestion),
    Row::hidden("ingestion/jobs/{}/runs/{}", O::Ingestion),
    Row::hidden("models", O::Models),
    Row::hidden("models/{}", O::Models),
    Row::pure("moderations", O::Moderations, DefaultBody),
    Row::hidden("realtime", O::Realtime),
    // A call begins with the offer alone, or with a form of offer and session.
    Row::new("realtime/calls", O::Realtime, Session),
    Row::plain("realtime/calls/{}", O::Realtime),
    Row::new("realtime/calls/{}/accept", O::Realtime, OptionalBody),
    Row::plain("realtime/calls/{}/hangup", O::Realtime),
    Row::plain("realtime/calls/{}/refer", O::Realtime),
    Row::plain("realtime/calls/{}/reject", O::Realtime),
    Row::new("realtime/client_secrets", O::Realtime, Session),
    Row::new("realtime/sessions", O::Realtime, Body),
    // The model stands in `input_audio_transcription`.
    Row::new("realtime/transcription_sessions", O::Realtime, OptionalBody),
    Row::hidden("realtime/translations", O::Realtime),
    Row::hidden("realtime/translations/calls", O::Realtime),
    Row::new("realtime/translations/client_secrets", O::Realtime, Session),
    Row::new("realtimeapi/sessions", O::Realtime, Body),
    Row::plain("skills", O::Skills),
    Row::plain("skills/{}", O::Skills),
    Row::plain("skills/{}/content", O::Skills),
    Row::plain("skills/{}/versions", O::Skills),
    Row::plain("skills/{}/versions/{}", O::Skills),
    Row::plain("skills/{}/versions/{}/content", O::Skills),
    Row::plain("threads", O::Threads),
    Row::new("threads/runs", O::Threads, OptionalBody),
    Row::plain("threads/{}", O::Threads),
    Row::plain("threads/{}/messages", O::Threads),
    Row::plain("threads/{}/messages/{}", O::Threads),
    Row::plain("threads/{}/messages/{}/files", O::Threads),
    Row::plain("threads/{}/messages/{}/files/{}", O::Threads),
    Row::new("threads/{}/runs", O::Threads, OptionalBody),
    Row::plain("threads/{}/runs/{}", O::Threads),
    Row::plain("threads/{}/runs/{}/cancel", O::Threads),
    Row::plain("threads/{}/runs/{}/steps", O::Threads),
    Row::plain("threads/{}/runs/{}/steps/{}", O::Threads),
    Row::plain("threads/{}/runs/{}/submit_tool_outputs", O::Threads),
    Row::plain("uploads", O::Uploads),
    Row::plain("uploads/{}", O::Uploads),
    Row::plain("uploads/{}/cancel", O::Uploads),
    Row::plain("uploads/{}/complete", O::Uploads),
    Row::plain("uploads/{}/parts", O::Uploads),
    Row::plain("vector_stores", O::VectorStores),
    Row::plain("vector_stores/{}", O::VectorStores),
    Row::plain("vector_stores/{}/file_batches", O::VectorStores),
    Row::plain("vector_stores/{}/file_batches/{}", O::VectorStores),
    Row::plain("vector_stores/{}/file_batches/{}/cancel", O::VectorStores),
    Row::plain("vector_stores/{}/file_batches/{}/files", O::VectorStores),
    Row::plain("vector_stores/{}/files", O::VectorStores),
    Row::plain("vector_stores/{}/files/{}", O::VectorStores),
    Row::plain("vector_stores/{}/files/{}/content", O::VectorStores),
    Row::pure("vector_stores/{}/search", O::VectorStores, Nowhere),
    Row::new("video/generations/jobs", O::Videos, Body),
    Row::plain("video/generations/jobs/{}", O::Videos),
    Row::plain("video/generations/{}", O::Videos),
    Row::plain("video/generations/{}/content/thumbnail", O::Videos),
    Row::plain("video/generations/{}/content/video", O::Videos),
    Row::new("videos", O::Videos, DefaultBody),
    // A character is taken from a video that comes with it.
    Row::hidden("videos/characters", O::Videos),
    Row::plain("videos/characters/{}", O::Videos),
    // The video stands in the body.
    Row::new("videos/edits", O::Videos, Object),
    Row::new("videos/extensions", O::Videos, Object),
    Row::plain("videos/{}", O::Videos),
    Row::plain("videos/{}/content", O::Videos),
    Row::new("videos/{}/remix", O::Videos, Object),
];

/// Paths of a Foundry resource beside `/openai/`.
pub(super) const FOUNDRY: &[Row] = &[
    Row::pure("models/chat/completions", O::ChatCompletions, Body),
    Row::pure("models/embeddings", O::Embeddings, Body),
    Row::pure("models/images/embeddings", O::Embeddings, Body),
    Row::pure("models/images/generations", O::ImagesGenerations, Body),
    Row::new("models/info", O::Models, Query),
    Row::pure("anthropic/v1/messages", O::Messages, Body),
    Row::pure("anthropic/v1/messages/count_tokens", O::Messages, Body),
];
