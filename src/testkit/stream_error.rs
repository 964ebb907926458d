//! Errors that are told inside a stream.

use std::time::Duration;

use super::limits::whole_seconds;

/// An error that a stream tells after its head said 200. See [`Fault::stream_error`](super::Fault::stream_error).
///
/// By default it takes the place of the first event with content, and is told as Azure tells it:
///
/// * chat and completions: an event with a top-level `error` object in place of `choices`;
/// * Responses: an `error` event with the details nested under `error`;
/// * Assistants runs: an `error` event with the details nested under `error`, and then `done`.
///
/// Nothing follows it, not even the end mark.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct StreamError {
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    pub(super) param: Option<String>,
    pub(super) message: String,
    pub(super) shape: Shape,
    pub(super) after: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    BareFailureFirst,
    Failure,
    Flat,
    Nested,
}

impl StreamError {
    /// An error of this `type` and `code`.
    pub fn new(kind: impl Into<String>, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: Some(kind.into()),
            code: Some(code.into()),
            param: None,
            message: message.into(),
            shape: Shape::Nested,
            after: None,
        }
    }

    /// The content filter objects to the prompt.
    pub fn content_filter() -> Self {
        let message =
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.";
        let param = Some("prompt".to_owned());
        Self { kind: None, param, ..Self::new("", "content_filter", message) }
    }

    /// The model is out of capacity.
    pub fn high_demand() -> Self {
        let message = "The system is currently experiencing high demand and cannot process your request.";
        Self::new("server_error", "service_unavailable", message)
    }

    /// The model failed.
    pub fn server_error() -> Self {
        Self::new("server_error", "server_error", "The server had an error while processing your request.")
    }

    /// The rate limit is exceeded, and the error does not say for how long. Azure may say it in the
    /// [head](super::Fault::header) of such a stream.
    pub fn throttled() -> Self {
        Self::new("too_many_requests", "rate_limit_exceeded", "Rate limit is exceeded.")
    }

    /// The rate limit is exceeded, and the message says for how long.
    pub fn throttled_for(wait: Duration) -> Self {
        let message = format!("Rate limit is exceeded. Try again in {} seconds.", whole_seconds(wait));
        Self { message, ..Self::throttled() }
    }

    /// Comes after so many events of the stream, content or not, at the latest before the last one.
    pub const fn after_events(mut self, events: usize) -> Self {
        self.after = Some(events);
        self
    }

    /// The shape that OpenAI documents: `code`, `message` and `param` at the top level of an `error` event. Chat and
    /// completions know no other shape than their own.
    pub const fn flat(mut self) -> Self {
        self.shape = Shape::Flat;
        self
    }

    /// Responses only: a `response.failed` event that carries the error, and no `error` event.
    pub const fn as_failure(mut self) -> Self {
        self.shape = Shape::Failure;
        self
    }

    /// Responses only: first a `response.failed` event whose `error` is null, and then the `error` event.
    pub const fn after_bare_failure(mut self) -> Self {
        self.shape = Shape::BareFailureFirst;
        self
    }
}
