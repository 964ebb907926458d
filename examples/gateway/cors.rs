//! Calls from browser applications of other origins.
//!
//! A client is known by a key or token that a page must add itself, so that nothing is allowed by a cookie: credentials of the
//! browser's own are never asked for.

use std::time::Duration;

use http::header::{ACCESS_CONTROL_ALLOW_METHODS, HOST, LOCATION, ORIGIN, RETRY_AFTER, UPGRADE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tower::BoxError;
use tower::util::MapResponseLayer;
use tower_azure_openai::body::Body;
use tower_azure_openai::{Error, ErrorKind};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::config::cors::Origins;

/// Time for which a browser remembers the answer to a preflight. Chromium obeys two hours at most.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Headers of an answer that scripts may read. `*` is all of it, to browsers that know it; the others are told what clients act
/// on.
const EXPOSED: [&str; 18] = [
    "*",
    "apim-request-id",
    "azure-asyncoperation",
    "operation-location",
    "retry-after-ms",
    "x-gateway-attempts",
    "x-gateway-backend",
    "x-ms-client-request-id",
    "x-ms-region",
    "x-ms-request-id",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-request-id",
    "x-should-retry",
];

type Finish = fn(Response<Body>) -> Response<Body>;

/// Answers preflights before anybody is asked for a key, and lets the pages of these origins read every answer. Where there are none,
/// a preflight is told that nothing is allowed, and no other answer changes.
pub(crate) fn layer(origins: &Origins) -> (MapResponseLayer<Finish>, CorsLayer) {
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let cors = CorsLayer::new().allow_methods(methods);
    let origins = match origins {
        Origins::Any => Some(AllowOrigin::any()),
        Origins::None => None,
        Origins::These(origins) => Some(AllowOrigin::list(origins.iter().cloned())),
    };
    let (cors, finish) = match origins {
        None => (cors.vary([]), allowing_nothing as Finish),
        Some(origins) => {
            let exposed = EXPOSED.map(HeaderName::from_static).into_iter().chain([LOCATION, RETRY_AFTER]);
            let cors = cors
                .allow_origin(origins)
                .allow_headers(AllowHeaders::mirror_request())
                .expose_headers(exposed.collect::<Vec<_>>())
                .max_age(MAX_AGE);
            (cors, without_content as Finish)
        }
    };
    (MapResponseLayer::new(finish), cors)
}

/// Of the answers that pass here only one to a preflight says which methods are allowed.
fn without_content(mut answer: Response<Body>) -> Response<Body> {
    if answer.headers().contains_key(ACCESS_CONTROL_ALLOW_METHODS) {
        *answer.status_mut() = StatusCode::NO_CONTENT;
    }
    answer
}

/// An answer to a preflight that says of no method that it may be used.
fn allowing_nothing(answer: Response<Body>) -> Response<Body> {
    let mut answer = without_content(answer);
    answer.headers_mut().remove(ACCESS_CONTROL_ALLOW_METHODS);
    answer
}

/// Refuses WebSockets of pages that may not call: a browser opens them without a preflight.
pub(crate) fn websockets(
    origins: &Origins,
) -> impl Fn(Request<Body>) -> Result<Request<Body>, BoxError> + Clone + use<> {
    let allowed = match origins {
        Origins::Any | Origins::None => None,
        Origins::These(origins) => Some(origins.clone()),
    };
    move |request| match &allowed {
        Some(allowed) if request.headers().contains_key(UPGRADE) && !is_welcome(&request, allowed) => {
            let why = "The page that opens this WebSocket has an origin that is not among those of `[cors] origins`.";
            Err(Error::new(ErrorKind::OperationNotAllowed, why).into())
        }
        _ => Ok(request),
    }
}

/// Tells whether a request may come from where it does: whoever is no browser says nothing, or names the place that it calls.
fn is_welcome(request: &Request<Body>, allowed: &[HeaderValue]) -> bool {
    let own = request.headers().get(HOST).map(HeaderValue::as_bytes);
    let is_own = |origin: &HeaderValue| {
        let origin = origin.as_bytes();
        let host = origin.strip_prefix(b"https://").or_else(|| origin.strip_prefix(b"http://"));
        host.is_some_and(|host| own.is_some_and(|own| own.eq_ignore_ascii_case(host)))
    };
    request.headers().get_all(ORIGIN).iter().all(|origin| allowed.contains(origin) || is_own(origin))
}
