//! Bodies of which only the beginning is in hand when they are sent on.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::Target;

use super::estate::Estate;
use super::support::{Stack, bytes, chunked, send};

const LIMIT: usize = 4 << 10;

fn gateway(estate: &Estate) -> Stack {
    estate.inspected(InspectLayer::new().replay_limit(LIMIT), None, estate.layer())
}

/// The backend that a body goes to whose length is announced, or not.
async fn goes_to(gateway: &Stack, path: &str, text: &str, is_announced: bool) -> String {
    let request = Request::post(path).header("content-type", "application/json");
    let request = if is_announced { request.header("content-length", text.len()) } else { request };
    let chunks: Vec<_> = text.as_bytes().chunks(700).map(Bytes::copy_from_slice).collect();
    let mut request = request.body(chunked(chunks)).unwrap();
    request.extensions_mut().insert(Client::new("team-a"));
    let answer = send(gateway, request).await;
    let backend = answer.extensions().get::<Target>().map(|target| target.backend().to_owned());
    bytes(answer).await;
    backend.unwrap_or_default()
}

/// A body of a call, with the member that names an object first or last.
fn body(named: &Value, is_first: bool) -> String {
    let named = named.to_string();
    let named = named.trim_matches(['{', '}']);
    let filler = "x".repeat(4 * LIMIT);
    let filler = format!(r#""model":"gpt-4o","content":"{filler}""#);
    if is_first { format!("{{{named},{filler}}}") } else { format!("{{{filler},{named}}}") }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_a_body_begins_with_is_where_it_goes() {
    let estate = Estate::new();
    estate.plant(2, "files", "file-there");
    estate.plant(2, "responses", "resp_there");
    estate.plant(2, "threads", "thread_there");
    for (path, named) in [
        ("/openai/v1/responses", json!({"previous_response_id": "resp_there"})),
        ("/openai/v1/responses", json!({"input": [{"content": [{"type": "input_file", "file_id": "file-there"}]}]})),
        ("/openai/v1/threads", json!({"messages": [{"attachments": [{"file_id": "file-there"}]}]})),
        ("/openai/v1/vector_stores", json!({"file_ids": ["file-there"]})),
    ] {
        for is_announced in [false, true] {
            for _ in 0..3 {
                // Nothing is remembered, so that each finds out for itself.
                let backend = goes_to(&gateway(&estate), path, &body(&named, true), is_announced).await;
                assert_eq!(backend, "b2", "{path} {named} {is_announced}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_stands_behind_it_leads_nowhere() {
    let estate = Estate::new();
    estate.plant(2, "responses", "resp_there");
    let gateway = gateway(&estate);
    let late = body(&json!({"previous_response_id": "resp_there"}), false);
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(goes_to(&gateway, "/openai/v1/responses", &late, true).await);
    }
    backends.sort();
    assert_eq!(backends, ["b0", "b1", "b2"], "as if it named nothing");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_cut_in_the_middle_of_an_id_names_none() {
    let estate = Estate::new();
    let gateway = gateway(&estate);
    for at in LIMIT - 40..LIMIT + 10 {
        let filler = "x".repeat(at);
        let text = format!(
            r#"{{"model":"gpt-4o","instructions":"{filler}","previous_response_id":"resp_of_nobody","more":"{}"}}"#,
            "y".repeat(2 * LIMIT)
        );
        let request = Request::post("/openai/v1/responses").body(Body::from(text.into_bytes())).unwrap();
        let status = send(&gateway, request).await.status();
        assert!([200, 400, 404].contains(&status.as_u16()), "{at}: {status}");
    }
    let asked: Vec<_> = estate.seen().into_iter().filter(|seen| seen.method == "GET").map(|seen| seen.uri).collect();
    assert!(asked.iter().all(|uri| uri.ends_with("/resp_of_nobody")), "{asked:?}");
}
