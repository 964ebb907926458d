//! Server-sent events, and how each API breaks a stream off.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::stream_error::{Shape, StreamError};

/// A stream before it is sent.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) events: Vec<Bytes>,
    /// Number of events before the first with content.
    pub(super) preamble: usize,
    pub(super) dialect: Dialect,
}

/// Dialect in which an API tells errors.
#[derive(Debug)]
pub(in super::super) enum Dialect {
    Assistants,
    Completions,
    /// With the response as it is while it is made.
    Responses(Value),
}

pub(super) fn data(data: &Value) -> Bytes {
    format!("data: {data}\n\n").into()
}

pub(super) fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// An event of the Responses API, which says its name and its number in its data too.
pub(super) fn numbered(name: &str, number: usize, mut data: Value) -> Bytes {
    data["type"] = name.into();
    data["sequence_number"] = number.into();
    event(name, &data)
}

impl Dialect {
    /// Returns what stands in a stream after `number` other events when this error ends it.
    pub(super) fn events_of(&self, error: &StreamError, number: usize) -> Vec<Bytes> {
        let StreamError { kind, code, param, message, shape, .. } = error;
        let details = json!({ "type": kind, "code": code, "message": message, "param": param });
        match (self, shape) {
            (Self::Completions, _) => vec![data(&json!({ "error": details }))],
            (Self::Assistants, shape) => {
                let details = if *shape == Shape::Flat { details } else { json!({ "error": details }) };
                vec![event("error", &details), super::run::done()]
            }
            (Self::Responses(_), Shape::Flat) => vec![numbered("error", number, details)],
            (Self::Responses(_), Shape::Nested) => vec![from_front_end(details, number)],
            (Self::Responses(response), Shape::Failure) => {
                vec![failed(response, json!({ "code": code, "message": message }), number)]
            }
            (Self::Responses(response), Shape::BareFailureFirst) => {
                vec![failed(response, Value::Null, number), from_front_end(details, number + 1)]
            }
        }
    }
}

fn from_front_end(mut details: Value, number: usize) -> Bytes {
    details["headers"] = json!({ "x-ms-fe-error": "true" });
    numbered("error", number, json!({ "error": details }))
}

fn failed(response: &Value, error: Value, number: usize) -> Bytes {
    let mut response = response.clone();
    response["status"] = "failed".into();
    response["error"] = error;
    numbered("response.failed", number, json!({ "response": response }))
}
