//! Answers of the admin listener, none of which is worth keeping.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;
use tower_azure_openai::body::Body;

pub(super) fn text(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", text.into())
}

pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    answer(status, "application/json", Body::from(format!("{value:#}\n")))
}

/// Something to be saved under a name.
pub(super) fn file(name: &'static str, content: Vec<u8>) -> Response<Body> {
    let mut answer = answer(StatusCode::OK, "application/octet-stream", Body::from(content));
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{name}\""));
    disposition.into_iter().for_each(|value| _ = answer.headers_mut().insert(CONTENT_DISPOSITION, value));
    answer
}

pub(super) fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, Body::empty());
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn answer(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
