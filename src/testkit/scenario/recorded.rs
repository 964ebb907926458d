//! From a recording to a scenario.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use http::StatusCode;

use super::backend::Backend;
use super::estate;
use super::report::Requests;
use super::sdk::Sdk;
use super::tape::Tape;
use super::traffic::{Job, Traffic};
use super::weather::millis;
use super::{Report, Scenario};
use crate::context::Ending;
use crate::pool::Priority;
use crate::recorder::{RecordedTarget, Recording, Requested};

/// A scenario goes on for so long after the last request came.
const MARGIN: Duration = Duration::from_secs(1);

/// The tapes of all targets, by backend and deployment.
#[derive(Clone, Debug, Default)]
pub(super) struct Tapes(HashMap<(String, String), Tape>);

impl Tapes {
    pub(super) fn of(&self, backend: &str, deployment: &str) -> Option<Tape> {
        self.0.get(&(backend.to_owned(), deployment.to_owned())).cloned()
    }
}

/// Events that really happened while a recording was made.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Happened {
    /// Fate of the requests. One that was answered with an error counts as refused.
    pub requests: Requests,
    /// Whole answers by target, as backend and deployment.
    pub served: BTreeMap<(String, String), u64>,
    /// Number of times that the circuits of all targets opened.
    pub openings: u64,
}

impl Scenario {
    /// Makes a scenario of what was recorded, to be run again.
    ///
    /// Requests come as they came. One that is sent to the target to which it was really sent meets what it met there; where the
    /// router under test chooses otherwise, a model of that backend answers, which is made from the recording: its quota from what
    /// was served until it refused, a provisioned one from hints of less than a second, outages from runs of failures, latency from
    /// what was served. [`Report::taped`] tells for how many attempts nothing had to be modelled.
    ///
    /// Clients repeated what failed in the recording itself, each repeat a request of its own; here they repeat nothing. Backends
    /// can be [added](Scenario::backend) and [taken away](Scenario::without) for asking what would have been.
    ///
    /// ```no_run
    /// use tower_azure_openai::recorder::Recording;
    /// use tower_azure_openai::select::RoundRobin;
    /// use tower_azure_openai::testkit::scenario::Scenario;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let incident = Recording::read(&std::fs::read("incident.rec")?)?;
    /// Scenario::recorded(&incident).run(RoundRobin::default()).assert_hints_obeyed();
    /// # Ok(())
    /// # }
    /// ```
    pub fn recorded(recording: &Recording) -> Self {
        let begin = recording.requests().map(|requested| requested.at).min().unwrap_or_default();
        let last = recording.requests().map(|requested| requested.at).max().unwrap_or_default();
        let mut scenario =
            Self::new("recording").lasting(last - begin + MARGIN).circuit(recording.circuit()).playing(recording);
        for backend in backends(recording, begin) {
            scenario = scenario.backend(backend);
        }
        traffic(recording, begin).into_iter().fold(scenario, Self::traffic)
    }

    /// The same with these backends instead. A deployment that was recorded, by its backend's name and its own, serves, refuses and
    /// fails as it did; one that was not is as it is described here.
    ///
    /// # Panics
    /// Two have the same name.
    #[track_caller]
    pub fn with_backends(mut self, backends: impl IntoIterator<Item = Backend>) -> Self {
        let before = std::mem::take(&mut self.backends);
        for backend in backends {
            let name = &backend.name;
            assert!(self.backends.iter().all(|there| there.name != *name), "two backends are named `{name}`");
            let known = before.iter().find(|known| known.name == *name);
            self.backends.push(match known {
                Some(known) => backend.that_was(known),
                None => backend,
            });
        }
        self
    }

    /// Tells whether there is a backend of this name.
    #[must_use]
    pub fn has_backend(&self, name: &str) -> bool {
        self.backends.iter().any(|backend| backend.name == name)
    }

    /// The same without a backend of this name.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn without(mut self, backend: &str) -> Self {
        let before = self.backends.len();
        self.backends.retain(|there| there.name != backend);
        assert!(self.backends.len() < before, "scenario `{}` has no backend `{backend}`", self.name);
        self
    }

    fn playing(mut self, recording: &Recording) -> Self {
        let mut tapes = Tape::of(recording);
        let name = |target: &RecordedTarget| Some((target.backend.clone(), target.deployment.clone()?));
        let named = recording.targets().iter().filter_map(|target| Some((name(target)?, target.identity)));
        self.tapes = Tapes(named.filter_map(|(name, identity)| Some((name, tapes.remove(&identity)?))).collect());
        self
    }
}

fn backends(recording: &Recording, begin: Duration) -> Vec<Backend> {
    let mut backends = Vec::<Backend>::new();
    for target in recording.targets() {
        let (Some(name), Some(alias)) = (&target.deployment, &target.alias) else { continue };
        let seen = estate::seen(recording, target, begin);
        let deployment = seen.deployment.named(name).alias(alias).priority(target.priority);
        let known = backends.iter().position(|backend| backend.name == target.backend);
        let backend = match known {
            Some(index) => backends.remove(index),
            None => described(target),
        };
        let backend = seen.weather.into_iter().fold(backend.deployment(deployment), Backend::weather);
        backends.insert(known.unwrap_or(backends.len()), backend);
    }
    backends
}

fn described(target: &RecordedTarget) -> Backend {
    let weight = target.weight;
    let backend =
        Backend::new(&target.backend).priority(target.priority).describe(move |backend| backend.weight(weight));
    match &target.region {
        Some(region) => backend.region(region),
        None => backend,
    }
}

fn traffic(recording: &Recording, begin: Duration) -> Vec<Traffic> {
    let mut clients = HashMap::new();
    let mut by_alias = BTreeMap::<&str, Vec<Job>>::new();
    let usual = Usual::of(recording);
    for requested in recording.requests() {
        let Some(alias) = recording.alias(requested.alias).filter(|_| was_routed(requested)) else { continue };
        let next = clients.len() as u32;
        let client = *clients.entry(requested.client).or_insert(next);
        by_alias.entry(alias).or_default().push(job(requested, client, begin, &usual));
    }
    let sorted = |mut jobs: Vec<Job>| {
        jobs.sort_by_key(|job| (job.at, job.recorded));
        jobs
    };
    by_alias.into_iter().map(|(alias, jobs)| Traffic::recorded(sorted(jobs)).alias(alias)).collect()
}

/// Tells whether it came as far as selection: what was refused before is no matter of routing.
fn was_routed(requested: &Requested) -> bool {
    let unrouted = [400, 401, 403, 404, 405, 408, 413, 415];
    requested.attempts > 0 || requested.status.is_none_or(|status| !unrouted.contains(&status.as_u16()))
}

fn job(requested: &Requested, client: u32, begin: Duration, usual: &Usual) -> Job {
    let (prompt, answer) = requested.tokens.unwrap_or_else(|| usual.tokens(requested));
    Job {
        id: 0,
        at: millis(requested.at - begin),
        traffic: 0,
        client,
        prompt,
        answer,
        max_tokens: requested.max_tokens.unwrap_or(answer),
        streamed: requested.is_streamed,
        leaves: left(requested).then(|| millis(requested.total).max(1)),
        tried: 0,
        sdk: Sdk::none(),
        priority: Priority::Normal,
        recorded: Some(requested.number),
    }
}

/// Tells whether its client left for want of an answer; whoever has seen an error in the head need not read on.
fn left(requested: &Requested) -> bool {
    requested.ending == Ending::Left && requested.status.is_none_or(|status| status.is_success())
}

/// Means of the requests whose tokens are known, for those of which nobody told.
struct Usual {
    tokens_per_byte: f64,
    answer: u32,
}

impl Usual {
    fn of(recording: &Recording) -> Self {
        let known = || recording.requests().filter_map(|requested| Some((requested.bytes, requested.tokens?)));
        let bytes: u64 = known().map(|(bytes, _)| u64::from(bytes)).sum();
        let prompts: u64 = known().map(|(_, (prompt, _))| u64::from(prompt)).sum();
        let answers: u64 = known().map(|(_, (_, answer))| u64::from(answer)).sum();
        Self {
            tokens_per_byte: if bytes > 0 { prompts as f64 / bytes as f64 } else { 0.25 },
            answer: u32::try_from(answers / (known().count() as u64).max(1)).unwrap_or(u32::MAX),
        }
    }

    /// Of the prompt and the answer.
    fn tokens(&self, requested: &Requested) -> (u32, u32) {
        ((f64::from(requested.bytes) * self.tokens_per_byte) as u32, self.answer)
    }
}

impl Happened {
    /// Counts what a recording tells, of the requests that came as far as selection.
    #[must_use]
    pub fn of(recording: &Recording) -> Self {
        let mut happened = Self::default();
        let last: HashMap<_, _> = recording.attempts().map(|attempted| (attempted.number, attempted.target)).collect();
        for requested in recording.requests().filter(|requested| was_routed(requested)) {
            if recording.alias(requested.alias).is_none() {
                continue;
            }
            happened.requests.offered += 1;
            let is_fine =
                requested.status.is_some_and(|status| status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS);
            match requested.ending {
                _ if left(requested) => happened.requests.abandoned += 1,
                Ending::Broken | Ending::Failed if is_fine => happened.requests.broken += 1,
                _ if is_fine => {
                    happened.requests.served += 1;
                    let target = last.get(&requested.number).and_then(|target| recording.target(*target));
                    if let Some(RecordedTarget { backend, deployment: Some(deployment), .. }) = target {
                        *happened.served.entry((backend.clone(), deployment.clone())).or_default() += 1;
                    }
                }
                _ => happened.requests.refused += 1,
            }
        }
        happened.openings = recording.circuits().filter(|change| change.opened.is_some()).count() as u64;
        happened
    }

    /// Returns how far a report is from what really happened: the requests that ended otherwise, or at another target, as a share
    /// of all.
    #[must_use]
    pub fn error(&self, report: &Report) -> f64 {
        let (was, is) = (&self.requests, &report.requests);
        let ends = [
            (was.served, is.served),
            (was.refused, is.refused),
            (was.broken, is.broken),
            (was.abandoned, is.abandoned),
        ];
        let ends: u64 = ends.into_iter().map(|(was, is)| was.abs_diff(is)).sum();
        let places = |target: &super::TargetReport| {
            let was = self.served.get(&(target.backend.clone(), target.deployment.clone())).copied();
            was.unwrap_or(0).abs_diff(target.served)
        };
        let places: u64 = report.targets.iter().map(places).sum();
        // One that moved is missing at one place and too many at another.
        ends.max(places) as f64 / 2.0 / was.offered.max(1) as f64
    }
}
