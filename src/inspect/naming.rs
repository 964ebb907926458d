//! What body and query say: the model, and whether the answer will be a stream.

use std::sync::LazyLock;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, request::Parts};
use memchr::memmem::Finder;

use super::upload;
use crate::azure::operation::{ModelPlace, Operation};
use crate::azure::request_body::{self, Fields, ModelIn, ReadBodyError};
use crate::body::Body;
use crate::context::{NamePlace, Route};
use crate::error::{Error, ErrorKind};
use crate::headers::query_parameters;

/// Completes a route with what body and query say. `limit` is how much of a body is collected.
pub(super) fn complete(parts: &Parts, route: Route, body: &Body, limit: usize) -> Result<Route, Error> {
    match route.model_place() {
        place @ (ModelPlace::Body | ModelPlace::OptionalBody | ModelPlace::Session) => {
            named_in_body(parts, route, place, readable(&parts.headers, body, limit)?)
        }
        ModelPlace::Query => named_in_query(parts, route),
        _ => {
            let streaming = asks_for_stream(parts, &route, body);
            Ok(route.with_streaming(streaming))
        }
    }
}

// ===== body =====

fn readable<'a>(headers: &HeaderMap, body: &'a Body, limit: usize) -> Result<&'a [u8], Error> {
    let encodings = headers.get_all(CONTENT_ENCODING);
    if encodings.iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Error::new(
            ErrorKind::UnsupportedEncoding,
            "The body names the deployment, so it must be read: send it without a content-encoding.",
        ));
    }
    body.as_bytes().map(|bytes| &**bytes).ok_or_else(|| upload::not_collected(body, limit))
}

fn named_in_body(parts: &Parts, route: Route, place: ModelPlace, body: &[u8]) -> Result<Route, Error> {
    if body.is_empty() && place == ModelPlace::OptionalBody {
        return Ok(route);
    }
    if parts.headers.get_all(CONTENT_TYPE).iter().count() > 1 {
        return Err(Error::new(ErrorKind::AmbiguousRequest, "The request has two content-types. Send one."));
    }
    let form = content_type(&parts.headers).filter(|_| place != ModelPlace::Session && is_form(&parts.headers));
    let model_in = if place == ModelPlace::Session { ModelIn::Session } else { ModelIn::Object };
    let read = match form {
        Some(content_type) => request_body::read_form(content_type, body),
        None => request_body::read_json(body, model_in),
    };
    let fields = read.map_err(|error| unreadable(&error))?;
    if fields.model.is_none() && place == ModelPlace::Body && (route.alias().is_none() || form.is_some()) {
        return Err(unreadable_because("it has no `model`, which names the deployment"));
    }
    Ok(with_fields(route, fields, form.is_some()))
}

fn with_fields(mut route: Route, fields: Fields, is_form: bool) -> Route {
    route = route.with_streaming(fields.streams);
    if fields.keeps && route.operation() == Operation::Responses {
        route = route.that_creates();
    }
    match fields.model {
        Some(model) if is_form => route.with_name(Some(model.name), NamePlace::Form(model.span)),
        Some(model) => route.with_name(Some(model.name), NamePlace::Json(model.span)),
        None if route.alias().is_some() && !is_form => route.with_name(None, NamePlace::JsonMember(fields.opening)),
        None => route,
    }
}

fn unreadable(error: &ReadBodyError) -> Error {
    unreadable_because(&error.to_string())
}

fn unreadable_because(problem: &str) -> Error {
    Error::new(ErrorKind::InvalidBody, format!("The body cannot be used: {problem}."))
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}

fn essence(headers: &HeaderMap) -> &str {
    let value = content_type(headers).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn is_form(headers: &HeaderMap) -> bool {
    essence(headers).eq_ignore_ascii_case("multipart/form-data")
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some((kind, form)) = essence(headers).split_once('/') else { return false };
    let suffix = form.rsplit_once('+').map_or(form, |(_, suffix)| suffix);
    kind.eq_ignore_ascii_case("application") && suffix.eq_ignore_ascii_case("json")
}

// ===== query =====

fn named_in_query(parts: &Parts, route: Route) -> Result<Route, Error> {
    let query = parts.uri.query().unwrap_or_default();
    let mut named = query_parameters(query)
        .filter(|(name, ..)| ["model", "deployment"].iter().any(|known| name.eq_ignore_ascii_case(known)));
    match (named.next(), named.next()) {
        (None, _) => Ok(route),
        (Some((_, alias, span)), None) => Ok(route.with_name(Some(alias.into_owned()), NamePlace::Query(span))),
        (Some(_), Some(_)) => {
            Err(Error::new(ErrorKind::AmbiguousRequest, "The query names the deployment twice. Name it once."))
        }
    }
}

// ===== streaming =====

/// Whether the client asks for a stream. What cannot be read does not: the backend answers for it.
fn asks_for_stream(parts: &Parts, route: &Route, body: &Body) -> bool {
    match parts.method {
        // A stored response can be followed as a stream.
        Method::GET => route.operation() == Operation::Responses && query_asks_for_stream(parts),
        Method::POST => may_stream(route.operation()) && is_json(&parts.headers) && body_asks_for_stream(body),
        _ => false,
    }
}

fn query_asks_for_stream(parts: &Parts) -> bool {
    query_parameters(parts.uri.query().unwrap_or_default()).any(|(name, value, _)| name == "stream" && value == "true")
}

static STREAM: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"stream\""));
static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\u00"));

fn body_asks_for_stream(body: &Body) -> bool {
    let Some(bytes) = body.as_bytes() else { return false };
    // Most bodies do not have the word at all, plain or with an escape in it, which is much quicker to see than to parse.
    [&STREAM, &ESCAPE].iter().any(|word| word.find(bytes).is_some())
        && request_body::read_json(bytes, ModelIn::Object).is_ok_and(|fields| fields.streams)
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
