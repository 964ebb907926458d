//! Runs of assistants.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::objects::{Family, Made};
use super::Reply;
use super::stream::{Dialect, Events, event};

/// The end mark.
pub(super) fn done() -> Bytes {
    Bytes::from_static(b"event: done\ndata: [DONE]\n\n")
}

impl Reply<'_> {
    /// The run, which does not tell its usage before it is over.
    pub(super) fn run(&self, status: &str) -> Value {
        let usage = if status == "completed" { self.usage() } else { Value::Null };
        json!({
            "id": self.id("run_"),
            "object": "thread.run",
            "created_at": self.created,
            "thread_id": self.thread_id(),
            "assistant_id": self.inference.payload.text("assistant_id"),
            "status": status,
            "model": self.deployment.name,
            "last_error": null,
            "usage": usage,
        })
    }

    /// The run with its step, what it said, and its own thread if it made one.
    pub(super) fn kept_run(&self) -> Vec<Made> {
        let (run, thread) = (self.id("run_"), self.thread_id());
        let own = self.inference.thread.is_none().then(|| Made::new(Family::Thread, self.thread()));
        let parts = [
            Made::new(Family::Run, self.run("completed")).within(&*thread),
            Made::new(Family::Step, self.step("completed")).within(run),
            Made::new(Family::Message, self.thread_message("completed", &self.said())).within(thread),
        ];
        own.into_iter().chain(parts).collect()
    }

    /// The thread that the run made for itself.
    fn thread(&self) -> Value {
        Family::Thread.object(&self.thread_id(), self.created, &self.inference.payload)
    }

    pub(super) fn run_events(&self) -> Events {
        let mut events = match self.inference.thread {
            Some(_) => Vec::new(),
            None => vec![event("thread.created", &self.thread())],
        };
        for (name, status) in [("created", "queued"), ("queued", "queued"), ("in_progress", "in_progress")] {
            events.push(event(&format!("thread.run.{name}"), &self.run(status)));
        }
        for name in ["created", "in_progress"] {
            events.push(event(&format!("thread.run.step.{name}"), &self.step("in_progress")));
        }
        for name in ["created", "in_progress"] {
            events.push(event(&format!("thread.message.{name}"), &self.thread_message("in_progress", &json!([]))));
        }
        let preamble = events.len();
        events.extend(self.words().map(|word| {
            let content = json!([{ "index": 0, "type": "text", "text": { "value": word, "annotations": [] } }]);
            let delta =
                json!({ "id": self.id("msg_"), "object": "thread.message.delta", "delta": { "content": content } });
            event("thread.message.delta", &delta)
        }));
        events.push(event("thread.message.completed", &self.thread_message("completed", &self.said())));
        events.push(event("thread.run.step.completed", &self.step("completed")));
        events.push(event("thread.run.completed", &self.run("completed")));
        events.push(done());
        Events { events, preamble, dialect: Dialect::Assistants }
    }

    fn said(&self) -> Value {
        json!([{ "type": "text", "text": { "value": self.text, "annotations": [] } }])
    }

    fn thread_id(&self) -> String {
        self.inference.thread.clone().unwrap_or_else(|| self.id("thread_"))
    }

    fn step(&self, status: &str) -> Value {
        json!({
            "id": self.id("step_"),
            "object": "thread.run.step",
            "created_at": self.created,
            "run_id": self.id("run_"),
            "thread_id": self.thread_id(),
            "type": "message_creation",
            "status": status,
            "step_details": { "type": "message_creation", "message_creation": { "message_id": self.id("msg_") } },
        })
    }

    fn thread_message(&self, status: &str, content: &Value) -> Value {
        json!({
            "id": self.id("msg_"),
            "object": "thread.message",
            "created_at": self.created,
            "run_id": self.id("run_"),
            "thread_id": self.thread_id(),
            "role": "assistant",
            "status": status,
            "content": content,
        })
    }
}
