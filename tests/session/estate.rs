//! Resources that keep objects, each in an id space of its own, behind one stack.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::{BoxError, ServiceBuilder, service_fn};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{AttemptFailed, Client};
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::ownership::OwnershipLayer;
use tower_azure_openai::pool::{Backend, Deployment, Pool, Target};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::session::{MemoryStore, REMEMBER, SessionStore, StickySessionLayer};

pub use super::collections::COLLECTIONS;
use super::support::{Service, Stack, chunked, send};

const PREFIXES: [&str; 12] =
    ["asst_", "batch_", "cntr_", "conv_", "eval_", "file-", "ftjob-", "resp_", "rs_", "thread_", "upload_", "vs_"];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// No connection.
    Down,
    /// For once, a parent that is there is not found.
    MissesParent,
    /// 429, with this hint in seconds.
    Throttled(u64),
    /// 500.
    Broken,
}

#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: String,
    pub headers: HeaderMap,
}

pub struct Resource {
    name: String,
    /// By their ids, the collections in which they lie.
    objects: Mutex<BTreeMap<String, String>>,
    made: Mutex<usize>,
    trouble: Mutex<Option<Trouble>>,
    seen: Mutex<Vec<Seen>>,
}

/// Three resources `b0`, `b1`, `b2`, which serve `gpt-4o` in rotation.
#[derive(Clone)]
pub struct Estate {
    pub pool: Pool,
    pub resources: Arc<Vec<Resource>>,
}

impl Estate {
    pub fn new() -> Self {
        Self::of(3)
    }

    pub fn of(n: usize) -> Self {
        let backend = |i| Backend::new(format!("b{i}"), format!("https://b{i}.example"));
        let pool = (0..n)
            .fold(Pool::builder(), |pool, i| pool.add_backend(backend(i).add_deployment(Deployment::new("gpt-4o"))));
        let resource = |i| Resource {
            name: format!("b{i}"),
            objects: Mutex::default(),
            made: Mutex::default(),
            trouble: Mutex::default(),
            seen: Mutex::default(),
        };
        Self { pool: pool.build().unwrap(), resources: Arc::new((0..n).map(resource).collect()) }
    }

    pub fn layer(&self) -> StickySessionLayer {
        StickySessionLayer::new(self.pool.clone())
    }

    /// A gateway that remembers nothing yet.
    pub fn gateway(&self) -> Stack {
        self.with(self.layer())
    }

    pub fn with(&self, session: StickySessionLayer) -> Stack {
        self.stacked(None, session)
    }

    /// A gateway in which clients reach only what they made.
    pub fn owned(&self) -> Stack {
        self.owned_by(Arc::new(MemoryStore::new(REMEMBER)))
    }

    pub fn owned_by<S: SessionStore + 'static>(&self, store: Arc<S>) -> Stack {
        self.stacked(Some(OwnershipLayer::new(store.clone())), self.layer().store(store))
    }

    /// The same, which holds bodies up to this size.
    pub fn collecting(&self, replay_limit: usize) -> Stack {
        let (store, inspect) = (Arc::new(MemoryStore::new(REMEMBER)), InspectLayer::new().replay_limit(replay_limit));
        self.inspected(inspect, Some(OwnershipLayer::new(store.clone())), self.layer().store(store))
    }

    pub fn stacked(&self, ownership: Option<OwnershipLayer>, session: StickySessionLayer) -> Stack {
        self.inspected(InspectLayer::new(), ownership, session)
    }

    pub fn inspected(
        &self,
        inspect: InspectLayer,
        ownership: Option<OwnershipLayer>,
        session: StickySessionLayer,
    ) -> Stack {
        let stack = ServiceBuilder::new()
            .layer(RespondLayer::new())
            .layer(inspect)
            .option_layer(ownership)
            .layer(session)
            .layer(FailoverLayer::new())
            .layer(SelectBackendLayer::new(self.pool.clone()))
            .layer(ForwardLayer::new());
        Stack::new(stack.service(self.network()))
    }

    pub fn network(&self) -> Service {
        let resources = self.resources.clone();
        Service::new(service_fn(move |request: Request<Body>| {
            let resources = resources.clone();
            async move {
                let host = request.uri().host().unwrap_or_default().to_owned();
                let i: usize = host.trim_start_matches('b').trim_end_matches(".example").parse()?;
                resources[i].serve(request).await
            }
        }))
    }

    pub fn trouble(&self, i: usize, trouble: Option<Trouble>) {
        *self.resources[i].trouble.lock().unwrap() = trouble;
    }

    /// Puts an object where nobody sees it being made.
    pub fn plant(&self, i: usize, collection: &str, id: &str) {
        self.resources[i].objects.lock().unwrap().insert(id.to_owned(), collection.to_owned());
    }

    /// How many requests each resource has received.
    pub fn counts(&self) -> Vec<usize> {
        self.resources.iter().map(|resource| resource.seen.lock().unwrap().len()).collect()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.resources.iter().flat_map(|resource| resource.seen.lock().unwrap().clone()).collect()
    }

    pub fn forget_seen(&self) {
        self.resources.iter().for_each(|resource| resource.seen.lock().unwrap().clear());
    }

    /// An object of resource `i` whose id begins so.
    pub fn made(&self, i: usize, prefix: &str) -> Option<String> {
        self.resources[i].objects.lock().unwrap().keys().find(|id| id.starts_with(prefix)).cloned()
    }

    /// The resource that holds an object.
    pub fn owner(&self, id: &str) -> usize {
        let holds = |resource: &Resource| resource.objects.lock().unwrap().contains_key(id);
        self.resources.iter().position(holds).unwrap_or_else(|| panic!("nobody holds {id}"))
    }
}

impl Resource {
    async fn serve(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let trouble = *self.trouble.lock().unwrap();
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let seen = Seen { method: parts.method.clone(), uri: parts.uri.to_string(), headers: parts.headers.clone() };
        self.seen.lock().unwrap().push(seen);
        match trouble {
            Some(Trouble::Down) => Err(AttemptFailed::new(Outcome::Unreachable, "stopped").into()),
            Some(Trouble::Broken) => Ok(failure(500, None, "broken")),
            Some(Trouble::Throttled(seconds)) => {
                let mut answer = failure(429, Some("429"), "Rate limit is exceeded.");
                answer.headers_mut().insert("retry-after", seconds.into());
                Ok(answer)
            }
            _ => Ok(self.answer(&parts.method, &parts.uri, &body)),
        }
    }

    fn answer(&self, method: &Method, uri: &Uri, body: &Bytes) -> Response<Body> {
        let path = uri.path().trim_start_matches("/openai").trim_start_matches("/v1").trim_start_matches('/');
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        if let Some(parent) = body["previous_response_id"].as_str() {
            let missed = self.trouble.lock().unwrap().take_if(|trouble| *trouble == Trouble::MissesParent);
            if missed.is_some() || !self.holds(parent) {
                let message = format!("Previous response with id '{parent}' not found.");
                return failure(400, Some("previous_response_not_found"), &message);
            }
        }
        if let Some(unknown) = names(&body).into_iter().find(|id| !self.holds(id)) {
            return failure(404, None, &format!("No object found with id '{unknown}'."));
        }
        if path == "responses" || path.ends_with("chat/completions") {
            return self.infer(path, &body);
        }
        if path == "threads/runs" {
            let (thread, run) = (self.make("threads", "thread_"), self.fresh("run_"));
            return found(&json!({"id": run, "object": "thread.run", "thread_id": thread}));
        }
        // They go on with a video, and make another.
        let path = if matches!(path, "videos/edits" | "videos/extensions") { "videos" } else { path };
        let known = COLLECTIONS.iter().chain(&[("responses", "resp_"), ("chat/completions", "chatcmpl-")]);
        let collection = known.filter(|(name, _)| path.starts_with(name)).max_by_key(|(name, _)| name.len());
        let Some((name, prefix)) = collection else {
            return failure(404, Some("404"), "Resource not found");
        };
        let mut inside = path[name.len()..].trim_matches('/').split('/').filter(|part| !part.is_empty());
        match (method, inside.next(), inside.next()) {
            (&Method::POST, None, _) => found(&json!({"id": self.make(name, prefix), "object": kind(name)})),
            (_, None, _) => self.list(name, uri.query().unwrap_or_default()),
            (_, Some(id), _) if !self.holds(id) => failure(404, None, &format!("No object found with id '{id}'.")),
            (&Method::DELETE, Some(id), None) => {
                self.objects.lock().unwrap().remove(id);
                found(&json!({"id": id, "deleted": true}))
            }
            (_, Some(id), None) => found(&json!({"id": id, "object": kind(name)})),
            (_, Some(id), Some(_)) => found(&json!({"id": self.fresh("inner_"), "object": "inner", "thread_id": id})),
        }
    }

    fn infer(&self, path: &str, body: &Value) -> Response<Body> {
        let (name, prefix) =
            if path == "responses" { ("responses", "resp_") } else { ("chat/completions", "chatcmpl-") };
        let stored = body["store"].as_bool().unwrap_or(path == "responses");
        let id = if stored { self.make(name, prefix) } else { self.fresh(prefix) };
        let item = if stored { self.make("items", "rs_") } else { self.fresh("rs_") };
        let answer = json!({"id": id, "store": stored, "output": [{"id": item, "type": "reasoning"}], "by": self.name});
        if body["stream"] != true {
            return found(&answer);
        }
        let created = json!({"type": "response.created", "response": {"id": id, "store": stored, "output": []}});
        let added = json!({"type": "response.output_item.added", "item": {"id": item, "type": "reasoning"}});
        let done = json!({"type": "response.completed", "response": answer});
        let events =
            [("response.created", created), ("response.output_item.added", added), ("response.completed", done)];
        let text: String = events.iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect();
        let chunks: Vec<_> = text.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
        let mut response = Response::new(chunked(chunks));
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        response
    }

    fn list(&self, collection: &str, query: &str) -> Response<Body> {
        let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let (after, limit) =
            (parameter("after").unwrap_or_default(), parameter("limit").map_or(100, |n| n.parse().unwrap()));
        let objects = self.objects.lock().unwrap();
        let left = objects.iter().filter(|(id, lies_in)| *lies_in == collection && id.as_str() > after);
        let left: Vec<_> = left.map(|(id, _)| id).collect();
        let page = &left[..left.len().min(limit)];
        let data: Vec<_> = page.iter().map(|id| json!({"id": id})).collect();
        let has_more = page.len() < left.len();
        found(&json!({
            "object": "list", "data": data, "first_id": page.first(), "last_id": page.last(), "has_more": has_more,
        }))
    }

    fn make(&self, collection: &str, prefix: &str) -> String {
        let id = self.fresh(prefix);
        self.objects.lock().unwrap().insert(id.clone(), collection.to_owned());
        id
    }

    fn fresh(&self, prefix: &str) -> String {
        let mut made = self.made.lock().unwrap();
        *made += 1;
        format!("{prefix}{}x{made}", self.name)
    }

    fn holds(&self, id: &str) -> bool {
        self.objects.lock().unwrap().contains_key(id)
    }
}

/// What an object of a collection calls itself.
fn kind(collection: &str) -> String {
    match collection {
        "batches" => "batch".to_owned(),
        "chat/completions" => "chat.completion".to_owned(),
        name => name.trim_end_matches('s').replace('/', "."),
    }
}

/// Every id in a body, wherever it stands.
fn names(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(names).collect(),
        Value::Object(members) => {
            members.iter().filter(|(key, _)| *key != "metadata").flat_map(|(_, value)| names(value)).collect()
        }
        Value::String(text) if PREFIXES.iter().any(|prefix| text.starts_with(prefix)) => vec![text.clone()],
        _ => Vec::new(),
    }
}

fn found(value: &Value) -> Response<Body> {
    let mut answer = Response::new(chunked([value.to_string()]));
    answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
    answer
}

fn failure(status: u16, code: Option<&str>, message: &str) -> Response<Body> {
    let body = json!({"error": {"code": code, "message": message, "type": "invalid_request_error", "param": null}});
    let mut answer = found(&body);
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

/// A request of a client that keeps no cookies.
pub fn call(method: &str, path: &str, body: &Value) -> Request<Body> {
    call_as("team-a", method, path, body)
}

/// A call of this client. Those that are incomplete without a model name the one that there is.
pub fn call_as(client: &str, method: &str, path: &str, body: &Value) -> Request<Body> {
    let mut body = body.clone();
    let collection = path.split('?').next().unwrap_or_default();
    let names_model =
        method == "POST" && ["/responses", "/assistants", "/videos"].iter().any(|end| collection.ends_with(end));
    if let Some(members) = body.as_object_mut().filter(|_| names_model) {
        members.entry("model").or_insert_with(|| "gpt-4o".into());
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let mut request = request.body(body).unwrap();
    request.extensions_mut().insert(Client::new(client));
    request
}

/// The backend that answered, and the answer.
pub async fn answered(stack: &Stack, request: Request<Body>) -> (Option<String>, u16, Value) {
    let answer = send(stack, request).await;
    let (status, backend) =
        (answer.status().as_u16(), answer.extensions().get::<Target>().map(|t| t.backend().to_owned()));
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (backend, status, value)
}

/// The answer to a call that succeeds.
pub async fn ok(stack: &Stack, request: Request<Body>) -> Value {
    let shown = format!("{} {}", request.method(), request.uri());
    let (_, status, value) = answered(stack, request).await;
    assert_eq!(status, 200, "{shown}: {value}");
    value
}

pub fn id(value: &Value) -> String {
    value["id"].as_str().unwrap_or_else(|| panic!("no id in {value}")).to_owned()
}

/// The status of an answer, in a runtime of its own.
pub fn send_to(stack: Stack, request: Request<Body>) -> u16 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async move { send(&stack, request).await.status().as_u16() })
}
