//! Holds a streamed 200 until its first content: an error that comes before it becomes the status it stands for.
//!
//! Azure OpenAI sends rate limits and failures also *inside* a stream that began with 200. Once the client has the head, nothing
//! can be repeated and nobody above can tell the failure from a success. So the head waits for the first event that says
//! something, which takes no longer than the first word of the answer does:
//!
//! 1. Concerned are 200 answers with `content-type: text/event-stream`, not encoded, to calls of chat, completions, responses
//!    and threads (runs among them). Everything else passes at once.
//! 2. Held back are the head and the events of the preamble: comments, chunks that say nothing yet
//!    (content-filter verdicts of the prompt, the assistant's role), and what announces a response, a thread, a run, a step or a
//!    message.
//! 3. The first other event *commits*: head, preamble and that event go to the client at once, byte for byte, and everything
//!    after them as it arrives. Nothing is read ahead of the client from then on.
//! 4. The preamble commits as well when it holds 64 events, reaches 256 KiB, or lasts 30 s.
//!    An event that is longer than that passes like any other. A bound of zero holds nothing back.
//! 5. An error before content becomes an answer with the status that it stands for: 429, 400 for the
//!    content filter, 500 or 503; with the headers of the stream, the code and the message of the error, and its time to wait.
//!    The rest of the stream is dropped, which ends the upstream request. A `response.failed` with a null error waits for the
//!    event that has the reason.
//! 6. A preamble that breaks off is a failed attempt ([`AttemptFailed`]). So is one that ends, in whatever state, without content
//!    and without its closing event: the answer stays as it came, marked with
//!    [`Outcome::Unfinished`]. `[DONE]` alone closes nothing that had begun. An answer that is only read again (not `POST`)
//!    may have nothing left to tell, and passes.
//! 7. All three are marked as of the preamble ([`Attempt::is_in_preamble`]), because an error this late proves
//!    nothing: [failover](crate::failover) sends the request on where a repeat is safe and nowhere else, since what the stream
//!    announced (a run, a stored response) may exist on the first backend.
//!
//! 8. With [`keep_alive`](StreamCommitLayer::keep_alive), any stream of events that is silent for so long after its commit gets a
//!    comment between two events, for proxies that take silence for an end; not where its head tells a length. Clients
//!    ignore comments, and the clocks of the client below are not moved by them.
//!
//! It belongs below [selection](crate::select) or the [circuit breaker](crate::circuit), which then learns from the status as from
//! any other, and frees the place of a probe when the stream commits. It repeats nothing itself, and does not look at a stream that has begun: what fails
//! after the commit is the client's to see, unchanged, and is noticed above in passing.
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{body::Body, stream_commit::StreamCommitLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let azure = service_fn(async |_: Request<Body>| {
//!     let events = "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n\
//!                   data: {\"error\":{\"code\":\"429\",\"message\":\"Try again in 7 seconds.\"}}\n\n";
//!     Response::builder().header("content-type", "text/event-stream").body(Body::from(events))
//! });
//! let service = ServiceBuilder::new().layer(StreamCommitLayer::new()).service(azure);
//! let chat = Request::post("/openai/deployments/gpt-4o/chat/completions").body(Body::empty())?;
//! let answer = service.oneshot(chat).await?;
//! assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
//! assert_eq!(answer.headers()["retry-after-ms"], "7000");
//! # Ok(())
//! # }
//! ```
//!
//! Impatient clients want their head sooner:
//!
//! ```
//! # use std::time::Duration;
//! # use tower_azure_openai::stream_commit::StreamCommitLayer;
//! let layer = StreamCommitLayer::new().preamble_time(Duration::from_secs(5)).preamble_events(16);
//! let layer = layer.keep_alive(Duration::from_secs(15));
//! # drop(layer);
//! ```
//!
//! **Order.** Above failover, selection or the circuit breaker these would take the 200 of a stream that fails for a success: they
//! refuse the request with [`Misordered`](crate::ErrorKind::Misordered).
//!
//! **Errors.** [`AttemptFailed`] when the preamble breaks off; errors of the service below pass.
//!
//! **Cancellation.** Dropping the future or the body ends the upstream request.

mod future;
mod keep_alive;
mod preamble;

use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

pub use self::future::ResponseFuture;
#[cfg(doc)]
use crate::azure::Outcome;
use crate::azure::stream_event;
use crate::below::Inner;
use crate::body::Body;
use crate::context::Route;
use crate::context::order::{self, LayerName};
#[cfg(doc)]
use crate::context::{Attempt, AttemptFailed};

/// Number of events that are held.
pub(crate) const PREAMBLE_EVENTS: usize = 64;
/// Number of bytes that are looked at: 256 KiB. A response announces itself with all its instructions and tools.
pub(crate) const PREAMBLE_BYTES: usize = 256 * 1024;
/// Time for which the head is held after it came.
pub(crate) const PREAMBLE_TIME: Duration = Duration::from_secs(30);

/// Holds a streamed 200 until its first content. See the [module docs](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct StreamCommitLayer {
    bounds: Bounds,
    keep_alive: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    events: usize,
    bytes: usize,
    time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { events: PREAMBLE_EVENTS, bytes: PREAMBLE_BYTES, time: PREAMBLE_TIME }
    }
}

/// Plan for the answer to one request, if it is a stream.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// `None` holds nothing.
    bounds: Option<Bounds>,
    /// True if it is an answer from its beginning.
    begins: bool,
    keep_alive: Option<Duration>,
}

impl Bounds {
    const fn hold_nothing(&self) -> bool {
        self.events == 0 || self.bytes == 0 || self.time.is_zero()
    }
}

impl StreamCommitLayer {
    /// With the defaults: 64 events, 256 KiB, 30 s.
    pub const fn new() -> Self {
        let bounds = Bounds { events: PREAMBLE_EVENTS, bytes: PREAMBLE_BYTES, time: PREAMBLE_TIME };
        Self { bounds, keep_alive: None }
    }

    /// Commits when so many events are held.
    pub const fn preamble_events(mut self, events: usize) -> Self {
        self.bounds.events = events;
        self
    }

    /// Commits when so many bytes told nothing. A stream that is held takes at most twice this, and one chunk, of memory.
    pub const fn preamble_bytes(mut self, bytes: usize) -> Self {
        self.bounds.bytes = bytes;
        self
    }

    /// Commits when the head has been held so long.
    pub const fn preamble_time(mut self, time: Duration) -> Self {
        self.bounds.time = time;
        self
    }

    /// Sends a comment whenever a stream that is committed has been silent for so long. Zero, the default, never does.
    pub const fn keep_alive(mut self, silence: Duration) -> Self {
        self.keep_alive = if silence.is_zero() { None } else { Some(silence) };
        self
    }
}

impl Default for StreamCommitLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for StreamCommitLayer {
    type Service = StreamCommit<S>;

    fn layer(&self, inner: S) -> StreamCommit<S> {
        StreamCommit { inner, layer: self.clone() }
    }
}

/// Holds a streamed 200 until its first content. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct StreamCommit<S> {
    inner: S,
    layer: StreamCommitLayer,
}

impl<S> StreamCommit<S> {
    fn plan_for<B>(&self, request: &Request<B>) -> Plan {
        let StreamCommitLayer { bounds, keep_alive } = self.layer;
        let holds = !bounds.hold_nothing()
            && Route::find_or_parse(request.extensions(), request.method(), request.uri())
                .is_ok_and(|route| stream_event::is_spoken_by(route.operation()));
        Plan { bounds: holds.then_some(bounds), begins: request.method() == Method::POST, keep_alive }
    }
}

impl<S: Inner<ReqBody>, ReqBody> Service<Request<ReqBody>> for StreamCommit<S> {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        order::note(LayerName::StreamCommit, request.extensions_mut());
        let plan = self.plan_for(&request);
        ResponseFuture::new(self.inner.call(request), plan)
    }
}
