//! Refuses requests of lower priority while the process itself runs out of room. Nothing is queued.
//!
//! 1. The [`Priority`](crate::pool::Priority) of a request is that of its [`Client`](crate::context::Client), or a lower one that it
//!    asks for with [`PRIORITY_HEADER`](crate::context::PRIORITY_HEADER). Without a client it is normal.
//! 2. Requests in progress are counted, streams and WebSockets to their end. With [`in_flight`](ShedLayer::in_flight), low ones are
//!    refused from four fifths of that number on, normal ones from nine tenths, high ones when it is reached.
//!    At most half of that number are one client's, whatever its priority, so that nobody's requests keep all others out;
//!    [`of_one_client`](ShedLayer::of_one_client) says otherwise.
//! 3. What else may run out is [watched](ShedLayer::watch): low and normal requests are refused from the same shares on; who is full then
//!    refuses by itself.
//! 4. What only changes a WebSocket session that stands ([`SocketFrame::Settings`](crate::context::SocketFrame)) is neither refused nor
//!    counted: its connection is.
//!
//! It does not look at backends: what is left of a busy one is divided by the pool's [`Thresholds`](crate::pool::Thresholds).
//!
//! ```
//! use http::{Request, Response};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::body::Body;
//! use tower_azure_openai::context::Client;
//! use tower_azure_openai::pool::Priority;
//! use tower_azure_openai::shed::ShedLayer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let shed = ShedLayer::new().in_flight(10).of_one_client(8);
//! let backend = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from("done"))));
//! let service = ServiceBuilder::new().layer(shed.clone()).service(backend);
//! let request = |client: Client| Request::get("/").extension(client).body(Body::empty());
//!
//! let mut running = Vec::new();
//! for _ in 0..8 {
//!     running.push(service.clone().oneshot(request(Client::new("team-a"))?).await?);
//! }
//! let batch = Client::new("batch").priority(Priority::Low);
//! assert!(service.clone().oneshot(request(batch.clone())?).await.is_err(), "the last places are for others");
//! assert_eq!(shed.shed(Priority::Low), 1);
//! drop(running);
//! assert!(service.oneshot(request(batch)?).await.is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! It refuses by the memory of collected bodies, too, with a layer of [inspection](crate::inspect) below:
//!
//! ```
//! use tower_azure_openai::inspect::InspectLayer;
//! use tower_azure_openai::shed::ShedLayer;
//!
//! let inspect = InspectLayer::new();
//! let account = inspect.clone();
//! let shed = ShedLayer::new().watch(move || account.replay_memory_share());
//! # drop((shed, inspect));
//! ```
//!
//! **Order.** Below credential termination, which says whose request it is, and above inspection, which spends memory on it; else
//! refused with [`Misordered`](crate::ErrorKind::Misordered).
//!
//! # Errors
//! [`Overloaded`](crate::ErrorKind::Overloaded) with a second to wait; [`InvalidConstraint`](crate::ErrorKind::InvalidConstraint)
//! for a header that cannot be understood; those of the service below.
//!
//! # Cancellation
//! Dropping the future or the body gives the place back.

mod layer;
mod service;

use std::time::Duration;

pub use self::layer::ShedLayer;
pub use self::service::{ResponseBody, ResponseFuture, Shed};

/// Share from which on requests of low priority are refused: 80 %.
pub(crate) const LOW: f64 = 0.8;
/// Share from which on requests of normal priority are refused: 90 %.
pub(crate) const NORMAL: f64 = 0.9;
/// Divisor of the requests in progress for what one client has at most.
pub(crate) const CLIENT_SHARE: usize = 2;
/// Time for which those who are refused are asked to wait: 1 s.
pub(crate) const WAIT: Duration = Duration::from_secs(1);
