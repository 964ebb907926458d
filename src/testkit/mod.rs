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
//! 3. A foreign `Host` gets 404.
//! 4. A missing or wrong credential, or more than one of them, gets 401.
//! 5. A path or method that Azure does not serve, or a classic path without `api-version`, gets 404 with code `404`; a
//!    deployment that does not exist gets 404 with code `DeploymentNotFound` (on v1 paths `model_not_found`).
//! 6. The limits of the deployment are asked; above them: 429 with the headers and messages of its kind.
//! 7. A body that is not what the operation asks for gets 400.
//! 8. After the latency of the deployment, the answer. The assistant says `Hello from` and the name of the backend.
//!
//! Served are chat completions, completions (both streamed on request) and embeddings, on classic paths
//! (`/openai/deployments/{deployment}/…?api-version=…`) and on v1 paths (`/openai/v1/…`, with the deployment in `model`);
//! realtime sessions (`GET /openai/realtime?api-version=…&deployment=…` and `/openai/v1/realtime?model=…`) over WebSocket on
//! loopback, which say what they hear; the list of models; and, so that calls that create objects have a target, `POST` to `threads`, `files` and `batches`,
//! which answer with a new id and keep nothing.
//!
//! # What it does not do
//!
//! It computes nothing: token counts are a quarter of the characters. It keeps no objects. It does not speak TLS.
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
mod realtime;
mod received;
mod resource;
pub mod scenario;
mod server;

pub use self::backend::{ResponseFuture, SimulatedBackend};
pub use self::builder::Builder;
pub use self::deployment::SimulatedDeployment;
pub use self::error::TransportError;
pub use self::fault::{Fault, Faults};
pub use self::received::ReceivedRequest;
pub use self::server::SimulatedServer;
