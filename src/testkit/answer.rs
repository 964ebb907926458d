//! What a backend says: heads and bodies in the shape that Azure gives them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::call::{Inference, Object, Operation};
use super::credentials::Rejection;
use super::deployment::Deployment;
use super::fault::Fault;
use super::limits::{Refusal, whole_seconds};

/// An embedding of unit length, and the same as little-endian floats in base64.
const EMBEDDING: [f32; 4] = [0.5; 4];
const EMBEDDING_BASE64: &str = "AAAAPwAAAD8AAAA/AAAAPw==";

/// An answer before it is sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) chunks: Vec<Bytes>,
    /// The length is not told beforehand.
    pub(super) streams: bool,
    pub(super) latency: Duration,
    /// How many tokens it took in the end.
    pub(super) used: u64,
}

impl Answer {
    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect();
        let chunks = vec![Bytes::from(body.to_string())];
        Self { status, headers, chunks, streams: false, latency: Duration::ZERO, used: 0 }
    }

    /// A body of server-sent events, one in a chunk, and the end mark.
    fn events(events: &[Value]) -> Self {
        let mut answer = Self::json(StatusCode::OK, &Value::Null);
        answer.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        answer.chunks = events.iter().map(|event| Bytes::from(format!("data: {event}\n\n"))).collect();
        answer.chunks.push(Bytes::from_static(b"data: [DONE]\n\n"));
        answer.streams = true;
        answer
    }

    /// Puts what a fault says of head and body in place of what stands there.
    pub(super) fn overwrite(&mut self, fault: Fault) {
        for name in fault.headers.keys() {
            self.headers.remove(name);
        }
        for (name, value) in &fault.headers {
            self.headers.append(name, value.clone());
        }
        if let Some(body) = fault.body {
            self.chunks = vec![body];
        }
    }
}

// ===== errors =====

fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    Answer::json(status, &json!({ "error": { "code": code, "message": message } }))
}

/// The shape of errors that come from behind the front door.
fn model_error(status: StatusCode, code: Option<&str>, param: Option<&str>, kind: &str, message: &str) -> Answer {
    Answer::json(status, &json!({ "error": { "message": message, "type": kind, "param": param, "code": code } }))
}

pub(super) fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "404", "Resource not found")
}

pub(super) fn deployment_not_found() -> Answer {
    error(
        StatusCode::NOT_FOUND,
        "DeploymentNotFound",
        "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, \
         please wait a moment and try again.",
    )
}

pub(super) fn model_not_found(model: &str) -> Answer {
    let message = format!("The model '{model}' does not exist or you do not have access to it.");
    model_error(StatusCode::NOT_FOUND, Some("model_not_found"), Some("model"), "invalid_request_error", &message)
}

pub(super) fn invalid(param: Option<&str>, message: &str) -> Answer {
    model_error(StatusCode::BAD_REQUEST, None, param, "invalid_request_error", message)
}

pub(super) fn unauthorized(rejection: Rejection) -> Answer {
    match rejection {
        Rejection::Key => error(
            StatusCode::UNAUTHORIZED,
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for \
             an active subscription and use a correct regional API endpoint for your resource.",
        ),
        Rejection::Token => Answer::json(
            StatusCode::UNAUTHORIZED,
            &json!({
                "statusCode": 401,
                "message": "Unauthorized. Access token is missing, invalid, audience is incorrect \
                            (https://cognitiveservices.azure.com), or have expired.",
            }),
        ),
    }
}

pub(super) fn refused(refusal: Refusal, inference: &Inference) -> Answer {
    let limit = match refusal {
        Refusal::Requests(_) => "call",
        Refusal::Tokens(_) => "token",
        Refusal::Utilization(_) => {
            let mut answer = throttled("The service is temporarily unable to process your request.");
            answer.headers.extend(refusal.headers());
            return answer;
        }
    };
    let mut answer = throttled(&format!(
        "Requests to the {} Operation under Azure OpenAI API version {} have exceeded {limit} rate limit of your current \
         OpenAI S0 pricing tier. Please retry after {} seconds. Please go here: https://aka.ms/oai/quotaincrease if you \
         would like to further increase the default rate limit.",
        inference.operation.id(),
        inference.api_version,
        whole_seconds(refusal.wait()),
    ));
    answer.headers.extend(refusal.headers());
    answer
}

pub(super) fn throttled_for(wait: Duration) -> Answer {
    throttled(&format!("Rate limit is exceeded. Try again in {} seconds.", whole_seconds(wait)))
}

fn throttled(message: &str) -> Answer {
    error(StatusCode::TOO_MANY_REQUESTS, "429", message)
}

/// What Azure says with a status when nothing more is known.
pub(super) fn of_status(status: StatusCode) -> Answer {
    match status {
        StatusCode::BAD_REQUEST => invalid(None, "The request is invalid."),
        StatusCode::UNAUTHORIZED => unauthorized(Rejection::Key),
        StatusCode::FORBIDDEN => error(status, "403", "Access denied due to Virtual Network/Firewall rules."),
        StatusCode::NOT_FOUND => deployment_not_found(),
        StatusCode::TOO_MANY_REQUESTS => {
            throttled("The system is currently experiencing high demand and cannot process your request.")
        }
        StatusCode::INTERNAL_SERVER_ERROR => {
            model_error(status, None, None, "server_error", "The server had an error while processing your request.")
        }
        _ => error(status, status.as_str(), status.canonical_reason().unwrap_or("The request failed.")),
    }
}

// ===== answers =====

pub(super) fn models<'a>(models: impl Iterator<Item = &'a str>) -> Answer {
    let data: Vec<_> = models
        .map(|model| json!({ "id": model, "object": "model", "status": "succeeded", "created_at": unix_time() }))
        .collect();
    Answer::json(StatusCode::OK, &json!({ "object": "list", "data": data }))
}

pub(super) fn created(object: Object, id: &str) -> Answer {
    let (kind, status) = match object {
        Object::Batch => ("batch", Some("validating")),
        Object::File => ("file", Some("processed")),
        Object::Thread => ("thread", None),
    };
    let mut body = json!({ "id": id, "object": kind, "created_at": unix_time() });
    if let Some(status) = status {
        body["status"] = status.into();
    }
    Answer::json(StatusCode::OK, &body)
}

/// The answer to an inference, in which the model says `text`.
pub(super) fn inferred(inference: &Inference, deployment: &Deployment, id: &str, text: &str) -> Answer {
    let completion_tokens = match inference.operation {
        Operation::ChatCompletions | Operation::Completions => {
            (text.chars().count() as u64).div_ceil(4).min(inference.max_tokens().unwrap_or(u64::MAX))
        }
        Operation::Embeddings => 0,
    };
    let reply = Reply { inference, model: &deployment.model, id, text, completion_tokens };
    let mut answer = match (inference.streams(), inference.operation) {
        (true, _) => Answer::events(&reply.events()),
        (false, Operation::Embeddings) => Answer::json(StatusCode::OK, &reply.embeddings()),
        (false, Operation::ChatCompletions | Operation::Completions) => Answer::json(StatusCode::OK, &reply.whole()),
    };
    answer.latency = deployment.latency;
    answer.used = inference.prompt_tokens() + completion_tokens;
    answer
}

// ===== impl Reply =====

struct Reply<'a> {
    inference: &'a Inference,
    model: &'a str,
    id: &'a str,
    text: &'a str,
    completion_tokens: u64,
}

impl Reply<'_> {
    fn whole(&self) -> Value {
        let filters = content_filter_results();
        let (object, choice) = match self.inference.operation {
            Operation::ChatCompletions => {
                let message = json!({ "role": "assistant", "content": self.text, "refusal": null });
                ("chat.completion", json!({ "message": message }))
            }
            Operation::Completions | Operation::Embeddings => ("text_completion", json!({ "text": self.text })),
        };
        let mut body = self.envelope(object, &[self.choice(choice, Some("stop"), &filters)]);
        body["usage"] = self.usage();
        body["prompt_filter_results"] = json!([{ "prompt_index": 0, "content_filter_results": filters }]);
        body
    }

    /// The events of a stream: what the filter says of the prompt, the role, the words, the end, and the usage when it
    /// was asked for.
    fn events(&self) -> Vec<Value> {
        let filters = content_filter_results();
        let prompt = json!([{ "prompt_index": 0, "content_filter_results": filters }]);
        let mut events = vec![json!({
            "id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": prompt,
        })];
        if self.inference.operation == Operation::ChatCompletions {
            let delta = json!({ "role": "assistant", "content": "", "refusal": null });
            events.push(self.event(json!({ "delta": delta }), None, &json!({})));
        }
        events.extend(self.text.split_inclusive(' ').map(|word| {
            let part = self.part(Some(word));
            self.event(part, None, &filters)
        }));
        events.push(self.event(self.part(None), Some("stop"), &json!({})));
        if self.inference.wants_usage() {
            let mut usage = self.envelope(self.event_object(), &[]);
            usage["usage"] = self.usage();
            events.push(usage);
        }
        events
    }

    fn part(&self, word: Option<&str>) -> Value {
        match (self.inference.operation, word) {
            (Operation::ChatCompletions, Some(word)) => json!({ "delta": { "content": word } }),
            (Operation::ChatCompletions, None) => json!({ "delta": {} }),
            (_, word) => json!({ "text": word.unwrap_or_default() }),
        }
    }

    fn event(&self, part: Value, finish_reason: Option<&str>, filters: &Value) -> Value {
        self.envelope(self.event_object(), &[self.choice(part, finish_reason, filters)])
    }

    fn event_object(&self) -> &'static str {
        match self.inference.operation {
            Operation::ChatCompletions => "chat.completion.chunk",
            Operation::Completions | Operation::Embeddings => "text_completion",
        }
    }

    fn choice(&self, mut part: Value, finish_reason: Option<&str>, filters: &Value) -> Value {
        part["index"] = 0.into();
        part["finish_reason"] = finish_reason.into();
        part["logprobs"] = Value::Null;
        part["content_filter_results"] = filters.clone();
        part
    }

    fn envelope(&self, object: &str, choices: &[Value]) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": unix_time(),
            "model": self.model,
            "system_fingerprint": null,
            "choices": choices,
        })
    }

    fn embeddings(&self) -> Value {
        let base64 = self.inference.payload.text("encoding_format") == Some("base64");
        let embedding = if base64 { json!(EMBEDDING_BASE64) } else { json!(EMBEDDING) };
        let inputs = match self.inference.input() {
            Some(Value::Array(inputs)) if !inputs.iter().all(Value::is_number) => inputs.len(),
            _ => 1,
        };
        let data: Vec<_> =
            (0..inputs).map(|index| json!({ "object": "embedding", "index": index, "embedding": embedding })).collect();
        json!({ "object": "list", "data": data, "model": self.model, "usage": self.usage() })
    }

    fn usage(&self) -> Value {
        let prompt = self.inference.prompt_tokens();
        if self.inference.operation == Operation::Embeddings {
            return json!({ "prompt_tokens": prompt, "total_tokens": prompt });
        }
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": self.completion_tokens,
            "total_tokens": prompt + self.completion_tokens,
            "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
            "completion_tokens_details": { "reasoning_tokens": 0, "audio_tokens": 0 },
        })
    }
}

fn content_filter_results() -> Value {
    let safe = json!({ "filtered": false, "severity": "safe" });
    json!({ "hate": safe, "self_harm": safe, "sexual": safe, "violence": safe })
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
