//! Scenarios in virtual time: how well a way of routing uses what there is, in all kinds of weather.
//!
//! A [`Scenario`] is a set of simulated [backends](Backend) with their quotas, latencies and [weather](Weather), and the
//! [traffic](Traffic) of clients that repeat as their libraries do. [`run`](Scenario::run) sends an hour of it through the real
//! layers of this crate within a few seconds and returns a [`Report`]:
//!
//! ```
//! use std::time::Duration;
//! use tower_azure_openai::select::RoundRobin;
//! use tower_azure_openai::testkit::scenario::{Backend, Scenario, Traffic};
//!
//! // #[test]
//! fn the_ptu_is_used_up_before_anything_is_paid_for() {
//!     let report = Scenario::new("a PTU and its spill-over")
//!         .lasting(Duration::from_secs(300))
//!         .backend(Backend::provisioned("ptu", 200_000))
//!         .backend(Backend::standard("paygo", 600_000).priority(1))
//!         .traffic(Traffic::poisson(8.0))
//!         .run(RoundRobin::default());
//!     report.assert_goodput_at_least(0.99).assert_hints_obeyed();
//!     assert!(report.target("ptu").utilization >= Some(0.98), "{report}");
//! }
//! # the_ptu_is_used_up_before_anything_is_paid_for();
//! ```
//!
//! Several versions of a model behind one alias are [releases](Scenario::release), whose shares [change](Scenario::share_at) while it
//! runs. A failing assertion shows the whole report, and none passes where nothing was asked or could be served; run several
//! [seeds](Scenario::seeds), for one may be lucky. [`Report::to_svg`] draws a report. A policy may be a closure; [`Scenario::run_stack`]
//! takes layers of your own, and [`Scenario::run_baseline`] what people run today, for comparison.
//!
//! # What is real and what is simulated
//!
//! Real are all layers of [`gateway::builder`] and the [`Pool`], under a tokio clock that is paused and jumps from event to event.
//! Simulated are the backends, which stand where the HTTP client would, and the clients. Tokens are numbers here: bodies are small
//! whatever they are said to cost, and what reads prompts sees the same message with a different `user` for each client.
//!
//! # The same everywhere
//!
//! The same seed gives the same report, byte for byte, on any machine and however many tests run beside it: everything runs on one
//! thread and on a grid of milliseconds, chance is drawn with integer arithmetic from the seed, for each purpose apart, and nothing
//! depends on the wall clock or the platform's mathematics. Every way of routing meets the same clients and the same weather. What is
//! yours must keep to that: a policy that draws random numbers takes a seed
//! ([`LeastLoad::with_seed`](crate::select::LeastLoad::with_seed)).
//!
//! # The all-knowing router
//!
//! Each report compares with a router that sees, for each request at the moment in which it arrives, what would become of it at
//! each target: the true state of every quota, every outage, every error that chance holds ready, and even whether the answer
//! will be cut off later. It sends the request to a target that will serve it to the end: of the lowest priority number, and among
//! these where it ends first. When no target will, it tells the client the exact time until one may, at most 59 s, as our gateway
//! does. Clients are the same and repeat in the same way.
//!
//! Where there are [releases](Scenario::release), it sends each client to its own, as our gateway does; the baselines know of none.
//!
//! It decides request by request and neither knows who will come later nor plans ahead, so it is not a strict upper bound: where
//! there is not enough for all, a router that happens to serve smaller requests serves more of them, and a share may lie a little
//! above 100 %.
//!
//! # A PTU that is not asked
//!
//! A provisioned deployment works at one speed for as long as there is something in its bucket. Two figures say how much of that
//! speed was paid for and not used:
//!
//! - [`idle`](TargetReport::idle): capacity that is gone for good. A second is *wanted* when in it a request for the alias went to a
//!   target of a higher priority number, was refused, or waited for its client to repeat it, and no weather kept the deployment from
//!   serving just then. Idle is the share of the wanted seconds in which the bucket was empty, whoever is to blame: a circuit that is
//!   shut for too long, and a hint that turned out to be too long, too.
//! - [`overslept`](TargetReport::overslept), of any target, is stricter: the share of all the time in which it would have served, had
//!   not asked to wait and was not asked, from the first request that was passed over, as it could have served it and it went to a
//!   target of a higher priority number or was refused, to the next one that arrived.
//!
//! To oversleep costs nothing while the bucket lasts: what would have been let in earlier is let in later, for the bucket has drained
//! in the meantime and more fits in. It costs from the moment in which it is empty.
//!
//! So with [`min_open`](CircuitConfig::min_open), for which a circuit opens even if the hint is shorter. A PTU of 4,000,000 tokens a
//! minute, asked for twice that in requests of some 800 tokens, hints at a few milliseconds each time and oversleeps a third of its
//! time. With a bucket of a second or more it is used to 99.99 % all the same, as with a `min_open` of 1 ms; with one of 100 ms to
//! 99.9 %, and only with a bucket as short as `min_open` itself to 86 instead of 99.8 %. Hints of more than `min_open` it is back
//! from with the first request.
//!
//! # What it does not do
//!
//! Latency does not depend on load. Backends differ by what they are told here and in nothing else. Networks take 10 ms there and
//! back where nothing else takes time, and no time on top of that.
//!
//! # Panics
//!
//! [`Scenario::run`] and its siblings panic when the backends and releases make no valid pool, when a share cannot be changed as
//! told, and inside a tokio runtime: a scenario has a
//! runtime of its own, and the test that runs it is a plain `#[test]`. They say so.

mod backend;
mod client;
mod dice;
mod estate;
mod quota;
mod recorded;
mod releases;
mod report;
mod router;
mod run;
mod sdk;
mod site;
mod svg;
mod table;
mod tape;
mod traffic;
mod watch;
mod weather;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

pub use self::backend::{Backend, Deployment, Latency};
pub use self::recorded::Happened;
pub use self::releases::{ReleasePhase, ReleaseReport, ReleasesReport};
pub use self::report::{
    AllKnowing, Attempts, CircuitShares, ClientReport, Moment, Percentiles, Report, Requests, ReturnReport, Spell,
    TargetReport, Tier,
};
pub use self::router::Baseline;
pub use self::sdk::Sdk;
pub use self::traffic::{Tokens, Traffic};
pub use self::weather::Weather;
pub use self::world::Azure;

use self::recorded::Tapes;
use self::releases::Changes;
use self::router::Router;
use self::run::Run;
use self::site::Site;
use self::tape::Tape;
use self::traffic::Job;
use self::weather::millis;
use self::world::State;
use crate::below::Below;
use crate::context::{Client, Limits};
use crate::gateway;
use crate::pool::{CircuitConfig, Pool, PoolBuilder, Release, Thresholds};
use crate::select::{Policy, SelectBackendLayer};
use crate::terminate::TerminateCredentialsLayer;

/// The alias of deployments and traffic that name no other.
pub const ALIAS: &str = "gpt-4o";

/// Time for which a scenario lasts until it is told otherwise: 10 minutes.
pub const DEFAULT_LENGTH: Duration = Duration::from_secs(600);

/// Stretches in the timeline of a report, at most.
pub const MOMENTS: u64 = 120;

/// Backends, clients, and what happens. See the [module docs](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct Scenario {
    name: String,
    length: Duration,
    seed: u64,
    backends: Vec<Backend>,
    traffic: Vec<Traffic>,
    releases: Vec<Release>,
    shares: Vec<(u64, Release)>,
    region: Option<String>,
    circuit: CircuitConfig,
    thresholds: Thresholds,
    tapes: Tapes,
    limits: Limits,
    limits_of: BTreeMap<String, Limits>,
}

impl Scenario {
    /// A scenario without backends and traffic yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            length: DEFAULT_LENGTH,
            seed: 0,
            backends: Vec::new(),
            traffic: Vec::new(),
            releases: Vec::new(),
            shares: Vec::new(),
            region: None,
            circuit: CircuitConfig::default(),
            thresholds: Thresholds::OFF,
            tapes: Tapes::default(),
            limits: Limits::NONE,
            limits_of: BTreeMap::new(),
        }
    }

    /// Name of the scenario in reports.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Time for which clients make requests. Default [`DEFAULT_LENGTH`]; what is running then is seen to its end.
    pub const fn lasting(mut self, length: Duration) -> Self {
        self.length = length;
        self
    }

    /// Another seed: other clients, other chances, the same kind of weather.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same scenario with each of these seeds.
    ///
    /// One seed may be lucky: a policy is as good as it is in the worst of several.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_azure_openai::select::LeastLoad;
    /// use tower_azure_openai::testkit::scenario::{Backend, Scenario, Traffic};
    ///
    /// let spill_over = Scenario::new("a PTU and its spill-over")
    ///     .lasting(Duration::from_secs(30))
    ///     .backend(Backend::provisioned("ptu", 200_000))
    ///     .backend(Backend::standard("paygo", 600_000).priority(1))
    ///     .traffic(Traffic::poisson(8.0));
    /// for scenario in spill_over.seeds(0..3) {
    ///     scenario.run(LeastLoad::with_seed(1)).assert_goodput_at_least(0.99).assert_tokens_spent_twice_at_most(0);
    /// }
    /// ```
    pub fn seeds(&self, seeds: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Self> {
        seeds.into_iter().map(|seed| self.clone().seed(seed))
    }

    /// There is this backend.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backends.push(backend);
        self
    }

    /// There are these requests, too.
    pub fn traffic(mut self, traffic: Traffic) -> Self {
        self.traffic.push(traffic);
        self
    }

    /// This happens to the backends that there are by now and have this name or stand in this region.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn weather(mut self, place: &str, weather: Weather) -> Self {
        let there = |backend: &&mut Backend| backend.name == place || backend.region.as_deref() == Some(place);
        let found = self.backends.iter_mut().filter(there).map(|backend| backend.weather.push(weather)).count();
        assert!(found > 0, "scenario `{}` has no backend and no region `{place}`", self.name);
        self
    }

    /// There is this release: one of several models or versions behind one alias, with its share of the clients. Its targets are
    /// the deployments of that [model](Deployment::model) and [version](Deployment::version).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_azure_openai::pool::Release;
    /// use tower_azure_openai::select::RoundRobin;
    /// use tower_azure_openai::testkit::scenario::{ALIAS, Backend, Scenario, Traffic};
    ///
    /// // #[test]
    /// fn a_tenth_of_the_clients_go_ahead_and_then_all() {
    ///     let release = |version: &str, share| Release::new(ALIAS, ALIAS, version).share(share);
    ///     let report = Scenario::new("a new version")
    ///         .backend(Backend::unlimited("old").version("2024-08-06"))
    ///         .backend(Backend::unlimited("new").version("2024-11-20"))
    ///         .release(release("2024-08-06", 90))
    ///         .release(release("2024-11-20", 10))
    ///         .share_at(Duration::from_secs(300), release("2024-08-06", 0))
    ///         .traffic(Traffic::poisson(5.0))
    ///         .run(RoundRobin::default());
    ///     report.assert_goodput_at_least(1.0).assert_releases_kept();
    /// }
    /// # a_tenth_of_the_clients_go_ahead_and_then_all();
    /// ```
    pub fn release(mut self, release: Release) -> Self {
        self.releases.push(release);
        self
    }

    /// From this time on, a release has the share that it has here, by [`Pool::set_share`]. Changes of the same time are made in the
    /// order in which they are told.
    pub fn share_at(mut self, time: Duration, release: Release) -> Self {
        self.shares.push((millis(time), release));
        self
    }

    /// The gateway's own region.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets when the pool's circuits open, and for how long.
    pub const fn circuit(mut self, config: CircuitConfig) -> Self {
        self.circuit = config;
        self
    }

    /// How far each [priority](Traffic::priority) uses a target; provisioned deployments then tell their utilization, as those of Azure
    /// do. Default: [`Thresholds::OFF`].
    pub const fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// Limits each client to so much. The report then tells of [each limited client](Report::clients).
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Limits one client, by its [id](Traffic::clients), to so much.
    pub fn limits_of(mut self, client: impl Into<String>, limits: Limits) -> Self {
        self.limits_of.insert(client.into(), limits);
        self
    }

    /// Runs the usual stack of [`gateway::builder`] with this policy.
    #[must_use]
    pub fn run<P: Policy>(&self, policy: P) -> Report {
        self.run_stack(strategy::<P>(), |pool, azure| {
            gateway::builder(pool.clone(), TerminateCredentialsLayer::without_clients())
                .select(SelectBackendLayer::new(pool).with_policy(policy))
                .build(azure)
        })
    }

    /// Runs a stack of your own around the simulated backends, under this name. Extensions of requests must reach the backends.
    #[must_use]
    pub fn run_stack<S>(&self, strategy: &str, stack: impl FnOnce(Pool, Azure) -> S) -> Report
    where
        S: Below,
    {
        let best = self.simulate(|_, azure| Router::new(azure, None, self.seed)).all_knowing();
        let mut report = self.simulate(stack).report(self.name.clone(), strategy.to_owned(), self.seed, best);
        report.weather = self.spells();
        report.unserved_aliases = self.unserved_aliases();
        report
    }

    fn spells(&self) -> Vec<Spell> {
        let horizon = millis(self.length);
        let of = |backend: &Backend| -> Vec<_> {
            backend.weather.iter().filter_map(|weather| weather.spell(&backend.name, horizon)).collect()
        };
        self.backends.iter().flat_map(of).collect()
    }

    fn unserved_aliases(&self) -> Vec<String> {
        let serves = |alias: &str| {
            self.backends
                .iter()
                .flat_map(|backend| &backend.deployments)
                .any(|deployment| deployment.alias_name() == alias)
        };
        let mut unserved: Vec<_> = self.traffic.iter().map(|traffic| traffic.alias_or(ALIAS)).collect();
        unserved.retain(|alias| !serves(alias));
        unserved.sort_unstable();
        unserved.dedup();
        unserved.into_iter().map(str::to_owned).collect()
    }

    /// Runs what people run today.
    #[must_use]
    pub fn run_baseline(&self, baseline: Baseline) -> Report {
        self.run_stack(baseline.name(), |_, azure| Router::new(azure, Some(baseline), self.seed))
    }

    fn simulate<S>(&self, stack: impl FnOnce(Pool, Azure) -> S) -> Run
    where
        S: Below,
    {
        assert!(
            tokio::runtime::Handle::try_current().is_err(),
            "a scenario has a runtime of its own, whose clock is paused: run it in a plain `#[test] fn`, not in an async one"
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime without I/O can always be built").block_on(self.play(stack))
    }

    async fn play<S>(&self, stack: impl FnOnce(Pool, Azure) -> S) -> Run
    where
        S: Below,
    {
        let horizon = millis(self.length);
        let moment = horizon.div_ceil(MOMENTS).max(1);
        let jobs = traffic::plan(&self.traffic, self.seed, horizon);
        let pool = self.pool();
        let azure = Azure::new(self, &pool, jobs.len());
        let mut changes = Changes::new(self.name.clone(), &self.releases, self.shares.clone());
        let watch = jobs.first().map(|job| watch::watch(pool.clone(), azure.clone(), moment, horizon, *job));
        let watch = watch.map(tokio::spawn);
        let service = stack(pool.clone(), azure.clone());

        let mut clients = JoinSet::new();
        for job in &jobs {
            changes.until(job.at, &pool, &azure).await;
            tokio::time::sleep_until(azure.at(job.at)).await;
            let alias = self.traffic[job.traffic].alias_or(ALIAS).to_owned();
            let client = Client::new(job.name()).priority(job.priority).limits(self.limits_on(job));
            clients.spawn(client::run(service.clone(), azure.clone(), *job, (alias, client), self.seed));
            while let Some(ended) = clients.try_join_next() {
                went_well(ended);
            }
        }
        changes.until(horizon, &pool, &azure).await;
        tokio::time::sleep_until(azure.at(horizon)).await;
        let usages = azure.state().sites.iter_mut().map(|site| site.usage(horizon)).collect();
        azure.state().sites.iter_mut().for_each(|site| site.seen.close(horizon));
        while let Some(ended) = clients.join_next().await {
            went_well(ended);
        }
        let moments = match watch {
            Some(watch) => watch.await.unwrap_or_default(),
            None => Vec::new(),
        };
        let State { sites, records, arrivals, .. } = azure.take();
        let (releases, phases) = (self.releases.clone(), changes.into_phases());
        let limited = jobs.iter().filter(|job| !self.limits_on(job).is_none()).map(|job| job.client).collect();
        Run { limited, jobs, records, releases, phases, arrivals, sites, usages, moments, moment, horizon }
    }

    fn limits_on(&self, job: &Job) -> Limits {
        self.limits_of.get(&job.name()).copied().unwrap_or(self.limits)
    }

    fn tape_of(&self, site: &Site) -> Option<Tape> {
        self.tapes.of(&site.backend, &site.deployment)
    }

    fn pool(&self) -> Pool {
        let start = Pool::builder().circuit(self.circuit).thresholds(self.thresholds);
        let start = match &self.region {
            Some(region) => start.region(region),
            None => start,
        };
        let pool = self.backends.iter().fold(start, |pool, backend| pool.add_backend(backend.description()));
        let pool = self.releases.iter().cloned().fold(pool, PoolBuilder::add_release).build();
        pool.unwrap_or_else(|problems| panic!("scenario `{}`: {problems}", self.name))
    }
}

/// A stack that panics fails the test.
fn went_well(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// The name of a policy's type, without its path.
fn strategy<P>() -> &'static str {
    let name = std::any::type_name::<P>();
    let path = name.split_once('<').map_or(name, |(path, _)| path);
    path.rsplit("::").find(|segment| !segment.starts_with('{')).unwrap_or(path)
}
