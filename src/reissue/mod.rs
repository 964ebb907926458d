//! Shows a backend its own credential, and none of the client's.
//!
//! 1. From a request with a [`Target`] every inbound credential is removed, in headers and query.
//! 2. Then the target's one credential is added: `api-key`, or `Authorization: Bearer`, which also carries the key of a backend
//!    that is [not of Azure](BackendKind::OpenAi). A token that is valid is there without waiting; otherwise the request waits
//!    for the fetch that all share.
//! 3. After a 401 to a token another one is asked for. When there is one, [`Attempt::has_fresh_credential`] on the answer tells failover
//!    that one repeat on the same target makes sense; when there is none, the target counts as without identity
//!    ([`Target::refuse_token`]) until it takes a token.
//! 4. A target with [`Credential::pass_through`] is shown the token of the [`Client`], and nothing when it has none. Its 401
//!    or 403 is the client's affair: [`Outcome::ClientFault`] on the answer says so to the layers above.
//!
//! A request with an [`EphemeralKey`] carries that key instead, as `Authorization: Bearer`, to the backend that issued it. Anywhere
//! else nothing is sent. A 401 or 403 to it is the client's affair too.
//!
//! A request without a `Target` passes untouched, and so does its answer. Bodies are never looked at.
//!
//! Tokens come from any [`TokenSource`] behind a [`TokenKeeper`]; the feature `azure-identity` has those of Entra, in `azure`.
//!
//! ```
//! use std::convert::Infallible;
//! use http::{Request, Response};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::pool::{Backend, Credential, Deployment, Pool};
//! use tower_azure_openai::{body::Body, forward::ForwardLayer, reissue::ReissueCredentialsLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let backend = Backend::new("eastus", "https://contoso.openai.azure.com")
//!     .credential(Credential::api_key("key of the backend")?)
//!     .add_deployment(Deployment::new("gpt-4o"));
//! let pool = Pool::builder().add_backend(backend).build()?;
//! let target = pool.targets("gpt-4o").remove(0);
//!
//! let stack = ServiceBuilder::new().layer(ForwardLayer::new()).layer(ReissueCredentialsLayer::new());
//! let service = stack.service(service_fn(async |request: Request<Body>| {
//!     assert_eq!(request.headers()["api-key"], "key of the backend");
//!     Ok::<_, Infallible>(Response::new(Body::empty()))
//! }));
//! let request = Request::get("/openai/deployments").header("api-key", "key of the client").extension(target);
//! service.oneshot(request.body(Body::empty())?).await?;
//! # Ok(())
//! # }
//! ```
//!
//! **Order.** Above selection or forwarding nobody knows yet whom a credential is shown to: refused with
//! [`Misordered`](crate::ErrorKind::Misordered), also where they are left out. Left out itself, the crate's client refuses a request
//! for a target that has a credential; to any other client it goes without one, for selection has taken the client's off.
//!
//! # Errors
//! [`AttemptFailed`] with `Abandoned`, caused by [`Misordered`](crate::ErrorKind::Misordered), for a request that leads elsewhere
//! than to its target: no [`ForwardLayer`](crate::forward::ForwardLayer) stands between selection and this one; nothing was sent
//! then.
//! [`AttemptFailed`] with `CredentialUnavailable` when no token could be had; nothing was sent then. With `Abandoned`, caused by
//! [`Unauthenticated`](crate::ErrorKind::Unauthenticated), for a target that did not issue the ephemeral key. Errors of the service
//! below pass.
//!
//! # Cancellation
//! Dropping the future drops the request below. A fetch that others share goes on.

#[cfg(feature = "azure-identity")]
pub mod azure;
mod future;
mod keeper;

use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::uri::Authority;
use http::{Request, Response};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

pub use self::future::ResponseFuture;
use self::future::{Shown, State, Way};
pub use self::keeper::{Token, TokenKeeper, TokenSource};
#[cfg(doc)]
use crate::azure::Outcome;
use crate::context::order::{self, LayerName, Missing};
#[cfg(doc)]
use crate::context::{Attempt, AttemptFailed};
use crate::context::{Client, ClientToken, EphemeralKey};
use crate::error::{Error, ErrorKind};
use crate::headers;
use crate::pool::{BackendKind, BearerTokens, Credential, Target};

/// Shows a backend its own credential. See the [module docs](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
#[non_exhaustive]
pub struct ReissueCredentialsLayer;

impl ReissueCredentialsLayer {
    /// The layer; there is nothing to configure.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for ReissueCredentialsLayer {
    type Service = ReissueCredentials<S>;

    fn layer(&self, inner: S) -> ReissueCredentials<S> {
        ReissueCredentials { inner }
    }
}

/// Shows a backend its own credential. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct ReissueCredentials<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ReissueCredentials<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>, Error: Into<BoxError>> + Clone,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = ResponseFuture<S, Request<ReqBody>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        if let Err(error) = order::enter(LayerName::Reissue, request.extensions_mut()) {
            return ResponseFuture::refused(error);
        }
        let Some(target) = request.extensions().get::<Target>().cloned() else {
            return ResponseFuture::new(State::Sent { future: self.inner.call(request), way: None, shown: None });
        };
        let ephemeral = request.extensions().get::<EphemeralKey>().cloned();
        if ephemeral.as_ref().is_some_and(|key| **key.backend() != *target.backend()) {
            return ResponseFuture::refused(misdirected());
        }
        if !leads_to(&request, &target) {
            return ResponseFuture::refused(order::missing(Missing::Forward));
        }
        headers::strip_credentials(&mut request);
        if let Some(key) = ephemeral {
            request.headers_mut().insert(AUTHORIZATION, key.token().as_header().clone());
            let way = Some(Way { target, is_clients: true });
            return ResponseFuture::new(State::Sent { future: self.inner.call(request), way, shown: None });
        }
        let tokens = match target.credential() {
            Some(credential) => show(&mut request, credential, target.kind()),
            None => None,
        };
        let is_clients = target.credential().is_some_and(Credential::is_pass_through);
        let way = Way { target, is_clients };
        let Some(tokens) = tokens else {
            let future = self.inner.call(request);
            return ResponseFuture::new(State::Sent { future, way: Some(way), shown: None });
        };
        if let Some(token) = tokens.current() {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
            let (future, shown) = (self.inner.call(request), Some(Shown { token, tokens }));
            return ResponseFuture::new(State::Sent { future, way: Some(way), shown });
        }
        let next = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, next);
        let wait = tokens.wait();
        ResponseFuture::new(State::Waiting { wait, call: Some((ready, request, way, tokens)) })
    }
}

/// Tells whether a credential shown now reaches the backend that it is for, and nobody else: the request was pointed there by
/// forwarding, or by a layer of the embedder in its place.
fn leads_to<B>(request: &Request<B>, target: &Target) -> bool {
    let (uri, endpoint) = (request.uri(), target.endpoint());
    let same = |authority: &Authority| authority.as_str().eq_ignore_ascii_case(endpoint.authority().as_str());
    let is_there = uri.authority().is_some_and(same) && uri.scheme() == Some(endpoint.scheme());
    is_there
        && (order::is_forwarded_to(target, request.extensions())
            || !order::has_passed(LayerName::Forward, request.extensions()))
}

/// Adds a key or the client's own token, or gives the tokens to add one of.
fn show<B>(request: &mut Request<B>, credential: &Credential, kind: BackendKind) -> Option<Arc<dyn BearerTokens>> {
    let key = match kind {
        BackendKind::OpenAi => credential.as_bearer_key().map(|key| (AUTHORIZATION, key)),
        _ => credential.as_api_key().map(|key| (headers::API_KEY, key)),
    };
    if let Some((name, key)) = key {
        request.headers_mut().insert(name, key.clone());
    }
    if credential.is_pass_through() {
        let token = request.extensions().get().and_then(Client::token).map(ClientToken::as_header).cloned();
        request.headers_mut().extend(token.map(|token| (AUTHORIZATION, token)));
    }
    credential.as_bearer().cloned()
}

/// Nobody's failure but the client's, whose key it is.
fn misdirected() -> Error {
    Error::new(ErrorKind::Unauthenticated, "The ephemeral key is of no use here. Ask for another one.")
}
