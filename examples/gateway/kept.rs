//! Parts that outlive a reload, as long as the part of the configuration that it was made from stays the same: connections to
//! backends, signing keys, the retry budget, the account of collected bodies, open WebSockets, remembered ids, ephemeral keys, what
//! clients have left and what they used.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tower::BoxError;
use tower_azure_openai::capture::{CaptureLayer, JsonLines};
use tower_azure_openai::client::{HttpClient, Proxy};
use tower_azure_openai::context::{Client, EphemeralKeys, Spent};
use tower_azure_openai::failover::{FailoverLayer, RetryBudget};
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::limit::{Balance, ClientLimitLayer, MemoryLimits, Unavailable};
use tower_azure_openai::meter::{Ledger, MeterUsageLayer};
use tower_azure_openai::metrics::MetricsRecorder;
use tower_azure_openai::otel::Otlp;
use tower_azure_openai::session::{MemoryStore, SessionCookie, SessionStore};
use tower_azure_openai::shared::{OnFailure, Shared, SharedLimits};
use tower_azure_openai::shed::ShedLayer;
use tower_azure_openai::terminate::entra::KeySet;
use tower_azure_openai::upgrade::UpgradeLayer;

use crate::config::Config;
use crate::config::aliases;
use crate::config::behaviour::Timeouts;
use crate::config::capture::{Capture, Sink};
use crate::config::redis::Redis;
use crate::identities::Identities;
use crate::wiring;

pub(crate) struct Kept {
    client: Made<Connections, HttpClient>,
    /// By their URL.
    keys: Option<Made<String, KeySet>>,
    /// By its replay memory.
    inspect: Made<usize, InspectLayer>,
    /// By where they are and how they are kept; `None` where nothing is captured.
    captures: Made<Option<Files>, Option<JsonLines>>,
    /// By where it is and the way to it; `None` where there is none.
    collector: Made<(Option<String>, Option<Proxy>), Option<Otlp>>,
    /// Requests in progress, whatever the limit.
    in_flight: ShedLayer,
    /// By its budget.
    failover: Made<f64, FailoverLayer>,
    upgrade: UpgradeLayer,
    /// State that replicas share, if they do.
    shared: Option<Shared>,
    accounts: Accounts,
    limits: ClientLimitLayer,
    ledger: Ledger,
    /// With what is counted already, and nobody who is told.
    meter: MeterUsageLayer,
    metrics: MetricsRecorder,
    /// By how many ids it remembers.
    sessions: Made<u32, Arc<dyn SessionStore>>,
    /// By the clients that hold them: what one may do stands in its keys.
    ephemeral: Made<Vec<Client>, EphemeralKeys>,
    /// Signed with a key of this process.
    cookie: SessionCookie,
}

impl Kept {
    /// Keeps what a configuration needs: taken over from before, or made.
    pub(crate) fn new(
        config: &Config,
        before: Option<&Self>,
        identities: &mut Identities,
        metrics: &MetricsRecorder,
    ) -> Result<Self, BoxError> {
        let shared = match before {
            Some(before) => before.shared.clone(),
            None => config.redis.as_ref().map(|redis| shared(redis, identities)).transpose()?,
        };
        let client =
            Made::or_before(before.map(|before| &before.client), Connections::of(config), |_| wiring::client(config))?;
        let fetched = |url: &String| Ok(KeySet::new(url, client.it.clone())?);
        let keys = config.entra.as_ref().map(|entra| {
            Made::or_before(before.and_then(|before| before.keys.as_ref()), entra.jwks_url.clone(), fetched)
        });
        let on_failure = config.redis.as_ref().map(|redis| redis.on_failure).unwrap_or_default();
        let accounts =
            before.map_or_else(|| Accounts::new(shared.as_ref(), on_failure), |before| before.accounts.clone());
        let ledger = before.map_or_else(Ledger::new, |before| before.ledger.clone());
        if let (Some(shared), None) = (&shared, before) {
            shared.share_usage(&ledger);
        }
        Ok(Self {
            limits: before.map_or_else(|| accounts.layer(on_failure), |before| before.limits.clone()),
            accounts,
            meter: before.map_or_else(|| meter(shared.as_ref()), |before| before.meter.clone()),
            metrics: metrics.clone(),
            ledger,
            keys: keys.transpose()?,
            inspect: Made::or_before(before.map(|before| &before.inspect), config.failover.replay_memory, |bytes| {
                Ok(InspectLayer::new().replay_memory(*bytes))
            })?,
            captures: Made::or_before(before.map(|before| &before.captures), Files::of(config), |files| {
                files.as_ref().map(Files::open).transpose()
            })?,
            collector: Made::or_before(
                before.map(|before| &before.collector),
                (config.telemetry.otlp_endpoint.clone(), config.forward.proxy.clone()),
                |(endpoint, proxy)| {
                    let collector = endpoint.as_ref().map(|endpoint| collector(endpoint, proxy.as_ref()));
                    collector.transpose()
                },
            )?,
            in_flight: before.map_or_else(ShedLayer::new, |before| before.in_flight.clone()),
            failover: Made::or_before(before.map(|before| &before.failover), config.failover.budget, |ratio| {
                Ok(FailoverLayer::new().budget(RetryBudget::new(*ratio)))
            })?,
            upgrade: before
                .map_or_else(UpgradeLayer::new, |before| before.upgrade.clone())
                .first_frame_time(config.timeouts.head),
            sessions: Made::or_before(before.map(|before| &before.sessions), config.session.remember, |ids| {
                let own = MemoryStore::new(*ids as usize);
                Ok(match &shared {
                    Some(shared) => Arc::new(shared.ids(own).per_client(*ids as usize)) as Arc<dyn SessionStore>,
                    None => Arc::new(own),
                })
            })?,
            ephemeral: Made::or_before(before.map(|before| &before.ephemeral), wiring::clients(config), |_| {
                Ok(EphemeralKeys::default())
            })?,
            shared,
            cookie: before.map_or_else(|| own_cookie(config), |before| Ok(before.cookie.clone()))?,
            client,
        })
    }

    pub(crate) fn client(&self) -> HttpClient {
        self.client.it.clone()
    }

    /// `None` when tokens are not accepted.
    pub(crate) fn keys(&self) -> Option<KeySet> {
        self.keys.as_ref().map(|keys| keys.it.clone())
    }

    /// With its account, and defaults otherwise.
    pub(crate) fn inspect(&self) -> InspectLayer {
        self.inspect.it.clone()
    }

    /// Off, or with its sink.
    pub(crate) fn capture(&self, sink: Sink) -> CaptureLayer {
        match sink {
            Sink::JsonLines => self.captures.it.clone().map_or_else(CaptureLayer::off, CaptureLayer::new),
            Sink::Off => CaptureLayer::off(),
            Sink::Otlp => self.collector.it.clone().map_or_else(CaptureLayer::off, CaptureLayer::new),
        }
    }

    pub(crate) fn captures(&self) -> Option<&JsonLines> {
        self.captures.it.as_ref()
    }

    pub(crate) fn collector(&self) -> Option<&Otlp> {
        self.collector.it.as_ref()
    }

    /// With its counts and the account of collected bodies, and without a limit.
    pub(crate) fn shed(&self) -> ShedLayer {
        let inspect = self.inspect();
        self.in_flight.clone().watch(move || inspect.replay_memory_share())
    }

    /// With its budget, and defaults otherwise.
    pub(crate) fn failover(&self) -> FailoverLayer {
        self.failover.it.clone()
    }

    pub(crate) fn upgrade(&self) -> UpgradeLayer {
        self.upgrade.clone()
    }

    /// Returns what clients have left.
    pub(crate) fn accounts(&self) -> Accounts {
        self.accounts.clone()
    }

    pub(crate) fn limits(&self) -> ClientLimitLayer {
        self.limits.clone()
    }

    /// Returns what was used.
    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    /// Tells all who count.
    pub(crate) fn meter(&self) -> MeterUsageLayer {
        let (ledger, metrics, collector) = (self.ledger.clone(), self.metrics.clone(), self.collector.it.clone());
        self.meter.clone().on_usage(move |metered| {
            ledger.enter(metered);
            if !metered.is_on_record {
                metrics.count_spent(&Spent::new(metered.usage, metered.source), metered.client, metered.target);
            }
            if let Some(collector) = &collector {
                collector.count_usage(metered);
            }
        })
    }

    /// State that replicas share, if they do.
    pub(crate) fn shared(&self) -> Option<Shared> {
        self.shared.clone()
    }

    pub(crate) fn sessions(&self) -> Arc<dyn SessionStore> {
        self.sessions.it.clone()
    }

    pub(crate) fn ephemeral_keys(&self) -> EphemeralKeys {
        self.ephemeral.it.clone()
    }

    /// With a key that nobody else has.
    pub(crate) fn cookie(&self) -> SessionCookie {
        self.cookie.clone()
    }
}

fn shared(redis: &Redis, identities: &mut Identities) -> Result<Shared, BoxError> {
    Ok(Shared::new(redis.address.clone(), identities.login(redis)?).map_err(|error| format!("redis.url: {error}"))?)
}

/// The accounts of clients.
#[derive(Clone)]
pub(crate) enum Accounts {
    Own(MemoryLimits),
    Shared(SharedLimits),
}

impl Accounts {
    fn new(shared: Option<&Shared>, on_failure: OnFailure) -> Self {
        shared.map_or_else(|| Self::Own(MemoryLimits::new()), |shared| Self::Shared(shared.limits(on_failure)))
    }

    fn layer(&self, on_failure: OnFailure) -> ClientLimitLayer {
        let refuses = on_failure == OnFailure::Refuse;
        let unavailable = if refuses { Unavailable::Refuse } else { Unavailable::Admit };
        match self.clone() {
            Self::Own(accounts) => ClientLimitLayer::new(accounts),
            Self::Shared(accounts) => ClientLimitLayer::new(accounts).when_unavailable(unavailable),
        }
    }

    /// Returns what a client has left of its limits.
    pub(crate) fn left(&self, client: &Client) -> Balance {
        match self {
            Self::Own(accounts) => accounts.left(client),
            Self::Shared(accounts) => accounts.left(client),
        }
    }
}

fn meter(shared: Option<&Shared>) -> MeterUsageLayer {
    match shared {
        Some(shared) => MeterUsageLayer::new().count_once(shared.count_once()),
        None => MeterUsageLayer::new(),
    }
}

/// Starts to tell a collector. Everything beside its endpoint stands in the environment, as the standard has it.
fn collector(endpoint: &str, proxy: Option<&Proxy>) -> Result<Otlp, BoxError> {
    let client = HttpClient::builder();
    let client = match proxy {
        Some(proxy) => client.proxy(proxy.clone()),
        None => client,
    };
    let described = Otlp::builder(endpoint).map_err(|error| format!("telemetry.otlp_endpoint: {error}"))?;
    let described = described.service_name("aoai-gateway").attribute("service.version", env!("CARGO_PKG_VERSION"));
    Ok(described.variables(|name| std::env::var(name).ok()).start(client.build()?))
}

/// A key that is generated once, for configurations without one.
fn own_cookie(config: &Config) -> Result<SessionCookie, BoxError> {
    if config.session.cookie.is_some() && config.session.key.is_none() {
        tracing::warn!(
            "session.key: there is none, so cookies are worth nothing after a restart and to other replicas"
        );
    }
    Ok(SessionCookie::with_random_key()?)
}

/// All that a client of backends is made from.
#[derive(Clone, PartialEq)]
struct Connections {
    timeouts: Timeouts,
    aliases: Vec<(String, aliases::Timeouts)>,
    special: Vec<(String, Option<SocketAddr>, Option<Vec<u8>>)>,
    proxy: Option<Proxy>,
}

impl Connections {
    fn of(config: &Config) -> Self {
        let special = wiring::special(config);
        let special = special.map(|backend| (backend.endpoint.to_string(), backend.address, backend.ca_pem.clone()));
        let aliases = config.aliases.iter().map(|alias| (alias.name.clone(), alias.timeouts));
        Self {
            // Those of clients are no matter of its.
            timeouts: Timeouts { head: Duration::ZERO, write: Duration::ZERO, ..config.timeouts },
            aliases: aliases.collect(),
            special: special.collect(),
            proxy: config.forward.proxy.clone(),
        }
    }
}

/// Files in which captures are written.
#[derive(Clone, PartialEq)]
struct Files {
    directory: PathBuf,
    rotate: usize,
    keep: Duration,
}

impl Files {
    fn of(config: &Config) -> Option<Self> {
        let Capture { directory, rotate, keep, .. } = &config.capture;
        let files = Self { directory: directory.clone(), rotate: *rotate, keep: *keep };
        (config.capture.sink == Sink::JsonLines).then_some(files)
    }

    fn open(&self) -> Result<JsonLines, BoxError> {
        let files = JsonLines::builder(&self.directory).rotate(self.rotate as u64).keep(self.keep).build();
        Ok(files.map_err(|error| format!("capture.directory: {}: {error}", self.directory.display()))?)
    }
}

/// Something, and what it was made from.
#[derive(Clone)]
struct Made<K, T> {
    from: K,
    it: T,
}

impl<K: Clone + PartialEq, T: Clone> Made<K, T> {
    fn or_before(
        before: Option<&Self>,
        from: K,
        make: impl FnOnce(&K) -> Result<T, BoxError>,
    ) -> Result<Self, BoxError> {
        match before.filter(|before| before.from == from) {
            Some(same) => Ok(same.clone()),
            None => Ok(Self { it: make(&from)?, from }),
        }
    }
}
