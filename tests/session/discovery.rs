//! Ids that are not remembered.

use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::time::advance;

use super::estate::{COLLECTIONS, Estate, Trouble, answered, call, call_as, ok};
use super::support::{error, header, send, waits};

const NONE: Value = Value::Null;

#[tokio::test(start_paused = true)]
async fn a_restart_loses_nothing_that_can_be_read() {
    for (collection, prefix) in COLLECTIONS.into_iter().filter(|(collection, _)| *collection != "uploads") {
        for owner in 0..3 {
            let estate = Estate::new();
            let id = format!("{prefix}1");
            estate.plant(owner, collection, &id);
            let gateway = estate.gateway();
            let path = format!("/openai/{collection}/{id}/anything?api-version=2024-10-21");
            let (backend, status, _) = answered(&gateway, call("POST", &path, &json!({}))).await;
            assert_eq!((backend, status), (Some(format!("b{owner}")), 200), "{path}");

            let asked: Vec<_> = estate.seen().into_iter().filter(|seen| seen.method == Method::GET).collect();
            assert_eq!(asked.len(), 3, "each is asked once");
            for seen in asked {
                assert!(
                    seen.uri.ends_with(&format!("/openai/{collection}/{id}?api-version=2024-10-21")),
                    "{}",
                    seen.uri
                );
            }
            estate.forget_seen();
            ok(&gateway, call("GET", &path, &NONE)).await;
            assert_eq!(estate.counts().into_iter().sum::<usize>(), 1, "the owner is remembered");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_search_for_however_many_requests() {
    let estate = Estate::new();
    estate.plant(2, "threads", "thread_1");
    let gateway = estate.gateway();
    let requests =
        (0..50).map(|i| {
            let gateway = gateway.clone();
            async move {
                ok(&gateway, call_as(&format!("c{i}"), "POST", "/openai/threads/thread_1/messages", &json!({}))).await
            }
        });
    join_all(requests).await;
    assert_eq!(estate.counts(), [1, 1, 51]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_does_not_end_the_search() {
    let estate = Estate::new();
    estate.plant(1, "threads", "thread_1");
    let gateway = estate.gateway();
    let read = || call("GET", "/openai/threads/thread_1/messages", &NONE);
    {
        let mut first = Box::pin(send(&gateway, read()));
        assert!(futures_util::poll!(&mut first).is_pending());
    }
    ok(&gateway, read()).await;
    assert_eq!(estate.counts(), [1, 2, 1], "nobody is asked twice");
}

#[tokio::test(start_paused = true)]
async fn an_id_that_nobody_has_is_unknown_for_a_short_time() {
    let estate = Estate::new();
    let gateway = estate.gateway();
    let read = || call("GET", "/openai/threads/thread_1/messages", &NONE);
    for _ in 0..3 {
        let answer = send(&gateway, read()).await;
        assert_eq!(error(answer).await, (404, "not_found".to_owned()));
    }
    assert_eq!(estate.counts(), [1, 1, 1]);
    estate.plant(0, "threads", "thread_1");
    advance(Duration::from_millis(5001)).await;
    ok(&gateway, read()).await;
}

#[tokio::test(start_paused = true)]
async fn one_familys_unknown_id_is_no_other_familys() {
    let estate = Estate::new();
    estate.plant(0, "threads", "thread_1");
    let gateway = estate.gateway();
    let odd = call("GET", "/openai/videos/thread_1/content", &NONE);
    // The resources know every id by its text only, so this one is found; what counts is where it is looked for.
    let (_, _, _) = answered(&gateway, odd).await;
    assert!(estate.seen().iter().any(|seen| seen.uri.ends_with("/openai/videos/thread_1")));
}

#[tokio::test(start_paused = true)]
async fn while_somebody_cannot_answer_nothing_is_known() {
    for (trouble, status) in [(Trouble::Throttled(7), 429), (Trouble::Down, 503), (Trouble::Broken, 503)] {
        let estate = Estate::new();
        estate.trouble(1, Some(trouble));
        let gateway = estate.gateway();
        let read = || call("GET", "/openai/threads/thread_1", &NONE);
        let answer = send(&gateway, read()).await;
        assert!(waits(&answer).0.is_some());
        assert_eq!(error(answer).await, (status, "no_target_available".to_owned()), "{trouble:?}");

        estate.trouble(1, None);
        estate.plant(1, "threads", "thread_1");
        advance(Duration::from_secs(11)).await;
        ok(&gateway, read()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_one_that_has_it_need_not_wait_for_the_others() {
    let estate = Estate::new();
    estate.trouble(0, Some(Trouble::Down));
    estate.trouble(2, Some(Trouble::Throttled(7)));
    estate.plant(1, "threads", "thread_1");
    ok(&estate.gateway(), call("GET", "/openai/threads/thread_1", &NONE)).await;
}

#[tokio::test(start_paused = true)]
async fn at_most_four_ids_of_a_request_are_asked_for() {
    let estate = Estate::new();
    let files: Vec<_> = (0..20).map(|i| format!("file-{i}")).collect();
    files.iter().for_each(|id| estate.plant(1, "files", id));
    let gateway = estate.gateway();
    ok(&gateway, call("POST", "/openai/vector_stores", &json!({"file_ids": files}))).await;
    assert_eq!(estate.counts(), [4, 5, 4]);
}

#[tokio::test(start_paused = true)]
async fn calls_to_find_objects_are_bounded() {
    let estate = Estate::new();
    let gateway = estate.with(estate.layer().discover(Some(60)));
    let mut refused = 0;
    for i in 0..100 {
        let answer = send(&gateway, call("GET", &format!("/openai/threads/thread_{i}"), &NONE)).await;
        refused += usize::from(answer.status() == 503);
    }
    assert_eq!((estate.counts(), refused), (vec![10, 10, 10], 90));
}

#[tokio::test(start_paused = true)]
async fn one_client_leaves_half_of_the_searches_to_others() {
    let estate = Estate::new();
    estate.plant(1, "threads", "thread_of-b");
    let gateway = estate.with(estate.layer().discover(Some(30)));
    let unknown = |i: usize| call_as("a", "GET", &format!("/openai/threads/thread_{i}"), &NONE);
    for i in 0..40 {
        let status = send(&gateway, unknown(i)).await.status();
        assert_eq!(status, if i < 5 { 404 } else { 503 }, "{i}");
    }
    let refused = send(&gateway, unknown(40)).await;
    assert!(header(&refused, "retry-after-ms").is_some());
    assert_eq!(error(refused).await, (503, "overloaded".to_owned()));
    ok(&gateway, call_as("b", "GET", "/openai/threads/thread_of-b", &NONE)).await;
    advance(Duration::from_millis(200)).await;
    assert_eq!(send(&gateway, unknown(41)).await.status(), 404, "three more after a fifth of a second");
}

#[tokio::test(start_paused = true)]
async fn without_discovery_nobody_is_asked() {
    let estate = Estate::new();
    let gateway = estate.with(estate.layer().discover(None));
    answered(&gateway, call("GET", "/openai/threads/thread_1", &NONE)).await;
    assert_eq!(estate.counts().into_iter().sum::<usize>(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drained_backend_is_asked_too() {
    let estate = Estate::new();
    estate.plant(2, "threads", "thread_1");
    estate.pool.drain("b2").unwrap();
    let gateway = estate.gateway();
    let (backend, status, _) = answered(&gateway, call("GET", "/openai/threads/thread_1", &NONE)).await;
    assert_eq!((backend.as_deref(), status), (Some("b2"), 200));
    for client in 0..10 {
        let made = call_as(&format!("c{client}"), "POST", "/openai/threads", &json!({}));
        assert_ne!(answered(&gateway, made).await.0.as_deref(), Some("b2"), "nothing new is placed there");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_a_removed_backend_counts_no_more() {
    let estate = Estate::new();
    let gateway = estate.gateway();
    estate.plant(2, "threads", "thread_1");
    ok(&gateway, call("GET", "/openai/threads/thread_1", &NONE)).await;
    let left = Estate::of(2);
    let remaining = left.pool.backends().iter().fold(tower_azure_openai::pool::Pool::builder(), |pool, name| {
        pool.add_backend(
            tower_azure_openai::pool::Backend::new(&**name, format!("https://{name}.example"))
                .add_deployment(tower_azure_openai::pool::Deployment::new("gpt-4o")),
        )
    });
    estate.pool.replace(remaining).unwrap();
    let answer = send(&gateway, call("GET", "/openai/threads/thread_1", &NONE)).await;
    assert_eq!(error(answer).await, (404, "not_found".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_call_carries_nothing_of_the_client_but_its_version() {
    let estate = Estate::new();
    estate.plant(1, "threads", "thread_1");
    let mut request = call("GET", "/openai/threads/thread_1/messages?api-version=1&secret=x", &NONE);
    request.headers_mut().insert("x-secret", "x".parse().unwrap());
    request.headers_mut().insert("openai-beta", "assistants=v2".parse().unwrap());
    ok(&estate.gateway(), request).await;
    let asked: Vec<_> = estate.seen().into_iter().filter(|seen| !seen.uri.contains("messages")).collect();
    assert_eq!(asked.len(), 3);
    for seen in asked {
        let extra = |headers: &HeaderMap| headers.contains_key("x-secret");
        assert!(!extra(&seen.headers) && !seen.uri.contains("secret"), "{seen:?}");
        assert_eq!(seen.headers["openai-beta"], "assistants=v2");
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_clients_headers_find_out_is_told_to_nobody_else() {
    let estate = Estate::new();
    let gateway = estate.gateway();
    let read = |beta: &str| {
        let mut request = call("GET", "/openai/evals/eval_1", &NONE);
        request.headers_mut().insert("aoai-evals", beta.parse().unwrap());
        request
    };
    assert_eq!(error(send(&gateway, read("wrong")).await).await.0, 404);
    assert!(estate.seen().iter().all(|seen| seen.headers["aoai-evals"] == "wrong"), "the API requires it");
    estate.plant(1, "evals", "eval_1");
    assert_eq!(error(send(&gateway, read("wrong")).await).await.0, 404, "known for a while");
    ok(&gateway, read("preview")).await;
}
