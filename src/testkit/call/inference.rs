//! Calls of a deployment.

use http::Method;
use serde_json::Value;

use super::is_post;
use super::payload::Payload;

/// The version that v1 paths imply.
pub(super) const V1: &str = "v1";

#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Inference {
    pub(in super::super) operation: Operation,
    pub(in super::super) api_version: String,
    /// The deployment, or `None` where the body should name one and does not.
    pub(in super::super) deployment: Option<String>,
    /// The thread that a run is for; without one, the run makes its own.
    pub(in super::super) thread: Option<String>,
    pub(in super::super) payload: Payload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Operation {
    AudioSpeech,
    AudioTranscriptions,
    AudioTranslations,
    ChatCompletions,
    Completions,
    Embeddings,
    ImagesEdits,
    ImagesGenerations,
    Messages,
    Responses,
    Runs,
}

impl Operation {
    /// The operation, and the thread that its path names.
    pub(super) fn read(method: &Method, path: &[&str]) -> Option<(Self, Option<String>)> {
        let operation = match path {
            ["audio", "speech"] => Self::AudioSpeech,
            ["audio", "transcriptions"] => Self::AudioTranscriptions,
            ["audio", "translations"] => Self::AudioTranslations,
            ["chat", "completions"] => Self::ChatCompletions,
            ["completions"] => Self::Completions,
            ["embeddings"] => Self::Embeddings,
            ["images", "edits"] => Self::ImagesEdits,
            ["images", "generations"] => Self::ImagesGenerations,
            ["messages"] => Self::Messages,
            ["responses"] => Self::Responses,
            ["threads", "runs"] | ["threads", _, "runs"] => Self::Runs,
            _ => return None,
        };
        let thread = match path {
            ["threads", thread, "runs"] => Some((*thread).to_owned()),
            _ => None,
        };
        is_post(method).then_some((operation, thread))
    }

    /// Tells whether its classic path names a deployment.
    pub(super) const fn belongs_to_a_deployment(self) -> bool {
        !matches!(self, Self::Messages | Self::Responses | Self::Runs)
    }

    pub(in super::super) const fn takes_a_form(self) -> bool {
        matches!(self, Self::AudioTranscriptions | Self::AudioTranslations | Self::ImagesEdits)
    }

    /// Tells whether the answer is what the assistant says.
    const fn writes(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions | Self::Messages | Self::Responses | Self::Runs)
    }

    /// Tells whether the answer may be a stream of events.
    const fn may_stream(self) -> bool {
        let makes_events = matches!(self, Self::AudioTranscriptions | Self::ImagesEdits | Self::ImagesGenerations);
        self.writes() || makes_events
    }

    pub(in super::super) const fn id_prefix(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chatcmpl-",
            Self::Messages => "msg_",
            Self::Responses => "resp_",
            Self::Runs => "run_",
            _ => "cmpl-",
        }
    }

    /// The name of the operation in Azure's messages.
    pub(in super::super) const fn id(self) -> &'static str {
        match self {
            Self::AudioSpeech => "Speech_Create",
            Self::AudioTranscriptions => "Transcriptions_Create",
            Self::AudioTranslations => "Translations_Create",
            Self::ChatCompletions => "ChatCompletions_Create",
            Self::Completions => "Completions_Create",
            Self::Embeddings => "Embeddings_Create",
            Self::ImagesEdits => "ImageEdits_Create",
            Self::ImagesGenerations => "ImageGenerations_Create",
            Self::Messages => "Messages_Create",
            Self::Responses => "Responses_Create",
            Self::Runs => "Runs_Create",
        }
    }

    /// The field that holds the prompt; no request goes without it.
    pub(in super::super) const fn input(self) -> &'static str {
        match self {
            Self::AudioSpeech | Self::Embeddings | Self::Responses => "input",
            Self::AudioTranscriptions | Self::AudioTranslations => "file",
            Self::ChatCompletions | Self::Messages => "messages",
            Self::Completions | Self::ImagesEdits | Self::ImagesGenerations => "prompt",
            Self::Runs => "assistant_id",
        }
    }
}

impl Inference {
    pub(in super::super) fn is_v1(&self) -> bool {
        self.api_version == V1
    }

    pub(in super::super) fn is_readable(&self) -> bool {
        self.payload.is_readable() && self.payload.is_form() == self.operation.takes_a_form()
    }

    /// The assistant that a run is of.
    pub(in super::super) fn assistant(&self) -> Option<&str> {
        self.payload.text("assistant_id").filter(|_| self.operation == Operation::Runs)
    }

    pub(in super::super) fn input(&self) -> Option<&Value> {
        self.payload.field(self.operation.input())
    }

    pub(in super::super) fn prompt_tokens(&self) -> u64 {
        self.input().map_or(0, characters).div_ceil(4)
    }

    /// Returns what an answer of this text costs.
    pub(in super::super) fn completion_tokens(&self, text: &str) -> u64 {
        if !self.operation.writes() {
            return 0;
        }
        (text.chars().count() as u64).div_ceil(4).min(self.max_tokens().unwrap_or(u64::MAX))
    }

    /// Returns what the request is reckoned to cost when it is admitted: Azure reckons with 16 tokens for an answer whose length
    /// the request does not limit.
    pub(in super::super) fn estimate(&self) -> u64 {
        let unlimited = if self.operation.writes() { 16 } else { 0 };
        self.prompt_tokens().saturating_add(self.max_tokens().unwrap_or(unlimited))
    }

    fn max_tokens(&self) -> Option<u64> {
        let names = ["max_completion_tokens", "max_output_tokens", "max_tokens"];
        names.iter().find_map(|name| self.payload.field(name)?.as_u64())
    }

    pub(in super::super) fn streams(&self) -> bool {
        // A form has it as a text.
        let in_form = self.payload.is_form() && self.payload.text("stream") == Some("true");
        let asks = self.payload.flag("stream") == Some(true) || in_form;
        self.operation.may_stream() && asks
    }

    pub(in super::super) fn wants_usage(&self) -> bool {
        let options = self.payload.field("stream_options");
        options.and_then(|options| options.get("include_usage")?.as_bool()) == Some(true)
    }
}

/// The characters of every text in a prompt. A prompt may be given as token numbers, which count as four each.
fn characters(prompt: &Value) -> u64 {
    match prompt {
        Value::Array(parts) => parts.iter().map(characters).sum(),
        Value::Number(_) => 4,
        Value::Object(part) => ["content", "text"].iter().filter_map(|name| part.get(*name)).map(characters).sum(),
        Value::String(text) => text.chars().count() as u64,
        Value::Bool(_) | Value::Null => 0,
    }
}
