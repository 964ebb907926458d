use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::{Name, OfAnswer, OfAttempt, OfRequest, OfTokens};
use super::pool;
use super::text::{self, Exposition};
use crate::context::{Client, Record, Recorder, Spent};
use crate::pool::{Pool, Target};

/// Values with their labels.
pub type Samples = Vec<(Vec<(&'static str, String)>, f64)>;

/// In seconds: from an answer out of a cache to a model that thinks for minutes.
const DURATIONS: [f64; 14] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0];

/// Counts requests for Prometheus. Clones count together. See the [module docs](super).
#[derive(Clone)]
pub struct MetricsRecorder(Arc<Inner>);

struct Inner {
    registry: Registry,
    figures: Figures,
    requests: Family<OfRequest, Counter>,
    durations: Family<OfAnswer, Histogram, fn() -> Histogram>,
    first_content: Family<OfAnswer, Histogram, fn() -> Histogram>,
    attempts: Family<OfAttempt, Counter>,
    tokens: Family<OfTokens, Counter>,
    details: Family<OfTokens, Counter>,
}

impl MetricsRecorder {
    /// Knows names by this pool, whose state it tells as well.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        let figures = Figures::new(pool);
        let (requests, attempts) = (Family::default(), Family::default());
        let (tokens, details) = (Family::default(), Family::default());
        let histogram: fn() -> Histogram = || Histogram::new(DURATIONS);
        let (durations, first_content) =
            (Family::new_with_constructor(histogram), Family::new_with_constructor(histogram));
        let mut registry = Registry::default();
        registry.register("gateway_requests", "Requests that have ended", requests.clone());
        registry.register("gateway_request_duration_seconds", "Time to the end of the answer", durations.clone());
        registry.register(
            "gateway_first_content_seconds",
            "Time to the first bytes of the answer",
            first_content.clone(),
        );
        registry.register("gateway_attempts", "Requests sent to backends, by what they came to", attempts.clone());
        registry.register("gateway_tokens", "Tokens that were used", tokens.clone());
        registry.register("gateway_token_details", "Parts of the tokens that were used", details.clone());
        registry.register_collector(Box::new(figures.clone()));
        Self(Arc::new(Inner { registry, figures, requests, durations, first_content, attempts, tokens, details }))
    }

    /// Knows names by another pool from now on, which has taken the place of the one before.
    pub fn set_pool(&self, pool: Pool) {
        self.0.figures.0.pool.store(Arc::new(pool));
    }

    /// Tells a value of yours too, read whenever somebody asks. One of the same name is replaced.
    pub fn add_gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Samples + Send + Sync + 'static,
    ) {
        self.0.figures.add(Figure { name, help, is_counter: false, read: Box::new(read) });
    }

    /// Tells a count of yours too; `_total` is added to its name. One of the same name is replaced.
    pub fn add_counter(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Samples + Send + Sync + 'static,
    ) {
        self.0.figures.add(Figure { name, help, is_counter: true, read: Box::new(read) });
    }

    /// Everything, as it is now.
    #[must_use]
    pub fn text(&self, exposition: Exposition) -> String {
        text::encode(&self.0.registry, exposition)
    }

    fn count(&self, record: &Record) {
        let (client, target) = (record.client.as_ref(), record.target());
        let alias = self.alias(record, target);
        let client = client.map_or(Name::NONE, |client| Name::shared(client.shared_id()));
        let requests = OfRequest {
            client: client.clone(),
            alias: alias.clone(),
            operation: record.operation().map_or("", |operation| operation.as_str()),
            status: record.status.map_or(499, |status| status.as_u16()),
        };
        self.0.requests.get_or_create(&requests).inc();
        for attempt in &record.attempts {
            let labels = OfAttempt {
                backend: Name::shared(attempt.target.backend_name()),
                deployment: Name::of(attempt.target.deployment_name()),
                // Given up before there was an answer, because its client left.
                outcome: attempt.outcome.map_or("abandoned", |outcome| outcome.as_str()),
            };
            self.0.attempts.get_or_create(&labels).inc();
        }
        if let Some(target) = target {
            let labels = OfAnswer { alias: alias.clone(), backend: Name::shared(target.backend_name()) };
            self.0.durations.get_or_create(&labels).observe(record.total.as_secs_f64());
            if let Some(first) = record.first_content {
                self.0.first_content.get_or_create(&labels).observe(first.as_secs_f64());
            }
        }
        if let Some(spent) = &record.spent {
            self.count_tokens(spent, client, alias, target);
        }
    }

    /// Counts what was used where no record tells it, as on WebSockets: `client` and `target` are whose it was and who served.
    pub fn count_spent(&self, spent: &Spent, client: Option<&Client>, target: Option<&Target>) {
        let name = client.map_or(Name::NONE, |client| Name::shared(client.shared_id()));
        self.count_tokens(spent, name, Name::of(target.and_then(Target::shared_alias)), target);
    }

    fn count_tokens(&self, spent: &Spent, client: Name, alias: Name, target: Option<&Target>) {
        let mut labels = OfTokens {
            client,
            alias,
            backend: target.map_or(Name::NONE, |target| Name::shared(target.backend_name())),
            deployment: Name::of(target.and_then(Target::deployment_name)),
            r#type: "",
            source: spent.source.as_str(),
        };
        let mut add = |family: &Family<OfTokens, Counter>, name, tokens| {
            if tokens > 0 {
                labels.r#type = name;
                family.get_or_create(&labels).inc_by(tokens);
            }
        };
        let (usage, parts) = (&spent.usage, &spent.usage.details);
        add(&self.0.tokens, "input", usage.input);
        add(&self.0.tokens, "output", usage.output);
        for (name, tokens) in [
            ("input_cached", parts.input_cached),
            ("input_cache_write", parts.input_cache_write),
            ("input_audio", parts.input_audio),
            ("input_image", parts.input_image),
            ("output_reasoning", parts.output_reasoning),
            ("output_audio", parts.output_audio),
            ("output_image", parts.output_image),
        ] {
            add(&self.0.details, name, tokens);
        }
    }

    /// The alias as the pool knows it: never as a client typed it.
    fn alias(&self, record: &Record, target: Option<&Target>) -> Name {
        if let Some(alias) = target.and_then(Target::shared_alias) {
            return Name::shared(alias);
        }
        let Some(typed) = record.alias() else { return Name::NONE };
        let asked = record.client.as_ref().map_or(typed, |client: &Client| client.resolve(typed));
        let served = self.0.figures.0.pool.load().targets(asked);
        Name::of(served.first().and_then(Target::shared_alias))
    }
}

impl Recorder for MetricsRecorder {
    fn record(&self, record: &Record) {
        self.count(record);
    }
}

impl fmt::Debug for MetricsRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsRecorder").finish_non_exhaustive()
    }
}

/// Figures that are read when somebody asks.
#[derive(Clone)]
struct Figures(Arc<Read>);

struct Read {
    pool: ArcSwap<Pool>,
    own: Mutex<Vec<Figure>>,
}

struct Figure {
    name: &'static str,
    help: &'static str,
    is_counter: bool,
    read: Box<dyn Fn() -> Samples + Send + Sync>,
}

impl Figures {
    fn new(pool: Pool) -> Self {
        let figures = Self(Arc::new(Read { pool: ArcSwap::from_pointee(pool), own: Mutex::default() }));
        let version = || vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)];
        let (name, help) = ("gateway_build_info", "The version of this program's library");
        figures.add(Figure { name, help, is_counter: false, read: Box::new(version) });
        figures
    }

    fn add(&self, figure: Figure) {
        let mut own = self.own();
        own.retain(|other| other.name != figure.name);
        own.push(figure);
    }

    fn own(&self) -> MutexGuard<'_, Vec<Figure>> {
        self.0.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, samples) in pool::gauges(&self.0.pool.load().status()) {
            write(&mut encoder, name, help, false, &samples)?;
        }
        for figure in &*self.own() {
            write(&mut encoder, figure.name, figure.help, figure.is_counter, &(figure.read)())?;
        }
        Ok(())
    }
}

fn write(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    is_counter: bool,
    samples: &Samples,
) -> fmt::Result {
    let kind = if is_counter { MetricType::Counter } else { MetricType::Gauge };
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in samples {
        let labelled = metric.encode_family(labels)?;
        if is_counter {
            ConstCounter::new(*value).encode(labelled)?;
        } else {
            ConstGauge::new(*value).encode(labelled)?;
        }
    }
    Ok(())
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}
