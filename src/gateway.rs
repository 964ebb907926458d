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
//! Outermost first: respond, upgrade, terminate credentials, inspect, authorise, hold to limits, meter usage, list models, keep
//! sessions, fail over, select, circuit breaker, stream commit, forward, re-issue credentials. Each has a setter that takes a layer of the same kind
//! with other settings, or any other layer in its place; a tuple `(mine, theirs)` of layers puts one of yours above one of these.
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
use tower_layer::{Identity, Layer};
use tower_service::Service;

use crate::authorize::AuthorizeLayer;
use crate::body::Body;
use crate::circuit::CircuitBreakerLayer;
use crate::failover::FailoverLayer;
use crate::forward::ForwardLayer;
use crate::inspect::InspectLayer;
use crate::limit::{ClientLimitLayer, MemoryLimits};
use crate::meter::MeterUsageLayer;
use crate::models::ListModelsLayer;
use crate::pool::{BoxFuture, Pool};
use crate::reissue::ReissueCredentialsLayer;
use crate::respond::{DrainLayer, RespondLayer};
use crate::select::SelectBackendLayer;
use crate::session::StickySessionLayer;
use crate::stream_commit::StreamCommitLayer;

/// WebSockets need the feature `client`; without it they are not forwarded.
#[cfg(feature = "client")]
type DefaultUpgrade = crate::upgrade::UpgradeLayer;
#[cfg(not(feature = "client"))]
type DefaultUpgrade = Identity;

/// Starts the usual stack over a pool.
///
/// `terminate` says who may call, mostly a
/// [`TerminateCredentialsLayer`](crate::terminate::TerminateCredentialsLayer). Running without clients must be asked for:
/// [`without_clients`](crate::terminate::TerminateCredentialsLayer::without_clients). A layer of your own in its place must insert a
/// [`Client`](crate::context::Client); a request without one is refused (401).
pub fn builder<T>(pool: Pool, terminate: T) -> Builder<T> {
    Builder {
        respond: RespondLayer::new(),
        terminate,
        upgrade: DefaultUpgrade::new(),
        front_door: Identity::new(),
        inspect: InspectLayer::new(),
        api_version: Identity::new(),
        authorize: AuthorizeLayer::new().require_client(),
        limits: ClientLimitLayer::new(MemoryLimits::new()),
        meter: MeterUsageLayer::new(),
        models: ListModelsLayer::new(pool.clone()),
        ownership: Identity::new(),
        session: StickySessionLayer::new(pool.clone()),
        failover: FailoverLayer::new(),
        select: SelectBackendLayer::new(pool),
        circuit: CircuitBreakerLayer::adopting(),
        stream_commit: StreamCommitLayer::new(),
        forward: ForwardLayer::new(),
        reissue: ReissueCredentialsLayer::new(),
    }
}

/// The layers of a gateway, each replaceable; made by [`builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder<
    Terminate,
    Respond = RespondLayer,
    Upgrade = DefaultUpgrade,
    FrontDoor = Identity,
    Inspect = InspectLayer,
    ApiVersion = Identity,
    Authorize = AuthorizeLayer,
    Limits = ClientLimitLayer,
    Meter = MeterUsageLayer,
    Models = ListModelsLayer,
    Ownership = Identity,
    Session = StickySessionLayer,
    Failover = FailoverLayer,
    Select = SelectBackendLayer,
    Circuit = CircuitBreakerLayer,
    StreamCommit = StreamCommitLayer,
    Forward = ForwardLayer,
    Reissue = ReissueCredentialsLayer,
> {
    respond: Respond,
    terminate: Terminate,
    upgrade: Upgrade,
    front_door: FrontDoor,
    inspect: Inspect,
    api_version: ApiVersion,
    authorize: Authorize,
    limits: Limits,
    meter: Meter,
    models: Models,
    ownership: Ownership,
    session: Session,
    failover: Failover,
    select: Select,
    circuit: Circuit,
    stream_commit: StreamCommit,
    forward: Forward,
    reissue: Reissue,
}

/// A setter for each slot, which changes the type of that slot alone.
macro_rules! setters {
    ([$($before:ident: $B:ident,)*]) => {};
    ([$($before:ident: $B:ident,)*] $slot:ident: $T:ident = $doc:literal, $($after:ident: $A:ident = $docs:literal,)*) => {
        impl<$($B,)* $T, $($A,)*> Builder<$($B,)* $T, $($A,)*> {
            #[doc = $doc]
            pub fn $slot<L>(self, layer: L) -> Builder<$($B,)* L, $($A,)*> {
                Builder { $slot: layer, $($before: self.$before,)* $($after: self.$after,)* }
            }
        }
        setters! { [$($before: $B,)* $slot: $T,] $($after: $A = $docs,)* }
    };
}

setters! {
    [terminate: Terminate,]
    respond: Respond = "Replaces what turns causes into answers. The error above it must be [`Infallible`].",
    upgrade: Upgrade = "Replaces what forwards WebSockets, so that it can be asked for its connections.",
    front_door: FrontDoor = "Adds what checks that requests came through Azure Front Door, before anybody is asked for a key.",
    inspect: Inspect = "Replaces what finds out what is asked for.",
    api_version: ApiVersion = "Adds what checks or adds the version of the API.",
    authorize: Authorize = "Replaces what holds clients to their aliases.",
    limits: Limits = "Replaces what holds clients to their limits, so that accounts outlast this stack, say.",
    meter: Meter = "Replaces what counts what requests use.",
    models: Models = "Replaces what lists the models.",
    ownership: Ownership = "Adds what lets clients reach only what they made.",
    session: Session = "Replaces what keeps requests where their state is.",
    failover: Failover = "Replaces what sends a refused request on.",
    select: Select = "Replaces what chooses targets.",
    circuit: Circuit = "Replaces what learns from outcomes.",
    stream_commit: StreamCommit = "Replaces what holds streams for their first content.",
    forward: Forward = "Replaces what puts requests in the form that their target takes.",
    reissue: Reissue = "Replaces what shows backends their credentials.",
}

type Admission<R, U, D, T, I, V, A, L, E, M> = (DrainLayer, R, U, D, T, I, V, A, L, E, M);
type Attempts<O, P, F, S, C, Q, W, X> = (O, P, F, S, C, Q, W, X);
type Stack<R, U, D, T, I, V, A, L, E, M, O, P, F, S, C, Q, W, X> =
    (Admission<R, U, D, T, I, V, A, L, E, M>, Attempts<O, P, F, S, C, Q, W, X>);

impl<T, R, U, D, I, V, A, L, E, M, O, P, F, S, C, Q, W, X>
    Builder<T, R, U, D, I, V, A, L, E, M, O, P, F, S, C, Q, W, X>
{
    /// Stacks the layers around an HTTP client.
    pub fn build<H>(self, client: H) -> Gateway
    where
        Stack<R, U, D, T, I, V, A, L, E, M, O, P, F, S, C, Q, W, X>: Layer<H>,
        <Stack<R, U, D, T, I, V, A, L, E, M, O, P, F, S, C, Q, W, X> as Layer<H>>::Service: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let admission = {
            let Self {
                respond,
                upgrade,
                front_door,
                terminate,
                inspect,
                api_version,
                authorize,
                limits,
                meter,
                models,
                ..
            } = self;
            (
                DrainLayer::new(),
                respond,
                upgrade,
                front_door,
                terminate,
                inspect,
                api_version,
                authorize,
                limits,
                meter,
                models,
            )
        };
        let attempts = {
            let Self { ownership, session, failover, select, circuit, stream_commit, forward, reissue, .. } = self;
            (ownership, session, failover, select, circuit, stream_commit, forward, reissue)
        };
        Gateway(BoxCloneSyncService::new((admission, attempts).layer(client)))
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
