//! Simulated Azure OpenAI resources, to test policies without a network and without Azure.
//!
//! A [`SimulatedBackend`] answers as an Azure OpenAI resource does, throttles as it does, breaks when it is told to, and
//! remembers what it received. The same backend works
//!
//! * **in process**, as a [`Service`](tower_service::Service) of HTTP requests: put it where the HTTP client would stand.
//!   All its time is tokio's, so a test with a paused clock goes through a minute of throttling in no time;
//! * **on loopback**, as a real HTTP server: [`SimulatedBackend::serve`].
//!
//! # How a request is answered
//!
//! 1. Its body is read to the end.
//! 2. The script of [`Faults`] may say what happens to it, whatever it asks for.
//! 3. A foreign `Host` gets 404, more than ten custom headers 431, a dated `api-version` on a v1 path 400.
//! 4. A missing or wrong credential, or more than one of them, gets 401.
//! 5. A path or method that Azure does not serve, or a classic path without `api-version`, gets 404 with code `404`; a
//!    deployment that does not exist gets 404 with code `DeploymentNotFound` (on v1 paths `model_not_found`).
//! 6. The limits of the deployment are asked; above them: 429 with the headers and messages of its kind.
//! 7. A body that is not what the operation asks for gets 400.
//! 8. After the latency of the deployment, the answer. The assistant says `Hello from` and the name of the backend.
//!
//! Served are, on classic paths (`…?api-version=…`) as well as on v1 paths (`/openai/v1/…`):
//!
//! * below the deployment on a classic path, with the deployment in `model` on a v1 path: chat completions, completions,
//!   embeddings, audio (transcriptions and translations as forms, speech as bytes), images;
//! * with the deployment in `model` on both: Responses; runs of assistants, which may leave it to the assistant;
//! * `GET models`;
//! * the objects of assistants, batches, containers, conversations, evals, files, fine-tuning jobs, responses, skills,
//!   stored chat completions, threads, uploads, vector stores, videos and consents to voices, and what lies in them (messages, runs, steps, items, files):
//!   made, read, changed, cancelled, listed by the page and deleted where the API has a call for it;
//! * realtime sessions (`GET realtime`, with `model=` on a v1 path and `deployment=` on a classic one) over WebSocket, on loopback
//!   only, which say what they hear.
//!
//! What can be streamed is streamed on request. Each backend has ids of its own, and what it did not make is unknown to it:
//! in a path, as a page's cursor and in a body 404, as `previous_response_id` or as an item of the input 400. A response whose
//! request includes `reasoning.encrypted_content` begins with reasoning that only its maker reads: to another backend that content
//! is 400 `invalid_encrypted_content`, on classic paths without that code.
//!
//! # What it does not do
//!
//! It computes nothing: token counts are a quarter of the characters, jobs stay as they began, and searches find nothing. What
//! it keeps are the objects themselves, until the backend is dropped: no contents of files. It does not speak TLS.
//!
//! # A throttled backend, in virtual time
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use http::{Request, StatusCode};
//! use tower::ServiceExt;
//! use tower_azure_openai::body::Body;
//! use tower_azure_openai::testkit::{SimulatedBackend, SimulatedDeployment};
//!
//! let backend = SimulatedBackend::builder("eastus")
//!     .region("East US")
//!     .api_key("secret")
//!     .deployment(SimulatedDeployment::standard("gpt-4o").tokens_per_minute(20))
//!     .build();
//!
//! let chat = || {
//!     Request::post("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21")
//!         .header("api-key", "secret")
//!         .body(Body::from(r#"{"messages":[{"role":"user","content":"Hello"}]}"#))
//! };
//!
//! assert_eq!(backend.clone().oneshot(chat()?).await?.status(), StatusCode::OK);
//!
//! let throttled = backend.clone().oneshot(chat()?).await?;
//! assert_eq!(throttled.status(), StatusCode::TOO_MANY_REQUESTS);
//! assert_eq!(throttled.headers()["retry-after"], "60");
//!
//! tokio::time::advance(Duration::from_secs(60)).await;
//! assert_eq!(backend.clone().oneshot(chat()?).await?.status(), StatusCode::OK);
//! assert_eq!(backend.request_count(), 3);
//! # Ok(())
//! # }
//! ```
//!
//! # A stack, request by request
//!
//! ```
//! use std::time::Duration;
//! use http::Request;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::pool::{Backend, Deployment, Pool, Target};
//! use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment};
//! use tower_azure_openai::forward::ForwardLayer;
//! use tower_azure_openai::{body::Body, failover::FailoverLayer, select::SelectBackendLayer};
//!
//! # fn main() { tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test()).unwrap() }
//! // #[tokio::test(start_paused = true)]
//! async fn test() -> Result<(), BoxError> {
//!     let simulate = |name| SimulatedBackend::builder(name).deployment(SimulatedDeployment::standard("gpt-4o")).build();
//!     let (ptu, paygo) = (simulate("ptu"), simulate("paygo"));
//!     ptu.faults().push(Fault::status(429).header("retry-after-ms", "300"));
//!
//!     let pool = Pool::builder()
//!         .add_backend(Backend::new("ptu", "https://ptu").add_deployment(Deployment::new("gpt-4o")))
//!         .add_backend(Backend::new("paygo", "https://paygo").priority(1).add_deployment(Deployment::new("gpt-4o")))
//!         .build()?;
//!     let azure = service_fn(move |request: Request<Body>| match request.uri().host() {
//!         Some("ptu") => ptu.clone().oneshot(request),
//!         _ => paygo.clone().oneshot(request),
//!     });
//!     let service = ServiceBuilder::new()
//!         .layer(FailoverLayer::new())
//!         .layer(SelectBackendLayer::new(pool))
//!         .layer(ForwardLayer::new())
//!         .service(azure);
//!
//!     let mut served_by = Vec::new();
//!     for pause in [0, 299, 1] {
//!         tokio::time::advance(Duration::from_millis(pause)).await;
//!         let request = Request::post("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21")
//!             .body(Body::from(r#"{"messages":[]}"#))?;
//!         let answer = service.clone().oneshot(request).await?;
//!         served_by.push(answer.extensions().get::<Target>().map(|target| target.backend().to_owned()));
//!     }
//!     let names: Vec<_> = served_by.iter().flatten().collect();
//!     assert_eq!(names, ["paygo", "paygo", "ptu"], "back on the PTU with the first request after its hint");
//!     Ok(())
//! }
//! ```
//!
//! How a policy fares with traffic rather than with one request is what [`scenario`] tells.
//!
//! # A backend that breaks
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment};
//!
//! let backend = SimulatedBackend::builder("westus").deployment(SimulatedDeployment::standard("gpt-4o")).build();
//! backend
//!     .faults()
//!     .push(Fault::status(429).header("retry-after-ms", "300"))
//!     .push_n(Fault::reset(), 2)
//!     .push(Fault::hang().for_deployment("gpt-4o"));
//!
//! let server = backend.serve().await?;
//! println!("{} throttles once, dies twice, hangs once, and then serves", server.url());
//! server.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # A stream that fails
//!
//! After a head that says 200, in either of the shapes in which Azure tells errors, before the first content or after some:
//!
//! ```
//! use std::time::Duration;
//! use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment, StreamError};
//!
//! let words = SimulatedDeployment::standard("gpt-4o").says("Grüße aus Köln").async_filter();
//! let backend = SimulatedBackend::builder("westeurope").deployment(words).build();
//! backend
//!     .faults()
//!     .push(Fault::stream_error(StreamError::throttled_for(Duration::from_secs(7))))
//!     .push(Fault::stream_error(StreamError::server_error().after_bare_failure().after_events(5)).and(Fault::chopped(3)))
//!     .push(Fault::slow_body(Duration::from_secs(1)).and(Fault::cut_stream(4)))
//!     .push(Fault::stalled_stream(2));
//! ```
//!
//! # Whole scenarios
//!
//! How a routing policy fares over an hour of traffic in bad weather, as a report: [`scenario`].
//!
//! # Errors
//!
//! In process, a fault of the transport is a [`TransportError`], as the error of the service or of the answer's body.
//!
//! # Cancellation
//!
//! A request that is dropped, at any point, is no longer in flight, and what its deployment admitted stays counted.

mod answer;
mod backend;
mod body;
mod builder;
mod call;
mod credentials;
mod deployment;
mod error;
mod fault;
mod limits;
mod objects;
mod realtime;
mod received;
mod resource;
pub mod scenario;
mod sealed;
mod server;
mod stream_error;

pub use self::backend::{ResponseFuture, SimulatedBackend};
pub use self::builder::Builder;
pub use self::deployment::SimulatedDeployment;
pub use self::error::TransportError;
pub use self::fault::{Fault, Faults};
pub use self::received::ReceivedRequest;
pub use self::server::SimulatedServer;
pub use self::stream_error::StreamError;
