//! A layer of the embedder between inspection and selection changes what was read: the request is right all the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::{Arc, Mutex};

use http::{HeaderMap, Request, Response, Uri};
use serde_json::{Value, json};
use tower::util::MapRequestLayer;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, BackendKind, Deployment, Pool};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;

use self::support::Stack;

type Seen = Arc<Mutex<Option<(Uri, HeaderMap, String)>>>;

/// A stack whose embedder changes requests in between; one backend, where `gpt-4o` is called `deployed` and `pictures` is `drawn`.
fn stack(
    kind: BackendKind,
    change: impl Fn(Request<Body>) -> Request<Body> + Clone + Send + Sync + 'static,
) -> (Stack, Seen) {
    let backend = Backend::new("east", "https://east.example").kind(kind);
    let backend = backend.add_deployment(Deployment::new("deployed").alias("gpt-4o"));
    let backend = backend.add_deployment(Deployment::new("drawn").alias("pictures"));
    let pool = Pool::builder().add_backend(backend).build().unwrap();
    let seen: Seen = Arc::default();
    let network = {
        let seen = seen.clone();
        service_fn(move |request: Request<Body>| {
            let seen = seen.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = support::bytes(Response::new(body)).await;
                let body = String::from_utf8(body.to_vec()).unwrap();
                *seen.lock().unwrap() = Some((parts.uri, parts.headers, body));
                Ok::<_, BoxError>(Response::new(Body::empty()))
            }
        })
    };
    let layers = (
        RespondLayer::new(),
        InspectLayer::new(),
        MapRequestLayer::new(change),
        FailoverLayer::new(),
        SelectBackendLayer::new(pool),
        ForwardLayer::new(),
    );
    (Stack::new(ServiceBuilder::new().layer(layers).service(network)), seen)
}

/// What the backend gets of a request whose body a layer in between has replaced.
async fn sent(kind: BackendKind, request: Request<String>, becomes: String) -> (Uri, HeaderMap, String) {
    let (stack, seen) = stack(kind, move |request| request.map(|_| Body::from(becomes.clone())));
    let answer = stack.oneshot(request.map(Body::from)).await.unwrap();
    let status = answer.status();
    let body = support::bytes(answer).await;
    assert_eq!(status, 200, "{body:?}");
    seen.lock().unwrap().take().unwrap()
}

fn post(path: &str, kind: &str, body: &str) -> Request<String> {
    let request = Request::post(path).header("content-type", kind).header("content-length", body.len());
    request.body(body.to_owned()).unwrap()
}

/// Bodies that a filter makes of one: shorter, longer, with its members in another order, and one in which the name stands where it
/// stood, and means something else there.
fn changed() -> [String; 4] {
    [
        json!({"model": "gpt-4o", "input": "x"}).to_string(),
        json!({"model": "gpt-4o", "input": "a longer text than there was", "user": "filtered"}).to_string(),
        r#"{ "input":["gpt-4o","\"model\":\"gpt-4o\""], "stream":false ,"model" : "gpt-4o" }"#.to_owned(),
        r#"{"input":"gpt-4o","model":"gpt-4o"}"#.to_owned(),
    ]
}

fn assert_length(headers: &HeaderMap, body: &str) {
    assert_eq!(headers["content-length"], body.len().to_string(), "{body}");
}

#[tokio::test(start_paused = true)]
async fn json_names_the_deployment_where_the_model_stands_now() {
    let original = r#"{"model":"gpt-4o","input":"gpt-4o"}"#;
    for path in ["/openai/v1/responses", "/openai/v1/embeddings", "/openai/v1/chat/completions"] {
        for kind in [BackendKind::Azure, BackendKind::OpenAi] {
            for becomes in changed() {
                let mut expected: Value = serde_json::from_str(&becomes).unwrap();
                expected["model"] = "deployed".into();
                let (_, headers, body) = sent(kind, post(path, "application/json", original), becomes).await;
                assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected, "{path} {kind:?}");
                assert_length(&headers, &body);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_in_the_path_leaves_the_body_as_it_became() {
    let path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    for becomes in changed() {
        let request = post(path, "application/json", r#"{"messages":[],"model":"gpt-4o"}"#);
        let (uri, headers, body) = sent(BackendKind::Azure, request, becomes).await;
        assert_eq!(uri.path(), "/openai/deployments/deployed/chat/completions");
        assert_length(&headers, &body);
        let request = post(path, "application/json", r#"{"messages":[]}"#);
        let (uri, headers, body) = sent(BackendKind::OpenAi, request, json!({"messages": [1, 2, 3]}).to_string()).await;
        assert_eq!(uri.path(), "/v1/chat/completions");
        let read: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(read, json!({"model": "deployed", "messages": [1, 2, 3]}));
        assert_length(&headers, &body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_form_names_it_where_its_field_stands_now() {
    let form = |fields: &[(&str, &str)]| {
        let part = |(name, value): &(&str, &str)| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        format!("{}--b--\r\n", fields.iter().map(part).collect::<String>())
    };
    let original = form(&[("model", "gpt-4o"), ("prompt", "gpt-4o")]);
    for fields in [
        vec![("prompt", "gpt-4o"), ("model", "gpt-4o")],
        vec![("model", "gpt-4o")],
        vec![("a", "a longer one than before"), ("model", "gpt-4o"), ("prompt", "gpt-4o")],
        // As long as `model`, so that the value stands where the name stood.
        vec![("title", "gpt-4o"), ("model", "gpt-4o")],
    ] {
        let request = post("/openai/v1/audio/transcriptions", "multipart/form-data; boundary=b", &original);
        let (_, headers, body) = sent(BackendKind::Azure, request, form(&fields)).await;
        let expected: Vec<_> =
            fields.iter().map(|(name, value)| (*name, if *name == "model" { "deployed" } else { *value })).collect();
        assert_eq!(body, form(&expected));
        assert_length(&headers, &body);
    }
}

#[tokio::test(start_paused = true)]
async fn further_deployments_are_found_where_they_stand_now() {
    let tools = json!([{"type": "image_generation", "model": "pictures"}]);
    let original = json!({"model": "gpt-4o", "tools": tools, "input": "pictures"}).to_string();
    let becomes =
        json!({"input": "pictures, pictures", "tools": tools, "model": "gpt-4o", "z": "pictures"}).to_string();
    let request = post("/openai/v1/responses", "application/json", &original);
    let (_, headers, body) = sent(BackendKind::Azure, request, becomes).await;
    let read: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&read["model"], &read["tools"][0]["model"]), (&json!("deployed"), &json!("drawn")));
    assert_eq!((&read["input"], &read["z"]), (&json!("pictures, pictures"), &json!("pictures")));
    assert_length(&headers, &body);
}

#[tokio::test(start_paused = true)]
async fn a_session_names_it_where_it_stands_now() {
    let original = json!({"session": {"type": "realtime", "model": "gpt-4o"}}).to_string();
    let becomes = json!({"expires_after": {"seconds": 60}, "session": {"instructions": "gpt-4o", "model": "gpt-4o"}});
    let request = post("/openai/v1/realtime/client_secrets", "application/json", &original);
    let (_, _, body) = sent(BackendKind::Azure, request, becomes.to_string()).await;
    let read: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(read["session"], json!({"instructions": "gpt-4o", "model": "deployed"}));
}

#[tokio::test(start_paused = true)]
async fn path_and_query_may_change_too() {
    for (becomes, expected) in [
        ("/openai/v1/realtime?trace=a-long-one&model=gpt-4o", "/openai/v1/realtime?trace=a-long-one&model=deployed"),
        ("/openai/v1/realtime?first=gpt-4o&model=gpt-4o", "/openai/v1/realtime?first=gpt-4o&model=deployed"),
    ] {
        let (stack, seen) = stack(BackendKind::Azure, move |mut request| {
            *request.uri_mut() = becomes.parse().unwrap();
            request
        });
        let request = Request::get("/openai/v1/realtime?model=gpt-4o").body(Body::empty()).unwrap();
        assert_eq!(stack.oneshot(request).await.unwrap().status(), 200, "{becomes}");
        let (uri, ..) = seen.lock().unwrap().take().unwrap();
        assert_eq!(uri.path_and_query().unwrap().as_str(), expected);
    }
    let (stack, seen) = stack(BackendKind::Azure, |mut request| {
        *request.uri_mut() = "/openai/deployments/gpt-4o/embeddings?api-version=1".parse().unwrap();
        request
    });
    let request = Request::post("/openai/deployments/gpt%2D4o/embeddings?api-version=1");
    let request = request.header("content-type", "application/json").body(Body::from("{}")).unwrap();
    assert_eq!(stack.oneshot(request).await.unwrap().status(), 200);
    let (uri, ..) = seen.lock().unwrap().take().unwrap();
    assert_eq!(uri.path(), "/openai/deployments/deployed/embeddings");
}
