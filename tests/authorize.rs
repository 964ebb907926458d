//! Clients are held to their aliases, however they spell them.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use futures_util::FutureExt;
use http::{Method, Request, Response};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::authorize::AuthorizeLayer;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, Route};
use tower_azure_openai::{Error, ErrorKind};

use support::{answer, chat};

fn restricted() -> Client {
    Client::new("team-a").allow(["gpt-4o", "a b"])
}

fn request(method: &str, uri: &str, client: Option<Client>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
    if let Some(client) = client {
        request.extensions_mut().insert(client);
    }
    request
}

/// Whether the request reaches the service below, or why not.
async fn authorize(request: Request<Body>) -> Result<(), ErrorKind> {
    let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(answer(200)));
    match AuthorizeLayer::new().layer(inner).oneshot(request).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::find(error.as_ref()).unwrap().kind()),
    }
}

#[tokio::test]
async fn an_alias_of_the_list_passes_and_no_other() {
    for (alias, expected) in [
        ("gpt-4o", Ok(())),
        ("a%20b", Ok(())),
        ("o3", Err(ErrorKind::AliasNotAllowed)),
        ("GPT-4o", Err(ErrorKind::AliasNotAllowed)),
        ("gpt-4o-mini", Err(ErrorKind::AliasNotAllowed)),
        ("gpt-4", Err(ErrorKind::AliasNotAllowed)),
        ("nobody-serves-this", Err(ErrorKind::AliasNotAllowed)),
    ] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let uri = format!("/openai/deployments/{alias}/chat/completions?api-version=2024-10-21");
            assert_eq!(authorize(request(method, &uri, Some(restricted()))).await, expected, "{method} {alias}");
        }
    }
}

#[tokio::test]
async fn who_is_not_held_to_a_list_passes() {
    for client in [None, Some(Client::new("team-b"))] {
        for uri in ["/openai/deployments/o3/chat/completions", "/openai/threads", "/openai/v1/responses", "/elsewhere"]
        {
            assert_eq!(authorize(request("POST", uri, client.clone())).await, Ok(()), "{uri}");
        }
    }
}

#[tokio::test]
async fn an_empty_list_allows_nothing() {
    let nobody = || Some(Client::new("team-c").allow::<&str>([]));
    for alias in ["gpt-4o", "o3"] {
        let uri = format!("/openai/deployments/{alias}/embeddings");
        assert_eq!(authorize(request("POST", &uri, nobody())).await, Err(ErrorKind::AliasNotAllowed));
    }
}

#[tokio::test]
async fn an_alias_is_the_same_however_it_is_encoded() {
    for (uri, expected) in [
        ("/openai/deployments/%67pt%2D4o/chat/completions", Ok(())),
        ("/openai/deployments/o%33/chat/completions", Err(ErrorKind::AliasNotAllowed)),
        ("/openai/deployments/%6f3/chat/completions", Err(ErrorKind::AliasNotAllowed)),
        ("/openai/deployments/gpt-4o%2533/chat/completions", Err(ErrorKind::AliasNotAllowed)),
        ("/openai/%64eployments/o3/chat/completions", Err(ErrorKind::AliasNotAllowed)),
        ("/openai/Deployments/o3/chat/completions", Err(ErrorKind::AliasNotAllowed)),
        ("/openai/deployments/gpt-4o%2F..%2Fo3/chat/completions", Err(ErrorKind::AmbiguousRequest)),
        ("/openai/deployments/gpt-4o/../o3/chat/completions", Err(ErrorKind::AmbiguousRequest)),
        ("/openai/deployments/gpt-4o/%2e%2e/o3/chat/completions", Err(ErrorKind::AmbiguousRequest)),
        ("/openai/deployments//o3/chat/completions", Err(ErrorKind::AmbiguousRequest)),
        ("/openai/deployments/gpt-4o%5C..%5Co3/chat/completions", Err(ErrorKind::AmbiguousRequest)),
        ("/openai/deployments/gpt-4o%00/chat/completions", Err(ErrorKind::AmbiguousRequest)),
        ("/OPENAI/deployments/gpt-4o/chat/completions", Err(ErrorKind::PathNotFound)),
        ("//openai/deployments/gpt-4o/chat/completions", Err(ErrorKind::PathNotFound)),
    ] {
        assert_eq!(authorize(request("POST", uri, Some(restricted()))).await, expected, "{uri}");
    }
}

#[tokio::test]
async fn calls_that_name_no_alias_pass_where_no_model_can_be_reached() {
    let allowed = [
        ("GET", "/openai/models"),
        ("HEAD", "/openai/models"),
        ("GET", "/openai/threads/thread_1"),
        ("DELETE", "/openai/assistants/asst_1"),
        ("POST", "/openai/files"),
        ("POST", "/openai/uploads"),
        ("POST", "/openai/uploads/upload_1/parts"),
        ("POST", "/openai/vector_stores"),
        ("POST", "/openai/v1/files"),
    ];
    for (method, uri) in allowed {
        assert_eq!(authorize(request(method, uri, Some(restricted()))).await, Ok(()), "{method} {uri}");
    }
    let refused = [
        ("POST", "/openai/threads"),
        ("POST", "/openai/threads/thread_1/runs"),
        ("POST", "/openai/assistants"),
        ("POST", "/openai/batches"),
        ("POST", "/openai/responses"),
        ("POST", "/openai/fine_tuning/jobs"),
        ("POST", "/openai/evals"),
        ("POST", "/openai/containers"),
        ("POST", "/openai/v1/chat/completions"),
        ("POST", "/openai/v1/responses"),
        ("POST", "/openai/unheard/of"),
        ("PUT", "/openai/unheard/of"),
        ("PATCH", "/openai/models"),
        ("OPTIONS", "/openai/models"),
        ("BREW", "/openai/models"),
        ("GET", "/openai/realtime?deployment=o3"),
        ("GET", "/openai/v1/realtime?model=o3"),
    ];
    for (method, uri) in refused {
        let refused = authorize(request(method, uri, Some(restricted()))).await;
        assert_eq!(refused, Err(ErrorKind::OperationNotAllowed), "{method} {uri}");
    }
}

#[tokio::test]
async fn the_route_that_inspection_found_decides() {
    let mut request = request("POST", "/openai/deployments/gpt-4o/embeddings", Some(restricted()));
    let found = Route::parse(&Method::POST, &"/openai/deployments/o3/embeddings".parse().unwrap()).unwrap();
    request.extensions_mut().insert(found);
    assert_eq!(authorize(request).await, Err(ErrorKind::AliasNotAllowed));
}

#[tokio::test]
async fn refusals_name_neither_client_nor_alias() {
    let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(answer(200)));
    let request = request("POST", "/openai/deployments/o3/embeddings", Some(restricted()));
    let message = AuthorizeLayer::new().layer(inner).oneshot(request).await.unwrap_err().to_string();
    assert!(!message.contains("team-a") && !message.contains("gpt-4o"), "{message}");
}

#[tokio::test]
async fn only_what_was_ready_is_called() {
    support::assert_keeps_the_readiness_contract(&AuthorizeLayer::new(), chat).await;
    let (mock, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let mut service = AuthorizeLayer::new().layer(mock);
    handle.allow(0);
    assert!(ServiceExt::<Request<Body>>::ready(&mut service).now_or_never().is_none());
}

#[tokio::test]
async fn cancellation_ends_the_request_below() {
    let (mock, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let mut sending = Box::pin(AuthorizeLayer::new().layer(mock).oneshot(chat()));
    assert!(sending.as_mut().now_or_never().is_none());
    let (_, respond) = handle.next_request().await.unwrap();
    drop(sending);
    respond.send_response(answer(200));
}
