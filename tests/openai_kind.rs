//! Backends that speak OpenAI's own form of the API, beside those of Azure and for the same requests.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, BackendKind, Credential, Deployment, Pool};
use tower_azure_openai::reissue::ReissueCredentialsLayer;
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;

const FORM: &str = "multipart/form-data; boundary=b";

struct Received {
    uri: String,
    headers: HeaderMap,
    body: String,
}

fn backend(name: &str) -> Backend {
    let backend =
        Backend::new(name, format!("https://{name}.example/at")).credential(Credential::api_key("k").unwrap());
    backend.add_deployment(Deployment::new("llama \"3\"").alias("gpt-4o"))
}

fn elsewhere() -> Backend {
    backend("elsewhere").kind(BackendKind::OpenAi)
}

/// Sends a request through the stack; the first of the backends answers 429 where there are several.
async fn send(backends: impl IntoIterator<Item = Backend>, request: Request<Body>) -> (StatusCode, Vec<Received>) {
    let pool = backends.into_iter().fold(Pool::builder(), |pool, backend| pool.add_backend(backend)).build().unwrap();
    let last = pool.targets("gpt-4o").len();
    let (sender, mut received) = mpsc::unbounded_channel();
    let backend = service_fn(move |request: Request<Body>| {
        let sender = sender.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
            sender.send(Received { uri: parts.uri.to_string(), headers: parts.headers, body })?;
            let status =
                if sender.strong_count() > 0 && parts.uri.host() == Some("azure") && last > 1 { 429 } else { 200 };
            Ok::<_, BoxError>(Response::builder().status(status).body(Body::empty())?)
        }
    });
    let service = ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(InspectLayer::new())
        .layer(FailoverLayer::new())
        .layer(SelectBackendLayer::new(pool))
        .layer(ForwardLayer::new())
        .layer(ReissueCredentialsLayer::new())
        .service(backend);
    let status = service.oneshot(request).await.unwrap().status();
    let mut seen = Vec::new();
    while let Ok(received) = received.try_recv() {
        seen.push(received);
    }
    (status, seen)
}

fn post(uri: &str, content_type: &str, body: &'static str) -> Request<Body> {
    Request::post(uri)
        .header(CONTENT_TYPE, content_type)
        .header(CONTENT_LENGTH, body.len())
        .body(Body::from(body))
        .unwrap()
}

#[tokio::test]
async fn a_path_loses_what_is_azures() {
    for (method, uri, expected) in [
        (Method::GET, "/openai/v1/files", "/v1/files"),
        (Method::GET, "/openai/v1/files?limit=2&api-version=preview&after=x", "/v1/files?limit=2&after=x"),
        (Method::GET, "/openai/files/file-1/content?api-version=2024-10-21", "/v1/files/file-1/content"),
        (Method::GET, "/openai/deployments/gpt-4o/threads/t?Api-Version=1", "/v1/threads/t"),
        (Method::GET, "/openai/v1/responses/r%31?stream=true", "/v1/responses/r%31?stream=true"),
        (Method::GET, "/openai/v1/realtime?model=gpt-4o", "/v1/realtime?model=llama%20%223%22"),
        (Method::GET, "/openai/realtime?api-version=1&deployment=gpt-4o&x=1", "/v1/realtime?model=llama%20%223%22&x=1"),
    ] {
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        let (status, seen) = send([elsewhere()], request).await;
        assert_eq!(status, StatusCode::OK, "{uri}");
        let expected = format!("https://elsewhere.example/at{expected}");
        assert_eq!(seen[0].uri, expected, "{uri}");
    }
}

#[tokio::test]
async fn the_name_that_stood_in_the_path_goes_into_the_body() {
    let chat = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    for (body, expected) in [
        (r#"{"messages":[]}"#, r#"{"model":"llama \"3\"","messages":[]}"#),
        ("{ }", r#"{"model":"llama \"3\"" }"#),
        (r#"{"messages":[],"model":"whatever"}"#, r#"{"messages":[],"model":"llama \"3\""}"#),
    ] {
        let (_, seen) = send([elsewhere()], post(chat, "application/json", body)).await;
        assert_eq!((&*seen[0].uri, &*seen[0].body), ("https://elsewhere.example/at/v1/chat/completions", expected));
        assert_eq!(seen[0].headers[CONTENT_LENGTH], expected.len().to_string());
    }
    let (_, seen) =
        send([elsewhere()], post("/openai/v1/chat/completions", "application/json", r#"{"model":"gpt-4o"}"#)).await;
    assert_eq!(seen[0].body, r#"{"model":"llama \"3\""}"#);
}

#[tokio::test]
async fn a_form_gets_the_name_as_its_first_part() {
    let uri = "/openai/deployments/gpt-4o/audio/transcriptions?api-version=1";
    let form = "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nsound\r\n--b--\r\n";
    let (_, seen) = send([elsewhere()], post(uri, FORM, form)).await;
    let name = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nllama \"3\"\r\n";
    assert_eq!(
        (&*seen[0].uri, &seen[0].body),
        ("https://elsewhere.example/at/v1/audio/transcriptions", &format!("{name}{form}"))
    );
    let named = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nx\r\n--b--\r\n";
    let (_, seen) = send([elsewhere()], post(uri, FORM, named)).await;
    assert_eq!(seen[0].body, named.replace("\r\nx\r\n", "\r\nllama \"3\"\r\n"));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_before_it_is_sent() {
    let chat = "/openai/deployments/gpt-4o/chat/completions";
    for (content_type, body) in [("application/json", "{"), ("application/json", "[]"), (FORM, "no form")] {
        let (status, seen) = send([elsewhere()], post(chat, content_type, body)).await;
        assert_eq!((status, seen.len()), (StatusCode::BAD_REQUEST, 0), "{body}");
    }
}

#[tokio::test]
async fn a_request_moves_from_azure_to_elsewhere_and_is_right_for_both() {
    let chat = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    let request = post(chat, "application/json", r#"{"messages":[]}"#);
    let azure = Backend::new("azure", "https://azure").credential(Credential::api_key("azure key").unwrap());
    let azure = azure.add_deployment(Deployment::new("ptu").alias("gpt-4o").model("gpt-4o"));
    let (status, seen) = send([azure, elsewhere().priority(1)], request).await;
    assert_eq!((status, seen.len()), (StatusCode::OK, 2));
    let [first, second] = &seen[..] else { panic!("two attempts") };
    assert_eq!(first.uri, "https://azure/openai/deployments/ptu/chat/completions?api-version=2024-10-21");
    assert_eq!((&*first.body, &first.headers["api-key"]), (r#"{"messages":[]}"#, &"azure key".parse().unwrap()));
    assert_eq!(second.uri, "https://elsewhere.example/at/v1/chat/completions");
    assert_eq!(second.body, r#"{"model":"llama \"3\"","messages":[]}"#);
    assert_eq!(second.headers[AUTHORIZATION], "Bearer k");
    assert!(second.headers[AUTHORIZATION].is_sensitive() && !second.headers.contains_key("api-key"));
}

#[tokio::test]
async fn where_to_look_next_leads_back_through_the_gateway() {
    let pool = Pool::builder().add_backend(elsewhere()).build().unwrap();
    let backend = service_fn(async |_: Request<Body>| {
        let answer = Response::builder().header(LOCATION, "https://elsewhere.example/at/v1/batches/b");
        answer.body(Body::empty()).map_err(BoxError::from)
    });
    let service = ReissueCredentialsLayer::new();
    let service = ServiceBuilder::new()
        .layer(SelectBackendLayer::new(pool))
        .layer(ForwardLayer::new())
        .layer(service)
        .service(backend);
    let answer = service.oneshot(Request::get("/openai/v1/batches").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.headers()[LOCATION], "/openai/v1/batches/b");
}

#[test]
fn an_endpoint_that_would_say_v1_twice_is_refused() {
    let wrong =
        Backend::new("b", "https://b.example/v1").kind(BackendKind::OpenAi).add_deployment(Deployment::new("m"));
    let error = Pool::builder().add_backend(wrong).build().unwrap_err();
    assert_eq!(error.to_string(), "endpoint of backend `b` must not end in /v1, which is put there");
}

#[tokio::test]
async fn what_openai_has_a_model_for_needs_none() {
    let azure = || Backend::new("azure", "https://azure").add_deployment(Deployment::new("gpt-4o"));
    for (path, body) in [
        ("responses", r#"{"prompt":{"id":"pmpt_1"}}"#),
        ("responses/input_tokens", r#"{"input":"x"}"#),
        ("images/generations", r#"{"prompt":"x"}"#),
        ("moderations", r#"{"input":"x","model":null}"#),
        ("videos", r#"{"prompt":"x"}"#),
    ] {
        let request = || post(&format!("/openai/v1/{path}"), "application/json", body);
        let (status, seen) = send([azure(), elsewhere()], request()).await;
        assert_eq!((status, seen.len()), (StatusCode::OK, 1), "{path}");
        assert_eq!((&*seen[0].uri, &*seen[0].body), (&*format!("https://elsewhere.example/at/v1/{path}"), body));
        let (status, seen) = send([azure()], request()).await;
        assert_eq!((status, seen.len()), (StatusCode::BAD_REQUEST, 0), "Azure has none: {path}");
    }
    let named = post("/openai/v1/embeddings", "application/json", r#"{"input":"x"}"#);
    let (status, seen) = send([elsewhere()], named).await;
    assert_eq!((status, seen.len()), (StatusCode::BAD_REQUEST, 0), "nobody has one for this");
}
