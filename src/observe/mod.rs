//! Tells what each request came to: one record for a [`Recorder`], one span for the log.
//!
//! 1. A request gets a [`RequestId`]: the client's own where it can stand in a log, else a new one. Every answer
//!    carries it as `x-ms-client-request-id`; one that has no `x-request-id` of a backend's carries it there too, for that is what
//!    client libraries show. Requests stay as they are: a backend is sent the client's id, and none that was made.
//! 2. Everything that is logged for the request, this crate's own and yours, stands in the span `request` with that id.
//! 3. When the answer has ended, or the client has left, every recorder is given the [`Record`]: once, and whatever happened. One
//!    that panics is told of in the log and harms nobody.
//! 4. A recorder that [traces](Recorder::trace), such as that of the feature `otel`, gives the request its span, below its caller's
//!    (`traceparent`), and each attempt one below that; the log then has the `trace_id`.
//! 5. With [`backend_headers`](ObserveLayer::backend_headers), answers carry `x-gateway-backend` and `x-gateway-attempts`.
//!
//! Who called and what for is told by credential termination and inspection, usage by [metering](crate::meter), and attempts by
//! [selection](crate::select), which puts each into a span of its own; what nobody tells is empty.
//! It reads no body and copies nothing.
//!
//! It belongs on top, above [`RespondLayer`](crate::respond::RespondLayer): only there every answer is seen as the client gets it.
//! Below a layer that says who calls, reads the request or sends it, it would tell of something else: the next layer of the crate, or its
//! client, refuses the request with [`Misordered`](crate::ErrorKind::Misordered). A [gateway](crate::gateway) has both in their places. A WebSocket's record is given with its handshake.
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicU16, Ordering}};
//!
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{body::Body, observe::{self, ObserveLayer}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let seen = Arc::new(AtomicU16::new(0));
//! let last = seen.clone();
//! let recorder = observe::from_fn(move |record| {
//!     last.store(record.status.map_or(0, |status| status.as_u16()), Ordering::Relaxed);
//! });
//! let serves = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from("hello"))));
//! let service = ServiceBuilder::new().layer(ObserveLayer::new().add_recorder(recorder)).service(serves);
//!
//! let answer = service.oneshot(Request::get("/").body(Body::empty())?).await?;
//! assert!(answer.headers().contains_key("x-ms-client-request-id"));
//! assert_eq!(seen.load(Ordering::Relaxed), 0, "the answer has not ended");
//! answer.into_body().collect().await?;
//! assert_eq!(seen.load(Ordering::Relaxed), 200);
//! # Ok(())
//! # }
//! ```
//!
//! **Errors.** Those of the service below pass, and are recorded as [`Ending::Failed`].
//!
//! **Cancellation.** A dropped future or body is a client that left: its record is given right then.

mod future;
mod layer;
mod watch;

pub use self::future::{ResponseBody, ResponseFuture};
pub use self::layer::{Observe, ObserveLayer};
pub use crate::context::{
    AttemptRecord, Attempts, Ending, FromFn, Observation, Record, Recorder, RequestId, Size, TraceContext, from_fn,
};
