//! Answers that causes become: status, code, type and headers.

use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use tower::BoxError;

use crate::azure::{Outcome, envelope};
use crate::body::Body;
use crate::context::{Attempt, ClassifyError, DefaultClassify, exhausted, is_exhaustion, wait};
use crate::error::{Chain, Error, ErrorKind};

/// The answer that an error stands for.
pub(crate) fn to_error(error: &BoxError) -> Response<Body> {
    let found = Error::find(error.as_ref());
    tracing::debug!(error = %Chain(error.as_ref()), "answering for an error");
    match found {
        Some(cause) => to_cause(cause),
        None if is_exhaustion(error.as_ref()) => to_cause(&exhausted()),
        None => to_cause(&of_outcome(DefaultClassify.classify(error.as_ref()))),
    }
}

/// The answer to a request on which the layers are in a wrong order. Whoever stands above reads from it that no backend is to blame.
pub(crate) fn to_misordered(cause: &Error) -> Response<Body> {
    let mut answer = to_cause(cause);
    Attempt::of_mut(answer.extensions_mut()).outcome = Some(Outcome::Abandoned);
    answer
}

pub(super) fn to_cause(cause: &Error) -> Response<Body> {
    let (status, code, kind) = shape(cause.kind());
    let mut answer = Response::new(Body::from(envelope::write(code, kind, cause.message(), None)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = cause.retry_after() {
        match cause.kind() {
            ErrorKind::NoTargetDown => wait::set_for_outage(headers, wait, cause.spread()),
            ErrorKind::QuotaExceeded => wait::set_true_seconds(headers, wait),
            _ => wait::set(headers, wait),
        }
    }
    if cause.is_not_repeatable() {
        wait::forbid_repeat(headers);
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// Status, code and type of each cause.
const fn shape(kind: ErrorKind) -> (StatusCode, &'static str, &'static str) {
    const REQUEST: &str = "invalid_request_error";
    const PERMISSION: &str = "permission_error";
    const LIMIT: &str = "rate_limit_error";
    const GATEWAY: &str = "gateway_error";
    const TIMEOUT: &str = "timeout_error";
    match kind {
        ErrorKind::AliasNotAllowed => (StatusCode::FORBIDDEN, "alias_not_allowed", PERMISSION),
        ErrorKind::AmbiguousRequest => (StatusCode::BAD_REQUEST, "ambiguous_request", REQUEST),
        ErrorKind::ApiVersionNotAllowed => (StatusCode::BAD_REQUEST, "api_version_not_allowed", REQUEST),
        ErrorKind::BackendFailed => (StatusCode::BAD_GATEWAY, "backend_failed", GATEWAY),
        ErrorKind::BackendTimeout => (StatusCode::GATEWAY_TIMEOUT, "backend_timeout", TIMEOUT),
        ErrorKind::CredentialRejected => (StatusCode::BAD_GATEWAY, "backend_credential_rejected", GATEWAY),
        ErrorKind::DeploymentNotFound => (StatusCode::NOT_FOUND, "DeploymentNotFound", REQUEST),
        ErrorKind::FrontDoorRequired => (StatusCode::FORBIDDEN, "front_door_required", PERMISSION),
        ErrorKind::IdsOnDifferentBackends => (StatusCode::BAD_REQUEST, "ids_on_different_backends", REQUEST),
        ErrorKind::InvalidBody | ErrorKind::UploadFailed => (StatusCode::BAD_REQUEST, "invalid_body", REQUEST),
        ErrorKind::InvalidConstraint => (StatusCode::BAD_REQUEST, "invalid_constraint", REQUEST),
        ErrorKind::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", REQUEST),
        ErrorKind::Misordered => (StatusCode::INTERNAL_SERVER_ERROR, "misordered_layers", GATEWAY),
        ErrorKind::NoTargetDown => (StatusCode::SERVICE_UNAVAILABLE, "no_target_available", GATEWAY),
        ErrorKind::NoTargetThrottled | ErrorKind::PinnedUnavailable => {
            (StatusCode::TOO_MANY_REQUESTS, "no_target_available", LIMIT)
        }
        ErrorKind::NotSupported => (StatusCode::NOT_IMPLEMENTED, "not_supported", REQUEST),
        ErrorKind::ObjectNotFound => (StatusCode::NOT_FOUND, "not_found", REQUEST),
        ErrorKind::OperationNotAllowed => (StatusCode::FORBIDDEN, "operation_not_allowed", PERMISSION),
        ErrorKind::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", GATEWAY),
        ErrorKind::PathNotFound => (StatusCode::NOT_FOUND, "404", REQUEST),
        ErrorKind::QuotaExceeded => (StatusCode::FORBIDDEN, "quota_exceeded", "quota_error"),
        ErrorKind::RateLimitExceeded => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", LIMIT),
        ErrorKind::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "request_timeout", TIMEOUT),
        ErrorKind::RequestTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", REQUEST),
        ErrorKind::UnsupportedEncoding => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", REQUEST),
        ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, "401", "authentication_error"),
    }
}

/// Returns what an attempt that nobody failed over from stands for.
fn of_outcome(outcome: Outcome) -> Error {
    match outcome {
        Outcome::TimedOut(_) => Error::new(ErrorKind::BackendTimeout, "The backend did not answer in time."),
        Outcome::Unreachable | Outcome::CredentialUnavailable => {
            Error::new(ErrorKind::NoTargetDown, "The backend is not available.")
                .with_retry_after(std::time::Duration::ZERO)
        }
        _ => Error::new(ErrorKind::BackendFailed, "The backend broke the request off."),
    }
}
