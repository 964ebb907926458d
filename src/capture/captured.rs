use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::azure::Outcome;
use crate::context::{AttemptRecord, Client, Ending, RequestId, Route, Spent, TraceContext};
use crate::date;

/// One request with its answer, as they are written down.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Captured {
    /// Time at which it came.
    pub time: SystemTime,
    /// Its id.
    pub id: RequestId,
    /// Its span, where it is traced.
    pub trace: Option<TraceContext>,
    /// Its method.
    pub method: Method,
    /// Client that called.
    pub client: Option<Client>,
    /// Route that was asked for, if that was found out.
    pub route: Option<Route>,
    /// Attempts that were made, in this order.
    pub attempts: Vec<AttemptRecord>,
    /// The status of the answer; `None` when the client left before there was one.
    pub status: Option<StatusCode>,
    /// Way in which it ended.
    pub ending: Ending,
    /// Usage, where it is metered.
    pub spent: Option<Spent>,
    /// Time to the head of the answer.
    pub first_byte: Option<Duration>,
    /// Time to its end.
    pub total: Duration,
    /// The body of the request, where bodies are written.
    pub request: Option<Content>,
    /// The body of the answer, likewise.
    pub answer: Option<Content>,
}

/// Part of a body that is written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Content {
    /// Its length on the wire, in bytes.
    pub length: u64,
    /// All of it, where it is JSON, or a stream that adds up to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// The beginning of it, or of the JSON that is too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Tells whether there is more than that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The digest of media, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Reason why nothing of it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted: Option<&'static str>,
}

impl Captured {
    /// The alias that was asked for, as the client wrote it.
    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        self.route.as_ref()?.alias()
    }

    /// Tells whether it ended in an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        let is_refused = self.status.is_some_and(|status| status.is_client_error() || status.is_server_error());
        is_refused || matches!(self.ending, Ending::Broken | Ending::Failed)
    }

    /// All of it on one line, without a line's end.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                line.insert(name.to_owned(), value);
            }
        };
        put("time", date::moment(self.time.duration_since(UNIX_EPOCH).unwrap_or_default()).into());
        put("id", self.id.as_str().into());
        put("trace_id", self.trace.map(|trace| format!("{:032x}", u128::from_be_bytes(trace.trace_id()))).into());
        put("client", self.client.as_ref().map(Client::id).into());
        put("method", self.method.as_str().into());
        put("operation", self.route.as_ref().map(|route| route.operation().as_str()).into());
        put("alias", self.alias().into());
        put("attempts", self.attempts.iter().map(attempt).collect());
        put("status", self.status.map(|status| status.as_u16()).into());
        put("ending", self.ending.as_str().into());
        put("usage", self.spent.map_or(Value::Null, |spent| usage(&spent)));
        put("first_byte_ms", self.first_byte.map(millis).into());
        put("total_ms", millis(self.total).into());
        put("request", content(self.request.as_ref()));
        put("answer", content(self.answer.as_ref()));
        Value::Object(line)
    }
}

fn attempt(attempt: &AttemptRecord) -> Value {
    json!({
        "backend": attempt.target.backend(),
        "deployment": attempt.target.deployment(),
        "outcome": attempt.outcome.as_ref().map(Outcome::as_str),
        "ms": millis(attempt.duration),
    })
}

fn usage(spent: &Spent) -> Value {
    let usage = &spent.usage;
    json!({"input_tokens": usage.input, "output_tokens": usage.output, "source": spent.source.as_str()})
}

fn content(content: Option<&Content>) -> Value {
    content.map_or(Value::Null, |content| serde_json::to_value(content).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
