//! What a request names beside the deployment that answers it.

use http::Method;
use http::request::Parts;

use super::naming::unreadable;
use crate::azure::batch_file::{self, BatchFileError};
use crate::azure::media_type::MediaType;
use crate::azure::operation::Operation;
use crate::azure::{further_names, request_body};
use crate::body::Body;
use crate::context::{FurtherName, FurtherPlace, NamePlace, Route};
use crate::error::{Error, ErrorKind};
use crate::headers::IMAGE_DEPLOYMENT;

/// Completes a route with what headers and body name beside its alias. Of a body that was not collected nothing is known.
pub(super) fn complete(parts: &Parts, route: Route, body: &Body) -> Result<Route, Error> {
    let mut further: Vec<_> = in_header(parts)?.into_iter().collect();
    if parts.method == Method::POST
        && further_names::may_name(route.operation())
        && let Some(bytes) = body.as_bytes()
    {
        let found = further_names::find(route.operation(), bytes).map_err(|error| unreadable(&error))?;
        let is_main =
            |name: &request_body::Model| matches!(route.named_at(), Some(NamePlace::Json(span)) if *span == name.span);
        let found = found.into_iter().filter(|name| !is_main(name));
        further.extend(found.map(|found| FurtherName { name: found.name, place: FurtherPlace::Json(found.span) }));
    }
    if parts.method == Method::POST
        && route.operation() == Operation::Files
        && let Some(form) = MediaType::of(&parts.headers).filter(MediaType::is_form)
        && let Some(bytes) = body.as_bytes()
    {
        further.extend(in_batch_file(form, bytes)?);
    }
    Ok(route.with_further_names(further))
}

fn in_header(parts: &Parts) -> Result<Option<FurtherName>, Error> {
    let mut values = parts.headers.get_all(&IMAGE_DEPLOYMENT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let name = value.to_str().ok().filter(|name| !name.is_empty() && values.next().is_none()).ok_or_else(|| {
        Error::new(ErrorKind::AmbiguousRequest, format!("Name one deployment as {IMAGE_DEPLOYMENT}, in ASCII."))
    })?;
    Ok(Some(FurtherName { name: name.to_owned(), place: FurtherPlace::ImageHeader }))
}

fn in_batch_file(form: MediaType<'_>, body: &[u8]) -> Result<impl Iterator<Item = FurtherName>, Error> {
    let boundary = form.boundary().map_err(|error| unreadable(&error))?;
    let found = batch_file::find(boundary, body).map_err(|error| match error {
        BatchFileError::Form(error) => unreadable(&error),
        BatchFileError::Line { .. } => {
            Error::new(ErrorKind::InvalidBody, format!("The batch cannot be used: {error}."))
        }
    })?;
    Ok(found
        .into_iter()
        .map(|named| FurtherName { name: named.name, place: FurtherPlace::Lines(named.line, named.spans.into()) }))
}
