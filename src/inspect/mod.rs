//! What is asked for? Reads the path, collects the body within its bounds, and puts [`Route`](crate::context::Route) into
//! the request.
//!
//! 1. The path is read; one outside the API (404), or one that two parsers could read differently (400), ends here. So does a
//!    request that names two hosts (400): in its target and in `Host`, or in two of those.
//! 2. A body above [`request_body`](InspectLayer::request_body) ends with 413, at once when `content-length` says so; one
//!    that has not arrived after [`request_timeout`](InspectLayer::request_timeout) ends with 408. Both are the client's
//!    matter and teach no circuit anything.
//! 3. A body up to [`replay_limit`](InspectLayer::replay_limit) is collected before anything is sent: it can be sent again.
//!    One account, [`replay_memory`](InspectLayer::replay_memory), bounds what all requests hold together; the charge of a
//!    body is given back when the last copy of its bytes is gone.
//! 4. A larger body, or one for which the account has no room, is streamed: it is sent once, under the same limits. The last
//!    eighth of the account is for bodies up to [`SMALL_BODY`], so that short requests fit while uploads fill the rest.
//! 5. Whether the client asked for a stream is read from the JSON of calls that can stream, and from nothing else.
//!
//! A `Route` that is there already is kept. Trailers of a collected body are dropped. The layer looks at no credential and
//! changes neither the path nor a byte of the body.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{body::Body, context::Route, inspect::InspectLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let service = ServiceBuilder::new().layer(InspectLayer::new()).service(service_fn(async |request: Request<Body>| {
//!     let route = request.extensions().get::<Route>().expect("inspected above");
//!     assert_eq!((route.alias(), route.is_streaming()), (Some("gpt-4o"), true));
//!     Ok::<_, BoxError>(Response::new(Body::empty()))
//! }));
//! let request = Request::post("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21")
//!     .header("content-type", "application/json")
//!     .body(Body::from(r#"{"messages":[],"stream":true}"#))?;
//! service.oneshot(request).await?;
//! # Ok(())
//! # }
//! ```
//!
//! **Errors.** [`Error`](crate::Error) as above, and 400 for an upload that the client broke off. A streamed body fails with
//! the same error.
//!
//! **Cancellation.** Dropping the future drops what was collected, or the request below.

mod account;
mod collect;
mod future;
mod streaming;
mod upload;

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Request, Uri};
use http_body::Body as HttpBody;
use tokio::time::Instant;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use self::account::Account;
pub use self::account::SMALL_BODY;
use self::collect::Bounds;
pub use self::future::ResponseFuture;
use crate::body::Body;
use crate::context::Route;
use crate::error::{Error, ErrorKind};

/// The largest body: 64 MiB.
pub const DEFAULT_REQUEST_BODY: usize = 64 * 1024 * 1024;
/// The largest body that is collected: 32 MiB.
pub const DEFAULT_REPLAY_LIMIT: usize = 32 * 1024 * 1024;
/// All collected bodies together: 256 MiB.
pub const DEFAULT_REPLAY_MEMORY: usize = 256 * 1024 * 1024;
/// Until a body has arrived: 60 s.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Finds out what is asked for. See the [module docs](self).
///
/// All services made from one layer, and from its clones, share one account of replay memory.
#[derive(Clone)]
#[must_use]
pub struct InspectLayer {
    bounds: Bounds,
    account: Account,
}

impl InspectLayer {
    /// With the defaults.
    pub fn new() -> Self {
        let bounds = Bounds {
            request_body: DEFAULT_REQUEST_BODY,
            replay_limit: DEFAULT_REPLAY_LIMIT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
        };
        Self { bounds, account: Account::new(DEFAULT_REPLAY_MEMORY) }
    }

    /// The largest body, in bytes. Default [`DEFAULT_REQUEST_BODY`].
    pub const fn request_body(mut self, bytes: usize) -> Self {
        self.bounds.request_body = bytes;
        self
    }

    /// The largest body that is collected, in bytes. Default [`DEFAULT_REPLAY_LIMIT`].
    pub const fn replay_limit(mut self, bytes: usize) -> Self {
        self.bounds.replay_limit = bytes;
        self
    }

    /// All collected bodies together, in bytes, in an account of its own. Default [`DEFAULT_REPLAY_MEMORY`].
    pub fn replay_memory(mut self, bytes: usize) -> Self {
        self.account = Account::new(bytes);
        self
    }

    /// From the head of a request until its body has arrived. Default [`DEFAULT_REQUEST_TIMEOUT`].
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.bounds.request_timeout = timeout;
        self
    }

    /// What collected bodies hold now, in bytes.
    #[must_use]
    pub fn replay_memory_in_use(&self) -> usize {
        self.account.in_use()
    }
}

impl Default for InspectLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for InspectLayer {
    type Service = Inspect<S>;

    fn layer(&self, inner: S) -> Inspect<S> {
        Inspect { inner, layer: self.clone() }
    }
}

impl fmt::Debug for InspectLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InspectLayer").field("bounds", &self.bounds).field("account", &self.account).finish()
    }
}

/// Finds out what is asked for. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct Inspect<S> {
    inner: S,
    layer: InspectLayer,
}

impl<S, ReqBody> Service<Request<ReqBody>> for Inspect<S>
where
    S: Service<Request<Body>> + Clone,
    S::Error: Into<BoxError>,
    ReqBody: HttpBody<Data = Bytes> + Send + 'static,
    ReqBody::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let route = match Route::find_or_parse(request.extensions(), request.method(), request.uri()) {
            Ok(route) => route,
            Err(error) => return ResponseFuture::refused(error),
        };
        if names_two_hosts(request.uri(), request.headers()) {
            let message = "The request names two hosts. Send one.";
            return ResponseFuture::refused(Error::new(ErrorKind::AmbiguousRequest, message));
        }
        let (head, body) = request.map(Body::new).into_parts();
        // The service that is ready goes into the future; its clone waits for a readiness of its own.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let InspectLayer { bounds, account } = self.layer.clone();
        let body = collect::collect(body, bounds, account, Instant::now());
        ResponseFuture::collecting(future::Waiting { ready, head, route }, body)
    }
}

/// Whoever stands before the gateway may have decided by another of them.
fn names_two_hosts(uri: &Uri, headers: &HeaderMap) -> bool {
    let hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let mut named = uri.authority().map(|authority| authority.as_str().as_bytes()).into_iter().chain(hosts);
    named.next().is_some_and(|first| named.any(|other| !other.eq_ignore_ascii_case(first)))
}
