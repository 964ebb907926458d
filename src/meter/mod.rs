//! Counts what requests use: tokens and seconds of audio, as backends tell them.
//!
//! 1. What an answer used is read as it passes, from JSON and from events, in any chopping; nothing waits, and no byte changes.
//! 2. It is counted when the event passes that tells it, before that event is handed on: a client may leave right after it.
//! 3. An answer counts once. An object that tells its usage whenever it is read (a response, a run, a batch) counts once by its
//!    id: the call that made it, or the first that sees it finished where it went on in the background.
//!    Over replicas, as a [`CountOnce`] says.
//! 4. Errors, refusals and failed attempts cost nothing, and reading an answer again is no spending.
//! 5. A stream that tells nothing, because its client did not ask, is estimated: the prompt, and the text that passed or one token
//!    for each event that had some, whichever is more. One whose client leaves before it tells is estimated by its prompt and one
//!    token for each part that passed. With [`SilentStreams::Ask`] the backend is asked instead, and what it tells is taken out again.
//! 6. On a WebSocket each response counts when it is done: those of a realtime session, and the transcriptions of what was said
//!    there, add up.
//!
//! Not counted: background responses and runs that nobody reads again, batches that nobody looks at, lists of runs, and answers
//! that are encoded.
//!
//! Where it goes: into the [`Spending`](crate::context::Spending) of the request, for layers above, and to a function of yours:
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
//!
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{body::Body, meter::{MeterUsageLayer, Metered}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let tokens = Arc::new(AtomicU64::new(0));
//! let counter = tokens.clone();
//! let meter = MeterUsageLayer::new().on_usage(move |metered: &Metered<'_>| {
//!     counter.fetch_add(metered.usage.total(), Ordering::Relaxed);
//! });
//! let backend = service_fn(async |_: Request<Body>| {
//!     Ok::<_, BoxError>(Response::new(Body::from(r#"{"usage":{"prompt_tokens":5,"completion_tokens":2}}"#)))
//! });
//! let service = ServiceBuilder::new().layer(meter).service(backend);
//!
//! let request = Request::post("/openai/deployments/gpt-4o/chat/completions").body(Body::empty())?;
//! service.oneshot(request).await?.into_body().collect().await?;
//! assert_eq!(tokens.load(Ordering::Relaxed), 7);
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//! [`Misordered`](crate::ErrorKind::Misordered) below itself or failover, and those of the service below.
//!
//! # Cancellation
//! A dropped future counts nothing: no answer has begun. A dropped body counts what is known or estimated by then.

mod account;
mod asking;
mod body;
mod future;
mod layer;
mod ledger;
mod once;
mod plan;
mod ratio;
mod service;

pub use self::account::Metered;
pub use self::body::ResponseBody;
pub use self::future::ResponseFuture;
pub use self::layer::{MeterUsageLayer, SilentStreams};
#[cfg(feature = "redis")]
pub(crate) use self::ledger::KEPT_DAYS;
#[cfg(feature = "redis")]
pub(crate) use self::ledger::Names;
pub use self::ledger::{By, Ledger, Report, Row, Sums, UnknownName};
pub use self::once::CountOnce;
pub use self::service::MeterUsage;
pub use crate::date::{Date, InvalidDate};
