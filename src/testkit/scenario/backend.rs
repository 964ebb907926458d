use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ALIAS;
use super::dice::Dice;
use super::quota::{Bucket, Quota, Window};
use super::weather::{Weather, millis};
use crate::pool;

/// Time that a deployment takes.
///
/// To the first content: a part that is always the same and a part for each token of the prompt; from there to the end: a part for
/// each token of the answer. Each request takes a share more or less of all of it, by chance.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Latency {
    first: Duration,
    prompt_token: Duration,
    answer_token: Duration,
    spread: f64,
}

impl Latency {
    /// 300 ms, 50 µs for each token of the prompt and 10 ms for each of the answer, give or take a fifth.
    pub const TYPICAL: Self = Self {
        first: Duration::from_millis(300),
        prompt_token: Duration::from_micros(50),
        answer_token: Duration::from_millis(10),
        spread: 0.2,
    };

    /// Every answer takes this long, to its first content and to its end.
    pub const fn fixed(time: Duration) -> Self {
        Self { first: time, prompt_token: Duration::ZERO, answer_token: Duration::ZERO, spread: 0.0 }
    }

    /// To the first content of an answer to an empty prompt.
    pub const fn first(mut self, time: Duration) -> Self {
        self.first = time;
        self
    }

    /// For each token of the prompt.
    pub const fn prompt_token(mut self, time: Duration) -> Self {
        self.prompt_token = time;
        self
    }

    /// For each token of the answer.
    pub const fn answer_token(mut self, time: Duration) -> Self {
        self.answer_token = time;
        self
    }

    /// Sets how much more or less it may be, as a share.
    pub const fn spread(mut self, share: f64) -> Self {
        self.spread = share;
        self
    }

    /// Milliseconds to the first content, and to the end.
    pub(super) fn draw(&self, prompt: u32, answer: u32, slowness: f64, dice: &mut Dice) -> (u64, u64) {
        let factor = 1_000.0 * slowness * (1.0 + self.spread * (2.0 * dice.share() - 1.0));
        let first = self.first.as_secs_f64() + self.prompt_token.as_secs_f64() * f64::from(prompt);
        let rest = self.answer_token.as_secs_f64() * f64::from(answer);
        ((first * factor) as u64, ((first + rest) * factor) as u64)
    }
}

/// Deployment of a simulated backend.
#[derive(Clone, Debug)]
#[must_use]
pub struct Deployment {
    pub(super) alias: String,
    model: Option<String>,
    version: Option<String>,
    kind: Kind,
    requests_per_minute: Option<u64>,
    holds: Duration,
    pub(super) latency: Latency,
    priority: Option<u32>,
    /// Its name, where it has one of its own.
    own_name: Option<String>,
    /// End of a window of a standard quota, in milliseconds; drawn by chance otherwise.
    window_end: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Provisioned(u64),
    Standard(Option<u64>),
}

impl Deployment {
    const fn new(kind: Kind) -> Self {
        Self {
            alias: String::new(),
            model: None,
            version: None,
            kind,
            requests_per_minute: None,
            holds: Duration::from_secs(60),
            latency: Latency::TYPICAL,
            priority: None,
            own_name: None,
            window_end: None,
        }
    }

    /// Provisioned throughput units that work off so many tokens a minute.
    ///
    /// A request is admitted while utilization is at most 100 %, which is one minute's tokens, and adds its prompt and `max_tokens`; when
    /// its answer has ended, that is corrected to what was used. Above: 429 with `retry-after-ms`, exactly as long as it takes to
    /// be at 100 % again as things stand.
    pub const fn provisioned(tokens_per_minute: u64) -> Self {
        Self::new(Kind::Provisioned(tokens_per_minute))
    }

    /// A standard quota of so many tokens a minute.
    ///
    /// Prompt and `max_tokens` are added to a count that is reset each minute; once the limit is reached: 429 with `Retry-After`
    /// in whole seconds, rounded up, until then. The minutes of different deployments begin at different seconds.
    pub const fn standard(tokens_per_minute: u64) -> Self {
        Self::new(Kind::Standard(Some(tokens_per_minute)))
    }

    /// A deployment that admits everything.
    pub const fn unlimited() -> Self {
        Self::new(Kind::Standard(None))
    }

    /// The name that clients use. Default: [`ALIAS`].
    pub fn alias(mut self, alias: impl Into<String>) -> Self {
        self.alias = alias.into();
        self
    }

    /// The model, for [releases](super::Scenario::release). Default: the alias.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// The version of the model, for [releases](super::Scenario::release). A model and a version stand in the deployment's name
    /// behind the alias, so that one backend can have deployments of several.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Also limits a standard deployment to so many requests a minute: a sixth of it, rounded up, in each ten seconds.
    pub const fn requests_per_minute(mut self, requests: u64) -> Self {
        self.requests_per_minute = Some(requests);
        self
    }

    /// A utilization of 100 % of a provisioned deployment is so much time's worth of tokens. Default one minute. How much it is in
    /// fact is not documented; the less, the sooner the deployment runs dry when it is not asked.
    pub const fn holding(mut self, time: Duration) -> Self {
        self.holds = time;
        self
    }

    /// Time that it takes. Default: [`Latency::TYPICAL`].
    pub const fn latency(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// Overrides the backend's priority.
    pub const fn priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Its name. Default: the alias, and what sets it apart.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.own_name = Some(name.into());
        self
    }

    pub(super) fn window_ends_at(mut self, time: Duration) -> Self {
        self.window_end = Some(millis(time));
        self
    }

    pub(super) fn alias_name(&self) -> &str {
        if self.alias.is_empty() { ALIAS } else { &self.alias }
    }

    fn model_name(&self) -> &str {
        self.model.as_deref().unwrap_or_else(|| self.alias_name())
    }

    pub(super) fn name(&self) -> String {
        if let Some(name) = &self.own_name {
            return name.clone();
        }
        let parts = [Some(self.alias_name()), self.model.as_deref(), self.version.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join("-")
    }

    pub(super) fn is_of(&self, release: &pool::Release) -> bool {
        release.is_of(self.alias_name(), self.model_name(), self.version.as_deref())
    }

    fn description(&self, priority: u32) -> pool::Deployment {
        let described = pool::Deployment::new(self.name()).alias(self.alias_name()).model(self.model_name());
        let described = described.priority(priority);
        match &self.version {
            Some(version) => described.version(version),
            None => described,
        }
    }

    pub(super) fn quota(&self, seed: u64, site: usize) -> Quota {
        let mut dice = Dice::of(seed, &[PHASE, site as u64]);
        match self.kind {
            Kind::Provisioned(tokens) => Quota::Provisioned(Bucket::new(tokens, millis(self.holds))),
            Kind::Standard(tokens) => Quota::Standard {
                tokens: tokens.map(|limit| {
                    let drawn = dice.below(MINUTE);
                    Window::tokens(limit, self.window_end.map_or(drawn, |end| MINUTE - end % MINUTE))
                }),
                requests: self.requests_per_minute.map(|limit| Window::requests(limit, dice.below(10_000))),
            },
        }
    }

    pub(super) fn priority_or(&self, backend: u32) -> u32 {
        self.priority.unwrap_or(backend)
    }
}

const PHASE: u64 = 2;
const MINUTE: u64 = 60_000;

/// A simulated backend: what the pool is told of it, what it can do, and what happens to it.
#[derive(Clone)]
#[must_use]
pub struct Backend {
    pub(super) name: String,
    pub(super) region: Option<String>,
    pub(super) priority: u32,
    pub(super) deployments: Vec<Deployment>,
    pub(super) weather: Vec<Weather>,
    described: Arc<dyn Fn(pool::Backend) -> pool::Backend + Send + Sync>,
}

impl Backend {
    /// A backend without a deployment yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            region: None,
            priority: 0,
            deployments: Vec::new(),
            weather: Vec::new(),
            described: Arc::new(|backend| backend),
        }
    }

    /// A backend with a [provisioned deployment](Deployment::provisioned) of so many tokens a minute.
    pub fn provisioned(name: impl Into<String>, tokens_per_minute: u64) -> Self {
        Self::new(name).deployment(Deployment::provisioned(tokens_per_minute))
    }

    /// A backend with a [standard deployment](Deployment::standard) of so many tokens a minute.
    pub fn standard(name: impl Into<String>, tokens_per_minute: u64) -> Self {
        Self::new(name).deployment(Deployment::standard(tokens_per_minute))
    }

    /// A backend that [admits everything](Deployment::unlimited).
    pub fn unlimited(name: impl Into<String>) -> Self {
        Self::new(name).deployment(Deployment::unlimited())
    }

    /// Serves this too.
    pub fn deployment(mut self, deployment: Deployment) -> Self {
        self.deployments.push(deployment);
        self
    }

    /// Time that its deployments take, those that it has by now.
    pub fn latency(mut self, latency: Latency) -> Self {
        self.deployments.iter_mut().for_each(|deployment| deployment.latency = latency);
        self
    }

    /// Sets the [version](Deployment::version) of its deployments, those that it has by now.
    pub fn version(mut self, version: impl AsRef<str>) -> Self {
        self.deployments.iter_mut().for_each(|deployment| deployment.version = Some(version.as_ref().to_owned()));
        self
    }

    /// Lower is tried first. Default 0.
    pub const fn priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the region in which it stands.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Happens to it.
    pub fn weather(mut self, weather: Weather) -> Self {
        self.weather.push(weather);
        self
    }

    /// Sets what else the pool is told of it: weight, geography, quota group, …
    pub fn describe(mut self, described: impl Fn(pool::Backend) -> pool::Backend + Send + Sync + 'static) -> Self {
        self.described = Arc::new(described);
        self
    }

    /// The same backend as another run showed it: its weather, and what its deployments can do.
    pub(super) fn that_was(mut self, known: &Self) -> Self {
        self.weather.extend(known.weather.iter().copied());
        for deployment in &mut self.deployments {
            if let Some(known) = known.deployments.iter().find(|known| known.name() == deployment.name()) {
                deployment.kind = known.kind;
                deployment.requests_per_minute = known.requests_per_minute;
                deployment.holds = known.holds;
                deployment.latency = known.latency;
                deployment.window_end = known.window_end;
            }
        }
        self
    }

    /// The host under which it is reached.
    pub(super) fn host(&self) -> String {
        format!("{}.simulated", self.name)
    }

    pub(super) fn description(&self) -> pool::Backend {
        let mut backend = pool::Backend::new(&self.name, format!("http://{}", self.host())).priority(self.priority);
        if let Some(region) = &self.region {
            backend = backend.region(region);
        }
        for deployment in &self.deployments {
            backend = backend.add_deployment(deployment.description(deployment.priority_or(self.priority)));
        }
        (self.described)(backend)
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name)
            .field("region", &self.region)
            .field("priority", &self.priority)
            .field("deployments", &self.deployments)
            .field("weather", &self.weather)
            .finish_non_exhaustive()
    }
}
