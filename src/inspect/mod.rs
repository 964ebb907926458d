//! Reads what is asked for: collects the body within its bounds and inserts [`Route`](crate::context::Route), and what narrows it.
//!
//! 1. The route is read from the path, or taken from an extension that is there. A path that cannot be served is refused
//!    before any of the body is read, and so is a request that names two hosts: in its target and in `Host`, or in two `Host`s.
//! 2. [`GEOGRAPHY_HEADER`] and [`PROCESSING_HEADER`] narrow, for this request, where it may go: they become
//!    [`Constraints`](crate::pool::Constraints) in the extensions, which hold beside the client's, and beside those that are there
//!    already. One geography, or a list of the scopes that are accepted; each header once. What nobody meets is refused as an
//!    alias that nobody serves is. [`PRIORITY_HEADER`](crate::context::PRIORITY_HEADER) becomes a [`Priority`](crate::pool::Priority) there,
//!    below the client's own or without effect. These headers end here.
//! 3. A body above `request_body` is refused, at once when its length is known in front.
//!    One in gzip, deflate or zstd is decoded (feature `decompression`), and the bounds hold for what comes out, too; what
//!    decoding holds is paid for from the client's share. Another encoding is refused.
//! 4. A body up to `replay_limit` is collected: the service below gets it as bytes, which it can send several times. Trailers
//!    of a collected body are dropped.
//! 5. What collected bodies hold is charged to one account, `replay_memory`, as it arrives, until the last clone of the bytes is
//!    dropped: what a client announces is charged to nobody. One [`Client`](crate::context::Client) can hold
//!    half of the account; requests without one are one client. The last eighth of the account,
//!    and of a client's half, is kept for bodies up to 64 KiB.
//! 6. A body above `replay_limit`, or one that the account has no room for, is handed on as a stream: first what was read,
//!    then the rest as it comes, still within `request_body` and `request_timeout`. It can be sent once. Where the API defines
//!    places for ids in it, up to `replay_limit` bytes are read first: what stands in them leads it. Where it names its model, it
//!    is held until the name was found: `replay_limit` bytes are searched, and as much more as its client's share of
//!    the account allows. What follows is read on its way, and cut off if it says anything twice. So is a body that can name more
//!    than its alias (12): for a client that is held to a list, it is cut off where it names more behind what is held, as that can
//!    neither be authorised nor used in selection any more; for others such a name passes as it is.
//! 7. A client that is waited for when `request_timeout` has passed since the head arrived is refused. So is one that breaks
//!    its upload off. While the body is collected nothing has been sent to anybody; while it is streamed, the stream ends with
//!    the same error.
//! 8. Where the call names its model in the body ([`ModelPlace`]), as every v1 call and every family without a deployment
//!    segment does, the body is read: `model` becomes the alias, and where it stands is noted for selection, which puts each
//!    target's deployment in its place. What is read besides are `stream`, and for responses `background` and `conversation`,
//!    which make a repeat unsafe. No tree is built. Such a body must be JSON or a form; it is refused
//!    when two readers could see two values in it: a field given twice, `Model` beside `model`, a form with two boundaries. It
//!    is sent on with the content-type by which it was read: `application/json`, or `multipart/form-data` with the boundary.
//! 9. A realtime session names its model in the query, as `model` or `deployment`; twice is refused.
//! 10. A deployment in the path is the alias, whatever the body says. Where Azure serves the family without one, as some client
//!     libraries send `/openai/deployments/{name}/responses`, selection takes the segment out and puts the deployment into the
//!     body.
//! 11. In other JSON bodies of a `POST` whose operation may stream, `stream` is read if the word is there at all. A body that
//!     cannot be read is passed on as not streaming, for the backend to answer.
//! 12. What the request names beside its alias is found where the API defines it (in fields of the body, and in
//!     the header `x-ms-oai-image-generation-deployment`): the image deployment of Responses, the embedding deployment of
//!     data sources, the transcription of a realtime session, graders and the like. Whoever authorises, chooses and rewrites treats
//!     these like the alias. So are the models in the lines of a file that is uploaded with `purpose=batch`;
//!     one that cannot be read is refused with the number of its line, and so is a name
//!     that nobody serves. Of a larger file the first lines choose the backend, and the others are rewritten as they pass. A transcription session without a model of its own has its transcription's. A model in the query beside
//!     `intent=transcription`, which Azure refuses, is for the gateway only and is taken out.
//! 13. A `base_path` in front of `/openai/` is taken off.
//!
//! It does not change the body and does not judge what the client may do. What stands in a body that is handed on as a stream
//! stays unknown.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response, header::CONTENT_TYPE};
//! use http_body_util::Full;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{body::Body, context::Route, inspect::InspectLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let backend = service_fn(async |request: Request<Body>| {
//!     let route = request.extensions().get::<Route>().expect("inserted");
//!     assert_eq!(route.alias(), Some("gpt-4o"));
//!     assert!(route.is_streaming());
//!     Ok::<_, BoxError>(Response::new(Body::empty()))
//! });
//! let service = ServiceBuilder::new().layer(InspectLayer::new()).service(backend);
//!
//! let request = Request::post("/openai/deployments/gpt-4o/chat/completions")
//!     .header(CONTENT_TYPE, "application/json")
//!     .body(Full::new(Bytes::from_static(br#"{"messages":[],"stream":true}"#)))?;
//! service.oneshot(request).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Smaller bounds, for a gateway with little memory:
//!
//! ```
//! use std::time::Duration;
//! use tower_azure_openai::inspect::InspectLayer;
//!
//! let layer = InspectLayer::new()
//!     .request_body(8 << 20)
//!     .replay_limit(1 << 20)
//!     .replay_memory(16 << 20)
//!     .request_timeout(Duration::from_secs(10));
//! assert_eq!(layer.replay_memory_in_use(), 0);
//! ```
//!
//! Two requests of one client, of which the second stays in the EU:
//!
//! ```
//! # use http::{Request, Response};
//! # use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! # use tower_azure_openai::{body::Body, inspect::{GEOGRAPHY_HEADER, InspectLayer}, pool::{Backend, Deployment, Pool, Target}};
//! # use tower_azure_openai::select::SelectBackendLayer;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! # let backend = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
//! let at = |name, geography| Backend::new(name, format!("https://{name}.example")).geography(geography);
//! let pool = Pool::builder()
//!     .add_backend(at("east", "us").add_deployment(Deployment::new("gpt-4o")))
//!     .add_backend(at("sweden", "eu").priority(1).add_deployment(Deployment::new("gpt-4o")))
//!     .build()?;
//! let service = ServiceBuilder::new().layer(InspectLayer::new()).layer(SelectBackendLayer::new(pool)).service(backend);
//!
//! let request = || Request::post("/openai/deployments/gpt-4o/embeddings");
//! for (request, expected) in [(request(), "east"), (request().header(GEOGRAPHY_HEADER, "eu"), "sweden")] {
//!     let answer = service.clone().oneshot(request.body(Body::empty())?).await?;
//!     assert_eq!(answer.extensions().get::<Target>().map(Target::backend), Some(expected));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **Order.** Below the versions, authorisation, the list of models, sticky sessions or failover, these would have to do with a path
//! that has its prefix, with a model that nobody has read and with a body that cannot be repeated: refused with
//! [`Misordered`](crate::ErrorKind::Misordered). Left out, selection refuses in the same way a request whose path names
//! no deployment and whose body does, and failover says in the log that it cannot repeat what passes through it.
//!
//! # Errors
//! Those of [`Route::parse`](crate::context::Route::parse); [`InvalidConstraint`] for headers that cannot be understood;
//! [`InvalidBody`], [`UnsupportedEncoding`] and [`AmbiguousRequest`] for a body or query that would have to be read;
//! [`Overloaded`], with a time to wait, when such a body finds no room in the account now, and [`RequestTooLarge`] when it never will;
//! [`RequestTooLarge`], [`RequestTimeout`]
//! and [`UploadFailed`], from the future or, once the body is streamed, from the body; those of the service below.
//!
//! # Cancellation
//! Dropping the future drops what was read, gives its charge back, and drops the request below.
//!
//! [`AmbiguousRequest`]: crate::ErrorKind::AmbiguousRequest
//! [`InvalidBody`]: crate::ErrorKind::InvalidBody
//! [`InvalidConstraint`]: crate::ErrorKind::InvalidConstraint
//! [`ModelPlace`]: crate::azure::operation::ModelPlace
//! [`Overloaded`]: crate::ErrorKind::Overloaded
//! [`UnsupportedEncoding`]: crate::ErrorKind::UnsupportedEncoding
//! [`RequestTooLarge`]: crate::ErrorKind::RequestTooLarge
//! [`RequestTimeout`]: crate::ErrorKind::RequestTimeout
//! [`UploadFailed`]: crate::ErrorKind::UploadFailed

mod checked;
mod collect;
mod decode;
mod further;
mod layer;
mod naming;
mod narrowing;
mod service;
mod unread;
mod upload;

use std::time::Duration;

pub use self::layer::InspectLayer;
pub use self::narrowing::{GEOGRAPHY_HEADER, PROCESSING_HEADER};
pub use self::service::{Inspect, ResponseFuture};
pub use crate::account::Account;

/// The largest body that is accepted by default: 600 MiB, for files of 512 MB.
pub(crate) const REQUEST_BODY: u64 = 600 << 20;
/// The largest body that is collected by default: 32 MiB.
pub(crate) const REPLAY_LIMIT: usize = 32 << 20;
/// Time that a body may take by default: 60 s.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
