//! Names of deployments in a request, found where they stand now: a layer in between may have changed the body since it was read.

use std::borrow::Cow;
use std::ops::Range;

use http::{HeaderValue, Request, Uri};
use smallvec::SmallVec;

use super::rewrite::unfit;
use crate::azure::further_names;
use crate::azure::media_type::MediaType;
use crate::azure::operation::{ModelPlace, Operation};
use crate::azure::request_body::{self, Model, ModelIn, ReadBodyError};
use crate::body::Body;
use crate::context::order;
use crate::context::{Companions, FurtherPlace, NamePlace, Route};
use crate::error::{Error, ErrorKind};
use crate::headers::{IMAGE_DEPLOYMENT, parameter_at, query_parameters};

/// Span of a body, and the text to put there.
pub(super) type Edit<'a> = (Range<usize>, Cow<'a, str>);
/// Most bodies name one deployment.
pub(super) type Edits<'a> = SmallVec<[Edit<'a>; 1]>;

/// The place of the route's own name in the body as it is; `None` when no name stands there any more.
pub(super) fn current<'a>(
    place: &'a NamePlace,
    route: &Route,
    request: &Request<Body>,
) -> Result<Option<Cow<'a, NamePlace>>, Error> {
    let (body, is_whole) = request.body().in_hand();
    match place {
        NamePlace::Hint(_) | NamePlace::Query(_) => Ok(Some(Cow::Borrowed(place))),
        _ if order::is_body_as_read(request.body(), request.extensions()) => Ok(Some(Cow::Borrowed(place))),
        _ if is_whole => Ok(search(place, route, request, body)?.map(Cow::Owned)),
        // What stands behind the part in hand was not read here.
        _ => Err(unfit()),
    }
}

/// The place of the route's own name in the query as it is; other places stay.
pub(super) fn in_query<'a>(place: &'a NamePlace, route: &Route, uri: &Uri) -> Option<Cow<'a, NamePlace>> {
    if !matches!(place, NamePlace::Hint(_) | NamePlace::Query(_)) {
        return Some(Cow::Borrowed(place));
    }
    let query = uri.query().unwrap_or_default();
    let is_name = |name: &str| name.eq_ignore_ascii_case("model") || name.eq_ignore_ascii_case("deployment");
    let mut named =
        query_parameters(query).filter(|(name, value, _)| is_name(name) && Some(&**value) == route.written_name());
    let (.., span) = named.next()?;
    Some(Cow::Owned(match place {
        NamePlace::Hint(_) => NamePlace::Hint(parameter_at(query, &span)),
        _ => NamePlace::Query(span),
    }))
}

fn search(place: &NamePlace, route: &Route, request: &Request<Body>, body: &[u8]) -> Result<Option<NamePlace>, Error> {
    let boundary = boundary(request)?;
    let is_form = matches!(place, NamePlace::Form(_) | NamePlace::FormPart);
    let fields = if is_form {
        request_body::read_form_with(boundary.ok_or_else(unfit)?, body)
    } else if route.model_place() == ModelPlace::Session {
        request_body::session_part(boundary, body).and_then(|(start, session)| {
            let within = if boundary.is_some() { ModelIn::Object } else { ModelIn::Session };
            Ok(request_body::read_json(session, within)?.moved_by(start))
        })
    } else {
        request_body::read_json(body, ModelIn::Object)
    };
    let fields = fields.map_err(|error| unusable(&error))?;
    Ok(match (fields.model, place) {
        (Some(model), _) if is_form => Some(NamePlace::Form(model.span)),
        (Some(model), _) => Some(NamePlace::Json(model.span)),
        (None, NamePlace::FormPart) => Some(NamePlace::FormPart),
        (None, NamePlace::JsonMember(_)) => Some(NamePlace::JsonMember(fields.opening)),
        (None, _) => {
            let further = find_further(route, request, body)?;
            let own = further.into_iter().find(|name| Some(name.name.as_str()) == route.written_name());
            own.map(|name| NamePlace::Json(name.span))
        }
    })
}

fn find_further(route: &Route, request: &Request<Body>, body: &[u8]) -> Result<Vec<Model>, Error> {
    let found = match route.operation() {
        Operation::Realtime => further_names::find_session(boundary(request)?, body),
        operation => further_names::find(operation, body),
    };
    found.map_err(|error| unusable(&error))
}

fn boundary(request: &Request<Body>) -> Result<Option<&str>, Error> {
    let form = MediaType::of(request.headers()).filter(MediaType::is_form);
    form.map(|form| form.boundary()).transpose().map_err(|error| unusable(&error))
}

/// Puts the backend's own names in the place of the further ones: those of headers at once, those of the body as edits beside the
/// ones that are there.
pub(super) fn rename_further(route: &Route, request: &mut Request<Body>, edits: &mut Edits<'_>) -> Result<(), Error> {
    let Some(companions) = request.extensions().get::<Companions>().cloned() else { return Ok(()) };
    let mut in_body = Vec::new();
    for further in route.further_names() {
        match &further.place {
            FurtherPlace::Json(span) => in_body.push((Cow::Borrowed(further.name.as_str()), span.clone())),
            // Those are found as the form passes.
            FurtherPlace::Lines(_) => {}
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
    if !order::is_body_as_read(request.body(), request.extensions()) {
        if !is_whole {
            return Err(unfit());
        }
        let found = find_further(route, request, body)?;
        in_body = found.into_iter().map(|found| (found.name.into(), found.span)).collect();
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

fn unusable(error: &ReadBodyError) -> Error {
    Error::new(ErrorKind::InvalidBody, format!("The body cannot be used: {error}."))
}
