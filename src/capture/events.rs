//! Sum of a stream of events, in the shape of an answer that is not streamed.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::HELD;
use crate::azure::json_text;
use crate::azure::sse::{Event, Reader};

/// So many events that add up to nothing are kept.
const OTHERS: usize = 64;

pub(super) fn assemble(frames: &[Bytes]) -> Value {
    let (mut reader, mut said) = (Reader::new(HELD), Said::default());
    for frame in frames {
        let mut chunk = &frame[..];
        while let Some(event) = reader.next_event(&mut chunk) {
            if let Ok(event) = event {
                said.take(&event);
            }
        }
    }
    if let Some(event) = reader.finish() {
        said.take(&event);
    }
    said.into_value()
}

#[derive(Default)]
struct Said {
    /// Of chat and completions: the members of the first chunk, with what the choices came to.
    chunks: Option<Map<String, Value>>,
    choices: Vec<Value>,
    /// Of Responses: what the last event says of the whole.
    response: Option<Value>,
    /// By the type of their events.
    texts: Map<String, Value>,
    others: Vec<Value>,
}

impl Said {
    fn take(&mut self, event: &Event<'_>) {
        let data = event.data().unwrap_or_default();
        let Ok(Value::Object(mut event)) = json_text::read(&data) else { return };
        if let Some(Value::Array(choices)) = event.remove("choices") {
            choices.into_iter().for_each(|choice| self.choose(choice));
            let known = self.chunks.get_or_insert_default();
            event.into_iter().filter(|(_, value)| !value.is_null()).for_each(|(name, value)| {
                known.insert(name, value);
            });
            return;
        }
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let (true, Some(Value::String(delta))) = (kind.ends_with(".delta"), event.get("delta")) {
            match self.texts.entry(kind).or_insert_with(|| "".into()) {
                Value::String(text) => text.push_str(delta),
                other => *other = delta.as_str().into(),
            }
        } else if let (true, Some(response)) = (is_last(&kind), event.remove("response")) {
            self.response = Some(response);
        } else if self.others.len() < OTHERS {
            self.others.push(Value::Object(event));
        }
    }

    fn choose(&mut self, mut choice: Value) {
        let index = choice.get("index").cloned().unwrap_or_else(|| 0.into());
        if let Some(members) = choice.as_object_mut()
            && let Some(delta) = members.remove("delta")
        {
            members.insert("message".to_owned(), delta);
        }
        match self.choices.iter_mut().find(|known| known.get("index") == Some(&index)) {
            Some(known) => add(known, choice),
            None => self.choices.push(choice),
        }
    }

    fn into_value(self) -> Value {
        if let Some(response) = self.response {
            return response;
        }
        match self.chunks {
            Some(mut chunks) => {
                chunks.insert("choices".to_owned(), self.choices.into());
                Value::Object(chunks)
            }
            None => json!({"texts": self.texts, "events": self.others}),
        }
    }
}

fn is_last(kind: &str) -> bool {
    ["response.completed", "response.incomplete", "response.failed"].contains(&kind)
}

/// Members that say something once, whereas the others go on where they ended.
const NAMES: [&str; 6] = ["finish_reason", "id", "name", "object", "role", "type"];

/// Adds what comes next to what was said before.
fn add(known: &mut Value, next: Value) {
    match (known, next) {
        (_, Value::Null) => {}
        (Value::Object(known), Value::Object(next)) => {
            for (name, value) in next {
                match known.get_mut(&name) {
                    Some(old) if !old.is_null() && !NAMES.contains(&&*name) => add(old, value),
                    Some(_) if value.is_null() => {}
                    _ => drop(known.insert(name, value)),
                }
            }
        }
        (Value::String(known), Value::String(next)) => known.push_str(&next),
        (Value::Array(known), Value::Array(next)) => {
            for element in next {
                let index = element.get("index").cloned();
                match known.iter_mut().find(|known| index.is_some() && known.get("index") == index.as_ref()) {
                    Some(old) => add(old, element),
                    None => known.push(element),
                }
            }
        }
        (known, next) => *known = next,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(events: &[Value]) -> Value {
        let text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        assemble(&[Bytes::from(text + "data: [DONE]\n\n")])
    }

    #[test]
    fn chat_adds_up_to_a_message() {
        let chunk = |choices: Value| json!({"id": "1", "model": "m", "choices": choices, "usage": null});
        let said = of(&[
            chunk(json!([])),
            chunk(json!([{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": null}])),
            chunk(json!([{"index": 1, "delta": {"content": "x"}}])),
            chunk(json!([{"index": 0, "delta": {"content": "lo", "tool_calls": [
                {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}]}}])),
            chunk(json!([{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
                          "finish_reason": "stop"}])),
            json!({"id": "1", "choices": [], "usage": {"total_tokens": 3}}),
        ]);
        assert_eq!(
            said,
            json!({"id": "1", "model": "m", "usage": {"total_tokens": 3}, "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Hello", "tool_calls": [
                    {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                 "finish_reason": "stop"},
                {"index": 1, "message": {"content": "x"}},
            ]})
        );
    }

    #[test]
    fn a_piece_that_ends_within_a_pair_is_not_lost() {
        let said = assemble(&[Bytes::from_static(
            br#"data: {"choices":[{"index":0,"delta":{"content":"a\ud83d"}}]}

"#,
        )]);
        assert_eq!(said["choices"][0]["message"]["content"], "a\u{fffd}");
    }

    #[test]
    fn responses_are_told_by_their_last_event_or_by_what_was_said_until_then() {
        let delta = |text: &str| json!({"type": "response.output_text.delta", "delta": text});
        let last = json!({"type": "response.completed", "response": {"id": "resp_1", "output": []}});
        assert_eq!(of(&[delta("a"), last]), json!({"id": "resp_1", "output": []}));
        let error = json!({"type": "error", "code": "rate_limit_exceeded"});
        assert_eq!(
            of(&[delta("a"), delta("b"), error.clone()]),
            json!({"texts": {"response.output_text.delta": "ab"}, "events": [error]})
        );
    }

    proptest! {
        #[test]
        fn however_it_is_chopped_it_adds_up_to_the_same(cuts in proptest::collection::vec(1_usize..40, 0..30)) {
            let events = [json!({"choices": [{"index": 0, "delta": {"content": "caf"}}]}),
                json!({"choices": [{"index": 0, "delta": {"content": "\u{e9} \u{20ac}"}}]})];
            let mut bytes = Bytes::from(events.iter().map(|event| format!("data: {event}\n\n")).collect::<String>());
            let mut frames = Vec::new();
            for cut in cuts {
                frames.push(bytes.split_to(cut.min(bytes.len())));
            }
            frames.push(bytes);
            prop_assert_eq!(assemble(&frames), of(&events));
        }
    }
}
