//! Counts what requests came to, for Prometheus.
//!
//! A [`MetricsRecorder`] is one of the [`Recorder`](crate::observe::Recorder)s of an [`ObserveLayer`](crate::observe::ObserveLayer), and is
//! asked for its text by whatever serves your metrics:
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::metrics::{Exposition, MetricsRecorder};
//! use tower_azure_openai::pool::{Backend, Deployment, Pool};
//! use tower_azure_openai::{body::Body, observe::ObserveLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let pool = Pool::builder()
//!     .add_backend(Backend::new("east", "https://east.example").add_deployment(Deployment::new("gpt-4o")))
//!     .build()?;
//! let metrics = MetricsRecorder::new(pool);
//! metrics.add_gauge("app_queue", "Jobs that wait", || vec![(vec![], 3.0)]);
//! let serves = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from("hello"))));
//! let service = ServiceBuilder::new().layer(ObserveLayer::new().add_recorder(metrics.clone())).service(serves);
//! service.oneshot(Request::get("/").body(Body::empty())?).await?.into_body().collect().await?;
//!
//! let exposition = Exposition::accepted(None);
//! assert_eq!(exposition.content_type(), "text/plain; version=0.0.4");
//! let text = metrics.text(exposition);
//! assert!(text.contains(r#"gateway_requests_total{client="",alias="",operation="",status="200"} 1"#), "{text}");
//! assert!(text.contains("app_queue 3.0"), "{text}");
//! # Ok(())
//! # }
//! ```
//!
//! | metric | labels |
//! |---|---|
//! | `gateway_requests_total` | `client`, `alias`, `operation`, `status` (499: the client left before there was an answer) |
//! | `gateway_request_duration_seconds`, `gateway_first_content_seconds` | `alias`, `backend` |
//! | `gateway_attempts_total` | `backend`, `deployment`, `outcome` |
//! | `gateway_tokens_total` | `client`, `alias`, `backend`, `deployment`, `type` (`input`, `output`), `source` (`reported`, `estimated`) |
//! | `gateway_token_details_total` | the same, parts of the former that are never added to them |
//! | `gateway_circuit_state` (0 closed, 1 half-open, 2 open), `gateway_in_flight` | `backend`, `deployment` |
//! | `gateway_identity_ok` | `backend` |
//! | `gateway_build_info` | `version` |
//!
//! Labels come from the configuration, never from what a client typed: a name that nobody serves is `""`, so the number of series is
//! bounded by clients, aliases and deployments.

mod labels;
mod pool;
mod recorder;
mod text;

pub use self::recorder::{MetricsRecorder, Samples};
pub use self::text::Exposition;
