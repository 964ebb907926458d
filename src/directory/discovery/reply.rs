//! Reply of one backend that was asked for an object.

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};
use tower::BoxError;

use crate::azure::envelope;
use crate::azure::object_id::ObjectId;
use crate::body::{Body, Collected};
use crate::context::{REFUSED_BODY, REFUSED_BODY_TIME};
use crate::error::{Error, ErrorKind};

/// Length up to which an answer is read to see whose it is: the id stands in front.
const SEEN_BODY: usize = 64 * 1024;

/// Reply of one backend.
pub(super) enum Reply {
    Absent,
    Here,
    /// It does not know the path or the version.
    NoSuchCall,
    /// It finds fault with the request: a header or a version, of which another client's request may have a better one.
    Refused,
    Unable {
        throttled: bool,
        wait: Duration,
    },
}

impl Reply {
    pub(super) async fn of_answer(answer: Response<Body>, id: &ObjectId) -> Self {
        let status = answer.status();
        let wait = wait(answer.headers());
        match status {
            StatusCode::GONE => Self::Absent,
            StatusCode::BAD_REQUEST => Self::Refused,
            StatusCode::NOT_FOUND => match answer.into_body().collect_up_to(REFUSED_BODY, REFUSED_BODY_TIME).await {
                Ok(Collected::Whole(body)) if is_routing_error(&body) => Self::NoSuchCall,
                _ => Self::Absent,
            },
            status if status.is_success() && is_shown(answer, id).await => Self::Here,
            status => Self::Unable { throttled: status == StatusCode::TOO_MANY_REQUESTS, wait },
        }
    }

    pub(super) fn of_error(error: &BoxError) -> Self {
        let cause = Error::find(error.as_ref());
        let wait = cause.and_then(Error::retry_after).unwrap_or(Duration::from_secs(1));
        match cause.map(Error::kind) {
            // The backend has left the pool meanwhile.
            Some(ErrorKind::DeploymentNotFound) => Self::Absent,
            // The client's own request hears of it.
            Some(ErrorKind::Misordered) => Self::NoSuchCall,
            kind => Self::Unable { throttled: kind == Some(ErrorKind::NoTargetThrottled), wait },
        }
    }
}

/// Tells whether an answer is the object itself, and not a page that somebody puts before a backend.
async fn is_shown(answer: Response<Body>, id: &ObjectId) -> bool {
    let read = answer.into_body().collect_up_to(SEEN_BODY, REFUSED_BODY_TIME).await;
    read.is_ok_and(|read| read.start().is_some_and(|start| id.is_shown_by(&start)))
}

/// A 404 that is about the path or the version, and not about an object.
fn is_routing_error(body: &[u8]) -> bool {
    let said = envelope::read(body);
    said.is_some_and(|said| {
        said.code() == Some("404") && said.message().is_some_and(|m| m.starts_with("Resource not found"))
    })
}

/// Selection and failover below have made one of all the forms of a hint.
fn wait(headers: &HeaderMap) -> Duration {
    let ms = headers.get("retry-after-ms").and_then(|value| value.to_str().ok()?.parse().ok());
    ms.map_or(Duration::from_secs(1), Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_path_is_no_unknown_object() {
        assert!(is_routing_error(br#"{"error":{"code":"404","message":"Resource not found"}}"#));
        assert!(!is_routing_error(br#"{"error":{"code":"404","message":"No thread found with id 'thread_1'."}}"#));
        assert!(!is_routing_error(
            br#"{"error":{"message":"No thread found","type":"invalid_request_error","code":null}}"#
        ));
        assert!(!is_routing_error(b""));
    }
}
