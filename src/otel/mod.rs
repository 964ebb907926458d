//! Tells an OpenTelemetry collector what requests come to: traces, metrics and captures, by OTLP over http/protobuf.
//!
//! [`Otlp`] is one of the [`Recorder`](crate::observe::Recorder)s of an [`ObserveLayer`](crate::observe::ObserveLayer), and a
//! [`Sink`](crate::capture::Sink) for a [`CaptureLayer`](crate::capture::CaptureLayer).
//!
//! 1. **Traces.** A server span for each request continues its caller's trace (`traceparent`), and has a child for each attempt, up to
//!    the head of its answer. The request that an attempt sends names that child in its `traceparent`, which a backend gets where
//!    [forwarding](crate::forward::ForwardLayer::headers) passes this header on; by default it does not. A [`Sampler`] decides.
//! 2. **Metrics.** `http.server.request.duration` and those of the conventions for generative AI, by their names of
//!    [v1.41.0 or v0.1.0](Conventions), each with the client and the backend beside what the conventions want. They are totals since
//!    the start, so that what did not arrive is told by what comes next. Only tokens that a backend told are counted, none that
//!    were estimated. After [`SERIES`] sets of attributes, further ones are told together, as `otel.metric.overflow`.
//! 3. **Logs.** Each capture is a record of the event `gateway.capture`, in the trace of its request.
//!
//! Attributes are names of the configuration and of the API: no text of a client, no prompt, no key and no host is among them. What a
//! capture holds is up to the capture layer.
//!
//! A collector that is dead, slow or full delays nobody: spans and logs wait in memory, [`QUEUE`] bytes of each, while as many are
//! being sent. One that cannot be reached, or says that it is overloaded (429, 502, 503, 504), is tried again after [`FIRST_BACKOFF`],
//! doubling to [`LONGEST_BACKOFF`], or when it says (`Retry-After`), for [`RETRIED_FOR`] in all. What found no room, was refused, or
//! waited for too long is dropped and [counted](Otlp::dropped_spans).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use http::{Request, Response};
//! # use tower::{BoxError, service_fn};
//! # use tower_azure_openai::body::Body;
//! use std::time::Duration;
//! use tower_azure_openai::observe::ObserveLayer;
//! use tower_azure_openai::otel::Otlp;
//!
//! # let http_client = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
//! // `http_client` is any `Service<Request<Body>>`; with the feature `client`, `client::HttpClient`.
//! let otlp = Otlp::builder("http://127.0.0.1:4318")?
//!     .service_name("my-gateway")
//!     .variables(|name| std::env::var(name).ok())
//!     .start(http_client);
//! let observe = ObserveLayer::new().add_recorder(otlp.clone());
//! // … and before the process ends:
//! otlp.finish(Duration::from_secs(1)).await;
//! # drop(observe);
//! # Ok(())
//! # }
//! ```
//!
//! Nothing forces it on you: the spans of `tracing` and a [`Recorder`](crate::observe::Recorder) of your own feed any other pipeline.

mod clock;
mod collector;
mod histogram;
mod lane;
mod metrics;
mod otlp;
mod proto;
mod queue;
mod resource;
mod sampler;
mod spans;
mod table;
mod told;
mod variables;

use std::time::Duration;

pub use self::metrics::Conventions;
pub use self::otlp::{InvalidEndpoint, Otlp, OtlpBuilder};
pub use self::sampler::Sampler;

/// Bytes of spans, and of logs, that wait for the collector: 4 MiB each.
pub const QUEUE: usize = 4 << 20;
/// Sets of attributes that a metric tells apart: 4,096.
pub const SERIES: usize = 4_096;
/// Pause between two times that spans and logs are sent: 5 s, or until half of the queue is full.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Pause between two times that metrics are sent: 60 s.
pub const METRIC_INTERVAL: Duration = Duration::from_secs(60);
/// Time that a collector may take for an answer: 10 s.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before what was not taken is sent again: 1 s at first.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest of these pauses: 30 s.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// Time for which something is sent again and again: 2 min.
pub const RETRIED_FOR: Duration = Duration::from_secs(120);

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.41.0";
