//! Names of deployments in a request, found where they stand now: a layer in between may have changed the body since it was read.

use std::borrow::Cow;
use std::ops::Range;

use http::{HeaderValue, Request};
use smallvec::SmallVec;

use super::rewrite::unfit;
use crate::azure::batch_file;
use crate::azure::further_names;
use crate::azure::media_type::MediaType;
use crate::azure::operation::{ModelPlace, Operation};
use crate::azure::request_body::{self, ModelIn, ReadBodyError};
use crate::body::Body;
use crate::context::{Companions, FurtherPlace, NamePlace, Route};
use crate::error::{Error, ErrorKind};
use crate::headers::IMAGE_DEPLOYMENT;

/// What to put where in a body.
pub(super) type Edit<'a> = (Range<usize>, Cow<'a, str>);
/// Most bodies name one deployment.
pub(super) type Edits<'a> = SmallVec<[Edit<'a>; 1]>;

/// A name, and where it stands in a body.
type Written<'a> = (Cow<'a, str>, Range<usize>);

/// The place of the route's own name in the body as it is; `None` when no name stands there any more.
pub(super) fn current<'a>(
    place: &'a NamePlace,
    route: &Route,
    request: &Request<Body>,
) -> Result<Option<Cow<'a, NamePlace>>, Error> {
    let (body, is_whole) = request.body().in_hand();
    let name = route.written_name().unwrap_or_default();
    let is_there = match place {
        NamePlace::Hint(_) | NamePlace::Query(_) => true,
        NamePlace::Form(span) => body.get(span.clone()) == Some(name.as_bytes()),
        NamePlace::Json(span) => further_names::is_name(body, span, name),
        // Nothing stands there by which it could be known again.
        NamePlace::JsonMember(opening) => {
            !is_whole && body.get(..opening.at).is_some_and(|before| before.ends_with(b"{"))
        }
    };
    match is_there {
        true => Ok(Some(Cow::Borrowed(place))),
        false if is_whole => Ok(search(place, route, request, body)?.map(Cow::Owned)),
        false => Err(unfit()),
    }
}

fn search(place: &NamePlace, route: &Route, request: &Request<Body>, body: &[u8]) -> Result<Option<NamePlace>, Error> {
    let is_form = matches!(place, NamePlace::Form(_));
    let fields = if is_form {
        MediaType::of(request.headers())
            .ok_or_else(unfit)?
            .boundary()
            .and_then(|boundary| request_body::read_form_with(boundary, body))
    } else if route.model_place() == ModelPlace::Session {
        request_body::read_json(body, ModelIn::Session)
    } else {
        request_body::read_json(body, ModelIn::Object)
    };
    let fields = fields.map_err(|error| unusable(&error))?;
    Ok(match (fields.model, place) {
        (Some(model), _) if is_form => Some(NamePlace::Form(model.span)),
        (Some(model), _) => Some(NamePlace::Json(model.span)),
        (None, NamePlace::JsonMember(_)) => Some(NamePlace::JsonMember(fields.opening)),
        (None, _) => {
            let further = further_names::find(route.operation(), body).map_err(|error| unusable(&error))?;
            let own = further.into_iter().find(|name| Some(name.name.as_str()) == route.written_name());
            own.map(|name| NamePlace::Json(name.span))
        }
    })
}

/// Puts the backend's own names in the place of the further ones: those of headers at once, those of the body as edits beside the
/// ones that are there.
pub(super) fn rename_further(route: &Route, request: &mut Request<Body>, edits: &mut Edits<'_>) -> Result<(), Error> {
    let Some(companions) = request.extensions().get::<Companions>().cloned() else { return Ok(()) };
    let mut in_body = Vec::new();
    for further in route.further_names() {
        match &further.place {
            FurtherPlace::Json(span) => in_body.push((Cow::Borrowed(further.name.as_str()), span.clone())),
            FurtherPlace::Lines(_, spans) => {
                in_body.extend(spans.iter().map(|span| (Cow::Borrowed(further.name.as_str()), span.clone())));
            }
            FurtherPlace::ImageHeader => {
                if let Some(deployment) = companions.deployment_of(route, &further.name).and_then(|t| t.deployment()) {
                    let name = HeaderValue::from_str(deployment).map_err(|_| unfit())?;
                    request.headers_mut().insert(IMAGE_DEPLOYMENT, name);
                }
            }
        }
    }
    if in_body.is_empty() {
        return Ok(());
    }
    let (body, is_whole) = request.body().in_hand();
    if !in_body.iter().all(|(name, span)| further_names::is_name(body, span, name)) {
        if !is_whole {
            return Err(unfit());
        }
        in_body = search_further(route, request, body)?;
    }
    for (name, span) in in_body {
        let companion = companions.deployment_of(route, &name).filter(|target| target.deployment() != Some(&*name));
        let is_own = edits.iter().any(|(own, _)| *own == span);
        if let Some(name) = companion.and_then(|target| target.json_name()).filter(|_| !is_own) {
            edits.push((span, Cow::Owned(name.to_owned())));
        }
    }
    Ok(())
}

fn search_further<'a>(route: &Route, request: &Request<Body>, body: &[u8]) -> Result<Vec<Written<'a>>, Error> {
    if route.operation() != Operation::Files {
        let found = further_names::find(route.operation(), body).map_err(|error| unusable(&error))?;
        return Ok(found.into_iter().map(|found| (found.name.into(), found.span)).collect());
    }
    let form = MediaType::of(request.headers()).ok_or_else(unfit)?;
    let boundary = form.boundary().map_err(|error| unusable(&error))?;
    let found = batch_file::find(boundary, body)
        .map_err(|error| Error::new(ErrorKind::InvalidBody, format!("The batch cannot be used: {error}.")))?;
    let spans = |named: batch_file::Named| named.spans.into_iter().map(move |span| (named.name.clone().into(), span));
    Ok(found.into_iter().flat_map(spans).collect())
}

fn unusable(error: &ReadBodyError) -> Error {
    Error::new(ErrorKind::InvalidBody, format!("The body cannot be used: {error}."))
}
