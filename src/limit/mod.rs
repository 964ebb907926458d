//! Holds each client to its limits: tokens and requests a minute, tokens a day.
//!
//! 1. A request without a [`Client`](crate::context::Client), or of one without [`Limits`](crate::context::Limits), passes.
//! 2. The store admits a request while each limit has at least one left, and takes one request and the estimated tokens at once:
//!    the prompt's by estimate, and `max_tokens` (also `max_completion_tokens`, `max_output_tokens`) for
//!    each of `n` answers, else the mean of this client's answers by that alias. Whoever has one left may overdraw by one request;
//!    debt is paid back by what flows in.
//! 3. A request that is refused reaches nothing below: no backend is asked and no circuit learns. It costs nothing.
//! 4. When the usage is known ([`Spending`](crate::context::Spending), filled by [`MeterUsageLayer`](crate::meter::MeterUsageLayer) below), what was
//!    taken is corrected, before the event that tells it is handed on. Without metering below, what was taken stays taken.
//! 5. An answer of 4xx costs a request and no tokens. 429, 5xx and an error cost nothing. A client that leaves pays what metering
//!    knows or estimates by then.
//! 6. Calls that use no model (reading, deleting, files) count as requests and not as tokens.
//! 7. Answers to limited clients carry `x-ratelimit-limit-…`, `x-ratelimit-remaining-…` and `x-ratelimit-reset-…` (in seconds) of
//!    the client's own, in place of the backend's.
//!
//! The bucket of a minute is full at first and takes a minute to fill, so two minutes' worth can pass within sixty seconds, after
//! a minute of silence. In any span, what is spent is at most the limit once, what flowed in meanwhile, one reservation, and what
//! answers exceeded their reservations by.
//!
//! All surfaces of the API, streams and WebSockets have one account per client.
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{body::Body, context::{Client, Limits}, limit::{ClientLimitLayer, MemoryLimits}};
//! use tower_azure_openai::{Error, ErrorKind};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let backend = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
//! let mut service = ServiceBuilder::new().layer(ClientLimitLayer::new(MemoryLimits::new())).service(backend);
//! let request = || {
//!     let mut request = Request::get("/openai/files").body(Body::empty()).unwrap();
//!     request.extensions_mut().insert(Client::new("team-a").limits(Limits::new().requests_per_minute(1)));
//!     request
//! };
//!
//! let answer = service.ready().await?.call(request()).await?;
//! assert_eq!(answer.headers()["x-ratelimit-remaining-requests"], "0");
//! let refused = service.ready().await?.call(request()).await.unwrap_err();
//! assert_eq!(Error::find(refused.as_ref()).map(Error::kind), Some(ErrorKind::RateLimitExceeded));
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//! [`RateLimitExceeded`](crate::ErrorKind::RateLimitExceeded), [`QuotaExceeded`](crate::ErrorKind::QuotaExceeded), those of
//! [`Route::parse`](crate::context::Route::parse), and those of the service below. A store that fails, or takes longer than
//! 50 ms, admits or refuses as [`when_unavailable`](ClientLimitLayer::when_unavailable) says.
//!
//! # Cancellation
//! Dropping the future, or the answer's body, settles the account by what is known.

#[cfg(feature = "testkit")]
pub mod conformance;

mod body;
mod bucket;
mod day;
mod headers;
mod layer;
mod memory;
mod reservation;
mod service;
mod store;

pub use self::body::ResponseBody;
pub use self::layer::{ClientLimitLayer, Unavailable};
pub use self::memory::MemoryLimits;
pub use self::service::ClientLimit;
pub use self::store::{Balance, Decision, Left, Limit, LimitFuture, LimitStore, Reservation};
pub use crate::refusable::WorkingFuture as ResponseFuture;
