//! Answers of a backend that does not do what was asked.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::super::call::Inference;
use super::super::credentials::Rejection;
use super::super::limits::{Refusal, whole_seconds};
use super::super::objects::Family;
use super::Answer;

fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    Answer::json(status, &json!({ "error": { "code": code, "message": message } }))
}

/// The shape of errors that come from behind the front door.
fn model_error(status: StatusCode, code: Option<&str>, param: Option<&str>, kind: &str, message: &str) -> Answer {
    Answer::json(status, &json!({ "error": { "message": message, "type": kind, "param": param, "code": code } }))
}

pub(in super::super) fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "404", "Resource not found")
}

pub(in super::super) fn deployment_not_found() -> Answer {
    error(
        StatusCode::NOT_FOUND,
        "DeploymentNotFound",
        "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, \
         please wait a moment and try again.",
    )
}

pub(in super::super) fn model_not_found(model: &str) -> Answer {
    let message = format!("The model '{model}' does not exist or you do not have access to it.");
    model_error(StatusCode::NOT_FOUND, Some("model_not_found"), Some("model"), "invalid_request_error", &message)
}

pub(in super::super) fn invalid(param: Option<&str>, message: &str) -> Answer {
    model_error(StatusCode::BAD_REQUEST, None, param, "invalid_request_error", message)
}

pub(in super::super) fn previous_response_not_found(id: &str) -> Answer {
    let message = format!("Previous response with id '{id}' not found.");
    let (code, param) = (Some("previous_response_not_found"), Some("previous_response_id"));
    model_error(StatusCode::BAD_REQUEST, code, param, "invalid_request_error", &message)
}

/// Dated versions of the API have no code for it.
pub(in super::super) fn foreign_content(is_v1: bool) -> Answer {
    let message = "The encrypted content gAAA... could not be verified. Reason: Encrypted content could not be decrypted or parsed.";
    let code = is_v1.then_some("invalid_encrypted_content");
    model_error(StatusCode::BAD_REQUEST, code, None, "invalid_request_error", message)
}

pub(in super::super) fn unknown_object(family: Family, id: &str) -> Answer {
    model_error(StatusCode::NOT_FOUND, None, None, "invalid_request_error", &family.unknown(id))
}

pub(in super::super) fn unauthorized(rejection: Rejection) -> Answer {
    match rejection {
        Rejection::Key => error(
            StatusCode::UNAUTHORIZED,
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for \
             an active subscription and use a correct regional API endpoint for your resource.",
        ),
        Rejection::Token => Answer::json(
            StatusCode::UNAUTHORIZED,
            &json!({
                "statusCode": 401,
                "message": "Unauthorized. Access token is missing, invalid, audience is incorrect \
                            (https://cognitiveservices.azure.com), or have expired.",
            }),
        ),
    }
}

pub(in super::super) fn refused(refusal: Refusal, inference: &Inference) -> Answer {
    let limit = match refusal {
        Refusal::Requests(_) => "call",
        Refusal::Tokens(_) => "token",
        Refusal::Utilization(_) => {
            let mut answer = throttled("The service is temporarily unable to process your request.");
            answer.headers.extend(refusal.headers());
            return answer;
        }
    };
    let mut answer = throttled(&format!(
        "Requests to the {} Operation under Azure OpenAI API version {} have exceeded {limit} rate limit of your current \
         OpenAI S0 pricing tier. Please retry after {} seconds. Please go here: https://aka.ms/oai/quotaincrease if you \
         would like to further increase the default rate limit.",
        inference.operation.id(),
        inference.api_version,
        whole_seconds(refusal.wait()),
    ));
    answer.headers.extend(refusal.headers());
    answer
}

pub(in super::super) fn throttled_for(wait: Duration) -> Answer {
    throttled(&format!("Rate limit is exceeded. Try again in {} seconds.", whole_seconds(wait)))
}

fn throttled(message: &str) -> Answer {
    error(StatusCode::TOO_MANY_REQUESTS, "429", message)
}

/// Returns what Azure says with a status when nothing more is known.
pub(in super::super) fn of_status(status: StatusCode) -> Answer {
    match status {
        StatusCode::BAD_REQUEST => invalid(None, "The request is invalid."),
        StatusCode::UNAUTHORIZED => unauthorized(Rejection::Key),
        StatusCode::FORBIDDEN => error(status, "403", "Access denied due to Virtual Network/Firewall rules."),
        StatusCode::NOT_FOUND => deployment_not_found(),
        StatusCode::TOO_MANY_REQUESTS => {
            throttled("The system is currently experiencing high demand and cannot process your request.")
        }
        StatusCode::INTERNAL_SERVER_ERROR => {
            model_error(status, None, None, "server_error", "The server had an error while processing your request.")
        }
        _ => error(status, status.as_str(), status.canonical_reason().unwrap_or("The request failed.")),
    }
}
