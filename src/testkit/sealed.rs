//! Content that only the backend reads that made it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::call::Payload;

/// Beginning of content that is sealed.
const MARK: &str = "gAAAA";

/// A content that only the backend of this name reads, different for every `id`.
pub(super) fn seal(backend: &str, id: &str) -> String {
    format!("{MARK}{}", STANDARD.encode(format!("{backend}\n{id}")))
}

/// Tells whether an answer is to carry its reasoning along, sealed.
pub(super) fn is_asked_for(payload: &Payload) -> bool {
    let included = payload.field("include").and_then(Value::as_array);
    included.is_some_and(|included| included.iter().any(|name| name == "reasoning.encrypted_content"))
}

/// Tells whether the input of a request carries content that the backend of this name did not make.
pub(super) fn is_foreign(backend: &str, payload: &Payload) -> bool {
    let items = payload.field("input").and_then(Value::as_array);
    let mut contents = items.into_iter().flatten().filter_map(|item| item.get("encrypted_content")?.as_str());
    contents.any(|content| !content.is_empty() && !reads(backend, content))
}

fn reads(backend: &str, content: &str) -> bool {
    let opened = content.strip_prefix(MARK).and_then(|rest| STANDARD.decode(rest).ok());
    opened.is_some_and(|opened| opened.strip_prefix(backend.as_bytes()).is_some_and(|rest| rest.starts_with(b"\n")))
}
