//! Answers of a backend: heads and bodies in the shape that Azure gives them.

mod completions;
mod embeddings;
mod error;
mod media;
mod messages;
mod responses;
mod run;
mod stream;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

pub(super) use self::error::{
    deployment_not_found, foreign_content, invalid, model_not_found, not_found, of_status, previous_response_not_found,
    refused, throttled_for, unauthorized, unknown_object,
};
use self::stream::{Dialect, Events};
use super::call::{Inference, Operation};
use super::deployment::Deployment;
use super::fault::Fault;
use super::objects::{Family, Made};
use super::stream_error::StreamError;

/// An answer before it is sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) chunks: Vec<Bytes>,
    /// The length is not told beforehand.
    pub(super) streams: bool,
    pub(super) latency: Duration,
    /// Number of tokens that it took in the end.
    pub(super) used: u64,
    /// Of a stream of events: how many come before the first with content, and how it tells errors.
    events: Option<(usize, Dialect)>,
}

impl Answer {
    fn new(content_type: &'static str, chunks: Vec<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            headers: [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))].into_iter().collect(),
            chunks,
            streams: false,
            latency: Duration::ZERO,
            used: 0,
            events: None,
        }
    }

    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        Self { status, ..Self::new("application/json", vec![Bytes::from(body.to_string())]) }
    }

    pub(super) fn text(text: String) -> Self {
        Self::new("text/plain; charset=utf-8", vec![text.into()])
    }

    /// A body whose chunks go out one by one.
    fn streamed(content_type: &'static str, chunks: Vec<Bytes>) -> Self {
        Self { streams: true, ..Self::new(content_type, chunks) }
    }

    /// Takes what a fault says of it: the error that its stream tells, and its head and body.
    pub(super) fn suffer(&mut self, fault: Fault) {
        if let Some(error) = &fault.stream_error {
            self.fail(error);
        }
        self.overwrite(fault);
    }

    /// Breaks off with an error, when it is a stream of events.
    fn fail(&mut self, error: &StreamError) {
        let Some((preamble, dialect)) = &self.events else { return };
        let after = error.after.unwrap_or(*preamble).min(self.chunks.len().saturating_sub(1));
        self.chunks.truncate(after);
        self.chunks.extend(dialect.events_of(error, after));
    }

    /// Puts what a fault says of head and body in place of what stands there.
    fn overwrite(&mut self, fault: Fault) {
        for name in fault.headers.keys() {
            self.headers.remove(name);
        }
        for (name, value) in &fault.headers {
            self.headers.append(name, value.clone());
        }
        if let Some(body) = fault.body {
            self.chunks = vec![body];
        }
    }
}

impl From<Events> for Answer {
    fn from(Events { events, preamble, dialect }: Events) -> Self {
        let events_of = Some((preamble, dialect));
        Self { events: events_of, ..Self::streamed("text/event-stream; charset=utf-8", events) }
    }
}

pub(super) fn models<'a>(models: impl Iterator<Item = &'a str>) -> Answer {
    let data: Vec<_> = models
        .map(|model| json!({ "id": model, "object": "model", "status": "succeeded", "created_at": unix_time() }))
        .collect();
    Answer::json(StatusCode::OK, &json!({ "object": "list", "data": data }))
}

pub(super) fn object(object: &Value) -> Answer {
    Answer::json(StatusCode::OK, object)
}

/// A page of a list.
pub(super) fn list(objects: &[Value], has_more: bool) -> Answer {
    let id = |object: Option<&Value>| object.map(|object| object["id"].clone());
    let (first, last) = (id(objects.first()), id(objects.last()));
    let list = json!({ "object": "list", "data": objects, "first_id": first, "last_id": last, "has_more": has_more });
    object(&list)
}

pub(super) fn deleted(id: &str, kind: &str) -> Answer {
    object(&json!({ "id": id, "object": kind, "deleted": true }))
}

// ===== impl Reply =====

/// The answer to an inference, in which the model says `text`.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    inference: &'a Inference,
    deployment: &'a Deployment,
    /// The backend that makes it.
    maker: &'a str,
    /// Names what is made: ids of several families end in it.
    id: &'a str,
    text: &'a str,
    completion_tokens: u64,
    created: u64,
}

impl<'a> Reply<'a> {
    /// Made by a backend, and named.
    pub(super) fn new(
        inference: &'a Inference,
        deployment: &'a Deployment,
        (maker, id): (&'a str, &'a str),
        text: &'a str,
    ) -> Self {
        let completion_tokens = inference.completion_tokens(text);
        Self { inference, deployment, maker, id, text, completion_tokens, created: unix_time() }
    }

    pub(super) fn answer(&self) -> Answer {
        let whole = |body: &Value| Answer::json(StatusCode::OK, body);
        let mut answer: Answer = match (self.inference.operation, self.inference.streams()) {
            (Operation::AudioSpeech, _) => self.speech(),
            (Operation::AudioTranscriptions, true) => self.transcript_events().into(),
            (Operation::AudioTranscriptions | Operation::AudioTranslations, _) => self.transcript(),
            (Operation::ChatCompletions | Operation::Completions, false) => whole(&self.completion()),
            (Operation::ChatCompletions | Operation::Completions, true) => self.completion_events().into(),
            (Operation::Embeddings, _) => whole(&self.embeddings()),
            (Operation::ImagesEdits | Operation::ImagesGenerations, false) => whole(&self.images()),
            (Operation::ImagesEdits | Operation::ImagesGenerations, true) => self.image_events().into(),
            (Operation::Messages, false) => whole(&self.message()),
            (Operation::Messages, true) => self.message_events().into(),
            (Operation::Responses, false) => whole(&self.response()),
            (Operation::Responses, true) => self.response_events().into(),
            (Operation::Runs, false) => whole(&self.run("queued")),
            (Operation::Runs, true) => self.run_events().into(),
        };
        answer.latency = self.deployment.latency;
        answer.used = self.inference.prompt_tokens() + self.completion_tokens;
        answer
    }

    /// The objects that it leaves behind.
    pub(super) fn kept(&self) -> Vec<Made> {
        let store = self.inference.payload.flag("store");
        match self.inference.operation {
            Operation::ChatCompletions if store == Some(true) => {
                vec![Made::new(Family::ChatCompletion, self.completion())]
            }
            Operation::Responses if store != Some(false) => self.kept_response(),
            Operation::Runs => self.kept_run(),
            _ => Vec::new(),
        }
    }

    fn id(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.id)
    }

    fn words(&self) -> impl Iterator<Item = &'a str> {
        self.text.split_inclusive(' ')
    }

    /// As chat, completions, embeddings and runs tell it.
    fn usage(&self) -> Value {
        let prompt = self.inference.prompt_tokens();
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": self.completion_tokens,
            "total_tokens": prompt + self.completion_tokens,
            "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
            "completion_tokens_details": { "reasoning_tokens": 0, "audio_tokens": 0 },
        })
    }

    /// As Responses and images tell it.
    fn input_and_output(&self) -> Value {
        let input = self.inference.prompt_tokens();
        json!({
            "input_tokens": input,
            "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": self.completion_tokens,
            "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": input + self.completion_tokens,
        })
    }
}

pub(super) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
