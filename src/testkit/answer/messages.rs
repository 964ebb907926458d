//! Messages, as Anthropic's models give them.

use serde_json::{Value, json};

use super::Reply;
use super::stream::{Dialect, Events, event};

impl Reply<'_> {
    pub(super) fn message(&self) -> Value {
        let content = json!([{ "type": "text", "text": self.text }]);
        self.message_with(&content, Some("end_turn"), self.completion_tokens)
    }

    /// What its prompt used comes with the beginning, and what it used itself with the end.
    pub(super) fn message_events(&self) -> Events {
        let told = |mut data: Value, name: &str| {
            data["type"] = name.into();
            event(name, &data)
        };
        let mut events = vec![
            told(json!({ "message": self.message_with(&json!([]), None, 1) }), "message_start"),
            told(json!({ "index": 0, "content_block": { "type": "text", "text": "" } }), "content_block_start"),
        ];
        let preamble = events.len();
        events.extend(self.words().map(|word| {
            let delta = json!({ "type": "text_delta", "text": word });
            told(json!({ "index": 0, "delta": delta }), "content_block_delta")
        }));
        events.push(told(json!({ "index": 0 }), "content_block_stop"));
        let delta = json!({ "stop_reason": "end_turn", "stop_sequence": null });
        let usage = json!({ "output_tokens": self.completion_tokens });
        events.push(told(json!({ "delta": delta, "usage": usage }), "message_delta"));
        events.push(told(json!({}), "message_stop"));
        Events { events, preamble, dialect: Dialect::Completions }
    }

    fn message_with(&self, content: &Value, stop_reason: Option<&str>, output: u64) -> Value {
        json!({
            "id": self.id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": self.deployment.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": null,
            "usage": {
                "input_tokens": self.inference.prompt_tokens(),
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": output,
            },
        })
    }
}
