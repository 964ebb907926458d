//! Ways of routing that are not ours: those in use, and the one that knows everything.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};
use tower::BoxError;
use tower_service::Service;

use super::dice::Dice;
use super::site::{Ending, Fate, Hint, Site};
use super::traffic::Job;
use super::world::{Azure, State, answered};
use crate::body::Body;

/// A way of routing that is in use, for comparison. All of them know which backends there are, what they serve, and their
/// priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Baseline {
    /// Random among the backends of the lowest priority number that are not cooling down. After a 429, a 5xx or a lost connection
    /// the whole backend, with all its deployments, cools down for the `Retry-After` in seconds, or for 10 s, and another one is
    /// tried, until all are cooling down: then 429 with the soonest end. What the known samples and many gateways do.
    CoolDown,
    /// No gateway: each client has the address of one backend, the clients spread over those of the lowest priority number, and
    /// relies on its library.
    NoGateway,
    /// All backends in turn, whatever they answered before and whatever their priority, up to three of them for a request: after
    /// a 429, a 5xx or a lost connection. What a load balancer with retries does.
    RoundRobin,
}

impl Baseline {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::CoolDown => "cool-down",
            Self::NoGateway => "no gateway",
            Self::RoundRobin => "static round robin",
        }
    }
}

const COOL_DOWN: u64 = 10_000;
const COOL_DOWN_DICE: u64 = 8;
const TRIES: usize = 3;
/// As the crate's gateway tells clients at most.
const LONGEST_WAIT: u64 = 59_000;

type Answer = Result<Response<Body>, BoxError>;

#[derive(Clone)]
pub(super) struct Router(Arc<Inner>);

struct Inner {
    azure: Azure,
    /// Without one it knows everything.
    baseline: Option<Baseline>,
    seed: u64,
    turn: AtomicU64,
    /// Time until which each backend cools down.
    cooling: Mutex<BTreeMap<String, u64>>,
}

impl Router {
    pub(super) fn new(azure: Azure, baseline: Option<Baseline>, seed: u64) -> Self {
        Self(Arc::new(Inner { azure, baseline, seed, turn: AtomicU64::new(0), cooling: Mutex::default() }))
    }
}

impl Service<Request<Body>> for Router {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let router = self.0.clone();
        Box::pin(async move {
            let job = request.extensions().get::<Job>().copied().ok_or("no request of the scenario")?;
            let alias = request.uri().path().split('/').nth(3).unwrap_or_default();
            let serving = router.serving(alias, &job);
            match router.baseline {
                None => router.all_knowing(serving, job).await,
                Some(Baseline::CoolDown) => router.cool_down(serving, job).await,
                Some(Baseline::NoGateway) => router.no_gateway(serving, job).await,
                Some(Baseline::RoundRobin) => router.round_robin(serving, job).await,
            }
        })
    }
}

impl Inner {
    /// The sites that it would send a request to. What people run today knows of no releases.
    fn serving(&self, alias: &str, job: &Job) -> Vec<usize> {
        let knows = self.baseline.is_none().then(|| self.azure.serving(alias, job));
        let serving = |site: &Site| knows.as_ref().map_or(site.alias == alias, |serving| serving(site));
        let state = self.azure.state();
        state.sites.iter().enumerate().filter_map(|(index, site)| serving(site).then_some(index)).collect()
    }

    async fn all_knowing(&self, serving: Vec<usize>, job: Job) -> Answer {
        let now = self.azure.now();
        let best = {
            let state = self.azure.state();
            let served = serving.iter().filter_map(|index| {
                let site = &state.sites[*index];
                let Fate::Served(course) = site.fate(&job, now) else { return None };
                Some((course.ending != Ending::Complete, site.priority, course.end, *index))
            });
            let waits = serving.iter().map(|index| state.sites[*index].admits_in(&job, now));
            served.min().map(|(.., index)| index).ok_or_else(|| waits.min())
        };
        match best {
            Ok(site) => self.azure.clone().send(site, job).await,
            Err(wait) => Ok(throttled(Hint::Millis(wait.unwrap_or_default().clamp(1, LONGEST_WAIT)))),
        }
    }

    async fn round_robin(&self, serving: Vec<usize>, job: Job) -> Answer {
        let mut answer = Err("nobody serves it".into());
        for _ in 0..TRIES.min(serving.len()) {
            let turn = self.turn.fetch_add(1, Relaxed) as usize;
            answer = self.azure.clone().send(serving[turn % serving.len()], job).await;
            if failed(&answer).is_none() {
                break;
            }
        }
        answer
    }

    async fn no_gateway(&self, serving: Vec<usize>, job: Job) -> Answer {
        let first = first_tier(&serving, &self.azure.state());
        let site = first.get(job.client as usize % first.len().max(1)).copied();
        self.azure.clone().send(site.ok_or("nobody serves it")?, job).await
    }

    async fn cool_down(&self, serving: Vec<usize>, job: Job) -> Answer {
        loop {
            let now = self.azure.now();
            let able: Vec<_> = serving.iter().copied().filter(|index| self.is_warm(*index, now)).collect();
            let tier = first_tier(&able, &self.azure.state());
            let turn = self.turn.fetch_add(1, Relaxed);
            let drawn = Dice::of(self.seed, &[COOL_DOWN_DICE, turn]).below(tier.len() as u64);
            let Some(site) = tier.get(drawn as usize).copied() else {
                let soonest =
                    self.cooling().values().filter(|until| **until > now).min().map_or(1, |until| until - now);
                return Ok(throttled(Hint::Seconds(soonest.div_ceil(1_000))));
            };
            let answer = self.azure.clone().send(site, job).await;
            let Some(wait) = failed(&answer) else { return answer };
            let until =
                self.azure.now().saturating_add(wait.map_or(COOL_DOWN, |seconds| seconds.saturating_mul(1_000)));
            let backend = self.azure.state().sites[site].backend.clone();
            self.cooling().insert(backend, until);
        }
    }

    fn is_warm(&self, site: usize, now: u64) -> bool {
        let state = self.azure.state();
        self.cooling().get(&state.sites[site].backend).is_none_or(|until| *until <= now)
    }

    fn cooling(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.cooling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn first_tier(sites: &[usize], state: &State) -> Vec<usize> {
    let priority = |index: &usize| state.sites[*index].priority;
    let first = sites.iter().map(priority).min();
    sites.iter().copied().filter(|index| Some(priority(index)) == first).collect()
}

/// Returns for how many seconds to stay away, if that was said; `None` for an answer that belongs to the client.
fn failed(answer: &Answer) -> Option<Option<u64>> {
    let Ok(answer) = answer else { return Some(None) };
    let refused = answer.status() == StatusCode::TOO_MANY_REQUESTS || answer.status().is_server_error();
    refused.then(|| answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok())
}

fn throttled(hint: Hint) -> Response<Body> {
    answered(StatusCode::TOO_MANY_REQUESTS, Some(hint))
}
