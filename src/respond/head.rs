use http::header::{ALLOW, CONNECTION, HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response};

use super::answer::to_cause;
use crate::body::Body;
use crate::error::{Error, ErrorKind};

const FORWARDED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The answer to a request that must not go further, whatever stands below.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<Response<Body>> {
    if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
        let mut answer = to_cause(&Error::new(ErrorKind::MethodNotAllowed, "TRACE and CONNECT are not forwarded."));
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(FORWARDED));
        return Some(answer);
    }
    if !is_framed_by_chunks_at_most(request.headers()) {
        let message = "`Transfer-Encoding` may say `chunked`, and nothing else.";
        let mut answer = to_cause(&Error::new(ErrorKind::NotSupported, message));
        // What follows the head may be read as anything.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return Some(answer);
    }
    let hosts = request.headers().get_all(HOST);
    if !hosts.iter().all(is_host) {
        return Some(to_cause(&Error::new(
            ErrorKind::AmbiguousRequest,
            "`Host` must name a host, with a port or without.",
        )));
    }
    None
}

fn is_framed_by_chunks_at_most(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    codings.next().is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

fn is_host(value: &HeaderValue) -> bool {
    Authority::try_from(value.as_bytes()).is_ok_and(|host| !host.as_str().contains('@') && !host.host().is_empty())
}
