//! Writes requests and answers down: who asked for what, what was said, and what it came to. Off until it is given a [`Sink`].
//!
//! 1. It stands below credential termination, and what it writes has no header and no query: no credential is in it. Members of bodies
//!    that hold credentials (keys of data sources, authorizations of tools, ephemeral keys) are replaced, whatever is configured.
//! 2. Bodies pass frame by frame; the frames are kept as they are, never copied, and nothing waits. Each side is kept up to 2 MiB
//!    bytes, and all that are running together within one account ([`memory`](CaptureLayer::memory)), of which one client can hold half.
//!    What has no room there is [left out](Content::omitted), and said to be.
//! 3. When the answer has ended, broke or was left, the record is made: a stream becomes what it said ([`Content::json`] in the shape of
//!    an answer that is not streamed), media become a length and a SHA-256, long texts are cut to
//!    [`body`](CaptureLayer::body) bytes. What a [`Redact`] takes out is taken out before that and before the sink sees anything; JSON that
//!    cannot be read whole, and text, are left out where there is one.
//! 4. Of [`clients`](CaptureLayer::clients), a [`sample`](CaptureLayer::sample) of the requests is written, and every one that ends in an
//!    error: a status from 400 on, or an answer that broke off.
//!
//! Of WebSockets it sees what opens them and the calls that their frames stand for, not their answers.
//!
//! [`JsonLines`] is a sink that writes files. Sinks never block: what they have no room for they drop and count.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use http::{Request, Response, header::CONTENT_TYPE};
//! use http_body_util::BodyExt;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::body::Body;
//! use tower_azure_openai::capture::{CaptureLayer, Captured, Pointers, from_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let lines = Arc::new(Mutex::new(Vec::new()));
//! let written = lines.clone();
//! let sink = from_fn(move |captured: &Captured| written.lock().unwrap().push(captured.to_json()));
//! let capture = CaptureLayer::new(sink).body(64 << 10).redact(Pointers::parse(["/messages/*/content"])?);
//!
//! let backend = service_fn(async |request: Request<Body>| {
//!     let _read = request.into_body().collect().await?;
//!     Ok::<_, BoxError>(Response::new(Body::from(r#"{"id":"1"}"#)))
//! });
//! let service = ServiceBuilder::new().layer(capture).service(backend);
//! let asked = r#"{"messages":[{"role":"user","content":"My name is …"}]}"#;
//! let request = Request::post("/").header(CONTENT_TYPE, "application/json").body(Body::from(asked))?;
//! service.oneshot(request).await?.into_body().collect().await?;
//!
//! let line = lines.lock().unwrap()[0].clone();
//! assert!(line.contains(r#""content":"[redacted]""#) && !line.contains("My name"), "{line}");
//! # Ok(())
//! # }
//! ```
//!
//! **Order.** Below credential termination and above inspection; else refused with [`Misordered`](crate::ErrorKind::Misordered).
//!
//! # Errors
//! Those of the service below. A sink that panics is told of in the log.
//!
//! # Cancellation
//! A request whose client leaves is written down with the [ending](crate::context::Ending) `left`.

mod captured;
mod content;
mod events;
mod files;
mod layer;
mod redact;
mod service;
mod sink;
mod tape;
mod watch;

pub use self::captured::{Captured, Content};
pub use self::files::{JsonLines, JsonLinesBuilder};
pub use self::layer::CaptureLayer;
pub use self::redact::{InvalidPointer, Pointers, REDACTED, Redact};
pub use self::service::{Capture, ResponseBody, ResponseFuture};
pub use self::sink::{FromFn, Sink, from_fn};

/// So many bytes of each side are kept at most until it has ended: 2 MiB.
pub(crate) const HELD: usize = 2 << 20;
/// Memory that all running captures hold together by default: 64 MiB.
pub(crate) const MEMORY: usize = 64 << 20;
