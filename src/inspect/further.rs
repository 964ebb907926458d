//! Names that a request has beside the deployment that answers it.

use http::request::Parts;
use http::{HeaderMap, Method};
use serde::de::IgnoredAny;

use super::naming::unreadable;
use super::unread::{self, Scan};
use crate::azure::batch_file::{self, BatchFileError, BatchScan, Named};
use crate::azure::media_type::MediaType;
use crate::azure::operation::{ModelPlace, Operation};
use crate::azure::request_body::Model;
use crate::azure::{further_names, source};
use crate::body::Body;
use crate::context::{Client, FurtherName, FurtherPlace, NamePlace, Route};
use crate::error::{Error, ErrorKind};
use crate::headers::IMAGE_DEPLOYMENT;

/// Bytes of a large file that are held to see what its first lines name.
const FIRST_LINES: usize = 1 << 20;

/// Parts of a body that can name deployments beside the alias.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Names {
    /// The lines of a file of requests, in a form.
    Lines,
    Json,
    /// The session in a form that begins a realtime call.
    Session,
    /// None, but it may say that models come with something that nobody reads.
    Source,
}

fn names_in(method: &Method, headers: &HeaderMap, route: &Route) -> Option<Names> {
    if method != Method::POST {
        return None;
    }
    let is_form = MediaType::of(headers).is_some_and(|kind| kind.is_form());
    match route.operation() {
        Operation::Files if is_form => Some(Names::Lines),
        Operation::Batches | Operation::Files | Operation::Uploads if route.object_ids().len() == 0 => {
            Some(Names::Source)
        }
        Operation::Realtime if is_form => Some(Names::Session),
        operation if further_names::may_name(operation) && !is_form => Some(Names::Json),
        _ => None,
    }
}

/// Returns how much of a body above `limit` is held at first to be searched.
pub(super) fn searched(parts: &Parts, route: &Route, limit: usize) -> usize {
    match names_in(&parts.method, &parts.headers, route) {
        Some(Names::Json | Names::Session | Names::Source) => limit,
        Some(Names::Lines) => limit.min(FIRST_LINES),
        None => 0,
    }
}

/// Completes a route with what headers and body name beside its alias.
///
/// What is in hand of a body is searched. The rest of one that is handed on as a stream is seen by [`unread`], for a client that is
/// held to a list.
pub(super) fn complete(parts: &Parts, mut route: Route, body: Body) -> Result<(Route, Body), Error> {
    let mut further: Vec<_> = in_header(parts)?.into_iter().collect();
    let held = parts.extensions.get::<Client>().filter(|client| client.is_restricted());
    let body = match names_in(&parts.method, &parts.headers, &route) {
        Some(Names::Json) => in_json(&route, body, held, &mut further)?,
        Some(Names::Lines) => {
            let (body, is_unread) = in_lines(&parts.headers, body, held, &mut further)?;
            if is_unread {
                route = route.with_unread_lines();
            }
            body
        }
        Some(Names::Session) => {
            let boundary = MediaType::of(&parts.headers).map(|kind| kind.boundary()).transpose();
            let boundary = boundary.map_err(|error| unreadable(&error))?;
            let bytes = body.as_bytes().map_or(&[][..], |bytes| bytes);
            let found = further_names::find_session(boundary, bytes).map_err(|error| unreadable(&error))?;
            add(&route, found, &mut further);
            body
        }
        Some(Names::Source) => {
            let (bytes, is_whole) = body.in_hand();
            if let Some(source) = source::unseen(bytes, is_whole) {
                route = route.with_unseen(source);
            }
            body
        }
        None => body,
    };
    Ok((route.with_further_names(further), body))
}

fn in_header(parts: &Parts) -> Result<Option<FurtherName>, Error> {
    let mut values = parts.headers.get_all(&IMAGE_DEPLOYMENT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let name = value.to_str().ok().filter(|name| !name.is_empty() && values.next().is_none()).ok_or_else(|| {
        Error::new(ErrorKind::AmbiguousRequest, format!("Name one deployment as {IMAGE_DEPLOYMENT}, in ASCII."))
    })?;
    Ok(Some(FurtherName { name: name.to_owned(), place: FurtherPlace::ImageHeader }))
}

fn in_json(route: &Route, body: Body, held: Option<&Client>, further: &mut Vec<FurtherName>) -> Result<Body, Error> {
    let (bytes, is_whole) = body.in_hand();
    // The offer of a WebRTC session is no JSON. Anything else that is none might be some for another reader.
    let begins = bytes.trim_ascii_start().first();
    if held.is_some() && begins.is_some_and(|byte| *byte != b'{') && route.operation() != Operation::Realtime {
        return Err(Error::new(ErrorKind::InvalidBody, "The body cannot be used: not a JSON object."));
    }
    if is_whole {
        match further_names::find(route.operation(), bytes) {
            Ok(found) => add(route, found, further),
            // Below a deployment in the path nobody needs it: its backend says best what is wrong with it.
            Err(_) if held.is_none() && route.model_place() == ModelPlace::Path && !is_json(bytes) => {}
            Err(error) => return Err(unreadable(&error)),
        }
        return Ok(body);
    }
    let Some(mut scan) = further_names::scan(route.operation()) else { return Ok(body) };
    scan.feed(bytes).map_err(|error| unreadable(&error))?;
    add(route, scan.names().cloned().collect(), further);
    let agent = held.map_or(Ok(None), |client| unread::no_agent(client, route, bytes))?;
    Ok(unread::watch(body, Scan::json(scan, agent), held))
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// Adds what was found, but for the alias itself.
fn add(route: &Route, found: Vec<Model>, further: &mut Vec<FurtherName>) {
    let is_main = |name: &Model| matches!(route.named_at(), Some(NamePlace::Json(span)) if *span == name.span);
    let found = found.into_iter().filter(|name| !is_main(name));
    further.extend(found.map(|found| FurtherName { name: found.name, place: FurtherPlace::Json(found.span) }));
}

/// The body, and whether it has lines that were not read.
fn in_lines(
    headers: &HeaderMap,
    body: Body,
    held: Option<&Client>,
    further: &mut Vec<FurtherName>,
) -> Result<(Body, bool), Error> {
    let Some(form) = MediaType::of(headers) else { return Ok((body, false)) };
    let boundary = form.boundary().map_err(|error| unreadable(&error))?;
    let (bytes, is_whole) = body.in_hand();
    let mut add = |named: Named| {
        further.push(FurtherName { name: named.name, place: FurtherPlace::Lines(named.line) });
    };
    if is_whole {
        batch_file::find(boundary, bytes).map_err(unusable)?.into_iter().for_each(add);
        return Ok((body, false));
    }
    let (mut scan, mut names) = (BatchScan::new(boundary), Vec::new());
    scan.feed(bytes).map_err(unusable)?;
    for named in scan.take_names() {
        batch_file::keep_new(&mut names, named).map_err(unusable)?;
    }
    names.into_iter().for_each(&mut add);
    let is_batch = scan.is_batch();
    Ok((unread::watch(body, Scan::lines(scan), held), is_batch))
}

pub(super) fn unusable(error: BatchFileError) -> Error {
    match error {
        BatchFileError::Form(error) => unreadable(&error),
        error => Error::new(ErrorKind::InvalidBody, format!("The batch cannot be used: {error}.")),
    }
}
