//! What somebody may send who holds a key of the gateway.

use http::{HeaderValue, Request};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::session::{MemoryStore, ObjectKey, Remembered, SESSION_HEADER, SessionCookie, SessionStore};

use super::estate::{Estate, call, send_to};
use super::support::send;

const NONE: Value = Value::Null;

/// Every request that a backend received goes to a path of the API.
fn assert_only_api_paths(estate: &Estate) {
    for seen in estate.seen() {
        let uri: http::Uri = seen.uri.parse().unwrap();
        assert!(uri.host().is_some_and(|host| host.ends_with(".example")), "{uri}");
        let has_dots = uri.path().split('/').any(|segment| matches!(segment, "." | ".."));
        assert!(uri.path().starts_with("/openai/") && !has_dots, "{uri}");
    }
}

fn odd_ids() -> Vec<String> {
    let mut ids: Vec<_> = [
        "..",
        ".",
        "../files",
        "a/b",
        "a%2fb",
        "a%2e%2e",
        "a?b=c",
        "a#b",
        "a&b",
        "a b",
        "a\u{0}b",
        "a\nb",
        "ä",
        "\u{1f600}",
        "@evil.example",
        "//evil.example/",
        "https://evil.example/",
        "thread_1\r\nhost: evil",
        "a\\b",
        "resp_",
        "file-",
        "",
    ]
    .map(str::to_owned)
    .into();
    ids.push("x".repeat(10 * 1024));
    ids.push(format!("thread_{}", "%41".repeat(4_000)));
    ids
}

#[tokio::test(start_paused = true)]
async fn odd_ids_lead_nowhere() {
    for is_owned in [false, true] {
        let estate = Estate::new();
        let gateway = if is_owned { estate.owned() } else { estate.gateway() };
        for odd in odd_ids() {
            for key in ["thread_id", "assistant_id", "previous_response_id", "conversation", "file_id", "container"] {
                let answer = send(&gateway, call("POST", "/openai/v1/responses", &json!({key: odd}))).await;
                assert!(!answer.status().is_server_error(), "{key}: {odd:.40?}");
            }
            let encoded: String = odd.bytes().map(|byte| format!("%{byte:02x}")).collect();
            for path in [
                format!("/openai/threads/{odd}"),
                format!("/openai/threads/{encoded}"),
                format!("/openai/files?after={odd}"),
            ] {
                let Ok(uri) = path.parse::<http::Uri>() else { continue };
                let mut request = Request::get(uri).body(Body::empty()).unwrap();
                request.extensions_mut().insert(Client::new("a"));
                let answer = send(&gateway, request).await;
                assert!(!answer.status().is_server_error(), "{path:.60}");
            }
        }
        assert_only_api_paths(&estate);
    }
}

#[tokio::test(start_paused = true)]
async fn an_odd_api_version_is_not_passed_on() {
    let estate = Estate::new();
    let gateway = estate.gateway();
    for version in ["1%26x=y", "1%0d%0a", "..%2f", "%3f", "1%23"] {
        send(&gateway, call("GET", &format!("/openai/threads/thread_{}?api-version={version}", version.len()), &NONE))
            .await;
    }
    assert_only_api_paths(&estate);
    assert!(estate.seen().iter().all(|seen| !seen.uri.contains('?')), "{:?}", estate.seen());
}

#[tokio::test(start_paused = true)]
async fn odd_headers_make_no_difference() {
    let estate = Estate::new();
    let gateway = estate.with(estate.layer().cookie(SessionCookie::with_random_key().unwrap()));
    for value in [&b""[..], b"\xff\xfe", b"aoai-session", b"aoai-session=;;;==", &[b'x'; 30_000]] {
        let mut request = call("POST", "/openai/threads", &json!({}));
        request.headers_mut().insert("cookie", HeaderValue::from_bytes(value).unwrap());
        request.headers_mut().insert(SESSION_HEADER, HeaderValue::from_bytes(value).unwrap());
        assert_eq!(send(&gateway, request).await.status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_ids_are_refused_or_ignored() {
    let ids: Vec<_> = (0..1_000).map(|i| format!("file-{i}")).collect();
    let estate = Estate::new();
    let strict = estate.owned();
    let create = || call("POST", "/openai/vector_stores", &json!({"file_ids": ids}));
    assert_eq!(send(&strict, create()).await.status(), 400);
    send(&estate.gateway(), create()).await;
    assert_eq!(estate.counts().into_iter().sum::<usize>(), 1, "nobody is asked for any of them");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_path_query_or_body_makes_it_panic(path in "[a-z_/%0-9]{0,40}", query in "[ -~&&[^#]]{0,40}", body in any::<Vec<u8>>()) {
        let Ok(uri) = format!("/openai/{path}?{query}").parse::<http::Uri>() else { return Ok(()) };
        for is_owned in [false, true] {
            let estate = Estate::new();
            let gateway = if is_owned { estate.owned() } else { estate.gateway() };
            let request = Request::post(uri.clone()).body(Body::from(body.clone())).unwrap();
            let status = send_to(gateway, request);
            prop_assert_ne!(status, 500);
            assert_only_api_paths(&estate);
        }
    }
}

#[test]
fn a_hundred_thousand_ids_fit_in_forty_mebibytes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let memory = allocation_counter::measure(|| {
        let store = MemoryStore::new(100_000);
        for i in 0..150_000 {
            let object = Remembered::on(format!("backend-{i}")).owner(Some(format!("client-{i}").into()));
            let id = ObjectKey::of(&format!("thread_{i}"));
            runtime.block_on(store.remember(id, object, std::time::Duration::from_secs(60))).unwrap();
        }
        std::mem::forget(store);
    });
    assert!(memory.bytes_current < 40 << 20, "{} bytes, with names of their own for each id", memory.bytes_current);
}
