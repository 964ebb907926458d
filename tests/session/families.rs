//! Objects of every family, made and used by a client that keeps no cookies.

use serde_json::{Value, json};

use super::estate::{COLLECTIONS, Estate, answered, call, call_as, id, ok};
use super::support::{Stack, bytes, send};

const NONE: Value = Value::Null;

/// A client creates, lists and deletes an object of every family, another reads and uses it.
async fn live(estate: &Estate, client: &str, other: &str, gateways: &[Stack]) {
    let mut turn = 0;
    let mut gateway = || {
        turn += 1;
        &gateways[turn % gateways.len()]
    };
    let call = |method: &str, path: &str, body: &Value| call_as(client, method, path, body);
    for surface in ["/openai", "/openai/v1"] {
        for (collection, _) in COLLECTIONS {
            let path = format!("{surface}/{collection}");
            let made = id(&ok(gateway(), call("POST", &path, &json!({}))).await);
            let owner = Some(format!("b{}", estate.owner(&made)));
            for (method, path) in [
                ("GET", format!("{path}/{made}")),
                ("POST", format!("{path}/{made}/anything")),
                ("GET", format!("{path}/{made}/anything/inner_1")),
            ] {
                let (backend, status, _) = answered(gateway(), call_as(other, method, &path, &NONE)).await;
                assert_eq!((&backend, status), (&owner, 200), "{method} {path}");
            }
            let listed = ok(gateway(), call("GET", &path, &NONE)).await;
            assert!(
                listed["data"].as_array().unwrap().iter().any(|object| object["id"] == *made),
                "{path} lists {made}"
            );
            let (backend, status, _) = answered(gateway(), call("DELETE", &format!("{path}/{made}"), &NONE)).await;
            assert_eq!((backend, status), (owner, 200), "DELETE {path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_lands_on_the_owner() {
    for client in ["team-a", "team-b", "team-c", "team-d"] {
        let estate = Estate::new();
        live(&estate, client, "team-x", &[estate.gateway()]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_gateways_in_turn_find_the_owner() {
    // Uploads cannot be read with a GET: a gateway that did not see one made has only the client's home to go by.
    for client in ["team-a", "team-b", "team-c", "team-d"] {
        let estate = Estate::new();
        live(&estate, client, client, &[estate.gateway(), estate.gateway()]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn clients_are_spread_over_the_backends() {
    let estate = Estate::new();
    let gateway = estate.gateway();
    for client in 0..30 {
        ok(&gateway, call_as(&format!("client-{client}"), "POST", "/openai/threads", &json!({}))).await;
    }
    assert!(estate.counts().iter().all(|count| *count > 3), "{:?}", estate.counts());
}

#[tokio::test(start_paused = true)]
async fn a_run_needs_no_hint_from_the_client() {
    for client in 0..8 {
        let estate = Estate::new();
        let gateway = estate.gateway();
        let name = format!("client-{client}");
        let call = |method: &str, path: &str, body: &Value| call_as(&name, method, path, body);
        let assistant = id(&ok(&gateway, call("POST", "/openai/assistants", &json!({"model": "gpt-4o"}))).await);
        let file = id(&ok(&gateway, call("POST", "/openai/files", &NONE)).await);
        let store = id(&ok(&gateway, call("POST", "/openai/vector_stores", &json!({"file_ids": [file]}))).await);
        let thread = json!({"tool_resources": {"file_search": {"vector_store_ids": [store]}}});
        let thread = id(&ok(&gateway, call("POST", "/openai/threads", &thread)).await);
        let message = json!({"role": "user", "content": "hi", "attachments": [{"file_id": file}]});
        ok(&gateway, call("POST", &format!("/openai/threads/{thread}/messages"), &message)).await;
        ok(&gateway, call("POST", &format!("/openai/threads/{thread}/runs"), &json!({"assistant_id": assistant})))
            .await;
        let both = ok(&gateway, call("POST", "/openai/threads/runs", &json!({"assistant_id": assistant}))).await;
        let thread = both["thread_id"].as_str().unwrap();
        ok(&gateway, call("GET", &format!("/openai/threads/{thread}/messages"), &NONE)).await;
        assert_eq!(estate.counts().iter().filter(|count| **count > 0).count(), 1, "{:?}", estate.counts());
    }
}

mod responses {
    use super::*;

    const RESPONSES: &str = "/openai/v1/responses";

    /// The id of an answer, streamed or not.
    async fn turn(gateway: &Stack, body: &Value) -> (String, String) {
        let answer = send(gateway, call("POST", RESPONSES, body)).await;
        assert_eq!(answer.status(), 200);
        let text = String::from_utf8(bytes(answer).await.to_vec()).unwrap();
        let last = text.rsplit("data: ").next().unwrap();
        let value: Value = serde_json::from_str(last.trim()).unwrap();
        let answer = if value["response"].is_object() { &value["response"] } else { &value };
        (id(answer), answer["output"][0]["id"].as_str().unwrap().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_stays_where_it_began() {
        for stream in [false, true] {
            let estate = Estate::new();
            let gateway = estate.gateway();
            let mut parent = None;
            for _ in 0..20 {
                let body = json!({"input": "hi", "stream": stream, "previous_response_id": parent});
                parent = Some(turn(&gateway, &body).await.0);
            }
            assert_eq!(estate.counts().into_iter().sum::<usize>(), 20, "nobody is asked for what is known");
            assert_eq!(estate.counts().iter().filter(|count| **count > 0).count(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_of_items_stays_where_it_began() {
        let estate = Estate::new();
        let gateway = estate.gateway();
        let mut input = vec![json!({"role": "user", "content": "hi"})];
        for _ in 0..20 {
            let (_, item) = turn(&gateway, &json!({"input": input})).await;
            input.push(json!({"type": "reasoning", "id": item, "summary": []}));
        }
        assert_eq!(estate.counts().iter().filter(|count| **count > 0).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_stored_goes_anywhere() {
        let estate = Estate::new();
        let gateway = estate.gateway();
        for _ in 0..21 {
            turn(&gateway, &json!({"input": "hi", "store": false})).await;
        }
        assert_eq!(estate.counts(), [7, 7, 7], "a new response is free, and nothing is remembered of it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_chain_is_free_to_go_anywhere() {
        let estate = Estate::new();
        let gateway = estate.gateway();
        for _ in 0..9 {
            turn(&gateway, &json!({"input": "hi"})).await;
        }
        assert_eq!(estate.counts(), [3, 3, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_goes_on_after_a_restart() {
        let estate = Estate::new();
        let parent = turn(&estate.gateway(), &json!({"input": "hi"})).await.0;
        let owner = estate.owner(&parent);
        let child = turn(&estate.gateway(), &json!({"input": "hi", "previous_response_id": parent})).await.0;
        assert_eq!(estate.owner(&child), owner);
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_that_is_not_found_yet_is_asked_for_once_more() {
        let estate = Estate::new();
        let gateway = estate.gateway();
        let parent = turn(&gateway, &json!({"input": "hi", "stream": true})).await.0;
        estate.trouble(estate.owner(&parent), Some(super::super::estate::Trouble::MissesParent));
        let child = turn(&gateway, &json!({"input": "hi", "previous_response_id": parent})).await.0;
        assert_eq!(estate.owner(&child), estate.owner(&parent));
        assert_eq!(estate.counts().into_iter().sum::<usize>(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stored_chat_completion_is_found_again() {
        let estate = Estate::new();
        let gateway = estate.gateway();
        let chat = "/openai/deployments/gpt-4o/chat/completions?api-version=1";
        let made = id(&ok(&gateway, call("POST", chat, &json!({"messages": [], "store": true}))).await);
        estate.forget_seen();
        ok(&gateway, call("GET", &format!("/openai/v1/chat/completions/{made}"), &NONE)).await;
        assert_eq!(estate.counts().into_iter().sum::<usize>(), 1, "without being asked for");
    }
}
