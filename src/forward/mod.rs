//! Turns the client's request into the one that the chosen target wants, and the target's answer into one for the client.
//!
//! 1. Scheme, authority, `Host`, path prefix, the deployment's name wherever the alias stands, and HTTP version are set for the
//!    [`Target`]; one of [another kind](crate::pool::BackendKind::OpenAi) gets the path, the query and the body that it
//!    understands.
//!    The lines of a batch file are rewritten as they pass; of one that was not read before, the length is not announced.
//! 2. Of the headers, and of the trailers, the target gets those of a [positive list](#headers-to-backends); keys leave the
//!    query. `accept-encoding: identity` is set, and `content-length: 0` where a `POST`, `PUT` or `PATCH` has no body.
//! 3. From the answer hop-by-hop headers and what names infrastructure or binds the client to it (`Set-Cookie`, `alt-svc`, `via`,
//!    `server`, `refresh`, reporting, whatever holds the name of the backend's host) are removed, as are credentials, `x-gateway-*`
//!    and what is said of a host to browsers (CORS, HSTS, CSP), which is the gateway's; a 101 to a WebSocket keeps its upgrade.
//!    `Location`, `Content-Location`, `Link`, `operation-location`, `azure-asyncoperation` and whatever ends in `-location`, `-url`
//!    or `-uri` become relative to the gateway; those that name a foreign host are dropped. `WWW-Authenticate` says no more than
//!    `Bearer`.
//!
//! It chooses nothing ([`SelectBackendLayer`](crate::select::SelectBackendLayer) above does) and adds no credential
//! ([`ReissueCredentialsLayer`](crate::reissue::ReissueCredentialsLayer) below does). A request without a `Target` passes
//! untouched, and so does its answer. The [`Route`] is taken from the extensions, or read from the path.
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::pool::{Backend, Deployment, Pool};
//! use tower_azure_openai::{body::Body, forward::ForwardLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let backend = Backend::new("east", "https://east.example").add_deployment(Deployment::new("gpt-4o-east").alias("gpt-4o"));
//! let target = Pool::builder().add_backend(backend).build()?.targets("gpt-4o").remove(0);
//! let echo = service_fn(async |request: Request<Body>| {
//!     Ok::<_, BoxError>(Response::new(Body::from(request.uri().to_string())))
//! });
//! let service = ServiceBuilder::new().layer(ForwardLayer::new()).service(echo);
//! let request = Request::post("/openai/deployments/gpt-4o/embeddings").header("api-key", "key of the client");
//! let answer = service.oneshot(request.extension(target).body(Body::empty())?).await?;
//! let sent_to = answer.into_body().collect().await?.to_bytes();
//! assert_eq!(sent_to, "https://east.example/openai/deployments/gpt-4o-east/embeddings");
//! # Ok(())
//! # }
//! ```
//!
//! # Headers to backends
//!
//! - what describes the body: `content-encoding`, `content-language`, `content-length`, `content-type`;
//! - `accept`, `host` and `user-agent`;
//! - `openai-*`, `aoai-*`, `anthropic-beta`, `anthropic-version`, `extra-parameters`, `idempotency-key`, `x-client-request-id`,
//!   `x-ms-client-request-id`, `x-ms-oai-image-generation-deployment`;
//! - `connection`, `upgrade` and `sec-websocket-*` of a [`Handshake`];
//! - what [`ForwardLayer::headers`] adds.
//!
//! Nothing else, so that no front end's header and no client's address gets through, and Azure's limit of ten custom headers (431)
//! is not met. A name with `_` that would be on this list with `-`, or mean something to a gateway, is refused: a backend that
//! reads `_` as `-` must not see what nobody has looked at.
//!
//! **Order.** Above selection there is no target yet, and below re-issue the backend's own credential would be taken off: both are
//! refused with [`Misordered`](crate::ErrorKind::Misordered). Left out, re-issue and the crate's client refuse the request.
//!
//! **Errors.** The path's own errors, and [`AttemptFailed`] with `Abandoned`, caused by an [`Error`](crate::Error): the request
//! cannot be put in the form that the target takes. It is nobody's failure. Errors of the service below pass.
//!
//! **Cancellation.** Dropping the future drops the request below.

mod future;
mod lines;
mod locations;
mod names;
mod openai;
mod passed;
mod rewrite;
mod trailers;

use std::task::{Context, Poll};

use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH};
use http::{HeaderValue, Method, Request, Response};
use http_body::Body as _;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

pub use self::future::ResponseFuture;
use self::future::Way;
#[cfg(any(fuzzing, test))]
pub(crate) use self::locations::make_relative;
pub use self::passed::InvalidHeaderPattern;
use self::passed::Passed;
use self::trailers::Trimmed;
use crate::azure::Outcome;
use crate::body::Body;
use crate::context::order::{self, LayerName};
use crate::context::{AttemptFailed, BasePath, Handshake, Route, shape};
use crate::headers;
use crate::pool::Target;

/// Puts requests in the form that their target takes. See the [module docs](self).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ForwardLayer {
    passed: Passed,
}

impl ForwardLayer {
    /// Passes the headers of the [list](self#headers-to-backends).
    pub fn new() -> Self {
        Self::default()
    }

    /// Passes further headers of requests: exact names, or prefixes that end in `*`. The last call holds.
    ///
    /// # Errors
    /// One of them is no name, or names a credential, what concerns one connection, or a deployment beside the alias.
    pub fn headers<'a>(mut self, patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidHeaderPattern> {
        self.passed = Passed::new(patterns)?;
        Ok(self)
    }
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        Forward { inner, passed: self.passed.clone() }
    }
}

/// Puts requests in the form that their target takes. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct Forward<S> {
    inner: S,
    passed: Passed,
}

impl<S, ResBody> Service<Request<Body>> for Forward<S>
where
    S: Service<Request<Body>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Err(error) = order::enter(LayerName::Forward, request.extensions_mut()) {
            return ResponseFuture::refused(error.into());
        }
        let Some(target) = request.extensions().get::<Target>().cloned() else {
            return ResponseFuture::sent(self.inner.call(request), None);
        };
        if let Err(error) = prepare(&mut request, &target, &self.passed) {
            return ResponseFuture::refused(error);
        }
        let base_path = request.extensions().get::<BasePath>().cloned();
        ResponseFuture::sent(self.inner.call(request), Some(Way { target, base_path }))
    }
}

fn prepare(request: &mut Request<Body>, target: &Target, passed: &Passed) -> Result<(), BoxError> {
    shape::normalise(request);
    let mut route = Route::find_or_parse(request.extensions(), request.method(), request.uri())?;
    if order::is_path_changed(request.uri(), request.extensions()) {
        // Places in the path that was read are none in this one.
        route = route.by_path_of(&Route::parse(request.method(), request.uri())?);
    }
    let pointed = passed.check(request.headers()).and_then(|()| rewrite::point_at(target, &route, request));
    pointed.map_err(|error| AttemptFailed::new(Outcome::Abandoned, error))?;
    // Below, the path is the target's, which may have a prefix.
    request.extensions_mut().get_or_insert(route);
    strip(request, passed);
    order::forwarded(target, request.extensions_mut());
    Ok(())
}

fn strip(request: &mut Request<Body>, passed: &Passed) {
    if let Some(uri) = headers::without_query_keys(request.uri()) {
        *request.uri_mut() = uri;
    }
    if request.extensions().get::<Handshake>().is_some() {
        passed.strip_handshake(request.headers_mut());
    } else {
        passed.strip(request.headers_mut());
    }
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    fix_length(request);
    if request.body().is_end_stream() {
        // RFC 9110 §8.6: where a method anticipates content, saying nothing is not saying that there is none.
        if matches!(*request.method(), Method::PATCH | Method::POST | Method::PUT) {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else if request.body().as_bytes().is_none() {
        let inner = std::mem::take(request.body_mut());
        *request.body_mut() = Body::new(Trimmed { inner, passed: passed.clone() });
    }
}

/// Tells whether the length stands in one header, and as every reader would write it.
fn is_said_once(request: &Request<Body>) -> bool {
    let mut said = request.headers().get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let is_plain = |said: &[u8]| said == b"0" || said.iter().all(u8::is_ascii_digit) && !said.starts_with(b"0");
    said.next().is_some_and(is_plain) && said.next().is_none()
}

/// Says how long the body is, where the client said how long the one was that a layer in between has changed.
fn fix_length(request: &mut Request<Body>) {
    let Some(said) = request.headers().get(CONTENT_LENGTH) else { return };
    let said: Option<u64> = said.to_str().ok().and_then(|said| said.parse().ok());
    match request.body().size_hint().exact() {
        Some(length) if said == Some(length) && is_said_once(request) => {}
        Some(length) => drop(request.headers_mut().insert(CONTENT_LENGTH, length.into())),
        None if order::is_body_as_read(request.body(), request.extensions()) => {}
        None => drop(request.headers_mut().remove(CONTENT_LENGTH)),
    }
}
