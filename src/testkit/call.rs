//! What a request asks for.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::received::ReceivedRequest;

/// The version that v1 paths imply.
const V1: &str = "v1";

/// What one request asks for. A request that no Azure OpenAI resource serves is no call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    /// Makes an object.
    Create(Object),
    /// Asks a deployment for an answer.
    Infer(Inference),
    /// Lists the models.
    Models,
    /// Opens a realtime session with a deployment, if the query names one.
    Realtime(Option<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Batch,
    File,
    Thread,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Inference {
    pub(super) operation: Operation,
    pub(super) api_version: String,
    /// The deployment, or `None` on a v1 path whose body does not name one.
    pub(super) deployment: Option<String>,
    pub(super) payload: Payload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    ChatCompletions,
    Completions,
    Embeddings,
}

impl Call {
    pub(super) fn read(request: &ReceivedRequest) -> Option<Self> {
        let path = request.uri.path().strip_prefix("/openai/")?;
        if let Some(rest) = path.strip_prefix("v1/") {
            return Self::realtime(request, rest, "model")
                .or_else(|| Self::without_deployment(&request.method, rest))
                .or_else(|| {
                    let operation = Operation::read(&request.method, rest)?;
                    let payload = Payload::read(&request.body);
                    let deployment = payload.text("model").map(str::to_owned);
                    Some(Self::Infer(Inference { operation, api_version: V1.to_owned(), deployment, payload }))
                });
        }
        let api_version = query(request, "api-version").next().filter(|version| !version.is_empty())?.into_owned();
        let Some(rest) = path.strip_prefix("deployments/") else {
            return Self::realtime(request, path, "deployment")
                .or_else(|| Self::without_deployment(&request.method, path));
        };
        let (deployment, operation) = rest.split_once('/')?;
        let operation = Operation::read(&request.method, operation)?;
        let deployment = Some(percent_decode_str(deployment).decode_utf8().ok()?.into_owned());
        let payload = Payload::read(&request.body);
        Some(Self::Infer(Inference { operation, api_version, deployment, payload }))
    }

    fn realtime(request: &ReceivedRequest, path: &str, parameter: &str) -> Option<Self> {
        let is_realtime = request.method == Method::GET && path == "realtime";
        is_realtime.then(|| Self::Realtime(query(request, parameter).next().map(Cow::into_owned)))
    }

    fn without_deployment(method: &Method, path: &str) -> Option<Self> {
        match (method.as_str(), path) {
            ("GET", "models") => Some(Self::Models),
            ("POST", "batches") => Some(Self::Create(Object::Batch)),
            ("POST", "files") => Some(Self::Create(Object::File)),
            ("POST", "threads") => Some(Self::Create(Object::Thread)),
            _ => None,
        }
    }

    pub(super) fn deployment(&self) -> Option<&str> {
        match self {
            Self::Infer(inference) => inference.deployment.as_deref(),
            Self::Realtime(deployment) => deployment.as_deref(),
            Self::Create(_) | Self::Models => None,
        }
    }
}

/// The values of a query parameter.
pub(super) fn query<'a>(request: &'a ReceivedRequest, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    let pairs = request.uri.query().unwrap_or_default().split('&');
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(move |(key, _)| *key == name)
        .map(|(_, value)| percent_decode_str(value).decode_utf8_lossy())
}

// ===== impl Operation =====

impl Operation {
    fn read(method: &Method, path: &str) -> Option<Self> {
        match (method.as_str(), path) {
            ("POST", "chat/completions") => Some(Self::ChatCompletions),
            ("POST", "completions") => Some(Self::Completions),
            ("POST", "embeddings") => Some(Self::Embeddings),
            _ => None,
        }
    }

    pub(super) const fn id_prefix(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chatcmpl-",
            Self::Completions | Self::Embeddings => "cmpl-",
        }
    }

    /// The name of the operation in Azure's messages.
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::ChatCompletions => "ChatCompletions_Create",
            Self::Completions => "Completions_Create",
            Self::Embeddings => "Embeddings_Create",
        }
    }

    /// The field that holds the prompt.
    pub(super) const fn input(self) -> &'static str {
        match self {
            Self::ChatCompletions => "messages",
            Self::Completions => "prompt",
            Self::Embeddings => "input",
        }
    }

    /// What Azure reckons with for an answer whose length the request does not limit.
    const fn default_max_tokens(self) -> u64 {
        match self {
            Self::ChatCompletions | Self::Completions => 16,
            Self::Embeddings => 0,
        }
    }
}

// ===== impl Inference =====

impl Inference {
    pub(super) fn is_v1(&self) -> bool {
        self.api_version == V1
    }

    pub(super) fn input(&self) -> Option<&Value> {
        self.payload.field(self.operation.input())
    }

    pub(super) fn prompt_tokens(&self) -> u64 {
        self.input().map_or(0, characters).div_ceil(4)
    }

    /// What the request is reckoned to cost when it is admitted.
    pub(super) fn estimate(&self) -> u64 {
        self.prompt_tokens().saturating_add(self.max_tokens().unwrap_or_else(|| self.operation.default_max_tokens()))
    }

    pub(super) fn max_tokens(&self) -> Option<u64> {
        ["max_completion_tokens", "max_tokens"].iter().find_map(|name| self.payload.field(name)?.as_u64())
    }

    pub(super) fn streams(&self) -> bool {
        self.operation != Operation::Embeddings && self.payload.field("stream").and_then(Value::as_bool) == Some(true)
    }

    pub(super) fn wants_usage(&self) -> bool {
        let options = self.payload.field("stream_options");
        options.and_then(|options| options.get("include_usage")?.as_bool()) == Some(true)
    }
}

/// The characters of every text in a prompt. A prompt may be given as token numbers, which count as four each.
fn characters(prompt: &Value) -> u64 {
    match prompt {
        Value::Array(parts) => parts.iter().map(characters).sum(),
        Value::Number(_) => 4,
        Value::Object(part) => ["content", "text"].iter().filter_map(|name| part.get(*name)).map(characters).sum(),
        Value::String(text) => text.chars().count() as u64,
        Value::Bool(_) | Value::Null => 0,
    }
}

// ===== impl Payload =====

/// The JSON object in a body, or `None` when it is something else.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Payload(Option<Value>);

impl Payload {
    fn read(body: &[u8]) -> Self {
        Self(serde_json::from_slice(body).ok().filter(Value::is_object))
    }

    pub(super) const fn is_readable(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        self.0.as_ref()?.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.field(name)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Version};
    use tokio::time::Instant;

    use super::*;

    fn read(method: Method, uri: &str, body: &'static str) -> Option<Call> {
        Call::read(&ReceivedRequest {
            method,
            uri: uri.parse().unwrap(),
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
            at: Instant::now(),
        })
    }

    fn inference(uri: &str, body: &'static str) -> Inference {
        match read(Method::POST, uri, body) {
            Some(Call::Infer(inference)) => inference,
            other => panic!("{uri} is an inference, not {other:?}"),
        }
    }

    #[test]
    fn classic_paths_name_the_deployment() {
        let call = inference("/openai/deployments/chat/chat/completions?api-version=2024-10-21", "{}");
        assert_eq!(call.operation, Operation::ChatCompletions);
        assert_eq!(call.deployment.as_deref(), Some("chat"));
        assert_eq!(call.api_version, "2024-10-21");

        let call = inference("/openai/deployments/a%20b/embeddings?x=1&api-version=2024-10-21", "{}");
        assert_eq!(call.operation, Operation::Embeddings);
        assert_eq!(call.deployment.as_deref(), Some("a b"));
    }

    #[test]
    fn v1_bodies_name_the_deployment() {
        let call = inference("http://host/openai/v1/completions", r#"{"model":"gpt"}"#);
        assert_eq!(call.operation, Operation::Completions);
        assert_eq!(call.deployment.as_deref(), Some("gpt"));
        assert_eq!(inference("/openai/v1/chat/completions", r#"{"model":4}"#).deployment, None);
    }

    #[test]
    fn other_calls() {
        assert_eq!(read(Method::GET, "/openai/v1/models", ""), Some(Call::Models));
        assert_eq!(read(Method::GET, "/openai/models?api-version=1", ""), Some(Call::Models));
        assert_eq!(read(Method::POST, "/openai/threads?api-version=1", ""), Some(Call::Create(Object::Thread)));
        let realtime = |deployment: Option<&str>| Some(Call::Realtime(deployment.map(str::to_owned)));
        assert_eq!(read(Method::GET, "/openai/v1/realtime?model=a%20b", ""), realtime(Some("a b")));
        assert_eq!(read(Method::GET, "/openai/realtime?api-version=1&deployment=gpt", ""), realtime(Some("gpt")));
        assert_eq!(read(Method::GET, "/openai/realtime?api-version=1&model=gpt", ""), realtime(None));
    }

    #[test]
    fn what_azure_does_not_serve() {
        for (method, uri) in [
            (Method::POST, "/openai/deployments/gpt/chat/completions"),
            (Method::POST, "/openai/deployments/gpt/chat/completions?api-version="),
            (Method::GET, "/openai/deployments/gpt/chat/completions?api-version=1"),
            (Method::POST, "/openai/deployments/gpt/chat/completions/?api-version=1"),
            (Method::POST, "/openai/deployments/gpt/threads?api-version=1"),
            (Method::POST, "/openai/deployments/gpt?api-version=1"),
            (Method::POST, "/openai/chat/completions?api-version=1"),
            (Method::GET, "/openai/realtime?deployment=gpt"),
            (Method::POST, "/openai/v1/realtime?model=gpt"),
            (Method::GET, "/v1/models"),
            (Method::GET, "/"),
        ] {
            assert_eq!(read(method.clone(), uri, "{}"), None, "{method} {uri}");
        }
    }

    #[test]
    fn cost_is_a_quarter_of_the_characters_and_the_longest_answer() {
        let uri = "/openai/v1/chat/completions";
        let call = inference(uri, r#"{"messages":[{"role":"user","content":"häll"},{"content":[{"text":"o"}]}]}"#);
        assert_eq!(call.prompt_tokens(), 2);
        assert_eq!(call.estimate(), 2 + 16);
        assert_eq!(inference(uri, r#"{"max_tokens":5}"#).estimate(), 5);
        assert_eq!(inference(uri, r#"{"max_completion_tokens":7,"max_tokens":null}"#).estimate(), 7);

        let call = inference("/openai/v1/embeddings", r#"{"input":["abcd",[1,2]]}"#);
        assert_eq!(call.estimate(), 3, "an embedding has no answer to reckon with");
    }
}
