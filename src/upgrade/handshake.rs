//! Handshakes of WebSockets (RFC 6455 §4): which requests are one, and the answer that grants one.

use http::header::{
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as HttpBody;
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::speech::Speech;
use crate::azure::operation::Operation;
use crate::body::Body;
use crate::context::{Handshake, Route, is_transcription};
use crate::error::{Error, ErrorKind};
use crate::headers::{self, query_parameters};

/// The answer that grants a WebSocket without extensions, in the first protocol that the client offers and that is no key.
pub(super) fn grant(asked: &HeaderMap) -> Result<Response<Body>, Error> {
    let key = asked.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let (Some(key), true) = (key, asked.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13")) else {
        return Err(Error::new(ErrorKind::AmbiguousRequest, "This is not the handshake of a WebSocket of version 13."));
    };
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| {
        Error::new(ErrorKind::AmbiguousRequest, "This is not the handshake of a WebSocket of version 13.")
    })?;
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let granted = answer.headers_mut();
    headers::upgrade_to_websocket(granted);
    granted.insert(SEC_WEBSOCKET_ACCEPT, accept);
    let offered = asked.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let protocol = offered.flat_map(|list| list.split(',')).map(str::trim).find(|name| !name.contains('.'));
    if let Some(protocol) = protocol.and_then(|name| HeaderValue::from_str(name).ok()) {
        granted.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(answer)
}

/// Connection that was taken of a handshake.
pub(super) enum Taken {
    Nothing,
    /// The connection of a client that is accepted before a backend is found.
    Accepted(OnUpgrade, Speech),
    /// The connection of a client whose handshake a backend answers.
    Passed(OnUpgrade),
}

/// The connection of a client that asks for a WebSocket where there may be one; marks the request.
pub(super) fn take<B: HttpBody>(request: &mut Request<B>) -> Result<Taken, Error> {
    if !is_handshake(request) {
        return Ok(Taken::Nothing);
    }
    let (speech, is_silent) = match endpoint(request) {
        Some((route, "realtime")) if route.operation() == Operation::Realtime => {
            (Speech::Realtime, names_model_later(&route, request.uri()))
        }
        Some((route, "responses")) if route.operation() == Operation::Responses => (Speech::Responses, true),
        _ => return Ok(Taken::Nothing),
    };
    let Some(client) = request.extensions_mut().remove::<OnUpgrade>() else {
        return match speech {
            Speech::Realtime => Ok(Taken::Nothing),
            Speech::Responses => Err(Error::new(
                ErrorKind::NotSupported,
                "This server cannot switch protocols. Use HTTP, streamed if need be.",
            )),
        };
    };
    if is_silent {
        return Ok(Taken::Accepted(client, speech));
    }
    request.extensions_mut().insert(Handshake);
    // What is compressed cannot be read.
    request.headers_mut().remove(SEC_WEBSOCKET_EXTENSIONS);
    Ok(Taken::Passed(client))
}

/// Tells whether a realtime session is one for transcription that does not say in its head which model it uses.
fn names_model_later(route: &Route, uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    let names = |name: &str| ["model", "deployment"].iter().any(|known| name.eq_ignore_ascii_case(known));
    route.alias().is_none() && is_transcription(query) && !query_parameters(query).any(|(name, ..)| names(&name))
}

/// A body would be read by one side as part of the request, by the other as the first bytes of the connection.
fn is_handshake<B: HttpBody>(request: &Request<B>) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && headers::names_websocket(request.headers())
        && request.body().is_end_stream()
}

/// Returns where the path leads to, and its last segment.
fn endpoint<B>(request: &Request<B>) -> Option<(Route, &str)> {
    let path = request.uri().path();
    let route = Route::find_or_parse(request.extensions(), request.method(), request.uri()).ok()?;
    Some((route, path.strip_suffix('/').unwrap_or(path).rsplit('/').next()?))
}
