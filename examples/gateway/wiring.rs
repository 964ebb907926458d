//! From the configuration to the stack of layers.

mod clients;
mod described;
mod http;

use ::http::header::HOST;
use ::http::{Request, Version};
use tower::BoxError;
use tower::filter::FilterLayer;
use tower::util::{Either, MapRequestLayer};
use tower_azure_openai::api_version::ApiVersionLayer;
use tower_azure_openai::body::Body;
use tower_azure_openai::capture::CaptureLayer;
use tower_azure_openai::context::{BasePath, Route};
use tower_azure_openai::failover;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::front_door::FrontDoorLayer;
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::metrics::MetricsRecorder;
use tower_azure_openai::observe::ObserveLayer;
use tower_azure_openai::ownership::OwnershipLayer;
use tower_azure_openai::pool::Pool;
use tower_azure_openai::recorder::{Action, FlightRecorder};
use tower_azure_openai::select::{
    LeastLoad, LowestLatency, Policy, PromptCache, RoundRobin, SelectBackendLayer, SlowStart, Weighted,
};
use tower_azure_openai::session::{DISCOVERY_RATE, SessionCookie, StickySessionLayer, WhenUnavailable};
use tower_azure_openai::shed::ShedLayer;
use tower_azure_openai::stream_commit::StreamCommitLayer;
use tower_azure_openai::terminate::TerminateCredentialsLayer;
use tower_azure_openai::{Error, ErrorKind};

pub(crate) use self::clients::clients;
use self::clients::{entra, registry};
pub(crate) use self::described::{circuit, pool};
pub(crate) use self::http::{client, special};
use crate::access_log::AccessLog;
use crate::admin::History;
use crate::config::behaviour::{self, Condition, Selection, Stream};
use crate::config::{self, Authentication, Config};
use crate::cors;
use crate::identities::Identities;
use crate::kept::Kept;
use crate::recordings::Recordings;

/// One configuration at work, and what the next one takes over from it.
pub(crate) struct Wired {
    pub(crate) gateway: Gateway,
    pub(crate) observe: ObserveLayer,
    pub(crate) metrics: MetricsRecorder,
    pub(crate) history: History,
    pub(crate) recordings: Recordings,
    /// Of the recordings.
    memory: usize,
    pub(crate) pool: Pool,
    pub(crate) kept: Kept,
    identities: Identities,
}

impl Wired {
    /// The stack that a configuration asks for. It shares with the one before what both have in common, and nothing else:
    /// a request sees one of the two from its beginning to its end.
    pub(crate) fn new(config: &Config, before: Option<&Self>) -> Result<Self, BoxError> {
        let mut identities = before.map_or_else(Identities::default, |before| before.identities.clone());
        let description = pool(config, &mut identities)?;
        let pool = match before {
            Some(before) => before.pool.successor(description)?,
            None => description.build()?,
        };
        let metrics = before.map_or_else(|| MetricsRecorder::new(pool.clone()), |before| before.metrics.clone());
        let kept = Kept::new(config, before.map(|before| &before.kept), &mut identities, &metrics)?;
        let recordings = before.filter(|before| before.memory == config.recorder.memory);
        let recordings = recordings.map_or_else(
            || Recordings::new(FlightRecorder::new(config.recorder.memory, &pool)),
            |before| before.recordings.clone(),
        );
        let history = before.map_or_else(History::default, |before| before.history.clone());
        let observe = ObserveLayer::new().add_recorder(AccessLog).add_recorder(metrics.clone());
        let observe = observe.add_recorder(recordings.flight().clone()).add_recorder(recordings.clone());
        let observe = observe.add_recorder(history.clone());
        let observe = match kept.collector() {
            Some(collector) => observe.add_recorder(collector.clone()),
            None => observe,
        };
        let observe = observe.backend_headers(config.telemetry.backend_header);
        let gateway = gateway(config, pool.clone(), &kept, observe.clone())?;
        if let Some(shared) = kept.shared() {
            shared.follow(pool.clone());
        }
        // Only what is sure to take effect.
        recordings.flight().set_pool(pool.clone());
        recordings.flight().set_policy(config.selection.policy.as_str());
        recordings.flight().note(Action::Configure { fingerprint: config.fingerprint() });
        recordings.set_directory(config.recorder.directory.clone());
        let memory = config.recorder.memory;
        Ok(Self { gateway, observe, metrics, history, recordings, memory, pool, kept, identities })
    }
}

/// The stack of layers over a pool.
fn gateway(config: &Config, pool: Pool, kept: &Kept, observe: ObserveLayer) -> Result<Gateway, BoxError> {
    let terminate = match config.authentication {
        Authentication::Clients => {
            let known = (registry(config)?, entra(config, kept)?);
            Either::Left(TerminateCredentialsLayer::new(known).ephemeral_keys(kept.ephemeral_keys()))
        }
        Authentication::None => {
            Either::Right(TerminateCredentialsLayer::without_clients().ephemeral_keys(kept.ephemeral_keys()))
        }
    };
    let policy = SlowStart::new(policy(&config.selection), config.selection.slow_start);
    let failover = &config.failover;
    Ok(gateway::builder(pool.clone(), terminate)
        .observe(observe)
        .around_answers(cors::layer(&config.cors))
        // A path that is not the API's is nobody's business: 404 before anybody is asked for a key.
        .before_clients((
            FilterLayer::new(cors::websockets(&config.cors)),
            MapRequestLayer::new(without(config.base_path.clone())),
            FilterLayer::new(api_only),
            FilterLayer::new(has_host),
        ))
        .upgrade(kept.upgrade())
        .front_door(front_door(config))
        .capture(capture(config, kept))
        .shed(shed(config, kept))
        .inspect(
            kept.inspect()
                .request_body(config.limits.request_body as u64)
                .replay_limit(failover.replay_limit)
                .request_timeout(config.timeouts.request_body),
        )
        .limits(kept.limits())
        .meter(kept.meter().silent_streams(config.usage.streams))
        .api_version(api_version(config))
        .ownership(ownership(config, kept))
        .session(session(config, pool.clone(), kept)?)
        .failover(kept.failover().attempts(failover.attempts).on(failover.on.iter().filter_map(condition)))
        .select(SelectBackendLayer::new(pool).with_policy(policy))
        .stream_commit(stream_commit(&config.stream))
        .forward(ForwardLayer::new().headers(config.forward.headers.iter().map(String::as_str))?)
        .build(kept.client()))
}

fn capture(config: &Config, kept: &Kept) -> CaptureLayer {
    let described = &config.capture;
    let capture = kept.capture(described.sink).clients(described.clients.iter().map(String::as_str));
    let capture = capture.sample(described.sample).body(described.body);
    if described.redact.is_empty() { capture } else { capture.redact(described.redact.clone()) }
}

/// Returns where there is one client only, the places that others would need are its own.
fn shed(config: &Config, kept: &Kept) -> ShedLayer {
    let in_flight = config.limits.in_flight;
    let shed = kept.shed().in_flight(in_flight);
    if config.clients.len() == 1 { shed.of_one_client(in_flight) } else { shed }
}

fn front_door(config: &Config) -> Option<FrontDoorLayer> {
    let ids = &config.front_door.ids;
    (!ids.is_empty()).then(|| FrontDoorLayer::new(ids))
}

fn api_version(config: &Config) -> ApiVersionLayer {
    let described = &config.api_version;
    let layer = ApiVersionLayer::new().allow(described.allow.iter().map(String::as_str));
    match &described.default {
        Some(default) => layer.default_version(default),
        None => layer,
    }
}

pub(crate) fn policy(described: &Selection) -> Box<dyn Policy> {
    match described.policy {
        behaviour::Policy::LeastLoad => Box::new(LeastLoad::default()),
        behaviour::Policy::LowestLatency => Box::new(LowestLatency::default()),
        behaviour::Policy::PromptCache => Box::new(PromptCache::default()),
        behaviour::Policy::RoundRobin => Box::new(RoundRobin::default()),
        behaviour::Policy::Weighted => Box::new(Weighted::default()),
    }
}

/// Clients reach the API under this prefix too.
fn without(base_path: Option<BasePath>) -> impl Fn(Request<Body>) -> Request<Body> + Clone {
    move |mut request| {
        if let Some(base_path) = &base_path {
            base_path.strip(&mut request);
        }
        request
    }
}

fn ownership(config: &Config, kept: &Kept) -> Option<OwnershipLayer> {
    match config.session.ownership {
        config::session::Ownership::Enforce => Some(OwnershipLayer::new(kept.sessions())),
        config::session::Ownership::Off => None,
    }
}

fn session(config: &Config, pool: Pool, kept: &Kept) -> Result<StickySessionLayer, BoxError> {
    let described = &config.session;
    let layer = StickySessionLayer::new(pool)
        .store(kept.sessions())
        .ephemeral_keys(kept.ephemeral_keys())
        .header(described.header.clone())
        .discover(described.discover.then_some(DISCOVERY_RATE))
        .when_unavailable(match described.when_unavailable {
            config::session::WhenUnavailable::Move => WhenUnavailable::Move,
            config::session::WhenUnavailable::Refuse => WhenUnavailable::Refuse,
        });
    let Some(name) = &described.cookie else { return Ok(layer) };
    let key = match &described.key {
        Some(key) => SessionCookie::new(key.expose().as_bytes())?,
        None => kept.cookie(),
    };
    let base_path = config.base_path.as_ref().map_or("", BasePath::as_str);
    let mut cookie = key.name(name.as_str()).path(format!("{base_path}/openai"));
    if config.tls.is_some() {
        cookie = cookie.secure();
    } else if !config.front_door.ids.is_empty() {
        cookie = cookie.trust_forwarded_proto();
    }
    Ok(layer.cookie(cookie))
}

/// HTTP/1.1 asks for it, and whoever reads a request without it makes one up.
fn has_host(request: Request<Body>) -> Result<Request<Body>, BoxError> {
    if request.version() == Version::HTTP_11 && !request.headers().contains_key(HOST) {
        return Err(Error::new(ErrorKind::AmbiguousRequest, "`Host` is missing.").into());
    }
    Ok(request)
}

fn api_only(mut request: Request<Body>) -> Result<Request<Body>, BoxError> {
    let route = Route::find_or_parse(request.extensions(), request.method(), request.uri())?;
    request.extensions_mut().insert(route);
    Ok(request)
}

fn stream_commit(described: &Stream) -> StreamCommitLayer {
    StreamCommitLayer::new()
        .preamble_events(usize::try_from(described.preamble_events).unwrap_or(usize::MAX))
        .preamble_bytes(described.preamble_bytes)
        .preamble_time(described.preamble_time)
        .keep_alive(described.keep_alive)
}

fn condition(described: &Condition) -> Option<failover::Condition> {
    described.as_str().parse().ok()
}
