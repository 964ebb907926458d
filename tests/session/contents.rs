//! Content that only the resource reads that made it: the reasoning that a client keeps, and carries with every turn.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::{BoxError, ServiceBuilder, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::ownership::OwnershipLayer;
use tower_azure_openai::pool::{Backend, Deployment, Pool};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::session::{MemoryStore, REMEMBER, StickySessionLayer};

use super::support::{Stack, bytes, chunked, send};

const RESPONSES: &str = "/openai/v1/responses";
const READERS: [&str; 3] = ["east", "north", "west"];

/// Resources of which each reads its own content only.
#[derive(Clone, Default)]
struct Makers {
    made: Arc<Mutex<usize>>,
    seen: Arc<Mutex<Vec<String>>>,
    /// Content is read by another one than it says.
    have_moved: Arc<Mutex<bool>>,
    /// How much longer contents are than others.
    surplus: usize,
    /// Answers 429.
    throttled: Arc<Mutex<Option<&'static str>>>,
}

impl Makers {
    fn gateway(&self) -> Stack {
        self.stacked(false)
    }

    fn stacked(&self, is_owned: bool) -> Stack {
        let backend =
            |name: &str| Backend::new(name, format!("https://{name}.example")).add_deployment(Deployment::new("m"));
        let pool = READERS.iter().fold(Pool::builder(), |pool, name| pool.add_backend(backend(name)));
        let pool = pool.build().unwrap();
        let store = Arc::new(MemoryStore::new(REMEMBER));
        let makers = self.clone();
        let network = service_fn(move |request: Request<Body>| {
            let makers = makers.clone();
            async move { makers.serve(request).await }
        });
        let stack = ServiceBuilder::new()
            .layer(RespondLayer::new())
            .layer(InspectLayer::new())
            .option_layer(is_owned.then(|| OwnershipLayer::new(store.clone())))
            .layer(StickySessionLayer::new(pool.clone()).store(store))
            .layer(FailoverLayer::new())
            .layer(SelectBackendLayer::new(pool))
            .layer(ForwardLayer::new());
        Stack::new(stack.service(network))
    }

    async fn serve(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let me = request.uri().host().unwrap().trim_end_matches(".example").to_owned();
        let body: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?;
        self.seen.lock().unwrap().push(me.clone());
        if *self.throttled.lock().unwrap() == Some(me.as_str()) {
            return Ok(Response::builder().status(429).header("retry-after", "7").body(Body::empty())?);
        }
        let maker = if *self.have_moved.lock().unwrap() { READERS[2].to_owned() } else { me.clone() };
        let items = body["input"].as_array().cloned().unwrap_or_default();
        let is_foreign = |item: &Value| {
            let content = item["encrypted_content"].as_str().unwrap_or_default();
            let reader = if *self.have_moved.lock().unwrap() { READERS[2] } else { content.split(':').next().unwrap() };
            !content.is_empty() && reader != me
        };
        let (status, content_type, text) = if items.iter().any(is_foreign) {
            let message = "The encrypted content gAAA... could not be verified. Reason: it could not be decrypted.";
            let error = json!({"error": {"message": message, "type": "invalid_request_error", "code": null}});
            (400, "application/json", error.to_string())
        } else {
            let (kind, text) = self.answer(&maker, &body);
            (200, kind, text)
        };
        let chunks: Vec<_> = text.as_bytes().chunks(40).map(Bytes::copy_from_slice).collect();
        Ok(Response::builder().status(status).header("content-type", content_type).body(chunked(chunks))?)
    }

    fn answer(&self, maker: &str, body: &Value) -> (&'static str, String) {
        let mut made = self.made.lock().unwrap();
        *made += 1;
        let content = format!("{maker}:{made}:{}", "x".repeat(2_000 + self.surplus));
        let kind = if made.is_multiple_of(2) { "reasoning" } else { "compaction" };
        let mut item = json!({"type": kind, "id": format!("rs_{made}"), "encrypted_content": content});
        let response = json!({"id": format!("resp_{made}"), "store": body["store"], "output": [item]});
        if body["stream"] != true {
            return ("application/json", response.to_string());
        }
        let done = json!({"output_index": 0, "item": item});
        item["encrypted_content"] = "".into();
        let begun = json!({"response": {"id": response["id"], "store": body["store"], "output": []}});
        let events = [
            ("response.created", begun),
            ("response.output_item.added", json!({"output_index": 0, "item": item})),
            ("response.output_text.delta", json!({"delta": "hello"})),
            ("response.output_item.done", done),
            ("response.completed", json!({"response": response})),
        ];
        let text = events.iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect();
        ("text/event-stream", text)
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// A conversation whose client replays all of it with every turn.
struct Conversation {
    stored: bool,
    streamed: bool,
    with_ids: bool,
    history: Vec<Value>,
}

impl Conversation {
    fn new(stored: bool, streamed: bool, with_ids: bool) -> Self {
        Self { stored, streamed, with_ids, history: Vec::new() }
    }

    fn request(&self) -> Request<Body> {
        let body = json!({"model": "m", "input": self.history, "store": self.stored, "stream": self.streamed});
        let request = Request::post(RESPONSES).header("content-type", "application/json");
        let mut request = request.body(Body::from(body.to_string())).unwrap();
        request.extensions_mut().insert(Client::new("a"));
        request
    }

    /// One more turn; the status of its answer.
    async fn turn(&mut self, gateway: &Stack) -> u16 {
        self.history.push(json!({"role": "user", "content": "and then?"}));
        let answer = send(gateway, self.request()).await;
        let status = answer.status().as_u16();
        let text = String::from_utf8(bytes(answer).await.to_vec()).unwrap();
        if status == 200 {
            let last = text.split("data: ").last().unwrap();
            let value: Value = serde_json::from_str(last.trim()).unwrap();
            let response = if self.streamed { &value["response"] } else { &value };
            for mut item in response["output"].as_array().unwrap().iter().cloned() {
                if !self.with_ids {
                    item.as_object_mut().unwrap().remove("id");
                }
                self.history.push(item);
            }
        }
        status
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_stays_where_its_reasoning_can_be_read() {
    for is_owned in [false, true] {
        for case in 0..8 {
            let (stored, streamed, with_ids) = (case & 1 == 0, case & 2 == 0, case & 4 == 0);
            let makers = Makers::default();
            let gateway = makers.stacked(is_owned);
            let mut talks: Vec<_> = (0..4).map(|_| Conversation::new(stored, streamed, with_ids)).collect();
            for _ in 0..4 {
                for talk in &mut talks {
                    assert_eq!(talk.turn(&gateway).await, 200, "{stored} {streamed} {with_ids} {is_owned}");
                }
            }
            assert_eq!(makers.seen().len(), 16, "none was sent twice");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_remembered_wrongly_is_learned_anew() {
    let makers = Makers::default();
    let gateway = makers.gateway();
    let mut talk = Conversation::new(false, false, false);
    assert_eq!(talk.turn(&gateway).await, 200);
    assert_eq!(makers.seen(), ["east"]);
    *makers.have_moved.lock().unwrap() = true;
    assert_eq!(talk.turn(&gateway).await, 200, "the one that answers is not asked in vain");
    let seen = makers.seen();
    assert_eq!((seen[0].as_str(), seen.last().unwrap().as_str()), ("east", "west"));
    talk.history.truncate(2);
    assert_eq!(talk.turn(&gateway).await, 200);
    assert_eq!(makers.seen(), ["west"], "and remembered, for the older content too");
}

#[tokio::test(start_paused = true)]
async fn a_restart_costs_a_refusal() {
    for streamed in [false, true] {
        let makers = Makers::default();
        let mut talk = Conversation::new(false, streamed, false);
        assert_eq!(talk.turn(&makers.gateway()).await, 200);
        let made_by = makers.seen();
        let gateway = makers.gateway();
        for _ in 0..4 {
            // Other requests turn the rotation on.
            Conversation::new(false, false, false).turn(&gateway).await;
        }
        makers.seen();
        assert_eq!(talk.turn(&gateway).await, 200);
        assert_eq!(makers.seen().last(), made_by.last());
        talk.history.pop();
        assert_eq!(talk.turn(&gateway).await, 200);
        assert_eq!(makers.seen(), made_by, "once is enough");
    }
}

#[tokio::test(start_paused = true)]
async fn content_of_two_makers_is_refused_as_one_that_nobody_reads() {
    let makers = Makers::default();
    let gateway = makers.gateway();
    let (mut one, mut other) = (Conversation::new(false, false, false), Conversation::new(false, false, false));
    assert_eq!((one.turn(&gateway).await, other.turn(&gateway).await), (200, 200));
    let theirs = other.history.pop().unwrap();
    one.history.push(theirs);
    assert_eq!(one.turn(&gateway).await, 400, "the answer is a backend's own");
    assert_eq!(makers.seen()[2], "north", "where the last of it was made is asked first");
}

#[tokio::test(start_paused = true)]
async fn a_conversation_stays_however_long_its_contents_are() {
    for (streamed, surplus) in [(true, 300_000), (false, 300_000), (true, 2 << 20), (false, 2 << 20)] {
        let makers = Makers { surplus, ..Makers::default() };
        let gateway = makers.gateway();
        let mut talks: Vec<_> = (0..3).map(|_| Conversation::new(false, streamed, false)).collect();
        for _ in 0..3 {
            for talk in &mut talks {
                assert_eq!(talk.turn(&gateway).await, 200, "{streamed} {surplus}");
            }
        }
        assert_eq!(makers.seen().len(), 9, "none was sent twice");
    }
}

#[tokio::test(start_paused = true)]
async fn a_maker_that_is_throttled_is_waited_for() {
    let makers = Makers::default();
    let gateway = makers.gateway();
    let mut known = Conversation::new(false, false, false);
    assert_eq!(known.turn(&gateway).await, 200);
    assert_eq!(makers.seen(), ["east"]);
    *makers.throttled.lock().unwrap() = Some("east");
    for _ in 0..3 {
        // One of them finds out.
        assert_eq!(Conversation::new(false, false, false).turn(&gateway).await, 200);
    }
    let mut unknown = Conversation::new(false, true, false);
    unknown.history.push(json!({"type": "reasoning", "encrypted_content": "east:99:of another replica"}));
    for talk in [&known, &unknown] {
        let answer = send(&gateway, talk.request()).await;
        assert_eq!(answer.status(), 429, "the others cannot read it, and the one that can has said when");
        let wait: u64 = answer.headers()["retry-after-ms"].to_str().unwrap().parse().unwrap();
        assert!((1..=7_000).contains(&wait), "{wait}");
    }
    tokio::time::advance(std::time::Duration::from_secs(7)).await;
    *makers.throttled.lock().unwrap() = None;
    assert_eq!((known.turn(&gateway).await, unknown.turn(&gateway).await), (200, 200));
}

#[tokio::test(start_paused = true)]
async fn content_that_nobody_reads_is_refused_when_everybody_was_asked() {
    let makers = Makers::default();
    let gateway = makers.gateway();
    let mut talk = Conversation::new(false, false, false);
    talk.history.push(json!({"type": "reasoning", "encrypted_content": "nobody:1:x"}));
    assert_eq!(talk.turn(&gateway).await, 400);
    assert_eq!(makers.seen().len(), 3);
}
