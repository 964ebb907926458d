//! Six resources in three places behind the usual stack, and a journal of who reached which of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use tokio::time::timeout;
use tower::{BoxError, ServiceExt, service_fn};
use tower_azure_openai::azure::{Outcome, Phase};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{AttemptFailed, Client, EphemeralKeys};
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::ownership::OwnershipLayer;
use tower_azure_openai::pool::Processing::{self, DataZone, Global, Regional};
use tower_azure_openai::pool::{Backend, Constraints, Deployment, Pool, Release};
use tower_azure_openai::select::{Policy, SelectBackendLayer};
use tower_azure_openai::session::{MemoryStore, REMEMBER, SessionCookie, StickySessionLayer, WhenUnavailable};
use tower_azure_openai::terminate::{Presented, TerminateCredentialsLayer};
use tower_azure_openai::testkit::{SimulatedBackend, SimulatedDeployment};

/// The larger of the two kinds of bodies is streamed once.
pub const REPLAY_LIMIT: usize = 2_000;

/// By this header, which discovery passes on too, a backend's record tells the visit that led there.
const TAG: &str = "openai-beta";

#[derive(Debug)]
pub struct Site {
    pub name: &'static str,
    geography: Option<&'static str>,
    processing: Processing,
    priority: u32,
    /// Its release of the alias `released`.
    version: &'static str,
}

const fn site(
    name: &'static str,
    geography: Option<&'static str>,
    processing: Processing,
    priority: u32,
    version: &'static str,
) -> Site {
    Site { name, geography, processing, priority, version }
}

pub const SITES: [Site; 6] = [
    site("eu-a", Some("eu"), Regional, 0, "1"),
    site("eu-b", Some("eu"), DataZone, 1, "2"),
    site("us-a", Some("us"), Regional, 0, "1"),
    site("us-b", Some("us"), Global, 0, "2"),
    site("us-c", Some("us"), Regional, 1, "3"),
    site("open", None, Global, 1, "2"),
];

/// What somebody demands, told a second time so that the pool does not judge itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    pub geography: Option<&'static str>,
    pub processing: Option<&'static [Processing]>,
}

impl Demand {
    pub fn accepts(&self, site: &Site) -> bool {
        self.geography.is_none_or(|wanted| site.geography == Some(wanted))
            && self.processing.is_none_or(|scopes| scopes.contains(&site.processing))
    }

    pub fn constraints(&self) -> Constraints {
        let all = Constraints::default();
        let all = self.geography.into_iter().fold(all, Constraints::geography);
        self.processing.into_iter().fold(all, |all, scopes| all.processing(scopes.iter().copied()))
    }
}

const fn demand(geography: Option<&'static str>, processing: Option<&'static [Processing]>) -> Demand {
    Demand { geography, processing }
}

/// Clients by their keys. Nobody complies with the last one.
pub const CLIENTS: [(&str, Demand); 6] = [
    ("anywhere", demand(None, None)),
    ("eu", demand(Some("eu"), None)),
    ("eu-regional", demand(Some("eu"), Some(&[Regional]))),
    ("us", demand(Some("us"), None)),
    ("zone", demand(None, Some(&[Regional, DataZone]))),
    ("nowhere", demand(Some("ap"), None)),
];

fn client(name: &str) -> Option<Client> {
    let (name, demand) = CLIENTS.iter().find(|(known, _)| *known == name)?;
    let client = demand.geography.into_iter().fold(Client::new(*name), Client::geography);
    let client = demand.processing.into_iter().fold(client, |client, scopes| client.processing(scopes.iter().copied()));
    Some(client.route("mine", "gpt-4o"))
}

/// One request that was sent to the gateway.
#[derive(Debug)]
pub struct Visit {
    pub shown: String,
    /// The sites that may see it.
    pub may_see: Vec<&'static str>,
}

pub struct World {
    pub gateway: Gateway,
    pub pool: Pool,
    pub backends: Vec<SimulatedBackend>,
    visits: Vec<Visit>,
    /// What left for which site, whether or not it was received.
    left: Arc<Mutex<BTreeSet<(&'static str, usize)>>>,
}

impl World {
    pub fn new(policy: impl Policy, when_unavailable: WhenUnavailable, is_owned: bool) -> Self {
        let described = SITES.iter().fold(Pool::builder(), |pool, site| pool.add_backend(backend(site)));
        let release = |version, share| Release::new("released", "released", version).share(share);
        let described = described.add_release(release("1", 30)).add_release(release("2", 30));
        let pool = described.add_release(release("3", 40)).build().unwrap();
        let backends: Vec<_> = SITES.iter().map(simulated).collect();
        let left = Arc::default();
        let keys = EphemeralKeys::default();
        for (name, _) in CLIENTS {
            for site in &SITES {
                keys.remember(&key(name, site.name), client(name), site.name, Duration::MAX);
            }
        }
        let name_of = |presented: &Presented| client(std::str::from_utf8(presented.secret()).ok()?);
        let store = Arc::new(MemoryStore::new(REMEMBER));
        let session = StickySessionLayer::new(pool.clone())
            .cookie(SessionCookie::new(&[7; 32]).unwrap())
            .when_unavailable(when_unavailable)
            .store(store.clone())
            .ephemeral_keys(keys.clone());
        let gateway = gateway::builder(pool.clone(), TerminateCredentialsLayer::new(name_of).ephemeral_keys(keys))
            .inspect(InspectLayer::new().replay_limit(REPLAY_LIMIT))
            .ownership(is_owned.then(|| OwnershipLayer::new(store)))
            .session(session)
            .select(SelectBackendLayer::new(pool.clone()).with_policy(policy))
            .build(network(&backends, &left));
        Self { gateway, pool, backends, visits: Vec::new(), left }
    }

    /// Notes who may see a request.
    pub fn admit(&mut self, mut request: Request<Body>, demands: &[Demand]) -> Request<Body> {
        let may_see = SITES.iter().filter(|site| demands.iter().all(|demand| demand.accepts(site)));
        let may_see = may_see.map(|site| site.name).collect();
        request.headers_mut().insert(TAG, format!("visit={}", self.visits.len()).parse().unwrap());
        let shown = format!("{} {} {demands:?} {:?}", request.method(), request.uri(), request.headers());
        self.visits.push(Visit { shown, may_see });
        request
    }

    pub fn last_visit(&self) -> &Visit {
        self.visits.last().unwrap()
    }

    /// Nobody has seen what it may not, and nobody was told what is the gateway's own.
    pub fn assert_residency(&self) {
        let assert_may = |site: &str, visit: usize| {
            let visit = &self.visits[visit];
            assert!(visit.may_see.contains(&site), "{site} has seen {}", visit.shown);
        };
        for backend in &self.backends {
            for request in backend.requests() {
                assert_may(backend.name(), visit(&request.headers));
                let told = request.headers.keys().find(|name| name.as_str().starts_with("x-gateway-"));
                assert_eq!(told, None, "{} is told what the gateway is told", backend.name());
            }
        }
        for (site, visit) in &*self.left.lock().unwrap() {
            assert_may(site, *visit);
        }
    }

    /// How many requests were sent to find an object; of a client's own headers they have none.
    pub fn searches(&self) -> usize {
        let requests = self.backends.iter().flat_map(SimulatedBackend::requests);
        requests.filter(|request| !request.headers.contains_key("content-type")).count()
    }
}

/// The ephemeral key that a site issued to a client, as it may have before the client's constraints were changed.
pub fn key(client: &str, site: &str) -> String {
    format!("ek_{client}_{site}")
}

fn backend(site: &Site) -> Backend {
    let released = Deployment::new(format!("released-{}", site.version)).alias("released").model("released");
    let backend = Backend::new(site.name, format!("https://{}.example", site.name))
        .processing(site.processing)
        .priority(site.priority)
        .add_deployment(Deployment::new("gpt-4o"))
        .add_deployment(released.version(site.version));
    site.geography.into_iter().fold(backend, Backend::geography)
}

fn simulated(site: &Site) -> SimulatedBackend {
    SimulatedBackend::builder(site.name)
        .deployment(SimulatedDeployment::standard("gpt-4o"))
        .deployment(SimulatedDeployment::standard(format!("released-{}", site.version)))
        .build()
}

fn visit(headers: &http::HeaderMap) -> usize {
    headers[TAG].to_str().unwrap().strip_prefix("visit=").unwrap().parse().unwrap()
}

/// What stands where the HTTP client would, with its patience.
fn network(
    backends: &[SimulatedBackend],
    left: &Arc<Mutex<BTreeSet<(&'static str, usize)>>>,
) -> impl tower::Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ use<> {
    let (backends, left) = (backends.to_vec(), left.clone());
    service_fn(move |request: Request<Body>| {
        let host = request.uri().host().unwrap();
        let at = SITES.iter().position(|site| host.strip_suffix(".example") == Some(site.name)).unwrap();
        left.lock().unwrap().insert((SITES[at].name, visit(request.headers())));
        let answer = backends[at].clone().oneshot(request);
        async move {
            let late = |_| AttemptFailed::new(Outcome::TimedOut(Phase::FirstByte), "the backend is silent");
            Ok(timeout(Duration::from_secs(1), answer).await.map_err(late)??)
        }
    })
}
