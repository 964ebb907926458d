//! Whether the client asked for a stream.

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method};
use memchr::memmem;
use serde::Deserialize;

use crate::azure::operation::Operation;
use crate::body::Body;
use crate::context::Route;

#[derive(Deserialize)]
struct Asked {
    stream: Option<bool>,
}

/// Reads `stream` at the top level of a JSON body. A body that cannot be read is the backend's to refuse.
pub(super) fn is_asked(head: &Parts, route: &Route, body: &Body) -> bool {
    let Some(bytes) = body.as_bytes().filter(|_| can_stream(head, route)) else { return false };
    // Most bodies do not have the word at all, which is much quicker to see than to parse them.
    memmem::find(bytes, b"\"stream\"").is_some()
        && serde_json::from_slice::<Asked>(bytes).is_ok_and(|asked| asked.stream == Some(true))
}

fn can_stream(head: &Parts, route: &Route) -> bool {
    let operation = route.operation();
    let streams = [Operation::ChatCompletions, Operation::Completions, Operation::Responses, Operation::Threads];
    head.method == Method::POST && streams.contains(&operation) && head.headers.get(CONTENT_TYPE).is_some_and(is_json)
}

fn is_json(content_type: &HeaderValue) -> bool {
    let text = content_type.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
}
