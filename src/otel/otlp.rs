use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio::sync::watch;
use tokio::time::timeout;

use super::clock::{self, Clock};
use super::collector::Collector;
use super::lane::Lane;
use super::metrics::{Conventions, Metrics};
use super::proto::Message;
use super::queue::Queue;
use super::resource::Resource;
use super::told::Call;
use super::{INTERVAL, METRIC_INTERVAL, Sampler, spans};
use crate::below::Below;
use crate::capture::{Captured, Sink};
use crate::context::{Record, Recorder, TraceContext};
use crate::meter::Metered;

/// `opentelemetry.proto.logs.v1.ScopeLogs.log_records`.
const LOGS: u32 = 2;
const INFO: u64 = 9;
const ERROR: u64 = 17;
/// The name of the event that a capture is.
const CAPTURE: &str = "gateway.capture";

/// Tells a collector what requests come to. See the [module docs](super).
///
/// Clones share everything. When the last one is gone, what waits is still sent.
#[derive(Clone)]
pub struct Otlp(Arc<Handle>);

struct Handle {
    sampler: Sampler,
    spans: Arc<Queue>,
    logs: Arc<Queue>,
    metrics: Arc<Metrics>,
    ending: watch::Sender<bool>,
}

impl Handle {
    fn end(&self) {
        self.spans.close();
        self.logs.close();
        self.ending.send_replace(true);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Collects settings; made by [`Otlp::builder`].
#[derive(Clone)]
#[must_use]
pub struct OtlpBuilder {
    base: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) sampler: Sampler,
    pub(super) conventions: Conventions,
    pub(super) interval: Duration,
    pub(super) metric_interval: Duration,
}

/// An endpoint is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an http or https URL with a host and without credentials or a query, such as \"http://127.0.0.1:4318\""
)]
#[non_exhaustive]
pub struct InvalidEndpoint;

impl Otlp {
    /// Begins with the endpoint of a collector, to which `/v1/traces` and the like are added.
    ///
    /// # Errors
    /// It is no URL to which these can be added.
    pub fn builder(endpoint: &str) -> Result<OtlpBuilder, InvalidEndpoint> {
        let attributes = [
            ("service.name", env!("CARGO_PKG_NAME")),
            ("service.instance.id", &instance()),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", env!("CARGO_PKG_NAME")),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        Ok(OtlpBuilder {
            base: base(endpoint)?,
            attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            headers: HeaderMap::new(),
            sampler: Sampler::default(),
            conventions: Conventions::default(),
            interval: INTERVAL,
            metric_interval: METRIC_INTERVAL,
        })
    }

    /// Counts what was used where no record tells it, as on WebSockets: for
    /// [`on_usage`](crate::meter::MeterUsageLayer::on_usage).
    pub fn count_usage(&self, metered: &Metered<'_>) {
        if !metered.is_on_record {
            let spent = crate::context::Spent::new(metered.usage, metered.source);
            self.0.metrics.spend(&spent, Call::new(metered.route, metered.client, metered.target));
        }
    }

    /// Number of spans that never reached the collector, or were rejected there.
    #[must_use]
    pub fn dropped_spans(&self) -> u64 {
        self.0.spans.dropped()
    }

    /// Number of log records of which the same is true.
    #[must_use]
    pub fn dropped_logs(&self) -> u64 {
        self.0.logs.dropped()
    }

    /// Sends what waits, once, and gives up after so long. What comes later is dropped.
    pub async fn finish(&self, patience: Duration) {
        self.0.end();
        drop(timeout(patience, self.0.ending.closed()).await);
    }
}

impl Recorder for Otlp {
    fn record(&self, record: &Record) {
        self.0.metrics.count(record);
        if let Some((fields, count)) = spans::of(record, Clock::new()) {
            self.0.spans.put(&fields, count);
        }
    }

    fn trace(&self, caller: Option<&TraceContext>) -> Option<TraceContext> {
        Some(self.0.sampler.begin(caller))
    }
}

/// Each capture is a log record, whose body has the members of its [JSON](Captured::to_json).
impl Sink for Otlp {
    fn take(&self, captured: &Captured) {
        let mut logs = Message::default();
        logs.message(LOGS, |log| {
            let (severity, name) = if captured.is_error() { (ERROR, "ERROR") } else { (INFO, "INFO") };
            log.fixed64(1, clock::since_1970(captured.time));
            log.varint(2, severity);
            log.text(3, name);
            log.any(5, &captured.to_value());
            if let Some(trace) = &captured.trace {
                log.fixed32(8, trace.flags().into());
                log.bytes(9, &trace.trace_id());
                log.bytes(10, &trace.span_id());
            }
            log.fixed64(11, Clock::new().now());
            log.text(12, CAPTURE);
        });
        self.0.logs.put(&logs.into_bytes(), 1);
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp")
            .field("sampler", &self.0.sampler)
            .field("dropped_spans", &self.dropped_spans())
            .field("dropped_logs", &self.dropped_logs())
            .finish_non_exhaustive()
    }
}

impl OtlpBuilder {
    /// Name of the service that tells it. Default: that of this crate.
    pub fn service_name(self, name: impl Into<String>) -> Self {
        self.attribute("service.name", name)
    }

    /// Says more of who tells it. The last word on a key holds.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((key.into(), value.into()));
        self
    }

    /// Shows a header to the collector, such as a key. It is never logged.
    pub fn header(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.headers.insert(name, value);
        self
    }

    /// Traces these requests. Default: [`Sampler::default`].
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.sampler = sampler;
        self
    }

    /// Names metrics so. Default: [`Conventions::Stable`].
    pub fn conventions(mut self, conventions: Conventions) -> Self {
        self.conventions = conventions;
        self
    }

    /// Sends spans and logs, and metrics, so often. Default: [`INTERVAL`] and [`METRIC_INTERVAL`].
    pub fn intervals(mut self, of_spans: Duration, of_metrics: Duration) -> Self {
        (self.interval, self.metric_interval) = (of_spans, of_metrics);
        self
    }

    /// Begins to send, by any HTTP client, from tasks of this runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start<S: Below + Sync>(self, http: S) -> Otlp {
        let collector = Arc::new(Collector::new(http, self.headers));
        let resource = Arc::new(Resource::new(self.attributes));
        let (ending, is_ending) = watch::channel(false);
        let lane = |signal: &'static str, interval| {
            let uri = Uri::try_from(format!("{}/v1/{signal}", self.base)).unwrap_or_default();
            let (collector, resource) = (collector.clone(), resource.clone());
            Lane { signal, uri, collector, resource, interval, ending: is_ending.clone(), told: None }
        };
        let (spans, logs) = (Arc::<Queue>::default(), Arc::<Queue>::default());
        let metrics = Arc::new(Metrics::new(self.conventions));
        tokio::spawn(lane("traces", self.interval).run(spans.clone()));
        tokio::spawn(lane("logs", self.interval).run(logs.clone()));
        tokio::spawn(lane("metrics", self.metric_interval).run_totals(metrics.clone()));
        Otlp(Arc::new(Handle { sampler: self.sampler, spans, logs, metrics, ending }))
    }
}

/// Shows no header, and not where the collector is.
impl fmt::Debug for OtlpBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpBuilder")
            .field("attributes", &self.attributes)
            .field("headers", &self.headers.len())
            .field("sampler", &self.sampler)
            .field("conventions", &self.conventions)
            .finish_non_exhaustive()
    }
}

/// The endpoint without a slash at its end.
fn base(endpoint: &str) -> Result<String, InvalidEndpoint> {
    let base = endpoint.trim_end_matches('/');
    let uri: Uri = base.parse().map_err(|_| InvalidEndpoint)?;
    let has_place = uri.authority().is_some_and(|place| !place.as_str().contains('@') && !place.host().is_empty());
    let is_http = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    let is_one = has_place && is_http && !base.contains(['?', '#']);
    if is_one { Ok(base.to_owned()) } else { Err(InvalidEndpoint) }
}

/// An id that no other process has, so that the totals of replicas are told apart.
fn instance() -> String {
    format!("{:032x}", u128::from_be_bytes(TraceContext::root(false).trace_id()))
}
