//! Totals since the start, by what they are about.

use std::fmt;

use tokio::time::Instant;

use super::clock::Clock;
use super::histogram::{Histogram, OF_HTTP, PER_TOKEN, SECONDS, TO_FIRST, TOKENS};
use super::proto::{Message, Value};
use super::table::Table;
use super::told::{self, Call, EMBEDDINGS, Failure, PROVIDER};
use crate::azure::usage::Usage;
use crate::context::{Record, Spent, UsageSource};

/// `opentelemetry.proto.metrics.v1.ScopeMetrics.metrics`.
const METRICS: u32 = 2;
const CUMULATIVE: u64 = 2;

/// Names of the metrics of generative AI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conventions {
    /// Those of the semantic conventions v1.41.0.
    #[default]
    Stable,
    /// Those of the conventions for generative AI v0.1.0.
    Latest,
}

pub(super) struct Metrics {
    conventions: Conventions,
    started: Instant,
    requests: Table<OfHttp, Histogram>,
    durations: Table<(Call, Option<Failure>), Histogram>,
    uses: Table<Call, Uses>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OfHttp {
    method: &'static str,
    status: Option<u16>,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Uses {
    input: Histogram,
    output: Histogram,
    total: Usage,
    to_first: Histogram,
    to_first_chunk: Histogram,
    per_token: Histogram,
}

impl Uses {
    fn new() -> Self {
        Self {
            input: Histogram::new(TOKENS),
            output: Histogram::new(TOKENS),
            total: Usage::default(),
            to_first: Histogram::new(TO_FIRST),
            to_first_chunk: Histogram::new(SECONDS),
            per_token: Histogram::new(PER_TOKEN),
        }
    }
}

impl Metrics {
    pub(super) fn new(conventions: Conventions) -> Self {
        let (requests, durations, uses) = (Table::default(), Table::default(), Table::default());
        Self { conventions, started: Instant::now(), requests, durations, uses }
    }

    pub(super) fn count(&self, record: &Record) {
        let (seconds, failure) = (record.total.as_secs_f64(), Failure::of(record));
        let status = record.status.map(|status| status.as_u16());
        // A 4xx is a client's fault, and no error of this server's.
        let of_server = failure.filter(|failure| failure.is_of_server());
        let of_http = OfHttp { method: told::method(&record.method), status, failure: of_server };
        self.requests.change(of_http, || Histogram::new(OF_HTTP), |requests| requests.add(seconds));
        let Some(route) = &record.route else { return };
        let call = Call::new(route, record.client.as_ref(), record.target());
        if told::generates(record).is_some() {
            let key = (call.clone(), failure);
            self.durations.change(key, || Histogram::new(SECONDS), |durations| durations.add(seconds));
            if route.is_streaming() && failure.is_none() {
                self.time(record, call.clone());
            }
        }
        if let Some(spent) = &record.spent {
            self.spend(spent, call);
        }
    }

    /// Notes the time until a stream began, and for each token after that.
    fn time(&self, record: &Record, call: Call) {
        let Some(first) = record.first_content else { return };
        let output = record.spent.map_or(0, |spent| spent.usage.output);
        self.uses.change(call, Uses::new, |uses| {
            uses.to_first.add(first.as_secs_f64());
            uses.to_first_chunk.add(first.as_secs_f64());
            if output > 1 {
                let rest = record.total.saturating_sub(first).as_secs_f64();
                uses.per_token.add(rest / (output - 1) as f64);
            }
        });
    }

    /// Counts what a backend has told. What is only estimated is billed by nobody.
    pub(super) fn spend(&self, spent: &Spent, call: Call) {
        if spent.source != UsageSource::Reported {
            return;
        }
        let usage = &spent.usage;
        self.uses.change(call, Uses::new, |uses| {
            if usage.input > 0 {
                uses.input.add(usage.input as f64);
            }
            if usage.output > 0 {
                uses.output.add(usage.output as f64);
            }
            uses.total += *usage;
        });
    }

    /// One `opentelemetry.proto.metrics.v1.Metric` for each, as fields; `None` where nothing was counted yet.
    pub(super) fn fields(&self) -> Option<Vec<u8>> {
        let clock = Clock::new();
        let mut writer = Writer { all: Message::default(), start: clock.at(self.started), now: clock.now() };
        self.write_requests(&mut writer);
        self.write_durations(&mut writer);
        self.write_streams(&mut writer);
        self.write_tokens(&mut writer);
        let fields = writer.all.into_bytes();
        (!fields.is_empty()).then_some(fields)
    }

    fn write_requests(&self, writer: &mut Writer) {
        writer.histogram("http.server.request.duration", "s", "Duration of HTTP server requests.", |points| {
            self.requests.each(|key, histogram| {
                points.add(histogram, |point| {
                    let Some(key) = key else { return overflow(point) };
                    point.tell("http.request.method", Value::Text(key.method));
                    if let Some(status) = key.status {
                        point.tell("http.response.status_code", Value::Number(status.into()));
                    }
                    error_type(point, key.failure);
                });
            });
        });
    }

    fn write_durations(&self, writer: &mut Writer) {
        let mut write = |name, what: &str, wanted: fn(&Call) -> bool| {
            writer.histogram(name, "s", what, |points| {
                self.durations.each(|key, histogram| {
                    if key.is_none_or(|(call, _)| wanted(call)) {
                        points.add(histogram, |point| {
                            of_call(point, key.map(|(call, _)| call));
                            error_type(point, key.and_then(|(_, failure)| *failure));
                        });
                    }
                });
            });
        };
        let what = "GenAI operation duration.";
        match self.conventions {
            Conventions::Stable => write("gen_ai.client.operation.duration", what, |_| true),
            Conventions::Latest => {
                write("gen_ai.client.inference.duration", what, |call| call.operation != EMBEDDINGS);
                write("gen_ai.client.embeddings.duration", what, |call| call.operation == EMBEDDINGS);
            }
        }
        write("gen_ai.server.request.duration", "GenAI server request duration.", |_| true);
    }

    fn write_streams(&self, writer: &mut Writer) {
        let chunk = match self.conventions {
            Conventions::Stable => "gen_ai.client.operation.time_to_first_chunk",
            Conventions::Latest => "gen_ai.client.inference.time_to_first_chunk",
        };
        self.write_uses(writer, chunk, "s", "Time to receive the first chunk.", |uses| &uses.to_first_chunk);
        let (first, token) = ("gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token");
        self.write_uses(writer, first, "s", "Time to generate the first token.", |uses| &uses.to_first);
        self.write_uses(writer, token, "s", "Time per output token after the first.", |uses| &uses.per_token);
    }

    fn write_tokens(&self, writer: &mut Writer) {
        if self.conventions == Conventions::Stable {
            let what = "Number of input and output tokens used.";
            return writer.histogram("gen_ai.client.token.usage", "{token}", what, |points| {
                self.uses.each(|call, uses| {
                    for (kind, tokens) in [("input", &uses.input), ("output", &uses.output)] {
                        points.add(tokens, |point| {
                            of_call(point, call);
                            point.tell("gen_ai.token.type", Value::Text(kind));
                        });
                    }
                });
            });
        }
        let is_embedding = |call: Option<&Call>| call.is_some_and(|call| call.operation == EMBEDDINGS);
        for (name, what, of_embeddings, tokens) in PER_OPERATION {
            writer.histogram(name, "{token}", what, |points| {
                self.uses.each(|call, uses| {
                    if is_embedding(call) == of_embeddings {
                        points.add(tokens(uses), |point| of_call(point, call));
                    }
                });
            });
        }
        for (name, what, parts) in USAGE {
            writer.counter(name, what, |points| {
                self.uses.each(|call, uses| {
                    for (modality, count) in parts(&uses.total) {
                        if count > 0 && !is_embedding(call) {
                            points.count(count, |point| {
                                of_call(point, call);
                                point.tell("gen_ai.token.modality", Value::Text(modality));
                            });
                        }
                    }
                });
            });
        }
    }

    fn write_uses(&self, writer: &mut Writer, name: &str, unit: &str, what: &str, of: fn(&Uses) -> &Histogram) {
        writer.histogram(name, unit, what, |points| {
            self.uses.each(|call, uses| points.add(of(uses), |point| of_call(point, call)));
        });
    }
}

type PerOperation = (&'static str, &'static str, bool, fn(&Uses) -> &Histogram);

/// Of v0.1.0: tokens of single operations, those of embeddings apart.
const PER_OPERATION: [PerOperation; 3] = [
    ("gen_ai.client.inference.operation.input_tokens", "Input tokens of an operation.", false, |uses| &uses.input),
    ("gen_ai.client.inference.operation.output_tokens", "Output tokens of an operation.", false, |uses| &uses.output),
    ("gen_ai.client.embeddings.operation.input_tokens", "Input tokens of an operation.", true, |uses| &uses.input),
];

type Parts = fn(&Usage) -> [(&'static str, u64); 3];

/// Of v0.1.0: tokens in all, by modality where that is told; what nobody tells apart is unknown.
const USAGE: [(&str, &str, Parts); 5] = [
    ("gen_ai.client.inference.usage.input_tokens", "Input tokens, cached ones included.", |usage| {
        let (audio, image) = (usage.details.input_audio, usage.details.input_image);
        [("audio", audio), ("image", image), ("unknown", usage.input.saturating_sub(audio.saturating_add(image)))]
    }),
    ("gen_ai.client.inference.usage.output_tokens", "Output tokens, reasoning included.", |usage| {
        let (audio, image) = (usage.details.output_audio, usage.details.output_image);
        [("audio", audio), ("image", image), ("unknown", usage.output.saturating_sub(audio.saturating_add(image)))]
    }),
    ("gen_ai.client.inference.usage.cache_read.input_tokens", "Input tokens read from a cache.", |usage| {
        unknown(usage.details.input_cached)
    }),
    ("gen_ai.client.inference.usage.cache_write.input_tokens", "Input tokens written to a cache.", |usage| {
        unknown(usage.details.input_cache_write)
    }),
    ("gen_ai.client.inference.usage.reasoning.output_tokens", "Output tokens of reasoning.", |usage| {
        unknown(usage.details.output_reasoning)
    }),
];

const fn unknown(count: u64) -> [(&'static str, u64); 3] {
    [("unknown", count), ("", 0), ("", 0)]
}

// ===== points =====

struct Writer {
    all: Message,
    start: u64,
    now: u64,
}

struct Points {
    written: Message,
    start: u64,
    now: u64,
}

impl Writer {
    fn histogram(&mut self, name: &str, unit: &str, what: &str, add: impl FnOnce(&mut Points)) {
        self.metric(name, unit, what, 9, add, |data| data.varint(2, CUMULATIVE));
    }

    fn counter(&mut self, name: &str, what: &str, add: impl FnOnce(&mut Points)) {
        self.metric(name, "{token}", what, 7, add, |data| {
            data.varint(2, CUMULATIVE);
            data.varint(3, 1);
        });
    }

    /// Nothing where there are no points.
    fn metric(
        &mut self,
        name: &str,
        unit: &str,
        what: &str,
        field: u32,
        add: impl FnOnce(&mut Points),
        close: impl FnOnce(&mut Message),
    ) {
        let mut points = Points { written: Message::default(), start: self.start, now: self.now };
        add(&mut points);
        let points = points.written.into_bytes();
        if points.is_empty() {
            return;
        }
        self.all.message(METRICS, |metric| {
            metric.text(1, name);
            metric.text(2, what);
            metric.text(3, unit);
            metric.message(field, |data| {
                data.written(&points);
                close(data);
            });
        });
    }
}

impl Points {
    fn add(&mut self, histogram: &Histogram, tell: impl FnOnce(&mut Point<'_>)) {
        if !histogram.is_empty() {
            self.point(9, |point| histogram.write(point), tell);
        }
    }

    fn count(&mut self, count: u64, tell: impl FnOnce(&mut Point<'_>)) {
        self.point(7, |point| point.fixed64(6, count), tell);
    }

    fn point(&mut self, attributes: u32, write: impl FnOnce(&mut Message), tell: impl FnOnce(&mut Point<'_>)) {
        let (start, now) = (self.start, self.now);
        self.written.message(1, |message| {
            message.fixed64(2, start);
            message.fixed64(3, now);
            write(message);
            tell(&mut Point { message, attributes });
        });
    }
}

/// A point that is told what it is about.
struct Point<'a> {
    message: &'a mut Message,
    attributes: u32,
}

impl Point<'_> {
    fn tell(&mut self, key: &str, value: Value<'_>) {
        self.message.attribute(self.attributes, key, value);
    }
}

fn of_call(point: &mut Point<'_>, call: Option<&Call>) {
    let Some(call) = call else { return overflow(point) };
    point.tell("gen_ai.operation.name", Value::Text(call.operation));
    point.tell("gen_ai.provider.name", Value::Text(PROVIDER));
    let names =
        [("gen_ai.request.model", &call.model), ("gateway.client", &call.client), ("gateway.backend", &call.backend)];
    for (key, name) in names {
        if let Some(name) = name {
            point.tell(key, Value::Text(name));
        }
    }
}

fn error_type(point: &mut Point<'_>, failure: Option<Failure>) {
    if let Some(failure) = failure {
        failure.with_name(|name| point.tell("error.type", Value::Text(name)));
    }
}

fn overflow(point: &mut Point<'_>) {
    point.tell("otel.metric.overflow", Value::Flag(true));
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("conventions", &self.conventions).finish_non_exhaustive()
    }
}
