//! The usual stack in one call.
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{BoxError, ServiceExt, service_fn};
//! use tower_azure_openai::{body::Body, context::Client, gateway, pool::{Backend, Deployment, Pool}};
//! use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::builder()
//!     .add_backend(Backend::new("east", "https://east.example").add_deployment(Deployment::new("gpt-4o")))
//!     .build()?;
//! let clients = ClientRegistry::builder().add_key(Client::new("team-a"), "…a long random key…").build()?;
//! # let http_client = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
//! // `http_client` is any `Service<Request<Body>>`; with the feature `client`, `client::HttpClient::builder().build()?`.
//! let gateway = gateway::builder(pool, TerminateCredentialsLayer::new(clients)).build(http_client);
//!
//! let answer = gateway.oneshot(Request::get("/openai/models").body(Body::empty())?).await?;
//! assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "no key, no answer");
//! # Ok(())
//! # }
//! ```
//!
//! Outermost first: respond, terminate credentials, inspect, authorise, fail over, select, circuit breaker, re-issue
//! credentials. Each has a setter that takes a layer of the same kind with other settings, or any other layer in its place; a
//! tuple `(mine, theirs)` of layers puts one of yours above one of these.
//!
//! This module contains no mechanism: what it builds can be written with a `ServiceBuilder` in as many lines.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower::BoxError;
use tower::util::BoxCloneSyncService;
use tower_layer::Layer;
use tower_service::Service;

use crate::authorize::AuthorizeLayer;
use crate::body::Body;
use crate::circuit::CircuitBreakerLayer;
use crate::failover::FailoverLayer;
use crate::inspect::InspectLayer;
use crate::pool::{BoxFuture, Pool};
use crate::reissue::ReissueCredentialsLayer;
use crate::respond::RespondLayer;
use crate::select::SelectBackendLayer;

/// Starts the usual stack over a pool.
///
/// `terminate` says who may call, mostly a
/// [`TerminateCredentialsLayer`](crate::terminate::TerminateCredentialsLayer). Running without clients must be asked for:
/// [`without_clients`](crate::terminate::TerminateCredentialsLayer::without_clients).
pub fn builder<T>(pool: Pool, terminate: T) -> Builder<T> {
    Builder {
        respond: RespondLayer::new(),
        terminate,
        inspect: InspectLayer::new(),
        authorize: AuthorizeLayer::new(),
        failover: FailoverLayer::new(),
        select: SelectBackendLayer::new(pool),
        circuit: CircuitBreakerLayer::adopting(),
        reissue: ReissueCredentialsLayer::new(),
    }
}

/// The layers of a gateway, each replaceable; made by [`builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder<
    Terminate,
    Respond = RespondLayer,
    Inspect = InspectLayer,
    Authorize = AuthorizeLayer,
    Failover = FailoverLayer,
    Select = SelectBackendLayer,
    Circuit = CircuitBreakerLayer,
    Reissue = ReissueCredentialsLayer,
> {
    respond: Respond,
    terminate: Terminate,
    inspect: Inspect,
    authorize: Authorize,
    failover: Failover,
    select: Select,
    circuit: Circuit,
    reissue: Reissue,
}

macro_rules! setter {
    ($(#[$doc:meta])* $field:ident -> <$($types:ident),*>, keeping $($kept:ident)*) => {
        $(#[$doc])*
        pub fn $field<L>(self, layer: L) -> Builder<$($types),*> {
            Builder { $field: layer, $($kept: self.$kept),* }
        }
    };
}

impl<T, R, I, A, F, S, C, X> Builder<T, R, I, A, F, S, C, X> {
    setter! {
        /// Replaces what turns causes into answers. The error above it must be [`Infallible`].
        respond -> <T, L, I, A, F, S, C, X>, keeping terminate inspect authorize failover select circuit reissue
    }
    setter! {
        /// Replaces what finds out what is asked for.
        inspect -> <T, R, L, A, F, S, C, X>, keeping respond terminate authorize failover select circuit reissue
    }
    setter! {
        /// Replaces what holds clients to their aliases.
        authorize -> <T, R, I, L, F, S, C, X>, keeping respond terminate inspect failover select circuit reissue
    }
    setter! {
        /// Replaces what sends a refused request on.
        failover -> <T, R, I, A, L, S, C, X>, keeping respond terminate inspect authorize select circuit reissue
    }
    setter! {
        /// Replaces what chooses targets.
        select -> <T, R, I, A, F, L, C, X>, keeping respond terminate inspect authorize failover circuit reissue
    }
    setter! {
        /// Replaces what learns from outcomes.
        circuit -> <T, R, I, A, F, S, L, X>, keeping respond terminate inspect authorize failover select reissue
    }
    setter! {
        /// Replaces what shows backends their credentials.
        reissue -> <T, R, I, A, F, S, C, L>, keeping respond terminate inspect authorize failover select circuit
    }

    /// Stacks the layers around an HTTP client.
    pub fn build<H>(self, client: H) -> Gateway
    where
        (R, T, I, A, F, S, C, X): Layer<H>,
        <(R, T, I, A, F, S, C, X) as Layer<H>>::Service: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let Self { respond, terminate, inspect, authorize, failover, select, circuit, reissue } = self;
        let layers = (respond, terminate, inspect, authorize, failover, select, circuit, reissue);
        Gateway(BoxCloneSyncService::new(layers.layer(client)))
    }
}

/// The whole stack as one service: cheap to clone, for any request body, and without errors.
#[derive(Clone)]
pub struct Gateway(BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>);

impl<B> Service<Request<B>> for Gateway
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        ResponseFuture(self.0.call(request.map(Body::new)))
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

/// The future of [`Gateway`].
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(BoxFuture<Result<Response<Body>, Infallible>>);

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
