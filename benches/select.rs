//! What it costs to choose among 1 to 1,000 targets of which all, half or one are eligible; the others' circuits are open.
//!
//! `pool` is [`Pool::acquire`] and giving the permit back; `layer` is a whole request through the selection layer.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use futures_util::FutureExt;
use http::{Method, Request, Response, Uri};
use tower::{BoxError, Service, ServiceBuilder, service_fn};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Route;
use tower_azure_openai::pool::{Backend, CircuitConfig, Constraints, Deployment, Pool, Processing, Query, TargetSet};
use tower_azure_openai::select::{
    BUSY, Choice, LeastLoad, LowestLatency, Policy, PromptCache, RoundRobin, SelectBackendLayer, SlowStart, Weighted,
};

const ALIAS: &str = "gpt-4o";
const URI: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
const DAY: Duration = Duration::from_secs(86_400);

fn main() -> Result<(), BoxError> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let prompt_cache = || PromptCache::or_else(LeastLoad::with_seed(1));
    measure(&mut criterion, "round robin", 0, RoundRobin::default)?;
    measure(&mut criterion, "weighted", 0, Weighted::default)?;
    measure(&mut criterion, "least load", 0, || LeastLoad::with_seed(1))?;
    measure(&mut criterion, "lowest latency", 0, || LowestLatency::with_seed(1))?;
    measure(&mut criterion, "prompt cache", 0, prompt_cache)?;
    measure(&mut criterion, "prompt cache, home busy", BUSY, prompt_cache)?;
    measure(&mut criterion, "slow start", 0, || SlowStart::new(RoundRobin::default(), DAY))?;
    measure(&mut criterion, "closure", 0, || fewest_in_flight)?;
    measure_demands(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

fn fewest_in_flight(choice: &Choice<'_>) -> usize {
    let fewest = choice.candidates().iter().enumerate().min_by_key(|(_, target)| target.in_flight());
    fewest.map_or(0, |(index, _)| index)
}

/// While so many other requests with the same prompt are in flight.
fn measure<P: Policy>(
    criterion: &mut Criterion,
    policy: &str,
    in_flight: u32,
    new: impl Fn() -> P,
) -> Result<(), BoxError> {
    let route = Route::parse(&Method::POST, &Uri::from_static(URI))?.with_affinity(7);
    for case in Case::all() {
        let pool = case.pool()?;
        let chosen_by = new();
        let acquire =
            || pool.acquire(&Query::new(Some(ALIAS)), |eligible| chosen_by.choose(&Choice::new(&route, eligible)));
        let _held: Vec<_> = (0..in_flight).map(|_| acquire()).collect();
        criterion.bench_function(&format!("pool/{policy}/{case}"), |bencher| {
            bencher.iter(|| acquire().is_ok());
        });

        let layer = SelectBackendLayer::new(pool.clone()).with_policy(new());
        let mut service = ServiceBuilder::new().layer(layer).service(service_fn(answer));
        let request = || {
            let mut request = Request::new(Body::empty());
            (*request.method_mut(), *request.uri_mut()) = (Method::POST, Uri::from_static(URI));
            request.extensions_mut().insert(route.clone());
            request
        };
        criterion.bench_function(&format!("layer/{policy}/{case}"), |bencher| {
            let call = |request| black_box(service.call(request).now_or_never()).is_some_and(|answer| answer.is_ok());
            bencher.iter_batched(request, call, BatchSize::SmallInput);
        });
    }
    Ok(())
}

/// What is asked of each target on its own: what the client accepts, and whether it was tried.
fn measure_demands(criterion: &mut Criterion) -> Result<(), BoxError> {
    let route = Route::parse(&Method::POST, &Uri::from_static(URI))?;
    let constraints = Constraints::default().geography("us").processing([Processing::Regional]);
    for case in Case::all() {
        let pool = case.pool()?;
        let policy = RoundRobin::default();
        let mut tried = TargetSet::default();
        tried.insert(&pool.targets(ALIAS)[0]);
        let constrained = Query::new(Some(ALIAS)).constraints(&constraints);
        for (demand, query) in
            [("constrained", constrained), ("constrained, second attempt", constrained.tried(&tried))]
        {
            criterion.bench_function(&format!("pool/{demand}/{case}"), |bencher| {
                bencher.iter(|| pool.acquire(&query, |eligible| policy.choose(&Choice::new(&route, eligible))).is_ok());
            });
        }
    }
    Ok(())
}

fn answer(_: Request<Body>) -> Ready<Result<Response<Body>, Infallible>> {
    ready(Ok(Response::new(Body::empty())))
}

/// A pool, and which of its targets can be chosen.
#[derive(Clone, Copy)]
struct Case {
    targets: usize,
    eligible: Eligible,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Eligible {
    All,
    Half,
    One,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let sizes = [1, 10, 100, 1_000];
        let cases = sizes.into_iter().flat_map(|targets| {
            [Eligible::All, Eligible::Half, Eligible::One].map(|eligible| Self { targets, eligible })
        });
        cases.filter(|case| case.targets > 1 || case.eligible == Eligible::All)
    }

    fn is_eligible(self, index: usize) -> bool {
        match self.eligible {
            Eligible::All => true,
            Eligible::Half => index % 2 == 1,
            Eligible::One => index + 1 == self.targets,
        }
    }

    fn pool(self) -> Result<Pool, BoxError> {
        let mut circuit = CircuitConfig::default();
        circuit.max_open = DAY;
        let backends = (0..self.targets).map(|i| {
            let backend = Backend::new(format!("backend-{i}"), format!("https://backend-{i}.openai.azure.com"));
            backend.geography("us").weight(1 + i as u32 % 7).add_deployment(Deployment::new("gpt-4o-2024").alias(ALIAS))
        });
        let pool =
            backends.fold(Pool::builder().circuit(circuit), |pool, backend| pool.add_backend(backend)).build()?;
        for (index, target) in pool.targets(ALIAS).iter().enumerate() {
            if !self.is_eligible(index)
                && let Some(mut permit) = pool.acquire_target(target)
            {
                permit.record(&Outcome::Throttled { hint: Some(DAY) });
            }
        }
        Ok(pool)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let eligible = match self.eligible {
            Eligible::All => "all",
            Eligible::Half => "half",
            Eligible::One => "one",
        };
        write!(f, "{} targets, {eligible} eligible", self.targets)
    }
}
