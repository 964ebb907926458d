//! Chat completions and completions.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::call::Operation;
use super::Reply;
use super::stream::{Dialect, Events, data};

impl Reply<'_> {
    pub(super) fn completion(&self) -> Value {
        let filters = content_filter_results();
        let (object, choice) = if self.is_chat() {
            let message = json!({ "role": "assistant", "content": self.text, "refusal": null });
            ("chat.completion", json!({ "message": message }))
        } else {
            ("text_completion", json!({ "text": self.text }))
        };
        let mut body = self.envelope(object, &[self.choice(choice, Some("stop"), &filters)]);
        body["usage"] = self.usage();
        body["prompt_filter_results"] = json!([{ "prompt_index": 0, "content_filter_results": filters }]);
        body
    }

    /// Returns what the filter says of the prompt, the role, the words, the end, and the usage when it was asked for. An
    /// asynchronous filter speaks between the words and after the end.
    pub(super) fn completion_events(&self) -> Events {
        let filters = content_filter_results();
        let prompt = json!([{ "prompt_index": 0, "content_filter_results": filters }]);
        let mut first = anonymous(&[]);
        first["prompt_filter_results"] = prompt;
        let mut events = vec![first];
        if self.is_chat() {
            let delta = json!({ "role": "assistant", "content": "", "refusal": null });
            events.push(self.event(json!({ "delta": delta }), None, &json!({})));
        }
        let preamble = events.len();
        let asynchronous = self.deployment.async_filter;
        let of_a_word = if asynchronous { json!({}) } else { filters };
        let mut said = 0;
        for word in self.words() {
            events.push(self.event(self.part(Some(word)), None, &of_a_word));
            let start = said;
            said += word.chars().count();
            if asynchronous && start == 0 {
                events.push(checked(start, said));
            }
        }
        events.push(self.event(self.part(None), Some("stop"), &json!({})));
        if asynchronous {
            events.push(checked(0, said));
        }
        if self.inference.wants_usage() {
            let mut usage = self.envelope(self.event_object(), &[]);
            usage["usage"] = self.usage();
            events.push(usage);
        }
        let mut events: Vec<_> = events.iter().map(data).collect();
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        Events { events, preamble, dialect: Dialect::Completions }
    }

    fn is_chat(&self) -> bool {
        self.inference.operation == Operation::ChatCompletions
    }

    fn part(&self, word: Option<&str>) -> Value {
        match (self.is_chat(), word) {
            (true, Some(word)) => json!({ "delta": { "content": word } }),
            (true, None) => json!({ "delta": {} }),
            (false, word) => json!({ "text": word.unwrap_or_default() }),
        }
    }

    fn event(&self, part: Value, finish_reason: Option<&str>, filters: &Value) -> Value {
        self.envelope(self.event_object(), &[self.choice(part, finish_reason, filters)])
    }

    fn event_object(&self) -> &'static str {
        if self.is_chat() { "chat.completion.chunk" } else { "text_completion" }
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
            "id": self.id(self.inference.operation.id_prefix()),
            "object": object,
            "created": self.created,
            "model": self.deployment.model,
            "system_fingerprint": null,
            "choices": choices,
        })
    }
}

/// Takes the role from what the filter says.
fn anonymous(choices: &[Value]) -> Value {
    json!({ "id": "", "object": "", "created": 0, "model": "", "choices": choices })
}

/// Returns what an asynchronous filter says of a part of the text, in characters: a choice without a delta.
fn checked(start: usize, end: usize) -> Value {
    anonymous(&[json!({
        "index": 0,
        "finish_reason": null,
        "content_filter_results": content_filter_results(),
        "content_filter_offsets": { "check_offset": end, "start_offset": start, "end_offset": end },
    })])
}

fn content_filter_results() -> Value {
    let safe = json!({ "filtered": false, "severity": "safe" });
    json!({ "hate": safe, "self_harm": safe, "sexual": safe, "violence": safe })
}
