use http::header::{ALLOW, CONNECTION, HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use memchr::memchr;

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
    // HTTP/2 has it in the URI.
    let is_authority_clear = request.uri().authority().is_none_or(is_clear);
    if !is_authority_clear || !hosts.iter().all(is_host) {
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
    is_plain(value.as_bytes()) || Authority::try_from(value.as_bytes()).is_ok_and(|host| is_clear(&host))
}

fn is_clear(authority: &Authority) -> bool {
    !authority.as_str().contains('@') && !authority.host().is_empty()
}

/// Tells whether a name, or an IPv4 address, stands there with or without a port, as nearly always: to parse one makes a copy of it.
fn is_plain(host: &[u8]) -> bool {
    let (name, port) = match memchr(b':', host) {
        Some(colon) => (&host[..colon], &host[colon + 1..]),
        None => (host, &b""[..]),
    };
    let is_of_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !name.is_empty() && name.iter().all(is_of_a_name) && port.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_plain_is_an_authority(host in "[a-z0-9.:@\\[\\]_%é -]{0,12}(:[0-9a]{0,7})?") {
            let is_one = Authority::try_from(host.as_bytes())
                .is_ok_and(|host| !host.as_str().contains('@') && !host.host().is_empty());
            prop_assert!(!is_plain(host.as_bytes()) || is_one, "{host}");
        }
    }

    #[test]
    fn hosts_as_clients_send_them_are_plain() {
        for host in ["gateway.contoso.example", "localhost:8080", "10.0.0.1:443", "a-b"] {
            assert!(is_plain(host.as_bytes()), "{host}");
        }
        for other in ["", ":80", "[::1]:80", "a:80:80", "a@b", "a b"] {
            assert!(!is_plain(other.as_bytes()), "{other}");
        }
    }
}
