//! From a record to its spans.

use super::clock::Clock;
use super::proto::{Message, Value};
use super::told::{self, Failure, PROVIDER};
use crate::azure::Outcome;
use crate::context::{AttemptRecord, Record, TraceContext};

/// `opentelemetry.proto.trace.v1.ScopeSpans.spans`.
const SPANS: u32 = 2;
const ATTRIBUTES: u32 = 9;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const ERROR: u64 = 2;
/// The flags say whether the span above is of another process.
const KNOWS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// The spans of a request, its own first, as fields; `None` where it is not traced.
pub(super) fn of(record: &Record, clock: Clock) -> Option<(Vec<u8>, u64)> {
    let own = record.trace.filter(TraceContext::is_sampled)?;
    let mut spans = Message::with_capacity(512);
    spans.message(SPANS, |span| server(span, record, own, clock));
    let attempts = record.attempts.iter().filter_map(|attempt| Some((attempt, attempt.trace?)));
    let mut count = 1;
    for (attempt, place) in attempts {
        spans.message(SPANS, |span| sent(span, attempt, place, clock));
        count += 1;
    }
    Some((spans.into_bytes(), count))
}

fn server(span: &mut Message, record: &Record, own: TraceContext, clock: Clock) {
    let method = told::method(&record.method);
    let operation = record.operation();
    let (generates, alias) = (told::generates(record), record.target().and_then(|target| target.alias()));
    let name = match (generates, operation, alias) {
        (Some(name), _, Some(alias)) => format!("{name} {alias}"),
        (Some(name), ..) => name.to_owned(),
        (None, Some(operation), _) => format!("{method} {}", operation.as_str()),
        (None, None, _) => method.to_owned(),
    };
    place(span, own, IS_REMOTE);
    span.text(5, &name);
    span.varint(6, SERVER);
    span.fixed64(7, clock.at(record.started));
    span.fixed64(8, clock.at(record.started + record.total));
    let mut tell = |key, value| span.attribute(ATTRIBUTES, key, value);
    tell("http.request.method", Value::Text(method));
    if let Some(status) = record.status {
        tell("http.response.status_code", Value::Number(status.as_u16().into()));
    }
    if let Some(operation) = operation {
        tell("gateway.operation", Value::Text(operation.as_str()));
    }
    if let Some(name) = generates {
        tell("gen_ai.operation.name", Value::Text(name));
        tell("gen_ai.provider.name", Value::Text(PROVIDER));
    }
    if let Some(alias) = alias {
        tell("gen_ai.request.model", Value::Text(alias));
    }
    if let Some(spent) = &record.spent {
        tell("gen_ai.usage.input_tokens", Value::Number(spent.usage.input));
        tell("gen_ai.usage.output_tokens", Value::Number(spent.usage.output));
        tell("gateway.usage.source", Value::Text(spent.source.as_str()));
    }
    if let Some(client) = &record.client {
        tell("gateway.client", Value::Text(client.id()));
    }
    tell("gateway.ending", Value::Text(record.ending.as_str()));
    tell("gateway.attempts", Value::Number(record.attempts.len() as u64));
    if let Some(failure) = Failure::of(record) {
        failed(span, failure, failure.is_of_server());
    }
}

/// One attempt, up to the head of its answer.
fn sent(span: &mut Message, attempt: &AttemptRecord, at: TraceContext, clock: Clock) {
    let target = &attempt.target;
    let outcome = attempt.outcome.as_ref().map_or("abandoned", Outcome::as_str);
    place(span, at, 0);
    span.text(5, &format!("attempt {}", target.backend()));
    span.varint(6, CLIENT);
    span.fixed64(7, clock.at(attempt.started));
    span.fixed64(8, clock.at(attempt.started + attempt.duration));
    let mut tell = |key, value| span.attribute(ATTRIBUTES, key, Value::Text(value));
    tell("gateway.backend", target.backend());
    if let Some(deployment) = target.deployment() {
        tell("gateway.deployment", deployment);
    }
    if let Some(alias) = target.alias() {
        tell("gen_ai.request.model", alias);
        tell("gen_ai.provider.name", PROVIDER);
    }
    tell("gateway.outcome", outcome);
    if !matches!(attempt.outcome, Some(Outcome::Success | Outcome::ClientFault)) {
        failed(span, Failure::Named(outcome), true);
    }
}

fn place(span: &mut Message, at: TraceContext, remote: u32) {
    span.bytes(1, &at.trace_id());
    span.bytes(2, &at.span_id());
    let remote = match at.parent_id() {
        Some(parent) => {
            span.bytes(4, &parent);
            remote
        }
        None => 0,
    };
    span.fixed32(16, u32::from(at.flags()) | KNOWS_REMOTE | remote);
}

fn failed(span: &mut Message, failure: Failure, is_error: bool) {
    failure.with_name(|name| span.attribute(ATTRIBUTES, "error.type", Value::Text(name)));
    if is_error {
        span.message(15, |status| status.varint(3, ERROR));
    }
}
