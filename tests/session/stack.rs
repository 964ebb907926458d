//! The usual stack over simulated resources: what is made on one of them is of use through the gateway, and nowhere else.

use std::cell::Cell;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::advance;
use tower::{ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::pool::{Backend, Deployment, Pool, Target};
use tower_azure_openai::terminate::{Presented, TerminateCredentialsLayer};
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment};

const NAMES: [&str; 3] = ["b0", "b1", "b2"];
const NONE: Value = Value::Null;

/// An object of a family, and how another call uses it.
struct Life {
    collection: &'static str,
    make: Value,
    /// The path and the body of a POST.
    usage: fn(&str) -> (String, Value),
    is_listed: bool,
    is_read: bool,
    is_deleted: bool,
}

impl Life {
    fn new(collection: &'static str, make: Value, usage: fn(&str) -> (String, Value)) -> Self {
        Self { collection, make, usage, is_listed: true, is_read: true, is_deleted: true }
    }

    fn unlisted(self) -> Self {
        Self { is_listed: false, ..self }
    }

    fn kept_for_ever(self) -> Self {
        Self { is_deleted: false, ..self }
    }
}

fn respond(fields: &Value) -> (String, Value) {
    let mut body = json!({ "model": "gpt-4o", "input": "Hi" });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ("responses".to_owned(), body)
}

#[rustfmt::skip]
fn lives() -> Vec<Life> {
    vec![
        Life::new("assistants", json!({ "model": "gpt-4o" }), |id| ("threads/runs".to_owned(), json!({ "assistant_id": id }))),
        Life::new("batches", json!({}), |id| (format!("batches/{id}/cancel"), NONE)).kept_for_ever(),
        Life::new("containers", json!({ "name": "c" }), |id| {
            respond(&json!({ "tools": [{ "type": "code_interpreter", "container": id }] }))
        }),
        Life::new("conversations", json!({}), |id| respond(&json!({ "conversation": { "id": id } }))).unlisted(),
        Life::new("evals", json!({}), |id| (format!("evals/{id}/runs"), json!({}))),
        Life::new("files", json!({}), |id| ("vector_stores".to_owned(), json!({ "file_ids": [id] }))),
        Life::new("fine_tuning/jobs", json!({}), |id| (format!("fine_tuning/jobs/{id}/cancel"), NONE)).kept_for_ever(),
        Life::new("responses", respond(&json!({})).1, |id| respond(&json!({ "previous_response_id": id }))).unlisted(),
        Life::new("threads", json!({}), |id| (format!("threads/{id}/messages"), json!({ "role": "user", "content": "Hi" })))
            .unlisted(),
        Life { is_read: false, ..Life::new("uploads", json!({}), |id| (format!("uploads/{id}/complete"), json!({}))) }
            .unlisted().kept_for_ever(),
        Life::new("vector_stores", json!({}), |id| {
            ("threads".to_owned(), json!({ "tool_resources": { "file_search": { "vector_store_ids": [id] } } }))
        }),
        Life::new("videos", json!({ "model": "gpt-4o" }), |id| (format!("videos/{id}/remix"), json!({}))),
    ]
}

struct World(Vec<SimulatedBackend>);

impl World {
    fn new() -> Self {
        let simulate =
            |name| SimulatedBackend::builder(name).deployment(SimulatedDeployment::standard("gpt-4o")).build();
        Self(NAMES.map(simulate).to_vec())
    }

    /// The usual stack, which remembers nothing yet. A client's key is its name.
    fn gateway(&self) -> Gateway {
        let backend =
            |name| Backend::new(name, format!("https://{name}.example")).add_deployment(Deployment::new("gpt-4o"));
        let pool = NAMES.into_iter().fold(Pool::builder(), |pool, name| pool.add_backend(backend(name)));
        let name_of = |presented: &Presented| Some(Client::new(std::str::from_utf8(presented.secret()).ok()?));
        let backends = self.0.clone();
        let network = service_fn(move |request: Request<Body>| {
            let host = request.uri().host().unwrap().to_owned();
            let at = NAMES.iter().position(|name| host == format!("{name}.example")).unwrap();
            backends[at].clone().oneshot(request)
        });
        gateway::builder(pool.build().unwrap(), TerminateCredentialsLayer::new(name_of)).build(network)
    }

    fn calls(&self) -> usize {
        self.0.iter().map(SimulatedBackend::request_count).sum()
    }
}

async fn send(gateway: &Gateway, client: &str, method: &str, uri: &str, body: &Value) -> Response<Body> {
    let text = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder().method(method).uri(uri).header("api-key", client);
    let request = request.header("content-type", "application/json").body(text).unwrap();
    gateway.clone().oneshot(request).await.unwrap()
}

/// The backend that answered, and its answer to a call that succeeds; of a stream, what the last event says.
async fn ok(gateway: &Gateway, client: &str, method: &str, uri: &str, body: &Value) -> (String, Value) {
    let answer = send(gateway, client, method, uri, body).await;
    let (parts, body) = answer.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert_eq!(parts.status, 200, "{method} {uri}: {text}");
    let last = text.rsplit("data: ").next().unwrap();
    (parts.extensions.get::<Target>().unwrap().backend().to_owned(), serde_json::from_str(last).unwrap())
}

/// Makes an object of every family as one client, and reads and uses it as another. Each call goes through the next gateway.
/// Says how many calls that took, and how many of them named an object that can be asked for.
async fn live(client: &str, other: &str, gateway: impl Fn() -> Gateway) -> (usize, usize) {
    let (mut calls, mut named) = (0, 0);
    for (surface, query) in [("/openai", "?api-version=2025-04-01-preview"), ("/openai/v1", "")] {
        let uri = |path: &str| format!("{surface}/{path}{query}");
        for Life { collection, make, usage, is_listed, is_read, is_deleted } in lives() {
            let (owner, made) = ok(&gateway(), client, "POST", &uri(collection), &make).await;
            let id = made["id"].as_str().unwrap();
            let (object, (path, body)) = (uri(&format!("{collection}/{id}")), usage(id));
            // An upload cannot be asked for: whoever does not remember it has only its own client's home to go by.
            let user = if is_read { other } else { client };
            let visits = [
                Some((user, "POST", uri(&path), body)),
                is_read.then(|| (other, "GET", object.clone(), NONE)),
                is_listed.then(|| (client, "GET", uri(collection), NONE)),
                is_deleted.then(|| (client, "DELETE", object.clone(), NONE)),
            ];
            calls += 1;
            for (who, method, uri, body) in visits.into_iter().flatten() {
                let (backend, answer) = ok(&gateway(), who, method, &uri, &body).await;
                assert_eq!(backend, owner, "{method} {uri}");
                let listed = answer["data"].as_array();
                assert!(
                    listed.is_none_or(|objects| objects.iter().any(|object| object["id"] == id)),
                    "{uri} lists {id}"
                );
                calls += 1;
                named += usize::from(is_read && listed.is_none());
            }
        }
    }
    (calls, named)
}

#[tokio::test(start_paused = true)]
async fn every_family_lives_where_it_was_made() {
    for client in ["team-a", "team-b", "team-c", "team-d"] {
        let world = World::new();
        let gateway = world.gateway();
        let (calls, _) = live(client, "team-x", || gateway.clone()).await;
        assert_eq!(world.calls(), calls, "nobody is asked for what was seen to be made");
    }
}

#[tokio::test(start_paused = true)]
async fn every_family_outlives_restarts() {
    for client in ["team-a", "team-b", "team-c", "team-d"] {
        let world = World::new();
        let (calls, named) = live(client, "team-x", || world.gateway()).await;
        assert_eq!(world.calls(), calls + named * NAMES.len(), "every backend is asked for every id once");
    }
}

#[tokio::test(start_paused = true)]
async fn every_family_is_found_by_two_gateways_in_turn() {
    for client in ["team-a", "team-b", "team-c", "team-d"] {
        let world = World::new();
        let (gateways, turn) = ([world.gateway(), world.gateway()], Cell::new(0));
        live(client, "team-x", || gateways[turn.replace(turn.get() + 1) % 2].clone()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stored_chat_completion_is_read_where_it_was_made() {
    let world = World::new();
    let gateway = world.gateway();
    let chat = json!({ "model": "gpt-4o", "messages": [], "store": true });
    for uri in ["/openai/v1/chat/completions"; 4] {
        let (owner, made) = ok(&gateway, "team-a", "POST", uri, &chat).await;
        let object = format!("{uri}/{}", made["id"].as_str().unwrap());
        for gateway in [gateway.clone(), world.gateway()] {
            assert_eq!(ok(&gateway, "team-b", "GET", &object, &NONE).await.0, owner);
        }
        assert_eq!(ok(&gateway, "team-a", "DELETE", &object, &NONE).await.0, owner);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_goes_on_where_it_began() {
    let world = World::new();
    let gateway = world.gateway();
    for client in ["team-a", "team-b", "team-c"] {
        let mut made = Vec::new();
        for _ in 0..5 {
            made.push(ok(&gateway, client, "POST", "/openai/v1/files", &json!({})).await.1["id"].clone());
        }
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let uri = format!("/openai/v1/files?order=asc&limit=2{cursor}");
            // Whoever has the cursor reads the same list.
            let reader = if cursor.is_empty() { client } else { "team-x" };
            let page = ok(&world.gateway(), reader, "GET", &uri, &NONE).await.1;
            seen.extend(page["data"].as_array().unwrap().iter().map(|file| file["id"].clone()));
            if page["has_more"] == false {
                break;
            }
            cursor = format!("&after={}", page["last_id"].as_str().unwrap());
        }
        assert!(seen.ends_with(&made), "{client} sees {seen:?}, and made {made:?} last");
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_stays_where_it_began() {
    for stream in [false, true] {
        let world = World::new();
        let mut gateway = world.gateway();
        let (owner, first) = ok(&gateway, "team-a", "POST", "/openai/v1/responses", &respond(&json!({})).1).await;
        let mut parent = first["id"].clone();
        for turn in 1..20 {
            if turn == 10 {
                gateway = world.gateway();
            }
            let (_, body) = respond(&json!({ "previous_response_id": parent, "stream": stream }));
            let (backend, answer) = ok(&gateway, "team-b", "POST", "/openai/v1/responses", &body).await;
            assert_eq!(backend, owner, "turn {turn}");
            parent = answer.pointer("/response/id").unwrap_or(&answer["id"]).clone();
        }
        assert_eq!(world.calls(), 20 + NAMES.len(), "asked for once, after the restart");
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_cannot_serve_is_waited_for() {
    for (fault, hint) in [(Fault::status(429).header("retry-after-ms", "7000"), Some("7000")), (Fault::refused(), None)]
    {
        let world = World::new();
        let gateway = world.gateway();
        let (owner, thread) = ok(&gateway, "team-a", "POST", "/openai/v1/threads", &json!({})).await;
        let messages = format!("/openai/v1/threads/{}/messages", thread["id"].as_str().unwrap());
        let (owner, others): (Vec<_>, Vec<_>) = NAMES.into_iter().zip(&world.0).partition(|(name, _)| **name == owner);
        owner[0].1.faults().always(fault);
        for _ in 0..8 {
            let answer = send(&gateway, "team-a", "POST", &messages, &json!({})).await;
            assert_eq!(answer.status(), 429);
            let told = answer.headers()["retry-after-ms"].to_str().unwrap();
            assert!(hint.is_none_or(|hint| hint == told), "{told}");
        }
        assert!(others.iter().all(|(_, backend)| backend.request_count() == 0), "nobody else is asked");

        owner[0].1.faults().clear();
        advance(Duration::from_secs(61)).await;
        ok(&gateway, "team-a", "POST", &messages, &json!({})).await;
    }
}
