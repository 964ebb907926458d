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
//! Outermost first: observe, respond, front door, upgrade, terminate credentials, capture, shed, inspect, check the api-version, authorise, hold
//! to limits, meter, list models, guard ownership, keep sessions, fail over, select, stream commit, forward, re-issue credentials.
//! Each has a setter that takes the same layer with other settings. Layers of your own have places:
//!
//! | place | stands | sees |
//! |---|---|---|
//! | [`around_answers`](Builder::around_answers) | above [`RespondLayer`] | requests as they came, and every answer, refusals among them; it gives no error ([`Infallible`]) |
//! | [`before_clients`](Builder::before_clients) | under [`RespondLayer`] and [`FrontDoorLayer`], above everything else | requests as they came, with their credentials and unread bodies; every answer from below, and what is refused there as an error ([`Error`](crate::Error)), not yet as an answer: a 401 is `Err` there |
//! | [`after_inspection`](Builder::after_inspection) | under [`InspectLayer`], above [`AuthorizeLayer`] | [`Client`](crate::context::Client), [`Route`](crate::context::Route) and the collected body, no credentials. It may refuse, and may change the body |
//! | [`before_backends`](Builder::before_backends) | under [`ForwardLayer`], above [`ReissueCredentialsLayer`] | each attempt with its [`Target`](crate::pool::Target), in the form in which the target takes it, without its credential; each answer as the backend gave it |
//!
//! An error of a layer of yours that is no [`Error`](crate::Error) is answered as a failure of a backend: refuse with an
//! [`Error`](crate::Error), or with an answer. A tuple is a layer too, the first outermost.
//!
//! This module contains no mechanism: what it builds can be written with a `ServiceBuilder` in as many lines.
//!
//! [`Infallible`]: std::convert::Infallible
//! [`ReissueCredentialsLayer`]: crate::reissue::ReissueCredentialsLayer
//! [`RespondLayer`]: crate::respond::RespondLayer

mod service;
mod stack;

use tower_layer::Identity;

pub use self::service::{Gateway, ResponseFuture};
use crate::api_version::ApiVersionLayer;
use crate::authorize::AuthorizeLayer;
use crate::capture::CaptureLayer;
use crate::failover::FailoverLayer;
use crate::forward::ForwardLayer;
use crate::front_door::FrontDoorLayer;
use crate::inspect::InspectLayer;
use crate::limit::{ClientLimitLayer, MemoryLimits};
use crate::meter::MeterUsageLayer;
use crate::models::ListModelsLayer;
use crate::observe::ObserveLayer;
use crate::ownership::OwnershipLayer;
use crate::pool::Pool;
use crate::select::{RoundRobin, SelectBackendLayer};
use crate::session::StickySessionLayer;
use crate::shed::ShedLayer;
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
        terminate,
        around_answers: Identity::new(),
        before_clients: Identity::new(),
        after_inspection: Identity::new(),
        before_backends: Identity::new(),
        select: SelectBackendLayer::new(pool.clone()),
        usual: Usual {
            observe: ObserveLayer::new(),
            upgrade: DefaultUpgrade::new(),
            front_door: None,
            capture: CaptureLayer::off(),
            shed: ShedLayer::new(),
            inspect: InspectLayer::new(),
            api_version: None,
            authorize: AuthorizeLayer::new().require_client(),
            limits: ClientLimitLayer::new(MemoryLimits::new()),
            meter: MeterUsageLayer::new(),
            models: ListModelsLayer::new(pool.clone()),
            ownership: None,
            session: Some(StickySessionLayer::new(pool)),
            failover: FailoverLayer::new(),
            stream_commit: StreamCommitLayer::new(),
            forward: ForwardLayer::new(),
        },
    }
}

/// The layers of a gateway; made by [`builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder<T, P = RoundRobin, R = Identity, B = Identity, A = Identity, N = Identity> {
    usual: Usual,
    terminate: T,
    around_answers: R,
    before_clients: B,
    after_inspection: A,
    select: SelectBackendLayer<P>,
    before_backends: N,
}

/// The layers that are of the same type in every stack.
#[derive(Clone, Debug)]
struct Usual {
    observe: ObserveLayer,
    upgrade: DefaultUpgrade,
    front_door: Option<FrontDoorLayer>,
    capture: CaptureLayer,
    shed: ShedLayer,
    inspect: InspectLayer,
    api_version: Option<ApiVersionLayer>,
    authorize: AuthorizeLayer,
    limits: ClientLimitLayer,
    meter: MeterUsageLayer,
    models: ListModelsLayer,
    ownership: Option<OwnershipLayer>,
    session: Option<StickySessionLayer>,
    failover: FailoverLayer,
    stream_commit: StreamCommitLayer,
    forward: ForwardLayer,
}

/// Places for layers of your own, and what is generic over behaviour of yours.
impl<T, P, R, B, A, N> Builder<T, P, R, B, A, N> {
    /// Puts a layer where every answer passes, whoever gave it. See the [module docs](self).
    pub fn around_answers<L>(self, layer: L) -> Builder<T, P, L, B, A, N> {
        let Self { usual, terminate, before_clients, after_inspection, select, before_backends, .. } = self;
        Builder { usual, terminate, around_answers: layer, before_clients, after_inspection, select, before_backends }
    }

    /// Puts a layer where requests are as they came. See the [module docs](self).
    pub fn before_clients<L>(self, layer: L) -> Builder<T, P, R, L, A, N> {
        let Self { usual, terminate, around_answers, after_inspection, select, before_backends, .. } = self;
        Builder { usual, terminate, around_answers, before_clients: layer, after_inspection, select, before_backends }
    }

    /// Puts a layer where it is known who asks and for what. See the [module docs](self).
    pub fn after_inspection<L>(self, layer: L) -> Builder<T, P, R, B, L, N> {
        let Self { usual, terminate, around_answers, before_clients, select, before_backends, .. } = self;
        Builder { usual, terminate, around_answers, before_clients, after_inspection: layer, select, before_backends }
    }

    /// Puts a layer around what is sent to backends. See the [module docs](self).
    pub fn before_backends<L>(self, layer: L) -> Builder<T, P, R, B, A, L> {
        let Self { usual, terminate, around_answers, before_clients, after_inspection, select, .. } = self;
        Builder { usual, terminate, around_answers, before_clients, after_inspection, select, before_backends: layer }
    }

    /// Chooses targets by another policy, or reads errors in another way.
    pub fn select<Q>(self, layer: SelectBackendLayer<Q>) -> Builder<T, Q, R, B, A, N> {
        let Self { usual, terminate, around_answers, before_clients, after_inspection, before_backends, .. } = self;
        Builder { usual, terminate, around_answers, before_clients, after_inspection, select: layer, before_backends }
    }
}

/// The usual layers with other settings.
impl<T, P, R, B, A, N> Builder<T, P, R, B, A, N> {
    /// Forwards WebSockets with this, so that it can be asked for its connections. Their messages are charged to the account of
    /// inspection.
    #[cfg(feature = "client")]
    pub fn upgrade(mut self, layer: crate::upgrade::UpgradeLayer) -> Self {
        self.usual.upgrade = layer;
        self
    }

    /// Gives records to recorders, say.
    pub fn observe(mut self, layer: ObserveLayer) -> Self {
        self.usual.observe = layer;
        self
    }

    /// Checks that requests came through Azure Front Door, before anybody is asked for a key.
    pub fn front_door(mut self, layer: impl Into<Option<FrontDoorLayer>>) -> Self {
        self.usual.front_door = layer.into();
        self
    }

    /// Writes requests and answers down.
    pub fn capture(mut self, layer: CaptureLayer) -> Self {
        self.usual.capture = layer;
        self
    }

    /// Refuses lower priorities first while room runs out.
    pub fn shed(mut self, layer: ShedLayer) -> Self {
        self.usual.shed = layer;
        self
    }

    /// Finds out what is asked for with other settings.
    pub fn inspect(mut self, layer: InspectLayer) -> Self {
        self.usual.inspect = layer;
        self
    }

    /// Checks or adds the version of the API.
    pub fn api_version(mut self, layer: impl Into<Option<ApiVersionLayer>>) -> Self {
        self.usual.api_version = layer.into();
        self
    }

    /// Holds clients to their aliases with other settings.
    pub fn authorize(mut self, layer: AuthorizeLayer) -> Self {
        self.usual.authorize = layer;
        self
    }

    /// Holds clients to their limits with other accounts, which outlast this stack, say.
    pub fn limits(mut self, layer: ClientLimitLayer) -> Self {
        self.usual.limits = layer;
        self
    }

    /// Counts what requests use with other settings.
    pub fn meter(mut self, layer: MeterUsageLayer) -> Self {
        self.usual.meter = layer;
        self
    }

    /// Lists the models with other settings.
    pub fn models(mut self, layer: ListModelsLayer) -> Self {
        self.usual.models = layer;
        self
    }

    /// Lets clients reach only what they made.
    pub fn ownership(mut self, layer: impl Into<Option<OwnershipLayer>>) -> Self {
        self.usual.ownership = layer.into();
        self
    }

    /// Keeps requests where their state is with other settings, or not at all.
    pub fn session(mut self, layer: impl Into<Option<StickySessionLayer>>) -> Self {
        self.usual.session = layer.into();
        self
    }

    /// Sends refused requests on with other settings.
    pub fn failover(mut self, layer: FailoverLayer) -> Self {
        self.usual.failover = layer;
        self
    }

    /// Holds streams for their first content with other settings.
    pub fn stream_commit(mut self, layer: StreamCommitLayer) -> Self {
        self.usual.stream_commit = layer;
        self
    }

    /// Puts requests in the form that their target takes with other settings.
    pub fn forward(mut self, layer: ForwardLayer) -> Self {
        self.usual.forward = layer;
        self
    }
}
