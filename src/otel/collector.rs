//! Sending to a collector: what it says, and when it is tried again.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;
use tower::BoxError;

use super::{PATIENCE, proto};
use crate::below::Below;
use crate::body::Body;
use crate::pool::BoxFuture;

/// More is not read of what a collector says.
const LARGEST_ANSWER: usize = 64 << 10;

type Send = Box<dyn Fn(Request<Body>) -> BoxFuture<Result<Said, BoxError>> + std::marker::Send + Sync>;

/// Answer of a collector.
struct Said {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

/// Outcome of one attempt to send.
pub(super) enum Sent {
    /// All but so many items were accepted.
    Accepted { rejected: u64 },
    /// It makes no sense to send this again.
    Refused(StatusCode),
    /// It may be sent again, after so long if that was said.
    Unavailable { why: &'static str, retry_after: Option<Duration> },
}

pub(super) struct Collector {
    send: Send,
    headers: HeaderMap,
}

impl Collector {
    pub(super) fn new<S: Below + Sync>(http: S, headers: HeaderMap) -> Self {
        Self { send: Box::new(move |request| Box::pin(exchange(http.clone(), request))), headers }
    }

    /// Sends once.
    pub(super) async fn post(&self, uri: &Uri, body: Bytes) -> Sent {
        let mut request = Request::new(Body::from(body));
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, uri.clone());
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        match timeout(PATIENCE, (self.send)(request)).await {
            Ok(Ok(said)) => said.into(),
            // The error of a client may name a host.
            Ok(Err(_)) => Sent::Unavailable { why: "it cannot be reached, or the connection broke", retry_after: None },
            Err(_) => Sent::Unavailable { why: "it does not answer", retry_after: None },
        }
    }
}

impl From<Said> for Sent {
    /// OTLP names the statuses that are worth another attempt.
    fn from(said: Said) -> Self {
        match said.status.as_u16() {
            200..=299 => Self::Accepted { rejected: proto::rejected(&said.body).unwrap_or(0) },
            429 | 502 | 503 | 504 => Self::Unavailable { why: "it is overloaded", retry_after: said.retry_after },
            _ => Self::Refused(said.status),
        }
    }
}

async fn exchange<S: Below>(http: S, request: Request<Body>) -> Result<Said, BoxError> {
    let (head, body) = http.send_once(PATIENCE, request).await?.into_parts();
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| wait(value, SystemTime::now()));
    // Read to its end, so that the connection can be used again. What is too long says nothing that is of use here.
    let body = Limited::new(body, LARGEST_ANSWER).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Ok(Said { status: head.status, retry_after, body })
}

/// Seconds, or a date.
fn wait(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()))
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}
