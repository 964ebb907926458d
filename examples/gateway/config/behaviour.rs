//! Behaviour of the gateway: every key has a default.

use std::time::Duration;

use tracing_subscriber::EnvFilter;

use tower_azure_openai::client::Proxy;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::meter::SilentStreams;
use tower_azure_openai::otel::Otlp;

use super::reader::Section;
use super::value::name;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Selection {
    pub(crate) policy: Policy,
    /// Zero is at once.
    pub(crate) slow_start: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Policy {
    LeastLoad,
    LowestLatency,
    PromptCache,
    RoundRobin,
    Weighted,
}

#[derive(Debug)]
pub(crate) struct Failover {
    /// At least one.
    pub(crate) attempts: u32,
    /// Bytes.
    pub(crate) replay_limit: usize,
    /// Bytes.
    pub(crate) replay_memory: usize,
    /// From 0 to 1.
    pub(crate) budget: f64,
    pub(crate) on: Vec<Condition>,
}

/// Condition on which a request moves on to another target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Condition {
    AnswerTimeout,
    Connect,
    DeploymentNotFound,
    FirstByteTimeout,
    /// A 409 that says how long to wait.
    RetryableConflict,
    Status(u16),
    StreamPreamble,
}

/// Settings of streams: how long a 200 is held for its first content, and what keeps it alive afterwards.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) preamble_events: u32,
    /// Bytes.
    pub(crate) preamble_bytes: usize,
    pub(crate) preamble_time: Duration,
    /// Zero is off.
    pub(crate) keep_alive: Duration,
}

#[derive(Debug)]
pub(crate) struct Circuit {
    /// Not above `max_open`.
    pub(crate) min_open: Duration,
    pub(crate) max_open: Duration,
    pub(crate) default_open: Duration,
    pub(crate) probe_interval: Duration,
    pub(crate) consecutive_failures: u32,
    /// From 0 to 1.
    pub(crate) failure_ratio: f64,
    pub(crate) window: Duration,
    pub(crate) min_requests: u32,
}

/// Settings of usage that nobody tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    pub(crate) streams: SilentStreams,
}

impl Usage {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        let vocabulary = [("estimate", SilentStreams::Estimate), ("ask", SilentStreams::Ask)];
        Self { streams: s.choice("streams", &vocabulary).unwrap_or_default() }
    }
}

#[derive(Debug)]
pub(crate) struct ApiVersion {
    /// Empty is any.
    pub(crate) allow: Vec<String>,
    /// For a classic path that has none.
    pub(crate) default: Option<String>,
}

#[derive(Debug)]
pub(crate) struct FrontDoor {
    /// Empty is not checked.
    pub(crate) ids: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Forward {
    /// Beside the built-in list; exact names, or prefixes that end in `*`.
    pub(crate) headers: Vec<String>,
    /// On the way to backends and identity endpoints.
    pub(crate) proxy: Option<Proxy>,
}

impl Forward {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        let given = s.texts("headers").unwrap_or_default();
        for (place, pattern) in &given {
            if let Err(wrong) = ForwardLayer::new().headers([pattern.as_str()]) {
                s.findings.problem(place, wrong.to_string());
            }
        }
        Self { headers: given.into_iter().map(|(_, pattern)| pattern).collect(), proxy: proxy(s) }
    }
}

/// The file has the word on the proxy, and the environment on what is reached without it.
fn proxy(s: &mut Section<'_>) -> Option<Proxy> {
    let env = s.findings.sources.env;
    if !s.has("proxy") {
        let found = Proxy::from_variables(env).map_err(|wrong| s.problem("proxy", format!("is absent, and {wrong}")));
        return found.ok().flatten();
    }
    let except = || env("NO_PROXY").or_else(|| env("no_proxy")).unwrap_or_default();
    s.parsed("proxy", |url| match url {
        "" => Ok(None),
        _ => Proxy::new(url).map(|proxy| Some(proxy.except(except()))).map_err(|wrong| wrong.to_string()),
    })
    .flatten()
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Timeouts {
    pub(crate) connect: Duration,
    /// Time until the head of a request has arrived.
    pub(crate) head: Duration,
    pub(crate) first_byte: Duration,
    pub(crate) answer: Duration,
    pub(crate) request_body: Duration,
    pub(crate) idle: Duration,
    /// While a client takes nothing.
    pub(crate) write: Duration,
}

#[derive(Debug)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) request_body: usize,
    /// Bytes, at least the 8 KiB that an HTTP parser needs.
    pub(crate) request_head: usize,
    /// At least one.
    pub(crate) connections: usize,
    /// 0 is unlimited.
    pub(crate) in_flight: usize,
}

/// Up to which utilization each class uses a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Thresholds {
    pub(crate) normal: f64,
    pub(crate) low: f64,
}

impl Thresholds {
    pub(crate) const DEFAULT: Self = Self { normal: 0.95, low: 0.7 };

    pub(super) fn read(s: &mut Section<'_>) -> Self {
        Self { normal: s.ratio("normal", Self::DEFAULT.normal), low: s.ratio("low", Self::DEFAULT.low) }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    /// `RUST_LOG` syntax, checked.
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    /// Of a collector, checked; `None`: there is none.
    pub(crate) otlp_endpoint: Option<String>,
    pub(crate) backend_header: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LogFormat {
    Json,
    Text,
}

impl Policy {
    const NAMES: [(&str, Self); 5] = [
        ("round-robin", Self::RoundRobin),
        ("weighted", Self::Weighted),
        ("least-load", Self::LeastLoad),
        ("lowest-latency", Self::LowestLatency),
        ("prompt-cache", Self::PromptCache),
    ];

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, policy)| *policy)
    }

    pub(crate) fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(_, policy)| *policy == self).map_or("", |(name, _)| name)
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self { policy: Policy::RoundRobin, slow_start: Duration::from_secs(10) }
    }
}

impl Selection {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        let default = Self::default();
        Self {
            policy: s.choice("policy", &Policy::NAMES).unwrap_or(default.policy),
            slow_start: s.duration("slow_start", default.slow_start),
        }
    }
}

impl Condition {
    /// The first twelve are the default.
    const VOCABULARY: &[(&str, Self)] = &[
        ("401", Self::Status(401)),
        ("403", Self::Status(403)),
        ("404-deployment", Self::DeploymentNotFound),
        ("408", Self::Status(408)),
        ("429", Self::Status(429)),
        ("500", Self::Status(500)),
        ("502", Self::Status(502)),
        ("503", Self::Status(503)),
        ("504", Self::Status(504)),
        ("connect", Self::Connect),
        ("first-byte-timeout", Self::FirstByteTimeout),
        ("stream-preamble", Self::StreamPreamble),
        ("409-retry-after", Self::RetryableConflict),
        ("424", Self::Status(424)),
        ("answer-timeout", Self::AnswerTimeout),
    ];

    /// Its name in the file.
    pub(crate) fn as_str(self) -> &'static str {
        Self::VOCABULARY.iter().find(|(_, condition)| *condition == self).map_or("", |(name, _)| name)
    }

    fn default() -> Vec<Self> {
        Self::VOCABULARY.iter().take(12).map(|(_, condition)| *condition).collect()
    }
}

impl Failover {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        Self {
            attempts: s.integer("attempts", 1..=u32::MAX).unwrap_or(3),
            replay_limit: s.size("replay_limit", 32 * MIB),
            replay_memory: s.size("replay_memory", 256 * MIB),
            budget: s.ratio("budget", 0.2),
            on: s.choices("on", Condition::VOCABULARY).unwrap_or_else(Condition::default),
        }
    }
}

impl Stream {
    /// Zero holds nothing.
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        Self {
            preamble_events: s.integer("preamble_events", 0..=u32::MAX).unwrap_or(64),
            preamble_bytes: s.size("preamble_bytes", 256 * KIB),
            preamble_time: s.duration("preamble_time", Duration::from_secs(30)),
            keep_alive: s.duration("keep_alive", Duration::ZERO),
        }
    }
}

impl Circuit {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        let circuit = Self {
            min_open: s.duration("min_open", Duration::from_millis(50)),
            max_open: s.positive_duration("max_open", Duration::from_secs(60)),
            default_open: s.duration("default_open", Duration::from_secs(10)),
            probe_interval: s.positive_duration("probe_interval", Duration::from_millis(250)),
            consecutive_failures: s.integer("consecutive_failures", 1..=u32::MAX).unwrap_or(5),
            failure_ratio: s.ratio("failure_ratio", 0.5),
            window: s.positive_duration("window", Duration::from_secs(10)),
            min_requests: s.integer("min_requests", 1..=u32::MAX).unwrap_or(20),
        };
        if circuit.min_open > circuit.max_open {
            s.problem("min_open", "must not be longer than max_open");
        }
        circuit
    }
}

impl ApiVersion {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        let default = s.parsed("default", |text| if text.is_empty() { Ok(None) } else { name(text).map(Some) });
        Self { allow: s.names("allow"), default: default.flatten() }
    }
}

impl FrontDoor {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        Self { ids: s.names("ids") }
    }
}

impl Timeouts {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        Self {
            connect: s.positive_duration("connect", Duration::from_secs(5)),
            head: s.positive_duration("head", Duration::from_secs(30)),
            first_byte: s.positive_duration("first_byte", Duration::from_secs(300)),
            answer: s.positive_duration("answer", Duration::from_secs(600)),
            request_body: s.positive_duration("request_body", Duration::from_secs(60)),
            idle: s.positive_duration("idle", Duration::from_secs(300)),
            write: s.positive_duration("write", Duration::from_secs(60)),
        }
    }
}

impl Limits {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        let request_body = s.size("request_body", 600 * MIB);
        let request_head = s.size("request_head", 64 * KIB);
        if request_head < 8 * KIB {
            s.problem("request_head", "must be \"8KiB\" or more");
        }
        let connections = s.integer("connections", 1..=u32::MAX).unwrap_or(10_000);
        let in_flight = s.integer("in_flight", 0..=u32::MAX).unwrap_or(0);
        Self { request_body, request_head, connections: connections as usize, in_flight: in_flight as usize }
    }
}

impl Telemetry {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        Self {
            log: s.parsed("log", log_filter).unwrap_or_else(|| "info".to_owned()),
            log_format: s.choice("log_format", &formats).unwrap_or(LogFormat::Text),
            otlp_endpoint: otlp_endpoint(s),
            backend_header: s.flag("backend_header", false),
        }
    }
}

fn otlp_endpoint(s: &mut Section<'_>) -> Option<String> {
    const OF_GRPC: u16 = 4317;
    let checked = |text: &str| Otlp::builder(text).map(|_| Some(text.to_owned())).map_err(|wrong| wrong.to_string());
    let endpoint = s.parsed("otlp_endpoint", |text| if text.is_empty() { Ok(None) } else { checked(text) }).flatten();
    let port = endpoint.as_deref().and_then(|endpoint| endpoint.parse::<http::Uri>().ok()?.port_u16());
    if port == Some(OF_GRPC) {
        let text = "4317 is the port of collectors for gRPC: http/protobuf, which is spoken here, has 4318";
        s.findings.warning(s.place("otlp_endpoint"), text);
    }
    endpoint
}

fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            Err("must be a filter as in RUST_LOG, such as \"info\" or \"warn,tower_azure_openai=debug\"".to_owned())
        }
    }
}
