//! Turns the client's request into the one that the chosen target wants, and the target's answer into one for the client.
//!
//! 1. Scheme, authority, `Host`, path prefix, the deployment's name wherever the alias stands, and HTTP version are set for the
//!    [`Target`]; one of [another kind](crate::pool::BackendKind::OpenAi) gets the path, the query and the body that it
//!    understands.
//! 2. What concerned only the way to the gateway is removed from headers and query, every inbound credential with it.
//!    `accept-encoding: identity` is set. A [`Handshake`] keeps its upgrade.
//! 3. From the answer hop-by-hop headers and what names infrastructure (`Set-Cookie`, `alt-svc`) are removed; a 101 to a
//!    WebSocket keeps its upgrade. `Location`, `Content-Location`, `operation-location` and `azure-asyncoperation` become
//!    relative to the gateway; those that name a foreign host are dropped.
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
//! **Errors.** The path's own errors, and [`AttemptFailed`] with `Abandoned`, caused by an [`Error`](crate::Error): the request
//! cannot be put in the form that the target takes. It is nobody's failure. Errors of the service below pass.
//!
//! **Cancellation.** Dropping the future drops the request below.

mod future;
mod locations;
mod names;
mod openai;
mod rewrite;

use std::task::{Context, Poll};

use http::header::ACCEPT_ENCODING;
use http::{HeaderValue, Request, Response};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

pub use self::future::ResponseFuture;
use self::future::Way;
use crate::azure::Outcome;
use crate::body::Body;
use crate::context::{AttemptFailed, BasePath, Handshake, Route, shape};
use crate::headers;
use crate::pool::Target;

/// Puts requests in the form that their target takes. See the [module docs](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
#[non_exhaustive]
pub struct ForwardLayer;

impl ForwardLayer {
    /// The layer; there is nothing to configure.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        Forward { inner }
    }
}

/// Puts requests in the form that their target takes. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct Forward<S> {
    inner: S,
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
        let Some(target) = request.extensions().get::<Target>().cloned() else {
            return ResponseFuture::sent(self.inner.call(request), None);
        };
        if let Err(error) = prepare(&mut request, &target) {
            return ResponseFuture::refused(error);
        }
        let base_path = request.extensions().get::<BasePath>().cloned();
        ResponseFuture::sent(self.inner.call(request), Some(Way { target, base_path }))
    }
}

fn prepare(request: &mut Request<Body>, target: &Target) -> Result<(), BoxError> {
    shape::normalise(request);
    let route = Route::find_or_parse(request.extensions(), request.method(), request.uri())?;
    rewrite::point_at(target, &route, request).map_err(|error| AttemptFailed::new(Outcome::Abandoned, error))?;
    // Below, the path is the target's, which may have a prefix.
    request.extensions_mut().get_or_insert(route);
    strip(request);
    Ok(())
}

fn strip(request: &mut Request<Body>) {
    if let Some(uri) = headers::without_query_keys(request.uri()) {
        *request.uri_mut() = uri;
    }
    let is_handshake = request.extensions().get::<Handshake>().is_some();
    let headers = request.headers_mut();
    if is_handshake {
        headers::strip_handshake(headers);
    } else {
        headers::strip_request(headers);
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}
