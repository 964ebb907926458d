//! Did it come through our own Azure Front Door?
//!
//! Anybody's Front Door profile can reach an origin that is open to the service tag `AzureFrontDoor.Backend`. Each profile
//! marks what it forwards with its id in `X-Azure-FDID`, replacing what a client sent, and an origin has to check it.
//!
//! 1. A request passes when it carries one of the accepted ids. Several values must all be accepted ones.
//! 2. Any other is refused. How long that takes does not depend on how much of an id was right.
//!
//! It does not check addresses: without a firewall that lets in Front Door only, an id that leaked is all that a caller needs.
//! It does not remove the header, which never goes on to a backend. Probes of Front Door itself carry the id too; others are
//! answered by something that stands above, as the [health service](crate::health) does.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{Error, ErrorKind, front_door::FrontDoorLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let backend = service_fn(async |_: Request<String>| Ok::<_, BoxError>(Response::new("hello")));
//! let layer = FrontDoorLayer::new(["0d2d7b25-5d5e-4b7b-8a4f-9a3c6a3f1c11"]);
//! let service = ServiceBuilder::new().layer(layer).service(backend);
//!
//! let through = Request::get("/").header("x-azure-fdid", "0d2d7b25-5d5e-4b7b-8a4f-9a3c6a3f1c11").body(String::new())?;
//! assert_eq!(*service.clone().oneshot(through).await?.body(), "hello");
//! let around = service.oneshot(Request::get("/").body(String::new())?).await.unwrap_err();
//! assert_eq!(Error::find(around.as_ref()).map(Error::kind), Some(ErrorKind::FrontDoorRequired));
//! # Ok(())
//! # }
//! ```
//!
//! Two profiles while one replaces the other:
//!
//! ```
//! use tower_azure_openai::front_door::FrontDoorLayer;
//!
//! let layer = FrontDoorLayer::new(["0d2d7b25-5d5e-4b7b-8a4f-9a3c6a3f1c11", "7e1b6a52-86a5-4f4f-9d0c-2f1f5e0c9a10"]);
//! # let _ = layer;
//! ```
//!
//! **Order.** Below what answers or sends requests itself (the list of models, sticky sessions, failover, selection) it would guard
//! only a part of the gateway, and its refusals would look like failures of backends: refused with [`Misordered`](crate::ErrorKind::Misordered).
//!
//! # Errors
//! [`FrontDoorRequired`](ErrorKind::FrontDoorRequired), and those of the service below.
//!
//! # Cancellation
//! Dropping the future drops the request below; there is nothing else to cancel.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, Request};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use crate::context::order::{self, LayerName};
use crate::error::{Error, ErrorKind};
pub use crate::refusable::ResponseFuture;

const FDID: HeaderName = HeaderName::from_static("x-azure-fdid");

/// Did it come through our own Azure Front Door? See the [module docs](self).
#[derive(Clone)]
#[must_use]
pub struct FrontDoorLayer(Arc<[Id]>);

impl FrontDoorLayer {
    /// Accepts these ids of Front Door profiles, in any case. Empty ones are left out; without any, nothing passes.
    pub fn new<I: AsRef<str>>(ids: impl IntoIterator<Item = I>) -> Self {
        let digest = |id: I| Some(id.as_ref()).filter(|id| !id.is_empty()).map(|id| Id::of(id.as_bytes()));
        Self(ids.into_iter().filter_map(digest).collect())
    }
}

impl<S> Layer<S> for FrontDoorLayer {
    type Service = FrontDoor<S>;

    fn layer(&self, inner: S) -> FrontDoor<S> {
        FrontDoor { inner, ids: self.0.clone() }
    }
}

impl fmt::Debug for FrontDoorLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontDoorLayer").field("ids", &self.0.len()).finish()
    }
}

/// Did it come through our own Azure Front Door? See the [module docs](self).
#[derive(Clone)]
pub struct FrontDoor<S> {
    inner: S,
    ids: Arc<[Id]>,
}

impl<S> FrontDoor<S> {
    fn admit(&self, headers: &HeaderMap) -> Result<(), Error> {
        let mut values = headers.get_all(FDID).iter().peekable();
        if values.peek().is_some() && values.all(|value| Id::of(value.as_bytes()).is_among(&self.ids)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::FrontDoorRequired, "This gateway is reached through its own Azure Front Door only."))
    }
}

impl<S, ReqBody> Service<Request<ReqBody>> for FrontDoor<S>
where
    S: Service<Request<ReqBody>, Error: Into<BoxError>>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let entered = order::enter(LayerName::FrontDoor, request.extensions_mut());
        let admitted = entered.and_then(|()| self.admit(request.headers()));
        ResponseFuture::new(admitted.map(|()| self.inner.call(request)))
    }
}

impl<S: fmt::Debug> fmt::Debug for FrontDoor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontDoor").field("inner", &self.inner).field("ids", &self.ids.len()).finish()
    }
}

/// The digest of an id: of one length, whatever was sent.
struct Id([u8; 32]);

impl Id {
    fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text.to_ascii_lowercase()).into())
    }

    fn is_among(&self, ids: &[Self]) -> bool {
        ids.iter().fold(Choice::from(0), |found, id| found | id.0.ct_eq(&self.0)).into()
    }
}
