//! Calls down the stack for what clients say on sockets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, SEC_WEBSOCKET_EXTENSIONS};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::Message;

use super::LONGEST_FRAME;
use super::guard::Guard;
use super::held::Payer;
use super::refusal::{End, no_socket};
use super::socket::{BUFFER, text};
use crate::account::Account;
use crate::answer;
use crate::below::{Below, READY_TIME};
use crate::body::{Body, Collected};
use crate::context::{Handshake, Observation, RewrittenFrame, Route, SocketFrame, Spending};
use crate::headers;
use crate::pool::{Pin, Target};

/// Time that a frame may take to be put together, all of which is in hand.
const AT_HAND: Duration = Duration::from_secs(10);

/// The stack that a client speaks to, and the handshake with which it began.
pub(super) struct Calls<S> {
    service: S,
    head: Parts,
    pub(super) payer: Payer,
}

/// Result of a call down the stack.
pub(super) struct Granted {
    /// The frame as the target wants it; `None` where none was given.
    pub(super) frame: Option<Message>,
    /// `None` without selection.
    pub(super) backend: Option<Arc<str>>,
    pub(super) guard: Guard,
    /// The backend's side of the connection, where it was asked for one.
    pub(super) accepted: Option<OnUpgrade>,
}

impl<S> Calls<S> {
    pub(super) fn new(service: S, mut head: Parts, account: Account) -> Self {
        let observation = head.extensions.get_or_insert_default::<Observation>().clone();
        head.extensions.remove::<Route>();
        head.extensions.insert(Handshake);
        head.headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        Self { service, head, payer: Payer { account, observation } }
    }

    /// The handshake, without anything that the client said.
    pub(super) fn handshake(&self) -> Request<Body> {
        Request::from_parts(self.head.clone(), Body::empty())
    }

    /// The call that a frame stands for.
    pub(super) fn of_frame(&self, frame: SocketFrame, body: Body) -> Request<Body> {
        let mut request = Request::from_parts(self.head.clone(), body);
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.extensions_mut().insert(frame);
        // What one call used is not what the connection did.
        request.extensions_mut().insert(Spending::default());
        request
    }
}

impl<S: Below> Calls<S> {
    /// The same for a frame on a connection that stands at a backend.
    pub(super) async fn later(
        &self,
        frame: SocketFrame,
        said: Bytes,
        backend: Option<&Arc<str>>,
    ) -> Result<Granted, End> {
        let mut request = self.of_frame(frame, Body::from(said));
        if let Some(backend) = backend {
            request.extensions_mut().insert(Pin::required(backend.clone()));
        }
        self.call(request).await
    }

    pub(super) async fn call(&self, request: Request<Body>) -> Result<Granted, End> {
        match self.service.clone().send_once(READY_TIME, request).await {
            Ok(answer) => granted(answer).await,
            Err(error) => Err(End::Refused(Box::new(answer::to_error(&error)))),
        }
    }
}

async fn granted(mut answer: Response<Body>) -> Result<Granted, End> {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let is_error = answer.status().is_client_error() || answer.status().is_server_error();
        return Err(if is_error { End::Refused(Box::new(answer)) } else { no_socket() });
    }
    let frame = answer.extensions_mut().remove::<RewrittenFrame>().and_then(|frame| frame.take());
    let frame = match frame {
        None => None,
        Some(frame) => match frame.collect_up_to(LONGEST_FRAME + BUFFER, AT_HAND).await {
            Ok(Collected::Whole(frame)) => Some(text(frame)?),
            Ok(Collected::Partial(_)) | Err(_) => return Err(no_socket()),
        },
    };
    let backend = answer.extensions().get().map(Target::backend_name);
    let accepted = answer.extensions_mut().remove::<OnUpgrade>();
    let accepted = accepted.filter(|_| headers::names_websocket(answer.headers()));
    let events = answer.extensions_mut().remove();
    Ok(Granted { frame, backend, guard: Guard::new(answer.into_body(), events), accepted })
}
