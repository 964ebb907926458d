//! The families of the API by name.

/// The API family that a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `assistants`.
    Assistants,
    /// `audio/speech`.
    AudioSpeech,
    /// `audio/transcriptions`.
    AudioTranscriptions,
    /// `audio/translations`.
    AudioTranslations,
    /// `audio/voices` and the consents to them.
    AudioVoices,
    /// `batches`.
    Batches,
    /// `chat/completions`, stored completions and the older `extensions/chat/completions`.
    ChatCompletions,
    /// `chatkit`, its sessions and threads.
    ChatKit,
    /// `completions`.
    Completions,
    /// `containers`.
    Containers,
    /// `content_provenance_checks`.
    ContentProvenance,
    /// `conversations`.
    Conversations,
    /// `embeddings`.
    Embeddings,
    /// `evals`.
    Evals,
    /// `files`.
    Files,
    /// `fine_tuning`.
    FineTuning,
    /// `images/edits`.
    ImagesEdits,
    /// `images/generations`.
    ImagesGenerations,
    /// `images/variations`.
    ImagesVariations,
    /// `ingestion` of documents for search.
    Ingestion,
    /// `/anthropic/v1/messages` of a Foundry resource.
    Messages,
    /// `models`.
    Models,
    /// `moderations`.
    Moderations,
    /// A path below the API prefix that this crate does not know; it is passed on like any other.
    Other,
    /// `realtime`, its calls, client secrets and the older `realtimeapi/sessions`.
    Realtime,
    /// `responses`.
    Responses,
    /// `skills`, with versions.
    Skills,
    /// `threads`, with messages, runs and steps.
    Threads,
    /// `uploads`.
    Uploads,
    /// `vector_stores`.
    VectorStores,
    /// `videos` and the older `video/generations`.
    Videos,
}

impl Operation {
    /// A stable name for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assistants => "assistants",
            Self::AudioSpeech => "audio_speech",
            Self::AudioTranscriptions => "audio_transcriptions",
            Self::AudioTranslations => "audio_translations",
            Self::AudioVoices => "audio_voices",
            Self::Batches => "batches",
            Self::ChatCompletions => "chat_completions",
            Self::ChatKit => "chatkit",
            Self::Completions => "completions",
            Self::Containers => "containers",
            Self::ContentProvenance => "content_provenance",
            Self::Conversations => "conversations",
            Self::Embeddings => "embeddings",
            Self::Evals => "evals",
            Self::Files => "files",
            Self::FineTuning => "fine_tuning",
            Self::ImagesEdits => "images_edits",
            Self::ImagesGenerations => "images_generations",
            Self::ImagesVariations => "images_variations",
            Self::Ingestion => "ingestion",
            Self::Messages => "messages",
            Self::Models => "models",
            Self::Moderations => "moderations",
            Self::Other => "other",
            Self::Realtime => "realtime",
            Self::Responses => "responses",
            Self::Skills => "skills",
            Self::Threads => "threads",
            Self::Uploads => "uploads",
            Self::VectorStores => "vector_stores",
            Self::Videos => "videos",
        }
    }
}
