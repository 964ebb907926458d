//! Reads from body and query the model, and whether the answer will be a stream.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, request::Parts};

use super::upload;
use crate::azure::further_names;
use crate::azure::json_text::may_have_word;
use crate::azure::media_type::{self, MediaType};
use crate::azure::object_id::References;
use crate::azure::operation::{ModelPlace, Operation};
use crate::azure::request_body::{self, BodyScan, Fields, ModelIn, ReadBodyError};
use crate::body::Body;
use crate::context::{NamePlace, Route, is_transcription};
use crate::error::{Error, ErrorKind, no_room};
use crate::headers::{parameter_at, query_parameters};

/// Refuses what two readers could take for two kinds of body, and writes a form's boundary in the one way that all read alike.
pub(super) fn check_kind(headers: &mut HeaderMap) -> Result<(), Error> {
    if headers.get_all(CONTENT_TYPE).iter().count() > 1 {
        return Err(Error::new(ErrorKind::AmbiguousRequest, "The request has two content-types. Send one."));
    }
    let kind = MediaType::of(headers).filter(MediaType::is_multipart);
    let plain = match kind.map(|kind| (kind.is_form(), kind.boundary())) {
        Some((_, Err(error))) if error.is_ambiguous() => return Err(unreadable(&error)),
        Some((true, Ok(boundary))) => media_type::form_with(boundary),
        _ => None,
    };
    if let Some(plain) = plain {
        headers.insert(CONTENT_TYPE, plain);
    }
    Ok(())
}

/// Scan for the model in a body that is too large to be held.
#[derive(Debug)]
pub(super) struct NameScan {
    pub(super) body: BodyScan,
    /// True if the body need not name one.
    pub(super) is_optional: bool,
}

/// Returns the scan for the model of a call that names it in its body.
pub(super) fn scan(headers: &HeaderMap, route: &Route) -> Result<Option<NameScan>, Error> {
    let place = route.model_place();
    if !matches!(place, ModelPlace::Body | ModelPlace::DefaultBody | ModelPlace::Object | ModelPlace::OptionalBody) {
        return Ok(None);
    }
    let form = MediaType::of(headers).filter(MediaType::is_form);
    let body = match form {
        Some(form) => BodyScan::form(form.boundary().map_err(|error| unreadable(&error))?),
        None => BodyScan::json(),
    };
    let is_optional = matches!(place, ModelPlace::Object | ModelPlace::OptionalBody) || route.alias().is_some();
    Ok(Some(NameScan { body, is_optional }))
}

/// Tells whether ids of objects can stand in the body.
pub(super) fn may_refer(headers: &HeaderMap, route: &Route) -> bool {
    if MediaType::of(headers).is_some_and(|kind| kind.is_form()) {
        return References::are_in_forms_of(route.operation());
    }
    References::are_defined_for(route.operation())
}

/// Completes a route with what body and query say, and the headers with what the body was read as. `found` is what was seen of
/// a body that is not held whole; `limit` is how much of a body is collected.
pub(super) fn complete(
    parts: &mut Parts,
    route: Route,
    body: &Body,
    found: Option<Fields>,
    limit: usize,
) -> Result<Route, Error> {
    match route.model_place() {
        place @ (ModelPlace::Body
        | ModelPlace::DefaultBody
        | ModelPlace::Object
        | ModelPlace::OptionalBody
        | ModelPlace::Session) => named_in_body(parts, route, place, body, found, limit),
        ModelPlace::Query => named_in_query(parts, route),
        _ => {
            let streaming = asks_for_stream(parts, &route, body);
            Ok(route.with_streaming(streaming))
        }
    }
}

// ===== body =====

fn named_in_body(
    parts: &mut Parts,
    route: Route,
    place: ModelPlace,
    body: &Body,
    found: Option<Fields>,
    limit: usize,
) -> Result<Route, Error> {
    let kind = MediaType::of(&parts.headers);
    // The offer of a WebRTC session says nothing of a model.
    let is_offer = place == ModelPlace::Session && kind.is_some_and(|kind| kind.is("application/sdp"));
    let may_lack = matches!(place, ModelPlace::Object | ModelPlace::OptionalBody | ModelPlace::Session);
    if is_offer || may_lack && body.as_bytes().is_some_and(|bytes| bytes.is_empty()) {
        return Ok(route);
    }
    let form = kind.filter(MediaType::is_form);
    let boundary = form.map(|form| form.boundary()).transpose().map_err(|error| unreadable(&error))?;
    let is_part = found.is_some();
    let mut fields = match (found, body.as_bytes()) {
        (Some(fields), _) => fields,
        (None, None) => return Err(upload::not_collected(body, limit)),
        (None, Some(bytes)) => read(bytes, boundary, place).map_err(|error| unreadable(&error))?,
    };
    // A transcription session has no model but that of its transcription.
    if let (None, Operation::Realtime, Some(bytes)) = (&fields.model, route.operation(), body.as_bytes()) {
        fields.model =
            further_names::find_session(boundary, bytes).map_err(|error| unreadable(&error))?.into_iter().next();
    }
    let is_form = boundary.is_some() && place != ModelPlace::Session;
    let sent_as = boundary.map_or(Some(JSON), media_type::form_with);
    let has_session = boundary.is_none() || is_form || fields.model.is_some();
    let is_agents = fields.refers_to_agent && route.operation() == Operation::Responses;
    let is_unnamed = fields.model.is_none() && !is_agents && route.alias().is_none();
    if is_unnamed && place == ModelPlace::Body {
        return Err(Error::no_model());
    }
    let has_place = !is_part || fields.opening.at > 0 && !fields.opening.is_empty;
    if fields.model.is_none() && route.alias().is_some() && !is_form && !has_place {
        return Err(no_room());
    }
    // Nobody behind shall read it as anything else.
    parts.headers.insert(CONTENT_TYPE, sent_as.ok_or_else(|| unreadable_because("its boundary cannot be sent on"))?);
    let route = if is_unnamed && place == ModelPlace::DefaultBody { route.without_model() } else { route };
    let route = if is_agents { route.of_agent() } else { route };
    if has_session { Ok(with_fields(route, fields, is_form)) } else { Ok(route) }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn read(body: &[u8], boundary: Option<&str>, place: ModelPlace) -> Result<Fields, ReadBodyError> {
    match boundary {
        Some(boundary) if place == ModelPlace::Session => {
            let (start, session) = request_body::session_part(Some(boundary), body)?;
            match session {
                b"" => Ok(Fields::default()),
                session => Ok(request_body::read_json(session, ModelIn::Object)?.moved_by(start)),
            }
        }
        Some(boundary) => request_body::read_form_with(boundary, body),
        None if place == ModelPlace::Session => request_body::read_json(body, ModelIn::Session),
        None => request_body::read_json(body, ModelIn::Object),
    }
}

fn with_fields(mut route: Route, fields: Fields, is_form: bool) -> Route {
    route = route.with_streaming(fields.streams);
    if fields.keeps && route.operation() == Operation::Responses {
        route = route.that_creates();
    }
    match fields.model {
        Some(model) if is_form => route.with_name(Some(model.name), NamePlace::Form(model.span)),
        Some(model) => route.with_name(Some(model.name), NamePlace::Json(model.span)),
        None if route.alias().is_some() && is_form => route.with_name(None, NamePlace::FormPart),
        None if route.alias().is_some() => route.with_name(None, NamePlace::JsonMember(fields.opening)),
        None => route,
    }
}

pub(super) fn unreadable(error: &ReadBodyError) -> Error {
    if error.is_ambiguous() {
        return Error::new(ErrorKind::AmbiguousRequest, format!("The body cannot be read in one way only: {error}."));
    }
    unreadable_because(&error.to_string())
}

fn unreadable_because(problem: &str) -> Error {
    Error::new(ErrorKind::InvalidBody, format!("The body cannot be used: {problem}."))
}

fn is_json(headers: &HeaderMap) -> bool {
    MediaType::of(headers).is_some_and(|kind| kind.is_json())
}

// ===== query =====

fn named_in_query(parts: &Parts, route: Route) -> Result<Route, Error> {
    let query = parts.uri.query().unwrap_or_default();
    let mut named = query_parameters(query)
        .filter(|(name, ..)| ["model", "deployment"].iter().any(|known| name.eq_ignore_ascii_case(known)));
    match (named.next(), named.next()) {
        (None, _) => Ok(route),
        (Some((_, alias, span)), None) => {
            // Azure takes no name beside this intent.
            let place = if is_transcription(query) {
                NamePlace::Hint(parameter_at(query, &span))
            } else {
                NamePlace::Query(span)
            };
            Ok(route.with_name(Some(alias.into_owned()), place))
        }
        (Some(_), Some(_)) => {
            Err(Error::new(ErrorKind::AmbiguousRequest, "The query names the deployment twice. Name it once."))
        }
    }
}

// ===== streaming =====

/// Tells whether the client asks for a stream. What cannot be read does not: the backend answers for it.
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

fn body_asks_for_stream(body: &Body) -> bool {
    let Some(bytes) = body.as_bytes() else { return false };
    may_have_word(bytes, &["stream"])
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
