//! Lets every client reach only what it made.
//!
//! A backend sees one identity, so that any client could read another's thread by its id. Below this layer an id is of use to the
//! client only that made the object.
//!
//! 1. What a request refers to where the API defines it ([`References`](crate::azure::object_id::References), the path, a page's
//!    cursor) must be remembered as made by this client. Another's id is answered as one that never existed: 404 `not_found`. Nobody
//!    is asked for an id that is not remembered.
//! 2. Beside these places, no text anywhere in the request may be an id that is remembered as another client's: keys and values of
//!    JSON, names and values of form fields and JSON in them, the path, the query, headers.
//! 3. What cannot be read is refused: a body that is neither JSON, nor a form, nor the offer of a realtime session, whatever it is
//!    called; one that is broken, encoded or larger than what inspection holds; one with more than 4,096 texts like ids. So is a
//!    path of which nobody here knows what it would reach, and an evaluation of what is stored, which names no object and reads
//!    everybody's.
//! 4. A list holds a client's own objects only. Pages without any are passed over, 10 at most, of 4 MiB each.
//!    What all lists hold together is bounded ([`OwnershipLayer::list_memory`]), and one client can hold at most half of it: beyond
//!    that 503 `overloaded`.
//! 5. To whom belongs what an answer makes is remembered by the [`StickySessionLayer`](crate::session::StickySessionLayer) below, in
//!    the same [`SessionStore`]. An object keeps its first owner.
//!
//! All requests without a [`Client`] are one client. Not seen are ids inside files, such as the lines of a batch's input, and the
//! frames of a realtime session. With the in-memory store a restart forgets all owners, and with them all objects become unreachable
//! through the gateway: give it a store that lasts.
//!
//! It places nothing and repeats nothing but the pages of a list.
//!
//! ```
//! use std::sync::Arc;
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::context::Client;
//! use tower_azure_openai::pool::{Backend, Deployment, Pool};
//! use tower_azure_openai::session::{MemoryStore, StickySessionLayer};
//! use tower_azure_openai::{Error, ErrorKind, body::Body, ownership::OwnershipLayer, select::SelectBackendLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let pool = Pool::builder()
//!     .add_backend(Backend::new("east", "https://east.example").add_deployment(Deployment::new("gpt-4o")))
//!     .build()?;
//! let azure = service_fn(async |_: Request<Body>| {
//!     let thread = Body::from(r#"{"id":"thread_1","object":"thread"}"#);
//!     Ok::<_, BoxError>(Response::builder().header("content-type", "application/json").body(thread)?)
//! });
//! let store = Arc::new(MemoryStore::new(100_000));
//! let service = ServiceBuilder::new()
//!     .layer(OwnershipLayer::new(store.clone()))
//!     .layer(StickySessionLayer::new(pool.clone()).store(store))
//!     .layer(SelectBackendLayer::new(pool))
//!     .service(azure);
//! let of = |client: &str, request: http::request::Builder| request.extension(Client::new(client)).body(Body::from("{}"));
//! let made = service.clone().oneshot(of("team-a", Request::post("/openai/threads"))?).await?;
//! made.into_body().collect().await?; // Its id is learned as it passes.
//! let read = || Request::get("/openai/threads/thread_1");
//! assert!(service.clone().oneshot(of("team-a", read())?).await.is_ok());
//! let hidden = service.oneshot(of("team-b", read())?).await.unwrap_err();
//! assert_eq!(Error::find(hidden.as_ref()).map(Error::kind), Some(ErrorKind::ObjectNotFound));
//! # Ok(())
//! # }
//! ```
//!
//! **Order.** Below sticky sessions or failover it would come after what it guards, and without sticky sessions below nobody
//! remembers who made what: refused with [`Misordered`](ErrorKind::Misordered), by this layer or by selection.
//!
//! **Errors.** [`ObjectNotFound`](ErrorKind::ObjectNotFound), [`OperationNotAllowed`](ErrorKind::OperationNotAllowed) for what nobody
//! here knows, [`InvalidBody`](ErrorKind::InvalidBody) and [`RequestTooLarge`](ErrorKind::RequestTooLarge) for what cannot be read,
//! [`NoTargetDown`](ErrorKind::NoTargetDown) while the store cannot be reached, [`Overloaded`](ErrorKind::Overloaded); those of the
//! service below pass.
//!
//! **Cancellation.** Dropping the future ends the request below.

mod claim;
mod list;

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use self::claim::Claim;
use self::list::LIST_MEMORY;
use crate::account::Account;
use crate::below::Below;
use crate::body::Body;
use crate::context::order::{self, LayerName};
use crate::context::{Client, Owner};
use crate::directory::SessionStore;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
pub use crate::refusable::WorkingFuture as ResponseFuture;

/// Lets every client reach only what it made. See the [module docs](self).
///
/// All services made from one layer, and from its clones, share one store and one account of memory.
#[derive(Clone, Debug)]
#[must_use]
pub struct OwnershipLayer {
    store: Arc<dyn SessionStore>,
    lists: Account,
}

impl OwnershipLayer {
    /// Makes the layer of what this store remembers, which must be the one of the
    /// [`StickySessionLayer`](crate::session::StickySessionLayer) below.
    pub fn new(store: impl SessionStore + 'static) -> Self {
        Self { store: Arc::new(store), lists: Account::new(LIST_MEMORY) }
    }

    /// Bounds what the lists that are filtered at one moment hold together, in bytes. Default: 64 MiB.
    ///
    /// This opens a new account: call it before the layer is cloned.
    pub fn list_memory(mut self, bytes: usize) -> Self {
        self.lists = Account::new(bytes);
        self
    }
}

impl<S> Layer<S> for OwnershipLayer {
    type Service = Ownership<S>;

    fn layer(&self, inner: S) -> Ownership<S> {
        Ownership { inner, layer: self.clone() }
    }
}

/// Lets every client reach only what it made. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct Ownership<S> {
    inner: S,
    layer: OwnershipLayer,
}

impl<S> Ownership<S> {
    /// Reads what a request says, once it is found to be readable; from here on what it makes has an owner.
    fn claim(&self, request: &mut Request<Body>) -> Result<Claim, Error> {
        order::enter(LayerName::Ownership, request.extensions_mut())?;
        let who: Arc<str> = request.extensions().get().map_or("", Client::id).into();
        let claim = Claim::read(request, who.clone())?;
        request.extensions_mut().insert(Owner(who));
        Ok(claim)
    }
}

impl<S, ReqBody> Service<Request<ReqBody>> for Ownership<S>
where
    S: Below,
    ReqBody: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let mut request = request.map(Body::new);
        match self.claim(&mut request) {
            Ok(claim) if claim.is_empty() => ResponseFuture::passing(self.inner.call(request)),
            Ok(claim) => ResponseFuture::working(run(self.layer.clone(), claim, self.inner.take_ready(), request)),
            Err(error) => ResponseFuture::refused(error),
        }
    }
}

async fn run<S: Below>(
    layer: OwnershipLayer,
    claim: Claim,
    mut service: S,
    request: Request<Body>,
) -> Result<Response<Body>, BoxError> {
    claim.check(&*layer.store).await?;
    if !claim.is_list() {
        return service.send(request).await;
    }
    let pages = list::Pages::of(&request);
    let first = service.send(request).await?;
    pages.own(&claim, &layer, service, first).await
}
