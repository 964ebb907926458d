//! May this client use this alias?
//!
//! 1. Without a [`Client`] in the extensions, or with one that is not held to a list of aliases, everything passes.
//! 2. A request that names an alias passes if the client may use it, else 403 `alias_not_allowed`.
//! 3. A request that names none passes if no model can be reached through it: GET, HEAD, DELETE, and calls to files, uploads
//!    and vector stores. Else 403 `operation_not_allowed`: a list of aliases that can be walked around is none.
//!
//! It does not look at residency, which binds selection.
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{authorize::AuthorizeLayer, body::Body, context::Client, respond::RespondLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let service = ServiceBuilder::new()
//!     .layer(RespondLayer::new())
//!     .layer(AuthorizeLayer::new())
//!     .service(service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty()))));
//! let request = Request::post("/openai/deployments/o3/chat/completions")
//!     .extension(Client::new("team-a").allow(["gpt-4o"]))
//!     .body(Body::empty())?;
//! assert_eq!(service.oneshot(request).await?.status(), StatusCode::FORBIDDEN);
//! # Ok(())
//! # }
//! ```
//!
//! **Errors.** [`Error`] as above, or of a path that cannot be read. Errors of the service below pass.
//!
//! **Cancellation.** Dropping the future drops the request below.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Method, Request};
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use crate::azure::operation::Operation;
use crate::context::{Client, Route};
use crate::error::{Error, ErrorKind, polled_again};

/// Holds clients to their aliases. See the [module docs](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
#[non_exhaustive]
pub struct AuthorizeLayer;

impl AuthorizeLayer {
    /// The layer; what a client may do stands with the client.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize { inner }
    }
}

/// Holds clients to their aliases. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct Authorize<S> {
    inner: S,
}

impl<S, ReqBody> Service<Request<ReqBody>> for Authorize<S>
where
    S: Service<Request<ReqBody>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match check(&request) {
            Ok(()) => ResponseFuture { state: State::Called { future: self.inner.call(request) } },
            Err(error) => ResponseFuture { state: State::Refused { error: Some(error) } },
        }
    }
}

fn check<B>(request: &Request<B>) -> Result<(), Error> {
    let Some(client) = request.extensions().get::<Client>().filter(|client| client.is_restricted()) else {
        return Ok(());
    };
    let route = Route::find_or_parse(request.extensions(), request.method(), request.uri())?;
    match route.alias() {
        Some(alias) if client.may_use(alias) => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::AliasNotAllowed,
            "This client may not use this deployment. Ask for it to be allowed.",
        )),
        None if reaches_no_model(request.method(), route.operation()) => Ok(()),
        None => Err(Error::new(
            ErrorKind::OperationNotAllowed,
            "This client is held to certain deployments and may not make calls that name none in their path.",
        )),
    }
}

fn reaches_no_model(method: &Method, operation: Operation) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::DELETE) && operation != Operation::Realtime
        || matches!(operation, Operation::Files | Operation::Uploads | Operation::VectorStores)
}

pin_project! {
    /// The future of [`Authorize`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjected]
    enum State<F> {
        Refused { error: Option<Error> },
        Called { #[pin] future: F },
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjected::Refused { error } => {
                Poll::Ready(Err(error.take().map_or_else(polled_again, Into::into)))
            }
            StateProjected::Called { future } => future.poll(cx).map_err(Into::into),
        }
    }
}
