//! A client reaches only what it made.

use std::sync::Arc;

use http::{Request, Response};
use serde_json::{Value, json};
use tower_azure_openai::body::Body;
use tower_azure_openai::ownership::OwnershipLayer;
use tower_azure_openai::session::{MemoryStore, ObjectKey, Remembered, SessionStore, StoreFuture};

use super::estate::{COLLECTIONS, Estate, answered, call_as, id, ok};
use super::support::{Stack, bytes, error, header, send};

const NONE: Value = Value::Null;
const RESPONSES: &str = "/openai/v1/responses";

fn gateway(estate: &Estate) -> Stack {
    estate.owned()
}

/// What a client sees of an answer that names an id, without that id.
async fn seen(answer: Response<Body>, id: &str) -> (u16, Vec<(String, String)>, String) {
    let status = answer.status().as_u16();
    let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let headers = headers.filter(|(name, _)| name != "content-length").collect();
    (status, headers, String::from_utf8(bytes(answer).await.to_vec()).unwrap().replace(id, "ID"))
}

/// An id like another that nobody has made.
fn invented(id: &str) -> String {
    format!("{}0", &id[..id.len() - 1])
}

/// Client B gets the same for an id of A as for one that nobody has, and no backend hears of it.
async fn assert_hidden(estate: &Estate, gateway: &Stack, id: &str, request: impl Fn(&str) -> Request<Body>) {
    estate.forget_seen();
    let shown = format!("{} {}", request(id).method(), request(id).uri());
    let theirs = seen(send(gateway, request(id)).await, id).await;
    let other = invented(id);
    let nobodys = seen(send(gateway, request(&other)).await, &other).await;
    assert_eq!(theirs, nobodys, "{shown}");
    assert_eq!(theirs.0, 404, "{shown}: {}", theirs.2);
    assert_eq!(estate.counts().into_iter().sum::<usize>(), 0, "{shown}");
}

#[tokio::test(start_paused = true)]
async fn the_owner_reaches_what_it_made() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    for (collection, _) in COLLECTIONS {
        let path = format!("/openai/{collection}");
        let made = id(&ok(&gateway, call_as("a", "POST", &path, &json!({}))).await);
        for (method, path) in [
            ("GET", format!("{path}/{made}")),
            ("POST", format!("{path}/{made}/x")),
            ("DELETE", format!("{path}/{made}")),
        ] {
            ok(&gateway, call_as("a", method, &path, &NONE)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_client_cannot_tell_it_from_what_never_was() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    for (collection, _) in COLLECTIONS {
        let path = format!("/openai/{collection}");
        let made = id(&ok(&gateway, call_as("a", "POST", &path, &json!({}))).await);
        for (method, rest) in [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/content"), ("GET", "/x/y")] {
            assert_hidden(&estate, &gateway, &made, |id| call_as("b", method, &format!("{path}/{id}{rest}"), &NONE))
                .await;
        }
        for cursor in ["after", "before"] {
            assert_hidden(&estate, &gateway, &made, |id| call_as("b", "GET", &format!("{path}?{cursor}={id}"), &NONE))
                .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_body_reaches_it() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    let make = async |path: &str| id(&ok(&gateway, call_as("a", "POST", path, &json!({}))).await);
    let (thread, assistant) = (make("/openai/threads").await, make("/openai/assistants").await);
    let (file, store) = (make("/openai/files").await, make("/openai/vector_stores").await);
    let (response, conversation) = (make(RESPONSES).await, make("/openai/v1/conversations").await);
    let (container, chat) = (make("/openai/v1/containers").await, "/openai/deployments/gpt-4o/chat/completions");
    let own = id(&ok(&gateway, call_as("b", "POST", "/openai/threads", &json!({}))).await);
    let run = format!("/openai/threads/{own}/runs");
    type Make = fn(&str) -> Value;
    let table: [(&str, &str, Make); 11] = [
        (&run, &assistant, |id| json!({"assistant_id": id, "stream": true})),
        ("/openai/threads/runs", &assistant, |id| json!({"assistant_id": id})),
        ("/openai/vector_stores", &file, |id| json!({"file_ids": [id]})),
        ("/openai/batches", &file, |id| json!({"input_file_id": id})),
        ("/openai/fine_tuning/jobs", &file, |id| json!({"training_file": id})),
        (RESPONSES, &response, |id| json!({"previous_response_id": id, "stream": true})),
        (RESPONSES, &conversation, |id| json!({"conversation": {"id": id}, "store": false})),
        (RESPONSES, &store, |id| json!({"tools": [{"type": "file_search", "vector_store_ids": [id]}]})),
        (RESPONSES, &container, |id| json!({"tools": [{"type": "code_interpreter", "container": id}]})),
        (RESPONSES, &file, |id| json!({"input": [{"content": [{"type": "input_file", "file_id": id}]}]})),
        (chat, &file, |id| json!({"messages": [{"content": [{"type": "file", "file": {"File_ID": id}}]}]})),
    ];
    for (path, id, body) in table {
        assert_hidden(&estate, &gateway, id, |id| call_as("b", "POST", path, &body(id))).await;
    }
    // Where the API has no place for it, an id is the client's own, unless it is another's.
    let elsewhere: [(&str, Make); 5] = [
        ("/openai/evals", |id| json!({"metadata": {}, "x": [[{"thread_id": id, "thread_id ": 1}]]})),
        (RESPONSES, |id| json!({"client_metadata": {"thread_id": id}})),
        (RESPONSES, |id| json!({"nobody": {id: "knows"}})),
        (chat, |id| json!({"messages": [{"content": id}]})),
        ("/openai/deployments/gpt-4o/embeddings", |id| json!({"input": ["x", id]})),
    ];
    for (path, body) in elsewhere {
        estate.forget_seen();
        let theirs = send(&gateway, call_as("b", "POST", path, &body(&thread))).await;
        assert_eq!((theirs.status().as_u16(), estate.seen().len()), (404, 0), "{path}");
        let allowed = [("a", thread.as_str()), ("b", &own), ("b", "thread_of-nobody1"), ("b", "f81d4fae-7dec-11d0")];
        for (reached, (client, id)) in allowed.into_iter().enumerate() {
            send(&gateway, call_as(client, "POST", path, &body(id))).await;
            assert_eq!(estate.seen().len(), reached + 1, "{path}: {id}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn items_of_anothers_response_are_not_replayed() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    let made = ok(&gateway, call_as("a", "POST", RESPONSES, &json!({"input": "hi"}))).await;
    let item = made["output"][0]["id"].as_str().unwrap();
    for kind in ["item_reference", "reasoning"] {
        let replay = |id: &str| call_as("b", "POST", RESPONSES, &json!({"input": [{"type": kind, "id": id}]}));
        assert_hidden(&estate, &gateway, item, replay).await;
    }
    ok(&gateway, call_as("a", "POST", RESPONSES, &json!({"input": [{"type": "item_reference", "id": item}]}))).await;
}

#[tokio::test(start_paused = true)]
async fn streamed_ids_have_an_owner_too() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    let streamed = send(&gateway, call_as("a", "POST", RESPONSES, &json!({"stream": true}))).await;
    bytes(streamed).await;
    let response = estate.seen().len();
    assert_eq!(response, 1);
    let made = (0..3).find_map(|i| estate.made(i, "resp_")).unwrap();
    let follow =
        |client: &'static str| move |id: &str| call_as(client, "POST", RESPONSES, &json!({"previous_response_id": id}));
    assert_hidden(&estate, &gateway, &made, follow("b")).await;
    assert_eq!(answered(&gateway, follow("a")(&made)).await.1, 200);
}

#[tokio::test(start_paused = true)]
async fn lists_hold_a_clients_own_objects_only() {
    let estate = Estate::of(1);
    let gateway = gateway(&estate);
    let mut own = Vec::new();
    for i in 0..6 {
        let client = if i % 2 == 0 { "a" } else { "b" };
        let made = id(&ok(&gateway, call_as(client, "POST", "/openai/files", &json!({}))).await);
        if client == "b" {
            own.push(made);
        }
    }
    estate.plant(0, "files", "file-nobodys");
    own.sort();
    let answer = send(&gateway, call_as("b", "GET", "/openai/files", &NONE)).await;
    assert_eq!(header(&answer, "content-type"), Some("application/json"));
    let listed: Value = serde_json::from_slice(&bytes(answer).await).unwrap();
    let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(ids, own);
    assert_eq!((&listed["first_id"], &listed["last_id"]), (&json!(own[0]), &json!(own[2])));

    let nothing = ok(&gateway, call_as("c", "GET", "/openai/files", &NONE)).await;
    let empty = json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false});
    assert_eq!(nothing, empty);
    let page = ok(&gateway, call_as("b", "GET", &format!("/openai/files?after={}", own[0]), &NONE)).await;
    assert_eq!(page["data"].as_array().unwrap().len(), 2, "a list goes on from an object of one's own");
}

#[tokio::test(start_paused = true)]
async fn pages_of_others_are_passed_over() {
    let estate = Estate::of(1);
    let gateway = gateway(&estate);
    (0..25).for_each(|i| estate.plant(0, "files", &format!("file-a{i:02}")));
    let own = id(&ok(&gateway, call_as("b", "POST", "/openai/files", &json!({}))).await);
    let listed = ok(&gateway, call_as("b", "GET", "/openai/files?limit=5", &NONE)).await;
    assert_eq!(listed["data"], json!([{"id": own}]));
    assert!(listed["last_id"] == json!(own) && listed["has_more"] == json!(false), "{listed}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_judged_is_refused() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    estate.plant(0, "threads", "thread_1");
    for (method, path, body, status) in [
        ("GET", "/openai/threads/thread_1", "", 404),
        ("POST", "/openai/threads/runs", "{", 400),
        ("POST", RESPONSES, "\u{feff}{\"previous_response_id\":\"resp_1\"}", 400),
        ("GET", "/openai/v1/something/new", "", 403),
        ("GET", "/openai/fine_tuning/all", "", 403),
        ("POST", "/openai/v1/realtime/calls/rtc_1/hangup", "", 404),
    ] {
        let mut request = call_as("a", method, path, &NONE);
        *request.body_mut() = Body::from(body);
        assert_eq!(send(&gateway, request).await.status(), status, "{method} {path}");
    }
    let mut encoded = call_as("a", "POST", "/openai/threads", &json!({}));
    encoded.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(send(&gateway, encoded).await.status(), 400);
    assert_eq!(estate.counts(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_an_object_over_by_writing_of_it() {
    let estate = Estate::of(1);
    let gateway = gateway(&estate);
    estate.plant(0, "threads", "thread_1");
    let claim = json!({"metadata": {"thread_id": "thread_1", "id": "thread_1"}});
    ok(&gateway, call_as("b", "POST", "/openai/threads", &claim)).await;
    assert_eq!(answered(&gateway, call_as("b", "GET", "/openai/threads/thread_1", &NONE)).await.1, 404);
}

/// A store that cannot be reached.
#[derive(Debug)]
struct Unreachable;

impl SessionStore for Unreachable {
    fn look_up(&self, _: ObjectKey) -> StoreFuture<'_, Option<Remembered>> {
        StoreFuture::new(async { Err("down".into()) })
    }

    fn remember(&self, _: ObjectKey, _: Remembered, _: std::time::Duration) -> StoreFuture<'_, ()> {
        StoreFuture::new(std::future::pending())
    }

    fn forget(&self, _: ObjectKey) -> StoreFuture<'_, ()> {
        StoreFuture::new(async { Err("down".into()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_reached_closes_what_is_owned_and_nothing_else() {
    let estate = Estate::new();
    estate.plant(1, "threads", "thread_1");
    let read = || call_as("a", "GET", "/openai/threads/thread_1", &NONE);
    let strict = estate.owned_by(Arc::new(Unreachable));
    assert_eq!(send(&strict, read()).await.status(), 503);
    let open = estate.with(estate.layer().store(Unreachable));
    ok(&open, read()).await;
    ok(&open, call_as("a", "DELETE", "/openai/threads/thread_1", &NONE)).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_forgets_owners_and_a_kept_store_does_not() {
    let estate = Estate::new();
    let kept = Arc::new(MemoryStore::new(100));
    let gateway = || estate.owned_by(kept.clone());
    let thread = id(&ok(&gateway(), call_as("a", "POST", "/openai/threads", &json!({}))).await);
    let read = || call_as("a", "GET", &format!("/openai/threads/{thread}"), &NONE);
    ok(&gateway(), read()).await;
    let fresh = estate.owned();
    assert_eq!(answered(&fresh, read()).await.1, 404);
}

const FORM: &str = "multipart/form-data; boundary=b";

fn part(name: &str, value: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n--b--\r\n")
}

/// A request of client `b` with a body of any kind.
fn of_b(path: &str, kind: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = call_as("b", "POST", path, &NONE);
    request.headers_mut().insert("content-type", kind.parse().unwrap());
    *request.body_mut() = body.into();
    request
}

#[tokio::test(start_paused = true)]
async fn no_kind_of_body_hides_it() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    let theirs = id(&ok(&gateway, call_as("a", "POST", "/openai/files", &json!({}))).await);
    let own = id(&ok(&gateway, call_as("b", "POST", "/openai/v1/containers", &json!({}))).await);
    let thread = id(&ok(&gateway, call_as("b", "POST", "/openai/threads", &json!({}))).await);
    let (files, messages) =
        (format!("/openai/v1/containers/{own}/files"), format!("/openai/threads/{thread}/messages"));
    let json = |id: &str| json!({"attachments": [{"file_id": id}]}).to_string();
    let tried = |id: &str| {
        [
            ("a field", of_b(&files, FORM, part("file_id", id))),
            ("a field of several", of_b(&files, FORM, part("file_ids[]", &format!("x, {id};y")))),
            ("a field's name", of_b(&files, FORM, part(id, "1"))),
            ("JSON in a field", of_b("/openai/v1/realtime/calls?model=gpt-4o", FORM, part("session", &json(id)))),
            ("broken JSON in a field", of_b(&files, FORM, part("options", &format!("{{\"file_id\":\"{id}\",}}")))),
            ("JSON that is called a form", of_b(&messages, FORM, json(id))),
            (
                "JSON that is called an offer",
                of_b("/openai/v1/realtime/calls?model=gpt-4o", "application/sdp", json(id)),
            ),
            ("a form of the web", of_b(&messages, "application/x-www-form-urlencoded", format!("file_id={id}"))),
            ("the query", call_as("b", "GET", &format!("{messages}?file_id={id}"), &NONE)),
            (
                "a list in the query",
                call_as("b", "GET", &format!("{messages}?include=a,{}", id.replace('-', "%2D")), &NONE),
            ),
            ("the path behind an own id", call_as("b", "GET", &format!("{files}/{id}/content"), &NONE)),
        ]
    };
    estate.forget_seen();
    for (how, request) in tried(&theirs) {
        assert_eq!(send(&gateway, request).await.status(), 404, "{how}");
    }
    let mut in_header = call_as("b", "GET", &messages, &NONE);
    in_header.headers_mut().insert("openai-file", theirs.parse().unwrap());
    assert_eq!(send(&gateway, in_header).await.status(), 404, "a header");
    assert_eq!(estate.counts(), [0, 0, 0], "no backend hears of it");
    for (how, request) in tried("file-nobodys") {
        send(&gateway, request).await;
        // Where an id belongs, one that this client did not make is refused.
        let passes = usize::from(!how.starts_with("a field") || how.ends_with("name"));
        assert_eq!(estate.seen().len(), passes, "{how}: what is nobody's passes where it is no id");
        estate.forget_seen();
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_is_known_whatever_it_is_built_of() {
    let estate = Estate::of(1);
    let store = Arc::new(MemoryStore::new(100));
    let gateway = estate.owned_by(store.clone());
    for id in
        ["thread_abcDEFghiJKLmnoPQRstuVWX", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "0123456789abcdef0123456789abcdef"]
    {
        let theirs = Remembered::on("b0").owner(Some("a".into()));
        store.remember(ObjectKey::of(id), theirs, std::time::Duration::from_secs(60)).await.unwrap();
        estate.plant(0, "threads", id);
        let nested = json!({"input": [{"content": [{"x": {"y": [id]}}]}]});
        assert_eq!(send(&gateway, call_as("b", "POST", RESPONSES, &nested)).await.status(), 404, "{id}");
        assert_eq!(send(&gateway, call_as("a", "POST", RESPONSES, &nested)).await.status(), 200, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_evaluation_of_what_is_stored_is_refused() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    let eval = id(&ok(&gateway, call_as("b", "POST", "/openai/v1/evals", &json!({"name": "e"}))).await);
    estate.forget_seen();
    for (path, body) in [
        ("/openai/v1/evals".to_owned(), json!({"data_source_config": {"type": "stored_completions"}})),
        ("/openai/v1/evals".to_owned(), json!({"data_source_config": {"type": "logs", "metadata": {"of": "a"}}})),
        (
            format!("/openai/v1/evals/{eval}/runs"),
            json!({"data_source": {"source": {"type": "responses", "model": "gpt-4o"}}}),
        ),
    ] {
        let (status, code) = error(send(&gateway, call_as("b", "POST", &path, &body)).await).await;
        assert_eq!((status, code.as_str()), (403, "operation_not_allowed"), "{path} {body}");
    }
    assert_eq!(estate.counts(), [0, 0, 0]);
    let of_items =
        json!({"data_source": {"source": {"type": "file_content", "content": [{"item": {"type": "logs"}}]}}});
    send(&gateway, call_as("b", "POST", &format!("/openai/v1/evals/{eval}/runs"), &of_items)).await;
    assert_eq!(estate.seen().len(), 1, "what the request itself brings is evaluated");
}

#[tokio::test(start_paused = true)]
async fn a_body_of_which_a_part_is_not_read_is_refused() {
    let estate = Estate::new();
    let gateway = estate.collecting(1_000);
    let long = format!("{}{}", "x".repeat(2_000), "\r\n--b--\r\n");
    let form = format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n{long}");
    assert_eq!(send(&gateway, of_b("/openai/v1/files", FORM, form)).await.status(), 413);
    assert_eq!(estate.counts(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn lists_share_one_account_of_memory() {
    let estate = Estate::of(1);
    (0..1_000).for_each(|i| estate.plant(0, "files", &format!("file-{i:04}")));
    let store = Arc::new(MemoryStore::new(100));
    let layer = OwnershipLayer::new(store.clone());
    let list = || call_as("b", "GET", "/openai/files?limit=1000", &NONE);
    let roomy = estate.stacked(Some(layer.clone()), estate.layer().store(store.clone()));
    assert_eq!(ok(&roomy, list()).await["data"], json!([]));
    let tight = estate.stacked(Some(layer.list_memory(60_000)), estate.layer().store(store));
    let refused = send(&tight, list()).await;
    assert!(header(&refused, "retry-after").is_some());
    assert_eq!(error(refused).await, (503, "overloaded".to_owned()));
    assert_eq!(ok(&tight, call_as("b", "GET", "/openai/files?limit=10", &NONE)).await["data"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn one_clients_objects_never_push_out_anothers() {
    let estate = Estate::new();
    let gateway = estate.owned_by(Arc::new(MemoryStore::new(50)));
    let make = async |client| id(&ok(&gateway, call_as(client, "POST", "/openai/threads", &json!({}))).await);
    for _ in 0..80 {
        make("a").await;
    }
    let mut own = Vec::new();
    for _ in 0..5 {
        own.push(make("b").await);
    }
    for _ in 0..200 {
        make("a").await;
    }
    for thread in own {
        ok(&gateway, call_as("b", "GET", &format!("/openai/threads/{thread}"), &NONE)).await;
    }
}
