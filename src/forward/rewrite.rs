//! Pointing a request at its target.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{Request, Uri, Version};
use http_body::Body as _;
use memchr::memmem;

use super::names::{self, Edit, Edits};
use super::{lines, openai};
use crate::body::Body;
use crate::context::{NamePlace, Route};
use crate::error::{Error, ErrorKind};
use crate::pool::{BackendKind, Target};

/// Up to here a body that changes is copied into one piece: 64 KiB. A larger one is sent as the pieces it is made of.
const COPIED: usize = 64 * 1024;

/// Sets scheme, authority, `Host`, path prefix, the deployment's name wherever it stands, and the HTTP version.
pub(super) fn point_at(target: &Target, route: &Route, request: &mut Request<Body>) -> Result<(), Error> {
    let endpoint = target.endpoint();
    let place = target.deployment().and_then(|deployment| route.place_of(deployment));
    let place = place.and_then(|place| names::in_query(place, route, request.uri()));
    let place = place.as_deref();
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(endpoint.scheme().clone());
    parts.authority = Some(endpoint.authority().clone());
    let path = match target.kind() {
        BackendKind::Azure => path_at(target, route, request.uri(), place),
        BackendKind::OpenAi => openai::path_at(target, route, request.uri(), place),
    };
    parts.path_and_query = Some(path.ok_or_else(unfit)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| unfit())?;
    // HTTP/2 needs both sides; which one is spoken is settled with the backend, not by the client.
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().insert(HOST, endpoint.host().clone());
    let own = match (target.kind(), target.deployment()) {
        (BackendKind::OpenAi, Some(_)) if route.alias_span().is_some() && route.surplus_span().is_none() => {
            openai::body_edit(target, route, request)?
        }
        _ => match place {
            Some(place) => {
                names::current(place, route, request)?.and_then(|place| body_edit(&place, request.body(), target))
            }
            None => None,
        },
    };
    let mut edits: Edits<'_> = own.into_iter().collect();
    names::rename_further(route, request, &mut edits)?;
    rename(request, edits)?;
    lines::rename(route, request)
}

fn path_at(target: &Target, route: &Route, uri: &Uri, place: Option<&NamePlace>) -> Option<PathAndQuery> {
    let (path, prefix) = (uri.path(), target.endpoint().prefix());
    let (before, segments, after) = match (route.surplus_span(), route.alias_span(), target.path_segment()) {
        (Some(span), ..) => (path.get(..span.start)?, ["", "", ""], path.get(span.end..)?),
        (None, Some(span), Some(segment)) => (path.get(..span.start)?, ["", segment, ""], path.get(span.end..)?),
        (None, None, Some(segment)) => match route.deployment_gap() {
            Some(at) => (path.get(..at)?, ["deployments/", segment, "/"], path.get(at..)?),
            None => (path, ["", "", ""], ""),
        },
        _ => (path, ["", "", ""], ""),
    };
    let [opening, segment, closing] = segments;
    let (mark, query) = uri.query().map_or(("", ""), |query| ("?", query));
    let (query_before, name, query_after) = match (place, target.path_segment()) {
        (Some(NamePlace::Query(span)), Some(segment)) => (query.get(..span.start)?, segment, query.get(span.end..)?),
        (Some(NamePlace::Hint(span)), _) => (query.get(..span.start)?, "", query.get(span.end..)?),
        _ => (query, "", ""),
    };
    let whole = [prefix, before, opening, segment, closing, after, mark, query_before, name, query_after].concat();
    PathAndQuery::from_maybe_shared(Bytes::from(whole)).ok()
}

/// Returns the change of the body, if there is one.
pub(super) fn body_edit<'a>(place: &NamePlace, body: &Body, target: &'a Target) -> Option<Edit<'a>> {
    let (name, json) = (target.deployment()?, target.json_name()?);
    Some(match place {
        NamePlace::Form(span) => (span.clone(), name.into()),
        NamePlace::FormPart => (0..0, first_part(body.in_hand().0, name).into()),
        NamePlace::Json(span) => (span.clone(), json.into()),
        NamePlace::JsonMember(opening) => {
            let comma = if opening.is_empty { "" } else { "," };
            (opening.at..opening.at, format!("\"model\":{json}{comma}").into())
        }
        NamePlace::Hint(_) | NamePlace::Query(_) => return None,
    })
}

/// A part with the model, to be put before the others of a form; its delimiter is the first line.
fn first_part(form: &[u8], deployment: &str) -> String {
    let end = memmem::find(form, b"\r\n").unwrap_or(form.len());
    let delimiter = String::from_utf8_lossy(&form[..end]);
    format!("{delimiter}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{deployment}\r\n")
}

/// Puts names into the body and leaves every other byte of it as it is.
fn rename(request: &mut Request<Body>, mut edits: Edits<'_>) -> Result<(), Error> {
    if edits.is_empty() {
        return Ok(());
    }
    edits.sort_unstable_by_key(|(span, _)| span.start);
    let (head, rest) = std::mem::take(request.body_mut()).split_head();
    let mut length = head.len();
    let mut at = 0;
    for (span, name) in &edits {
        if span.start < at || span.start > span.end || span.end > head.len() {
            return Err(unfit());
        }
        length += name.len();
        length -= span.len();
        at = span.end;
    }
    *request.body_mut() = if length <= COPIED && rest.is_end_stream() {
        Body::from(in_one(&head, &edits, length))
    } else {
        in_pieces(&head, &edits, rest)
    };
    if let Some(announced) = request.headers().get(CONTENT_LENGTH) {
        let announced = || announced.to_str().ok()?.parse::<u64>().ok()?.checked_add(length as u64);
        let changed = || announced()?.checked_sub(head.len() as u64);
        let length = request.body().size_hint().exact().or_else(changed).ok_or_else(unfit)?;
        request.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    Ok(())
}

/// The body with the names in their places, as a copy of this length.
fn in_one(head: &[u8], edits: &Edits<'_>, length: usize) -> Vec<u8> {
    let (mut whole, mut at) = (Vec::with_capacity(length), 0);
    for (span, name) in edits {
        whole.extend_from_slice(&head[at..span.start]);
        whole.extend_from_slice(name.as_bytes());
        at = span.end;
    }
    whole.extend_from_slice(&head[at..]);
    whole
}

/// The same from what is there, and the rest behind it.
fn in_pieces(head: &Bytes, edits: &Edits<'_>, rest: Body) -> Body {
    let (mut pieces, mut at) = (Vec::with_capacity(2 * edits.len() + 1), 0);
    for (span, name) in edits {
        pieces.push(head.slice(at..span.start));
        pieces.push(Bytes::copy_from_slice(name.as_bytes()));
        at = span.end;
    }
    pieces.push(head.slice(at..));
    pieces.into_iter().rev().fold(rest, |rest, piece| Body::prefixed(piece, rest))
}

pub(super) fn unfit() -> Error {
    Error::new(ErrorKind::AmbiguousRequest, "The request cannot be forwarded.")
}
