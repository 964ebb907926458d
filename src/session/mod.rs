//! Keeps requests where their state lives: on the backend that holds what they refer to.
//!
//! Threads, files, stored responses and everything else that has an id lie on one resource. A request that reaches another
//! one fails or, worse, starts over. What leads a request is looked for in this order, and the first that is found counts:
//!
//! | what | leads | to | when that backend cannot serve |
//! |---|---|---|---|
//! | the ephemeral key that the request presented | `realtime`, `realtime/calls` | the backend that issued it | 429 with the time to wait |
//! | ids in the path, of a page's cursor, in the body | every call | the backend that holds them all | 429 with the time to wait |
//! | content that only its maker reads (`encrypted_content`) | every call | the backend that made the last of it, if remembered | as above |
//! | ids of items that a body only repeats | every call | as above, if one is remembered | as above |
//! | the cookie ([`SessionCookie`]) | calls that make or list objects that stay | the backend where the client was | [`WhenUnavailable`] |
//! | the session header ([`SESSION_HEADER`]) | every call | the backend to which that name hashes | [`WhenUnavailable`] |
//! | the client's home | calls that make or list objects that stay | the first in its order of backends | passed over while down or drained; throttled: [`WhenUnavailable`] |
//! | nothing | chat and other calls without state, new responses | any | failover as usual |
//!
//! 1. Ids are looked for where the API defines them for a call ([`References`](crate::azure::object_id::References)), and nowhere
//!    else: `metadata`, `client_metadata`, the arguments of functions, the items of an evaluation and fields that nobody knows
//!    lead nowhere. Of a body that is too large to be held, what was read of it is searched; an id behind that leads nowhere.
//!    Of one body 512 ids are read; if there are more, the
//!    first lead where they are remembered, and nobody is asked for them.
//!    Ids are learned from successful answers as they pass, JSON and streamed. Only a frame that tells an id waits, until the
//!    [`SessionStore`] has it and for 1 s at most. An answer that is not stored teaches no id. What an answer merely
//!    mentions, and what is found, never overwrites what the answer told that made it.
//!    The content of reasoning and compaction items is learned whether it is stored or not, by a digest. Nobody is asked for it:
//!    where it is not remembered, a backend that cannot read it refuses it, the request moves on, and the answer that succeeds
//!    teaches who can. The same happens once when what was remembered is wrong. Content of two makers in one request can be read
//!    nowhere; it goes to the maker of the last one, whose answer says so.
//! 2. An id that is not remembered is *discovered*: its own GET goes to all backends that this request may use at once, with the
//!    backends' own credentials and nothing of the client but the version of the API and the headers that it requires
//!    (`openai-beta`, `aoai-evals`); only who asks with the same ones is told what was found. An object is where its own kind and id
//!    come back. Concurrent requests share one search; of
//!    one request 4 ids at most are looked for, and all searches together make [`DISCOVERY_RATE`] calls a second.
//!    An id that is not made of unreserved characters is never asked for.
//!    A backend that is shown the client's own token is not asked: when it is the only such one and nobody else has the id, it is
//!    there, or nowhere.
//! 3. An id that every backend answers 404 for is 404 `not_found`, for 5 s without asking again. If none has it
//!    and one could not answer, nothing is known: 429 or 503. A 404 that is about the path or the version is not about the id, nor
//!    is a 400, and the request goes on without a pin.
//! 4. Ids of two backends in one request: 400 `ids_on_different_backends`.
//! 5. A pin is an extension, [`Pin`](crate::pool::Pin), which selection and failover follow. Nothing leads to a backend that the
//!    [constraints](crate::pool::Constraints) of client and request exclude: for this request what lies there is unknown. An alias
//!    that the pinned backend does not serve is 404 `DeploymentNotFound`.
//! 6. A home is found by weighted rendezvous hashing of the client's id, the lowest priority number first: a change of the pool
//!    moves as few clients as possible. It is among the backends that serve an alias which the client may use, or the one that
//!    the request names: in its path (`/openai/deployments/{alias}/files`) or in the header [`ALIAS_HEADER`], which is authorised
//!    like any alias and never passed on. A list is not repeated elsewhere after a failure: another backend's would look as if the
//!    client's objects were gone. All requests without a [`Client`](crate::context::Client) are one client.
//! 7. Cookie, header and home lead only to backends with the [release](crate::pool::Release) of the client. Without a client the
//!    name of the session, put into the extensions as [`Session`](crate::context::Session), is what keeps its release.
//! 8. The cookie is set only when something was pinned, and the gateway's own cookie and session header are not passed on.
//! 9. The key of a realtime session (`ek_…`) is learned from the answer that issues it, if
//!    [`ephemeral_keys`](StickySessionLayer::ephemeral_keys) is set: a digest, with its client, backend and end. A realtime call
//!    (`rtc_…`) is learned from the `Location` of the answer that made it; what is asked of it, and `?call_id=`, follow it.
//!
//! It sends nothing but discovery's GETs, and repeats nothing. Below it belong
//! [`FailoverLayer`](crate::failover::FailoverLayer) and [`SelectBackendLayer`](crate::select::SelectBackendLayer); above it
//! [`InspectLayer`](crate::inspect::InspectLayer), since only a body that is in hand can be searched for ids.
//!
//! # A restart, a second replica, a drained and a removed backend
//!
//! A restart empties the [`MemoryStore`]; the next use of an id discovers its owner. A second replica does the same: neither
//! needs a database. What has no GET of its own (uploads, items of responses) goes where the client's home is until then. Homes
//! and session names are the same in every process; cookies are if the processes share a key.
//!
//! A drained backend's objects stay reachable by their ids, and nothing new is placed there. What was remembered of a removed
//! backend counts no more: its ids are looked for elsewhere, and not found.
//!
//! Every client can use every id that it knows; an [`OwnershipLayer`](crate::ownership::OwnershipLayer) above lets each reach only
//! what it made, and what is learned here then has an owner.
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::forward::ForwardLayer;
//! use tower_azure_openai::pool::{Backend, Deployment, Pool, Target};
//! use tower_azure_openai::{body::Body, select::SelectBackendLayer, session::StickySessionLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let pool = Pool::builder()
//!     .add_backend(Backend::new("east", "https://east.example").add_deployment(Deployment::new("gpt-4o")))
//!     .add_backend(Backend::new("west", "https://west.example").add_deployment(Deployment::new("gpt-4o")))
//!     .build()?;
//! let azure = service_fn(async |_: Request<Body>| {
//!     let thread = Body::from(r#"{"id":"thread_1","object":"thread"}"#);
//!     Ok::<_, BoxError>(Response::builder().header("content-type", "application/json").body(thread)?)
//! });
//! let service = ServiceBuilder::new()
//!     .layer(StickySessionLayer::new(pool.clone()))
//!     .layer(SelectBackendLayer::new(pool))
//!     .layer(ForwardLayer::new())
//!     .service(azure);
//! let made = service.clone().oneshot(Request::post("/openai/threads").body(Body::from("{}"))?).await?;
//! let home = made.extensions().get::<Target>().cloned();
//! made.into_body().collect().await?; // Its id is learned as it passes.
//! for _ in 0..5 {
//!     let used = Request::get("/openai/threads/thread_1/messages").body(Body::empty())?;
//!     let used = service.clone().oneshot(used).await?;
//!     assert_eq!(used.extensions().get::<Target>(), home.as_ref());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! With a cookie, and a store of another size:
//!
//! ```
//! # use tower_azure_openai::{pool::Pool, session::{InvalidKey, MemoryStore, SessionCookie, StickySessionLayer}};
//! # fn layer(pool: Pool, key: &[u8]) -> Result<StickySessionLayer, InvalidKey> {
//! let layer = StickySessionLayer::new(pool)
//!     .store(MemoryStore::new(1_000_000))
//!     .cookie(SessionCookie::new(key)?.path("/openai").secure());
//! # Ok(layer)
//! # }
//! ```
//!
//! **Order.** Below failover its pins come after the decision that they are for: refused with [`Misordered`](crate::ErrorKind::Misordered).
//!
//! **Errors.** [`Error`](crate::Error) as above; errors of the service below pass.
//!
//! **Cancellation.** Dropping the future ends the request below. A search goes on without it, so that the next one need not ask
//! again. Dropping a body leaves what it has not told unremembered.

mod cookie;
mod home;
mod layer;
mod place;
mod service;
mod visit;

#[cfg(feature = "testkit")]
pub use crate::directory::conformance;
pub use crate::directory::{DISCOVERY_RATE, MemoryStore, ObjectKey, Remembered, SessionStore, StoreFuture};

pub use self::cookie::{COOKIE_NAME, InvalidKey, SessionCookie};
pub use self::layer::{ALIAS_HEADER, REMEMBER, SESSION_HEADER, StickySessionLayer, WhenUnavailable};
pub use self::service::StickySession;
pub use crate::refusable::WorkingFuture as ResponseFuture;
