//! The Responses API.

use serde_json::{Value, json};

use super::super::objects::{Family, Made};
use super::super::sealed;
use super::Reply;
use super::stream::{Dialect, Events, numbered};

impl Reply<'_> {
    /// The response when it is complete.
    pub(super) fn response(&self) -> Value {
        let mut response = self.unfinished();
        response["status"] = "completed".into();
        response["output"] = self.reasoning(true).into_iter().chain([self.output(true)]).collect();
        response["usage"] = self.input_and_output();
        response
    }

    /// The response, and what it put out. That lies in the conversation, if there is one.
    pub(super) fn kept_response(&self) -> Vec<Made> {
        let response = self.response();
        let around = response["conversation"]["id"].as_str().map_or_else(|| self.id("resp_"), str::to_owned);
        let items = self.reasoning(true).into_iter().chain([self.output(true)]);
        let items = items.map(|item| Made::new(Family::Item, item).within(around.clone()));
        [Made::new(Family::Response, response)].into_iter().chain(items).collect()
    }

    /// From `response.created` to `response.completed`, with the text word by word.
    pub(super) fn response_events(&self) -> Events {
        let unfinished = self.unfinished();
        let reasoning = self.reasoning(false).zip(self.reasoning(true));
        let index = usize::from(reasoning.is_some());
        let at_item = || json!({ "output_index": index, "item_id": self.id("msg_") });
        let at_part = |name: &str, value: Value| {
            let mut data = at_item();
            data["content_index"] = 0.into();
            data[name] = value;
            data
        };
        let of_text = |name: &str, text: &str| {
            let mut data = at_part(name, text.into());
            data["logprobs"] = json!([]);
            data
        };
        let begun = json!({ "response": unfinished });
        let mut events = vec![("response.created", begun.clone()), ("response.in_progress", begun)];
        let preamble = events.len();
        if let Some((begun, complete)) = reasoning {
            events.push(("response.output_item.added", json!({ "output_index": 0, "item": begun })));
            events.push(("response.output_item.done", json!({ "output_index": 0, "item": complete })));
        }
        events.push(("response.output_item.added", json!({ "output_index": index, "item": self.output(false) })));
        events.push(("response.content_part.added", at_part("part", part(""))));
        events.extend(self.words().map(|word| ("response.output_text.delta", of_text("delta", word))));
        events.push(("response.output_text.done", of_text("text", self.text)));
        events.push(("response.content_part.done", at_part("part", part(self.text))));
        events.push(("response.output_item.done", json!({ "output_index": index, "item": self.output(true) })));
        events.push(("response.completed", json!({ "response": self.response() })));
        let events =
            events.into_iter().enumerate().map(|(number, (name, data))| numbered(name, number, data)).collect();
        Events { events, preamble, dialect: Dialect::Responses(unfinished) }
    }

    fn unfinished(&self) -> Value {
        let payload = &self.inference.payload;
        let given = |name, default: Value| payload.field(name).cloned().unwrap_or(default);
        let conversation = match payload.field("conversation") {
            Some(Value::String(id)) => json!({ "id": id }),
            other => other.cloned().unwrap_or_default(),
        };
        json!({
            "id": self.id("resp_"),
            "object": "response",
            "created_at": self.created,
            "status": "in_progress",
            "background": false,
            "conversation": conversation,
            "error": null,
            "incomplete_details": null,
            "instructions": given("instructions", Value::Null),
            "max_output_tokens": given("max_output_tokens", Value::Null),
            "metadata": given("metadata", json!({})),
            "model": self.deployment.model,
            "output": [],
            "parallel_tool_calls": true,
            "previous_response_id": given("previous_response_id", Value::Null),
            "reasoning": { "effort": null, "summary": null },
            "store": given("store", true.into()),
            "temperature": 1.0,
            "text": { "format": { "type": "text" } },
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": null,
        })
    }

    /// Returns what the client carries along, if it asked for that, and nobody but the maker reads.
    fn reasoning(&self, complete: bool) -> Option<Value> {
        let content = if complete { sealed::seal(self.maker, self.id) } else { String::new() };
        let item = json!({ "id": self.id("rs_"), "type": "reasoning", "summary": [], "encrypted_content": content });
        sealed::is_asked_for(&self.inference.payload).then_some(item)
    }

    fn output(&self, complete: bool) -> Value {
        let (status, content) =
            if complete { ("completed", json!([part(self.text)])) } else { ("in_progress", json!([])) };
        json!({ "id": self.id("msg_"), "type": "message", "role": "assistant", "status": status, "content": content })
    }
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}
