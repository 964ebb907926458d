//! Tower layers that put several Azure OpenAI resources behind one endpoint.
//!
//! Each layer does one job, works alone around any `Service<http::Request<_>>`, and stacks with the others:
//!
//! ```text
//! client
//!   │  observe     one record and one span for each request, given when its answer ends
//!   │  respond     typed causes become answers; the error type becomes Infallible
//!   │  upgrade     carries an accepted WebSocket until it ends (feature `client`)
//!   │  front_door  optional: did it come through our own Azure Front Door?
//!   │  terminate   who is it? strips every inbound credential, inserts Client
//!   │  capture     optional: writes requests and answers down
//!   │  shed        refuses lower priorities while the process runs out of room
//!   │  inspect     what is asked for? collects the body, inserts Route
//!   │  api_version optional: allowed versions, and a default
//!   │  authorize   may this client use this alias?
//!   │  limit       has this client tokens and requests left?
//!   │  meter       counts what was used
//!   │  models      lists the aliases of this client
//!   │  ownership   optional: a client reaches only what it made
//!   │  session     where is the state that it refers to? learns ids from answers, inserts Pin
//!   │  failover    one attempt after the other, each on another target
//!   │  select      chooses the target of this attempt, takes its permit, and learns from the outcome
//!   │  commit      (`stream_commit`) holds a streamed 200 until its first content
//!   │  forward     the request as the target wants it, the answer as the client may see it
//!   │  reissue     the target's own key or token
//!   ▼
//! any HTTP client: client::HttpClient, or another Service<Request<Body>>
//! ```
//!
//! Layers never know one another. They meet in typed extensions of requests and answers ([`context`]) and in the shared
//! [`pool`], and behave sensibly when an extension is absent.
//!
//! In the bounds of a layer, `Inner` is a `Service<Request<_>>` whose answers have bodies of `Bytes` and whose errors can be boxed;
//! `Below` is one that is `Clone + Send + 'static` too, with a future that is `Send`, for layers that send more than once or later.
//! Every service that fits is one; there is nothing to implement.
//!
//! # Two backends, one endpoint
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{BoxError, ServiceExt, service_fn};
//! use tower_azure_openai::pool::{Backend, Credential, Deployment, Pool, Target};
//! use tower_azure_openai::{body::Body, gateway, terminate::TerminateCredentialsLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let pool = Pool::builder()
//!     .add_backend(
//!         Backend::new("ptu", "https://contoso-eastus.openai.azure.com")
//!             .credential(Credential::api_key("key of the first")?)
//!             .add_deployment(Deployment::new("gpt-4o-ptu").alias("gpt-4o")),
//!     )
//!     .add_backend(
//!         Backend::new("paygo", "https://contoso-westus.openai.azure.com")
//!             .credential(Credential::api_key("key of the second")?)
//!             .priority(1) // only what the PTU refuses
//!             .add_deployment(Deployment::new("gpt-4o")),
//!     )
//!     .build()?;
//! // With the feature `client`: `client::HttpClient::builder().build()?`. Here the first backend is busy.
//! let http_client = service_fn(async |request: Request<Body>| {
//!     let is_first = request.uri().host() == Some("contoso-eastus.openai.azure.com");
//!     let status = if is_first { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
//!     Ok::<_, BoxError>(Response::builder().status(status).body(Body::from("{}"))?)
//! });
//! let gateway = gateway::builder(pool, TerminateCredentialsLayer::without_clients()).build(http_client);
//!
//! let request = Request::post("/openai/v1/chat/completions")
//!     .header("content-type", "application/json")
//!     .body(r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}"#.to_owned())?;
//! let answer = gateway.oneshot(request).await?;
//! assert_eq!(answer.status(), StatusCode::OK);
//! assert_eq!(answer.extensions().get::<Target>().map(Target::backend), Some("paygo"));
//! # Ok(())
//! # }
//! ```
//!
//! The gateway is one [`Service`](tower::Service) that gives no error: a route of an axum router, a hyper server, a test.
//!
//! # Where to begin
//!
//! - [`gateway::builder`]: the whole stack in one call.
//! - [`pool::Pool::builder`]: which backends there are, and what they serve.
//! - [`failover`], [`select`]: the way of a request from one refusal to the next target.
//! - [`circuit`]: a circuit breaker for a single service, without any of the others.
//! - `testkit` (feature): simulated backends for tests of your own.
//!
//! The [README](https://docs.rs/crate/tower-azure-openai/latest/source/README.md) has a quick start for each of the three uses:
//! embed in an axum service, assemble a gateway, test a policy.
//!
//! # Order
//!
//! Outermost first, as above. [`failover`] must stand above [`select`], which chooses anew for every attempt; [`stream_commit`]
//! belongs below [`select`], which learns from what a refused stream becomes. [`terminate`] stands above everything that looks at the client, [`inspect`] above [`session`] and
//! [`failover`], which can only search and repeat bodies that are in hand, and [`session`] above [`failover`], which follows its
//! pins. [`forward`] stands below all that read the client's request or the
//! backend's answer, and [`reissue`] below it, next to the client, so that nothing in between ever sees a backend's credential. `upgrade` stands
//! directly under [`respond`], so that what a request holds is held for as long as its WebSocket.
//!
//! A wrong order is found out by the first request, which fails with [`ErrorKind::Misordered`] (500 `misordered_layers`), an error
//! that names both layers and stands in the log too; nothing is sent, repeated or learned then:
//!
//! | wrong | would mean |
//! |---|---|
//! | [`respond`] below [`failover`] | answers where failover and discovery must see errors |
//! | `upgrade` below [`inspect`] or [`authorize`] | frames that nobody inspects or allows |
//! | [`terminate`] below [`shed`], [`inspect`] or [`authorize`] | strangers, who are held to nothing |
//! | [`front_door`], [`terminate`], [`inspect`], [`api_version`] below [`models`] or [`session`] | answers and searches for whoever asks |
//! | [`inspect`] below [`api_version`] or [`authorize`] | a path with its prefix, an alias that nobody has read |
//! | [`shed`] below [`inspect`] | memory spent on what is refused for want of it |
//! | [`inspect`] left out | a deployment in the body that is neither chosen nor rewritten, bodies that cannot be repeated |
//! | [`authorize`] below [`session`] or [`failover`], [`ownership`] below [`session`] | searches for what the client may not use |
//! | [`ownership`] without [`session`] below | objects of which nobody remembers who made them |
//! | [`models`], [`session`] below [`failover`], or anything above it below [`select`] | refusals that look like failures of a backend |
//! | [`failover`] below [`select`] | every attempt at the same target |
//! | [`stream_commit`] above [`failover`], [`select`] or [`circuit`] | failed streams that count as successes |
//! | [`circuit`] below [`select`], or between it and [`failover`] | one circuit for all targets |
//! | [`circuit`] below [`stream_commit`] or [`reissue`] | a circuit that learns the wrong thing |
//! | [`forward`] or [`reissue`] above [`select`], or left out | requests that lead nowhere, targets that are shown no key |
//!
//! In no order does a credential of the client go to a target: selection itself takes it off.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | none | every layer, API keys; no TLS, no Azure SDK, no C code |
//! | `client` | `client::HttpClient`: hyper, rustls with aws-lc-rs, the system's roots; `upgrade`: WebSockets |
//! | `azure-identity` | tokens from `azure_core` credentials, fetched through the client above |
//! | `entra` | `terminate::entra`: clients known by Entra ID tokens, checked with aws-lc-rs |
//! | `decompression` | request bodies in gzip, deflate and zstd, the last with C code; without it they are refused |
//! | `metrics` | `metrics`: a recorder for Prometheus |
//! | `otel` | `otel`: traces, metrics and captures for an OpenTelemetry collector |
//! | `redis` | `shared`: limits, remembered ids, open circuits and usage in Redis, for several replicas |
//! | `testkit` | simulated Azure OpenAI resources |
//! | `full` | what a gateway in production wants: all but `testkit` |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod account;
mod announced;
mod answer;
#[doc(alias = "api-version")]
pub mod api_version;
mod attempt;
#[doc(alias("access control", "allow list", "permissions", "model access"))]
pub mod authorize;
pub mod azure;
mod below;
pub mod body;
#[doc(alias("log", "record", "audit", "payload logging"))]
pub mod capture;
#[doc(alias("circuit breaker", "outlier detection", "cooldown"))]
pub mod circuit;
#[doc(alias("http client", "connection pool", "proxy", "timeout"))]
#[cfg(feature = "client")]
pub mod client;
pub mod context;
mod date;
pub mod directory;
mod error;
#[doc(alias("retry", "retries", "fallback", "hedge", "spillover"))]
pub mod failover;
#[doc(alias("reverse proxy", "rewrite"))]
pub mod forward;
pub mod front_door;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
mod headers;
pub mod health;
mod idle_clock;
#[doc(alias("parse", "request body"))]
pub mod inspect;
#[doc(alias("rate limit", "ratelimit", "quota", "throttle", "tokens per minute"))]
pub mod limit;
#[doc(alias("usage", "billing", "chargeback", "cost"))]
pub mod meter;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod models;
#[doc(alias("telemetry", "tracing", "access log", "request id"))]
pub mod observe;
#[doc(alias("opentelemetry", "otlp", "tracing", "distributed tracing", "traceparent"))]
#[cfg(feature = "otel")]
pub mod otel;
pub mod ownership;
pub mod pool;
mod problems;
pub mod recorder;
mod refusable;
#[doc(alias("api key", "managed identity", "backend credential"))]
pub mod reissue;
#[doc(alias("error handler", "handle error"))]
pub mod respond;
#[doc(alias("load balance", "load balancer", "load balancing", "round robin", "routing"))]
pub mod select;
#[doc(alias("sticky session", "affinity", "stateful"))]
pub mod session;
#[cfg(feature = "redis")]
pub mod shared;
#[doc(alias("load shedding", "overload", "backpressure"))]
pub mod shed;
mod single_flight;
#[doc(alias("server-sent events", "sse", "streaming"))]
pub mod stream_commit;
mod sync;
#[doc(alias("authentication", "api key", "authenticate"))]
pub mod terminate;
#[cfg(feature = "testkit")]
pub mod testkit;
#[doc(alias("websocket", "realtime"))]
#[cfg(feature = "client")]
pub mod upgrade;
#[cfg(feature = "client")]
mod writes_through;

pub use self::error::{Error, ErrorKind};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
