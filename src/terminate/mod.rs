//! Who is it? Ends the client's credential here and puts [`Client`] into the request.
//!
//! 1. Credentials are looked for in every inbound form, in the order of [`Form`]. The first that identifies a client wins.
//! 2. Two different values of one form are refused: two parsers could choose differently. The same value twice is fine.
//! 3. Every form is removed from headers and query, whichever of them identified the client, and `Cookie` with them.
//! 4. [`Client`] is put into the extensions. Nobody identified: 401.
//!
//! [`TerminateCredentialsLayer::without_clients`] removes everything all the same and asks nobody.
//!
//! It does not decide what the client may do; that is [`AuthorizeLayer`](crate::authorize::AuthorizeLayer).
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{body::Body, context::Client, terminate::{ClientRegistry, TerminateCredentialsLayer}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let clients = ClientRegistry::builder().add_key(Client::new("team-a"), "…a long random key…").build()?;
//! let inner = service_fn(async |request: Request<Body>| {
//!     assert!(!request.headers().contains_key("api-key"));
//!     let client = request.extensions().get::<Client>().expect("terminated above");
//!     Ok::<_, BoxError>(Response::new(Body::from(client.id().to_owned())))
//! });
//! let service = ServiceBuilder::new().layer(TerminateCredentialsLayer::new(clients)).service(inner);
//! let request = Request::get("/openai/models").header("api-key", "…a long random key…".as_bytes()).body(Body::empty())?;
//! assert_eq!(service.oneshot(request).await?.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//!
//! Anything that can tell a client by a credential is an [`Authenticate`], a closure for one:
//!
//! ```
//! # use tower_azure_openai::{context::Client, terminate::{Presented, TerminateCredentialsLayer}};
//! let layer = TerminateCredentialsLayer::new(|presented: &Presented| {
//!     (presented.secret() == b"only-for-a-demo").then(|| Client::new("demo"))
//! });
//! # drop(layer);
//! ```
//!
//! **Errors.** [`Error`](crate::Error): 401 when nobody is identified, 400 when one form has two values. Errors of the service
//! below pass.
//!
//! **Cancellation.** Dropping the future ends the authentication or the request below, whichever is running.

mod authenticate;
mod future;
mod presented;
mod registry;

use std::fmt;
use std::task::{Context, Poll};

use http::Request;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

pub use self::authenticate::Authenticate;
pub use self::future::ResponseFuture;
pub use self::presented::{Form, Presented};
pub use self::registry::{ClientRegistry, ClientRegistryBuilder, KeyDigest, RegistryError};
#[cfg(doc)]
use crate::context::Client;
use crate::headers;

/// Ends the client's credential. See the [module docs](self).
#[derive(Clone)]
#[must_use]
pub struct TerminateCredentialsLayer<A = ClientRegistry> {
    authenticate: Option<A>,
}

impl<A: Authenticate> TerminateCredentialsLayer<A> {
    /// Admits whom `authenticate` identifies.
    pub const fn new(authenticate: A) -> Self {
        Self { authenticate: Some(authenticate) }
    }
}

impl TerminateCredentialsLayer {
    /// Admits everybody, without a [`Client`]. Credentials are removed all the same.
    pub const fn without_clients() -> Self {
        Self { authenticate: None }
    }
}

impl<S, A: Clone> Layer<S> for TerminateCredentialsLayer<A> {
    type Service = TerminateCredentials<S, A>;

    fn layer(&self, inner: S) -> Self::Service {
        TerminateCredentials { inner, authenticate: self.authenticate.clone() }
    }
}

impl<A> fmt::Debug for TerminateCredentialsLayer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = self.authenticate.is_some();
        f.debug_struct("TerminateCredentialsLayer").field("clients", &clients).finish_non_exhaustive()
    }
}

/// Ends the client's credential. See the [module docs](self).
#[derive(Clone)]
pub struct TerminateCredentials<S, A = ClientRegistry> {
    inner: S,
    authenticate: Option<A>,
}

impl<S, A, ReqBody> Service<Request<ReqBody>> for TerminateCredentials<S, A>
where
    S: Service<Request<ReqBody>> + Clone,
    S::Error: Into<BoxError>,
    A: Authenticate,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S, A, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let presented = match presented::find(&request) {
            Ok(presented) => presented,
            Err(error) => return ResponseFuture::refused(error),
        };
        headers::strip_credentials(request.headers_mut());
        if let Some(uri) = headers::without_query_keys(request.uri()) {
            *request.uri_mut() = uri;
        }
        let Some(authenticate) = &self.authenticate else {
            return ResponseFuture::called(self.inner.call(request));
        };
        // The service that is ready goes into the future; its clone waits for a readiness of its own.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        ResponseFuture::authenticating(authenticate.clone(), presented, ready, request)
    }
}

impl<S: fmt::Debug, A> fmt::Debug for TerminateCredentials<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TerminateCredentials").field("inner", &self.inner).finish_non_exhaustive()
    }
}
