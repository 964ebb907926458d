//! From the configuration to the stack of layers.

use http::header::HOST;
use http::{Request, Version};
use tower::BoxError;
use tower::filter::FilterLayer;
use tower::util::{Either, MapRequestLayer};
use tower_azure_openai::api_version::ApiVersionLayer;
use tower_azure_openai::body::Body;
use tower_azure_openai::capture::CaptureLayer;
use tower_azure_openai::client::{AliasTimeouts, Destination, HttpClient};
use tower_azure_openai::context::{BasePath, Client, Route};
use tower_azure_openai::failover;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::front_door::FrontDoorLayer;
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::metrics::MetricsRecorder;
use tower_azure_openai::observe::ObserveLayer;
use tower_azure_openai::ownership::OwnershipLayer;
use tower_azure_openai::pool::{
    self, Backend, CircuitConfig, Credential, Deployment, Pool, PoolBuilder, Priority, Release, Thresholds,
};
use tower_azure_openai::recorder::{Action, FlightRecorder};
use tower_azure_openai::select::{
    LeastLoad, LowestLatency, Policy, PromptCache, RoundRobin, SelectBackendLayer, SlowStart, Weighted,
};
use tower_azure_openai::session::{DISCOVERY_RATE, SessionCookie, StickySessionLayer, WhenUnavailable};
use tower_azure_openai::shed::ShedLayer;
use tower_azure_openai::stream_commit::StreamCommitLayer;
use tower_azure_openai::terminate::entra::{Caller, Entra};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};
use tower_azure_openai::{Error, ErrorKind};

use crate::access_log::AccessLog;
use crate::admin::History;
use crate::config::aliases;
use crate::config::backends;
use crate::config::behaviour::{self, Circuit, Condition, Selection, Stream};
use crate::config::releases;
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

/// The description of the pool that a configuration asks for.
pub(crate) fn pool(config: &Config, identities: &mut Identities) -> Result<PoolBuilder, BoxError> {
    let mut described = Pool::builder().circuit(circuit(&config.circuit)).thresholds(thresholds(config));
    if let Some(region) = &config.region {
        described = described.region(region);
    }
    let described = config.releases.iter().fold(described, |pool, described| pool.add_release(release(described)));
    let names = config.aliases.iter().flat_map(|alias| alias.also.iter().map(|name| (&alias.name, name)));
    let described = names.fold(described, |pool, (alias, name)| pool.add_alias_name(alias, name));
    identities.leave_through(config.forward.proxy.as_ref());
    config.backends.iter().try_fold(described, |pool, described| Ok(pool.add_backend(backend(described, identities)?)))
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

/// The defaults leave nothing to a class that nobody is in.
fn thresholds(config: &Config) -> Thresholds {
    let named = config.clients.iter().map(|client| client.priority).max();
    let highest = match config.authentication {
        Authentication::Clients => named.unwrap_or_default(),
        Authentication::None => Priority::Normal,
    };
    let (given, default) = (config.priority, behaviour::Thresholds::DEFAULT);
    let share = |given: f64, default: f64, class| {
        if highest > class || given.to_bits() != default.to_bits() { given } else { 1.0 }
    };
    Thresholds::OFF.normal(share(given.normal, default.normal, Priority::Normal)).low(share(
        given.low,
        default.low,
        Priority::Low,
    ))
}

fn capture(config: &Config, kept: &Kept) -> CaptureLayer {
    let described = &config.capture;
    let capture = kept.capture().clients(described.clients.iter().map(String::as_str));
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

/// Backends that are reached in a way of their own.
pub(crate) fn special(config: &Config) -> impl Iterator<Item = &backends::Backend> {
    config.backends.iter().filter(|backend| backend.address.is_some() || backend.ca_pem.is_some())
}

/// Makes the client that speaks to the backends.
pub(crate) fn client(config: &Config) -> Result<HttpClient, BoxError> {
    let timeouts = &config.timeouts;
    let client = HttpClient::builder()
        .connect_timeout(timeouts.connect)
        .first_byte_timeout(timeouts.first_byte)
        .answer_timeout(timeouts.answer)
        .idle_timeout(timeouts.idle);
    let client = match &config.forward.proxy {
        Some(proxy) => client.proxy(proxy.clone()),
        None => client,
    };
    let client = config.aliases.iter().fold(client, |client, alias| client.add_alias(&alias.name, own(alias.timeouts)));
    Ok(special(config).fold(client, |client, backend| client.add_destination(destination(backend))).build()?)
}

fn own(described: aliases::Timeouts) -> AliasTimeouts {
    let mut timeouts = AliasTimeouts::new();
    if let Some(limit) = described.first_byte {
        timeouts = timeouts.first_byte(limit);
    }
    if let Some(limit) = described.answer {
        timeouts = timeouts.answer(limit);
    }
    if let Some(limit) = described.idle {
        timeouts = timeouts.idle(limit);
    }
    timeouts
}

fn destination(backend: &backends::Backend) -> Destination {
    let mut destination = Destination::new(backend.endpoint.to_string());
    if let Some(address) = backend.address {
        destination = destination.address(address.to_string());
    }
    match &backend.ca_pem {
        Some(pem) => destination.ca_pem(pem.clone()),
        None => destination,
    }
}

fn registry(config: &Config) -> Result<ClientRegistry, BoxError> {
    let keys = config.clients.iter().flat_map(|described| described.keys.iter().map(move |key| (described, key)));
    let names = own_names(config);
    let registry = keys.fold(ClientRegistry::builder(), |registry, (described, key)| {
        registry.add_key_sha256(known_client(described, &names), key.0)
    });
    Ok(registry.build()?)
}

fn entra(config: &Config, kept: &Kept) -> Result<Option<Entra>, BoxError> {
    let (Some(described), Some(keys)) = (&config.entra, kept.keys()) else { return Ok(None) };
    let mut entra = Entra::builder(&described.tenant_id, keys).issuer(&described.issuer);
    for audience in &described.audience {
        entra = entra.add_audience(audience);
    }
    let names = own_names(config);
    for client in &config.clients {
        if let Some(described) = &client.entra {
            entra = entra.add_client(caller(described), known_client(client, &names));
        }
    }
    Ok(Some(entra.build()?))
}

fn caller(described: &config::entra::Caller) -> Caller {
    match described {
        config::entra::Caller::AppId(id) => Caller::app_id(id),
        config::entra::Caller::ObjectId(id) => Caller::object_id(id),
        config::entra::Caller::Role(role) => Caller::role(role),
    }
}

pub(crate) fn clients(config: &Config) -> Vec<Client> {
    let names = own_names(config);
    config.clients.iter().map(|described| known_client(described, &names)).collect()
}

/// Names of deployments that are no aliases and serve one alias only, with that alias.
fn own_names(config: &Config) -> Vec<(&str, &str)> {
    let all = || config.backends.iter().flat_map(|backend| &backend.deployments);
    let is_alias = |name: &str| {
        let is_further =
            config.aliases.iter().any(|alias| alias.name == name || alias.also.iter().any(|also| also == name));
        is_further || all().any(|deployment| deployment.alias == name)
    };
    let is_clear = |name: &str, alias: &str| all().all(|other| other.name != name || other.alias == alias);
    all()
        .map(|deployment| (deployment.name.as_str(), deployment.alias.as_str()))
        .filter(|(name, alias)| !is_alias(name) && is_clear(name, alias))
        .collect()
}

fn known_client(described: &config::clients::Client, names: &[(&str, &str)]) -> Client {
    let mut client = Client::new(described.id.as_str());
    if let Some(allow) = &described.allow {
        client = client.allow(allow.iter().map(String::as_str));
    }
    for (alias, stands_for) in &described.route {
        client = client.route(alias.as_str(), stands_for.as_str());
    }
    for &(deployment, alias) in names {
        client = client.deployment(deployment, alias);
    }
    client =
        client.operations(described.operations.iter().copied()).limits(described.limits).priority(described.priority);
    if let Some(geography) = &described.geography {
        client = client.geography(geography.as_str());
    }
    if let Some(scopes) = &described.processing {
        client = client.processing(scopes.iter().copied().map(processing));
    }
    client
}

fn backend(described: &backends::Backend, identities: &mut Identities) -> Result<Backend, BoxError> {
    let credential = credential(&described.credential, identities)
        .map_err(|error| format!("backends: the credential of `{}`: {error}", described.name))?;
    let mut backend = Backend::new(&described.name, described.endpoint.to_string())
        .credential(credential)
        .kind(described.kind.into())
        .priority(described.priority)
        .weight(described.weight)
        .processing(processing(described.processing))
        .max_in_flight(described.max_in_flight.map_or(0, Into::into));
    if let Some(region) = &described.region {
        backend = backend.region(region);
    }
    if let Some(geography) = &described.geography {
        backend = backend.geography(geography);
    }
    let weight = described.weight;
    Ok(described
        .deployments
        .iter()
        .fold(backend, |backend, described| backend.add_deployment(deployment(described, weight))))
}

fn release(described: &releases::Release) -> Release {
    Release::new(&described.alias, &described.model, &described.version).share(described.share)
}

fn deployment(described: &backends::Deployment, of_backend: u32) -> Deployment {
    let mut deployment =
        Deployment::new(&described.name).alias(&described.alias).model(&described.model).priority(described.priority);
    // What is as its backend has it follows when that is weighed anew.
    if described.weight != of_backend {
        deployment = deployment.weight(described.weight);
    }
    if let Some(version) = &described.version {
        deployment = deployment.version(version);
    }
    if let Some(tokens) = described.tokens_per_minute {
        deployment = deployment.tokens_per_minute(u64::from(tokens.get()));
    }
    match &described.quota_group {
        Some(group) => deployment.quota_group(group),
        None => deployment,
    }
}

fn credential(described: &backends::Credential, identities: &mut Identities) -> Result<Credential, BoxError> {
    Ok(match described {
        backends::Credential::ApiKey(key) => Credential::api_key(key.expose())?,
        backends::Credential::PassThrough => Credential::pass_through(),
        backends::Credential::Token { source, scope } => Credential::bearer(identities.keeper(source, scope)?),
    })
}

fn stream_commit(described: &Stream) -> StreamCommitLayer {
    StreamCommitLayer::new()
        .preamble_events(usize::try_from(described.preamble_events).unwrap_or(usize::MAX))
        .preamble_bytes(described.preamble_bytes)
        .preamble_time(described.preamble_time)
        .keep_alive(described.keep_alive)
}

pub(crate) fn circuit(described: &Circuit) -> CircuitConfig {
    let mut config = CircuitConfig::default();
    config.min_open = described.min_open;
    config.max_open = described.max_open;
    config.default_open = described.default_open;
    config.probe_interval = described.probe_interval;
    config.consecutive_failures = described.consecutive_failures;
    config.failure_ratio = described.failure_ratio;
    config.window = described.window;
    config.min_requests = described.min_requests;
    config
}

const fn processing(described: backends::Processing) -> pool::Processing {
    match described {
        backends::Processing::DataZone => pool::Processing::DataZone,
        backends::Processing::Global => pool::Processing::Global,
        backends::Processing::Regional => pool::Processing::Regional,
    }
}

fn condition(described: &Condition) -> Option<failover::Condition> {
    described.as_str().parse().ok()
}
