//! What the body says of streaming.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, request::Parts};
use memchr::memmem;
use serde::Deserialize;

use crate::azure::operation::Operation;
use crate::body::Body;
use crate::context::Route;

/// The only field that is read; everything else is skipped without being built.
#[derive(Deserialize)]
struct Peek {
    #[serde(default)]
    stream: Option<bool>,
}

/// Whether the client asks for a stream. What cannot be read does not: the backend answers for it.
pub(super) fn is_asked_for(parts: &Parts, route: &Route, body: &Body) -> bool {
    let readable = parts.method == Method::POST && may_stream(route.operation()) && is_json(&parts.headers);
    let Some(bytes) = body.as_bytes().filter(|_| readable) else { return false };
    // Most bodies do not have the word at all, plain or with an escape in it, which is much quicker to see than to parse.
    [&b"\"stream\""[..], b"\\u00"].iter().any(|word| memmem::find(bytes, word).is_some())
        && serde_json::from_slice::<Peek>(bytes).is_ok_and(|peek| peek.stream == Some(true))
}

const fn may_stream(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::ChatCompletions
            | Operation::Completions
            | Operation::ImagesEdits
            | Operation::ImagesGenerations
            | Operation::Other
            | Operation::Responses
            | Operation::Threads
    )
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}
