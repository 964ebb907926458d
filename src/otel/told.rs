//! Names by which a request is told of: from the configuration and from the conventions, nothing that a client wrote.

use std::sync::Arc;

use http::Method;

use crate::azure::operation::{ModelPlace, Operation};
use crate::context::{Client, Ending, Record, Route};
use crate::pool::Target;

/// The name that the conventions have for Azure OpenAI.
pub(super) const PROVIDER: &str = "azure.ai.openai";

/// One call: its client, what was asked for, and who served it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Call {
    /// As the conventions name it, else by its own name.
    pub(super) operation: &'static str,
    pub(super) model: Option<Arc<str>>,
    pub(super) client: Option<Arc<str>>,
    pub(super) backend: Option<Arc<str>>,
}

/// The reason for which something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Failure {
    Status(u16),
    Named(&'static str),
}

impl Call {
    pub(super) fn new(route: &Route, client: Option<&Client>, target: Option<&Target>) -> Self {
        let operation = route.operation();
        Self {
            operation: named(operation).unwrap_or(operation.as_str()),
            model: target.and_then(Target::shared_alias),
            client: client.map(Client::shared_id),
            backend: target.map(Target::backend_name),
        }
    }
}

impl Failure {
    pub(super) fn of(record: &Record) -> Option<Self> {
        let status = record.status.map(|status| status.as_u16());
        match (status, record.ending) {
            (Some(status @ 400..), _) => Some(Self::Status(status)),
            (_, Ending::Broken | Ending::Failed) | (None, _) => Some(Self::Named(record.ending.as_str())),
            _ => None,
        }
    }

    /// Tells the server's failures from those of a client, which are none of its span.
    pub(super) fn is_of_server(self) -> bool {
        match self {
            Self::Status(status) => status >= 500,
            Self::Named(name) => name != Ending::Left.as_str(),
        }
    }

    pub(super) fn with_name<T>(self, told: impl FnOnce(&str) -> T) -> T {
        match self {
            Self::Status(status) => {
                told(http::StatusCode::from_u16(status).as_ref().map_or("", http::StatusCode::as_str))
            }
            Self::Named(name) => told(name),
        }
    }
}

/// The name that the conventions have for what a request has generated; what it only reads, or calls off, was generated before.
pub(super) fn generates(record: &Record) -> Option<&'static str> {
    let route = record.route.as_ref().filter(|_| record.method == Method::POST)?;
    let names_model = !matches!(route.model_place(), ModelPlace::Elsewhere | ModelPlace::Nowhere);
    named(route.operation()).filter(|_| names_model)
}

const fn named(operation: Operation) -> Option<&'static str> {
    match operation {
        Operation::ChatCompletions | Operation::Messages | Operation::Responses => Some("chat"),
        Operation::Completions => Some("text_completion"),
        Operation::Embeddings => Some(EMBEDDINGS),
        Operation::AudioSpeech
        | Operation::AudioTranscriptions
        | Operation::AudioTranslations
        | Operation::ImagesEdits
        | Operation::ImagesGenerations
        | Operation::ImagesVariations => Some("generate_content"),
        _ => None,
    }
}

pub(super) const EMBEDDINGS: &str = "embeddings";

/// Those that a client makes up are one.
pub(super) fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 8] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY"];
    KNOWN.into_iter().find(|known| method == known).unwrap_or("_OTHER")
}
