//! The way to a server that speaks OpenAI's own form of the API: `/v1/…` without `/openai` before it, the model in the body and
//! never in the path, no `api-version`.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Uri};
use http_body::Body as _;

use super::names::Edit;
use super::rewrite;
use crate::azure::media_type::MediaType;
use crate::azure::operation::{ModelPlace, Surface};
use crate::azure::request_body::{self, ModelIn};
use crate::body::Body;
use crate::context::{NamePlace, Route};
use crate::error::{Error, ErrorKind};
use crate::headers::query_parameters;
use crate::pool::Target;

const OPENAI: usize = "/openai/".len();

pub(super) fn path_at(target: &Target, route: &Route, uri: &Uri, place: Option<&NamePlace>) -> Option<PathAndQuery> {
    let path = uri.path();
    let rest = match (route.deployment_segments(), route.surface()) {
        (Some(span), _) => path.get(span.end..).unwrap_or_default(),
        // Servers of this kind have these calls, too, if any.
        (None, Surface::Foundry) => path.strip_prefix("/models/").or_else(|| path.strip_prefix("/anthropic/v1/"))?,
        (None, Surface::V1) => path.get(OPENAI..)?.split_once('/').map_or("", |(_, rest)| rest),
        (None, _) => path.get(OPENAI..)?,
    };
    let query = match (uri.query().unwrap_or_default(), place) {
        (query, Some(NamePlace::Hint(span))) => Cow::Owned([query.get(..span.start)?, query.get(span.end..)?].concat()),
        (query, _) => Cow::Borrowed(query),
    };
    let span = match place {
        Some(NamePlace::Query(span)) => Some(span),
        _ => None,
    };
    let parameters: Vec<_> = parameters(&query, span, target.path_segment()).collect();
    let mark = if parameters.is_empty() { "" } else { "?" };
    let whole = [target.endpoint().prefix(), "/v1/", rest, mark, &parameters.join("&")].concat();
    PathAndQuery::from_maybe_shared(Bytes::from(whole)).ok()
}

/// All but `api-version`; what names the deployment is called `model`.
fn parameters<'a>(
    query: &'a str,
    named: Option<&Range<usize>>,
    segment: Option<&str>,
) -> impl Iterator<Item = String> + use<'a> {
    let named = named.cloned();
    let model = segment.map(|segment| format!("model={segment}"));
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).zip(query_parameters(query));
    pairs.filter(|(_, (name, ..))| !name.eq_ignore_ascii_case("api-version")).map(move |(pair, (.., span))| {
        let is_named = named.as_ref() == Some(&span);
        model.clone().filter(|_| is_named).unwrap_or_else(|| pair.to_owned())
    })
}

/// Returns what to put where in the body, when the path named the deployment.
pub(super) fn body_edit<'a>(
    target: &'a Target,
    route: &Route,
    request: &Request<Body>,
) -> Result<Option<Edit<'a>>, Error> {
    if route.model_place() != ModelPlace::Path || request.body().is_end_stream() {
        return Ok(None);
    }
    let Some(body) = request.body().as_bytes() else {
        return Err(Error::new(
            ErrorKind::RequestTooLarge,
            "The backend takes the deployment's name in the body, which is too large to be read. Send a smaller one.",
        ));
    };
    let form = MediaType::of(request.headers()).filter(MediaType::is_form);
    let is_form = form.is_some();
    let fields = match form {
        Some(form) => form.boundary().and_then(|boundary| request_body::read_form_with(boundary, body)),
        None => request_body::read_json(body, ModelIn::Object),
    };
    let fields =
        fields.map_err(|error| Error::new(ErrorKind::InvalidBody, format!("The body cannot be used: {error}.")))?;
    let place = match fields.model {
        Some(model) if is_form => NamePlace::Form(model.span),
        Some(model) => NamePlace::Json(model.span),
        None if is_form => NamePlace::FormPart,
        None => NamePlace::JsonMember(fields.opening),
    };
    Ok(rewrite::body_edit(&place, request.body(), target))
}
