//! Pointing a request at its target.

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{Request, Uri, Version};

use crate::context::Route;
use crate::error::{Error, ErrorKind};
use crate::pool::Target;

/// Sets scheme, authority, `Host`, path prefix, deployment segment and HTTP version.
pub(super) fn point_at<B>(target: &Target, route: &Route, request: &mut Request<B>) -> Result<(), Error> {
    let endpoint = target.endpoint();
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(endpoint.scheme().clone());
    parts.authority = Some(endpoint.authority().clone());
    parts.path_and_query = Some(path_at(target, route, request.uri()).ok_or_else(unfit)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| unfit())?;
    // HTTP/2 needs both sides; which one is spoken is settled with the backend, not by the client.
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().insert(HOST, endpoint.host().clone());
    Ok(())
}

fn path_at(target: &Target, route: &Route, uri: &Uri) -> Option<PathAndQuery> {
    let (path, prefix) = (uri.path(), target.endpoint().prefix());
    let (before, segment, after) = match (route.alias_span(), target.path_segment()) {
        (Some(span), Some(segment)) => (path.get(..span.start)?, segment, path.get(span.end..)?),
        _ => (path, "", ""),
    };
    let query = uri.query().map_or(("", ""), |query| ("?", query));
    let whole = [prefix, before, segment, after, query.0, query.1].concat();
    PathAndQuery::from_maybe_shared(Bytes::from(whole)).ok()
}

fn unfit() -> Error {
    Error::new(ErrorKind::AmbiguousRequest, "The path cannot be forwarded.")
}
