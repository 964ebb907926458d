//! What leads where, and what becomes of a pin that cannot be followed.

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tokio::time::advance;
use tower_azure_openai::body::Body;
use tower_azure_openai::session::{SESSION_HEADER, WhenUnavailable};

use super::estate::{Estate, Trouble, answered, call, id, ok};
use super::support::{error, json, send, waits};

const NONE: Value = Value::Null;
const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=1";

fn named(session: &str, mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert(SESSION_HEADER, session.parse().unwrap());
    request
}

fn index(backend: Option<&str>) -> usize {
    backend.unwrap().trim_start_matches('b').parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_cannot_serve_is_waited_for() {
    for (trouble, wait) in [(Trouble::Throttled(7), Some("7000")), (Trouble::Down, None)] {
        let estate = Estate::new();
        let gateway = estate.gateway();
        let thread = id(&ok(&gateway, call("POST", "/openai/threads", &json!({}))).await);
        let owner = estate.owner(&thread);
        let messages = || call("POST", &format!("/openai/threads/{thread}/messages"), &json!({}));
        estate.trouble(owner, Some(trouble));
        estate.forget_seen();
        for _ in 0..8 {
            let answer = send(&gateway, messages()).await;
            assert_eq!(answer.status(), 429, "{trouble:?}");
            let hint = waits(&answer).0.unwrap().to_owned();
            assert!(wait.is_none_or(|wait| wait == hint), "{hint}");
        }
        let elsewhere: usize = estate.counts().iter().enumerate().filter(|(i, _)| *i != owner).map(|(_, n)| n).sum();
        assert_eq!(elsewhere, 0, "no request goes elsewhere");

        estate.trouble(owner, None);
        advance(Duration::from_secs(61)).await;
        ok(&gateway, messages()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn ids_of_two_backends_do_not_go_together() {
    let estate = Estate::new();
    estate.plant(0, "threads", "thread_1");
    estate.plant(1, "assistants", "asst_1");
    let run = call("POST", "/openai/threads/thread_1/runs", &json!({"assistant_id": "asst_1"}));
    let answer = send(&estate.gateway(), run).await;
    assert_eq!(answer.status(), 400);
    let said = json(answer).await;
    assert_eq!(said["error"]["code"], "ids_on_different_backends");
    let message = said["error"]["message"].as_str().unwrap();
    assert!(message.contains("thread_1") && message.contains("asst_1"), "{message}");
    assert!(!message.contains("b0") && !message.contains("b1"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_alias_that_the_owner_does_not_serve_is_not_found() {
    let estate = Estate::new();
    estate.plant(0, "responses", "resp_1");
    let path = "/openai/deployments/other/responses?api-version=1";
    let answer = send(&estate.gateway(), call("POST", path, &json!({"previous_response_id": "resp_1"}))).await;
    assert_eq!(error(answer).await, (404, "DeploymentNotFound".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_home_that_is_down_is_passed_over_by_all_that_follows() {
    let estate = Estate::new();
    let gateway = estate.gateway();
    let make = |path: &str| call("POST", path, &json!({}));
    let home = index(answered(&gateway, make("/openai/threads")).await.0.as_deref());
    estate.trouble(home, Some(Trouble::Down));
    let next = answered(&gateway, make("/openai/threads")).await.0;
    assert_ne!(index(next.as_deref()), home);
    for path in ["/openai/assistants", "/openai/files", "/openai/vector_stores"] {
        assert_eq!(answered(&gateway, make(path)).await.0, next, "{path}");
    }
    estate.trouble(home, None);
    estate.pool.drain(&format!("b{home}")).unwrap();
    assert_eq!(answered(&gateway, make("/openai/threads")).await.0, next, "as is one that is drained");
}

#[tokio::test(start_paused = true)]
async fn a_home_that_is_throttled_is_waited_for_or_left() {
    for (when, status) in [(WhenUnavailable::Refuse, 429), (WhenUnavailable::Move, 200)] {
        let estate = Estate::new();
        let gateway = estate.with(estate.layer().when_unavailable(when));
        let make = || call("POST", "/openai/threads", &json!({}));
        let home = index(answered(&gateway, make()).await.0.as_deref());
        estate.trouble(home, Some(Trouble::Throttled(7)));
        for _ in 0..2 {
            assert_eq!(answered(&gateway, make()).await.1, status, "{when:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_named_session_stays_together() {
    let estate = Estate::new();
    let gateway = estate.gateway();
    let mut used = std::collections::BTreeSet::new();
    for session in 0..12 {
        let session = format!("session-{session}");
        let mut here = std::collections::BTreeSet::new();
        for _ in 0..4 {
            here.insert(answered(&gateway, named(&session, call("POST", CHAT, &json!({"messages": []})))).await.0);
            here.insert(answered(&gateway, named(&session, call("POST", "/openai/threads", &json!({})))).await.0);
        }
        assert_eq!(here.len(), 1, "{session}");
        used.extend(here);
    }
    assert_eq!(used.len(), 3, "sessions are spread");
    assert!(estate.seen().iter().all(|seen| !seen.headers.contains_key(SESSION_HEADER)), "the name is the gateway's");
}

#[tokio::test(start_paused = true)]
async fn a_named_session_is_refused_or_moves_for_good() {
    let chat = || named("s", call("POST", CHAT, &json!({"messages": []})));
    let estate = Estate::new();
    let gateway = estate.gateway();
    let first = index(answered(&gateway, chat()).await.0.as_deref());
    estate.trouble(first, Some(Trouble::Throttled(7)));
    assert_eq!(send(&gateway, chat()).await.status(), 429);

    let moving = estate.with(estate.layer().when_unavailable(WhenUnavailable::Move));
    let second = answered(&moving, chat()).await.0;
    assert_ne!(index(second.as_deref()), first);
    estate.trouble(first, None);
    advance(Duration::from_secs(61)).await;
    assert_eq!(answered(&moving, chat()).await.0, second, "what it left is not gone back to");
}

#[tokio::test(start_paused = true)]
async fn an_id_is_stronger_than_a_name() {
    let estate = Estate::new();
    let gateway = estate.gateway();
    for owner in 0..3 {
        let thread = format!("thread_{owner}");
        estate.plant(owner, "threads", &thread);
        let read = call("GET", &format!("/openai/threads/{thread}"), &NONE);
        assert_eq!(index(answered(&gateway, named("s", read)).await.0.as_deref()), owner);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_learned_from_failures() {
    let estate = Estate::new();
    let gateway = estate.gateway();
    let thread = id(&ok(&gateway, call("POST", "/openai/threads", &json!({}))).await);
    ok(&gateway, call("DELETE", &format!("/openai/threads/{thread}"), &NONE)).await;
    estate.forget_seen();
    let answer = send(&gateway, call("GET", &format!("/openai/threads/{thread}"), &NONE)).await;
    assert_eq!(error(answer).await, (404, "not_found".to_owned()), "what was deleted is forgotten");
    assert_eq!(estate.counts(), [1, 1, 1]);
}

mod alone {
    use http::Response;
    use tower::{BoxError, Layer as _, ServiceExt, service_fn};
    use tower_azure_openai::pool::Pin;

    use super::*;
    use crate::support::assert_keeps_the_readiness_contract;

    #[tokio::test(start_paused = true)]
    async fn it_only_says_where() {
        let estate = Estate::new();
        let tell = service_fn(async |request: Request<Body>| {
            let pin = request.extensions().get::<Pin>().map(|pin| format!("{:?} {:?}", pin.strength(), pin.backends()));
            Ok::<_, BoxError>(Response::new(Body::from(pin.unwrap_or_default())))
        });
        let service = estate.layer().layer(tell);
        let body = async |request: Request<Body>| {
            let answer = service.clone().oneshot(request).await.unwrap();
            String::from_utf8(crate::support::bytes(answer).await.to_vec()).unwrap()
        };
        assert_eq!(body(Request::post(CHAT).body(Body::from("{}")).unwrap()).await, "");
        let home = body(Request::post("/openai/threads").body(Body::empty()).unwrap()).await;
        assert!(home.starts_with("Preferred") && home.contains("b2"), "{home}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_readiness_contract() {
        let layer = Estate::new().layer();
        assert_keeps_the_readiness_contract(&layer, || call("POST", "/openai/threads", &json!({}))).await;
        assert_keeps_the_readiness_contract(&layer, || call("POST", CHAT, &json!({"messages": []}))).await;
    }
}
