//! One line for every request: client, alias, status, attempts, backend, duration.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;
use tower::BoxError;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Attempts, Client, Route};

use crate::output;

const BACKEND: HeaderName = HeaderName::from_static("x-gateway-backend");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-gateway-attempts");

/// What is known of a request so far. The line is written when it is dropped: after the last byte, when the client left, or
/// with the handshake of a WebSocket.
#[derive(Debug)]
pub(crate) struct Entry {
    started: Instant,
    attempts: Attempts,
    noted: Noted,
    status: Option<StatusCode>,
}

/// Who called and for what, once that is known.
#[derive(Clone, Debug, Default)]
struct Noted(Arc<OnceLock<(Option<Client>, Option<Route>)>>);

/// Notes who calls and for what. Belongs below the layers that find it out.
pub(crate) fn note(request: Request<Body>) -> Request<Body> {
    let extensions = request.extensions();
    if let Some(Noted(noted)) = extensions.get() {
        let _ = noted.set((extensions.get().cloned(), extensions.get().cloned()));
    }
    request
}

impl Entry {
    /// Starts the clock for a request.
    pub(crate) fn start<B>(request: &mut Request<B>) -> Self {
        let entry = Self { started: Instant::now(), attempts: Attempts::new(), noted: Noted::default(), status: None };
        request.extensions_mut().insert(entry.attempts.clone());
        request.extensions_mut().insert(entry.noted.clone());
        entry
    }

    /// Adds the headers that tell who answered.
    pub(crate) fn add_headers(&self, answer: &mut Response<Body>) {
        let backend = self.attempts.last().and_then(|target| HeaderValue::from_str(target.backend()).ok());
        if let Some(backend) = backend {
            answer.headers_mut().insert(BACKEND, backend);
        }
        answer.headers_mut().insert(ATTEMPTS, HeaderValue::from(self.attempts.sent()));
    }

    /// Who called, once that is known.
    pub(crate) fn client(&self) -> Option<&Client> {
        self.noted.0.get().and_then(|(client, _)| client.as_ref())
    }

    /// Ends with the body of the answer.
    pub(crate) fn end_with(mut self, answer: Response<Body>) -> Response<Logged> {
        self.status = Some(answer.status());
        answer.map(|body| Logged { body, _entry: self })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let (client, route) =
            self.noted.0.get().map_or((None, None), |(client, route)| (client.as_ref(), route.as_ref()));
        let target = self.attempts.last();
        tracing::info!(
            client = client.map(Client::id),
            alias = route.and_then(Route::alias).map(output::cut),
            operation = route.map(|route| route.operation().as_str()),
            // A client that left before the head of the answer got none.
            status = self.status.map_or(499, |status| status.as_u16()),
            attempts = self.attempts.sent(),
            backend = target.as_ref().map(|target| target.backend()),
            duration_ms = self.started.elapsed().as_millis() as u64,
            "request"
        );
    }
}

/// The body of an answer with its line in the log.
#[derive(Debug)]
pub(crate) struct Logged {
    body: Body,
    _entry: Entry,
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
