//! Deployments that a request names beside its own: authorised, used in selection, and rewritten for each backend.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::util::MapRequestLayer;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::azure::operation::Operation;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, Deployment, Pool};
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::terminate::TerminateCredentialsLayer;
use tower_azure_openai::{Error, ErrorKind, gateway};

const IMAGES: &str = "x-ms-oai-image-generation-deployment";

/// What a backend saw.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    backend: String,
    query: Option<String>,
    image: Option<String>,
    body: Bytes,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// `a` and `b` serve `chat`, each with `img` and `ada` under names of its own; `c`, which is tried first, has only `chat`.
fn pool() -> Pool {
    let at = |name: &str, deployments: &[(&str, &str)]| {
        let backend = Backend::new(name, format!("https://{name}.example"));
        deployments.iter().fold(backend, |backend, (deployment, alias)| {
            backend.add_deployment(Deployment::new(*deployment).alias(*alias))
        })
    };
    Pool::builder()
        .add_backend(at("c", &[("chat-c", "chat")]))
        .add_backend(
            at("a", &[("chat-a", "chat"), ("img-a", "img"), ("ada \"a\"", "ada"), ("say-a", "say")]).priority(1),
        )
        .add_backend(at("b", &[("chat-b", "chat"), ("img-b", "img"), ("ada-b", "ada")]).priority(2))
        .add_alias_name("img", "img-2025")
        .build()
        .unwrap()
}

/// Sends a request through the usual stack; `a` is throttled where the test says so.
async fn send(client: Option<Client>, request: Request<Body>, throttled: bool) -> (StatusCode, Vec<Seen>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let backends = service_fn({
        let seen = seen.clone();
        move |request: Request<Body>| {
            let seen = seen.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                if let Some(length) = parts.headers.get(CONTENT_LENGTH) {
                    assert_eq!(length.to_str().unwrap(), body.len().to_string());
                }
                let backend = parts.uri.host().unwrap().split_once('.').unwrap().0.to_owned();
                let status = if throttled && backend == "a" { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
                let image = parts.headers.get(IMAGES).map(|value| value.to_str().unwrap().to_owned());
                let query = parts.uri.query().map(str::to_owned);
                seen.lock().unwrap().push(Seen { backend, query, image, body });
                Ok::<_, BoxError>(Response::builder().status(status).body(Body::empty()).unwrap())
            }
        }
    });
    let stack = gateway::builder(pool(), TerminateCredentialsLayer::without_clients()).build(backends);
    let mut request = request;
    if let Some(client) = client {
        request.extensions_mut().insert(client);
    }
    let status = stack.oneshot(request).await.unwrap().status();
    let seen = seen.lock().unwrap().clone();
    (status, seen)
}

fn post(path: &str, body: &Value) -> Request<Body> {
    let body = body.to_string();
    let request = Request::post(path).header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, body.len());
    request.body(Body::from(body)).unwrap()
}

fn draw(image: &str) -> Request<Body> {
    let tools = json!([{ "type": "web_search" }, { "type": "image_generation", "model": image, "size": "auto" }]);
    post("/openai/v1/responses", &json!({ "model": "chat", "input": "img", "store": false, "tools": tools }))
}

fn with_header(image: &str) -> Request<Body> {
    let mut request = post("/openai/v1/responses", &json!({ "model": "chat", "input": "draw", "store": false }));
    request.headers_mut().insert(IMAGES, image.parse().unwrap());
    request
}

fn on_your_data(path: &str, embedding: &str) -> Request<Body> {
    let embedding = json!({ "type": "deployment_name", "deployment_name": embedding });
    let source = json!({ "type": "azure_search", "parameters": { "embedding_dependency": embedding } });
    post(path, &json!({ "model": "chat", "messages": [], "data_sources": [source] }))
}

fn session(transcription: &str) -> Request<Body> {
    let audio = json!({ "input": { "transcription": { "model": transcription, "language": "de" } } });
    post(
        "/openai/v1/realtime/client_secrets",
        &json!({ "session": { "type": "realtime", "model": "chat", "audio": audio } }),
    )
}

#[tokio::test]
async fn each_is_written_as_the_backend_calls_it() {
    let (_, seen) = send(None, draw("img"), false).await;
    assert_eq!((seen.len(), &*seen[0].backend), (1, "a"), "not to the backend without images");
    let body = seen[0].json();
    assert_eq!((&body["model"], &body["tools"][1]["model"]), (&json!("chat-a"), &json!("img-a")));
    assert_eq!(body["input"], "img");

    let (_, seen) = send(None, with_header("img-2025"), false).await;
    assert_eq!((&*seen[0].backend, seen[0].image.as_deref()), ("a", Some("img-a")), "by a further name of the alias");

    for path in ["/openai/v1/chat/completions", "/openai/deployments/chat/chat/completions?api-version=2024-10-21"] {
        let (_, seen) = send(None, on_your_data(path, "ada"), false).await;
        let name = &seen[0].json()["data_sources"][0]["parameters"]["embedding_dependency"]["deployment_name"];
        assert_eq!((&*seen[0].backend, name), ("a", &json!("ada \"a\"")), "{path}");
    }

    let (_, seen) = send(None, session("say"), false).await;
    let body = seen[0].json();
    assert_eq!(body["session"]["model"], "chat-a");
    assert_eq!(body["session"]["audio"]["input"]["transcription"], json!({ "model": "say-a", "language": "de" }));
}

#[tokio::test]
async fn the_next_backend_gets_its_own_names() {
    for (request, image) in [(draw("img"), None), (with_header("img"), Some("img-b"))] {
        let (status, seen) = send(None, request, true).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(seen.iter().map(|seen| &*seen.backend).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((&seen[1].json()["model"], seen[1].image.as_deref()), (&json!("chat-b"), image));
        assert!(image.is_some() || seen[1].json()["tools"][1]["model"] == "img-b");
    }
    let (status, seen) = send(None, session("say"), true).await;
    assert_eq!((status, seen.len()), (StatusCode::TOO_MANY_REQUESTS, 1), "nobody else serves both");
}

#[tokio::test]
async fn what_nobody_serves_passes_unless_the_client_is_held_to_a_list() {
    let held = || Some(Client::new("held").allow(["chat", "img"]));
    let (status, seen) = send(None, draw("gpt-image-1"), false).await;
    assert_eq!((status, &seen[0].json()["tools"][1]["model"]), (StatusCode::OK, &json!("gpt-image-1")));
    let (_, seen) = send(None, with_header("unknown"), false).await;
    assert_eq!(seen[0].image.as_deref(), Some("unknown"));

    for request in [
        draw("gpt-image-1"),
        with_header("unknown"),
        with_header("ada"),
        on_your_data("/openai/v1/chat/completions", "ada"),
        session("say"),
    ] {
        let (status, seen) = send(held(), request, false).await;
        assert_eq!((status, seen.len()), (StatusCode::FORBIDDEN, 0));
    }
    for request in [draw("img"), with_header("img")] {
        assert_eq!(send(held(), request, false).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_client_is_served_by_what_its_names_stand_for() {
    let routed = Client::new("routed").allow(["chat", "paint"]).route("paint", "img");
    let (status, seen) = send(Some(routed), draw("paint"), false).await;
    assert_eq!((status, &seen[0].json()["tools"][1]["model"]), (StatusCode::OK, &json!("img-a")));
}

#[tokio::test]
async fn no_backend_with_all_of_them_is_no_backend() {
    let (status, seen) = send(None, draw("say"), true).await;
    assert_eq!((status, seen.len()), (StatusCode::TOO_MANY_REQUESTS, 1));
    let pool = Pool::builder()
        .add_backend(Backend::new("x", "https://x.example").add_deployment(Deployment::new("chat")))
        .add_backend(Backend::new("y", "https://y.example").add_deployment(Deployment::new("img")))
        .build()
        .unwrap();
    let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
    let stack = (InspectLayer::new(), SelectBackendLayer::new(pool)).layer(inner);
    let error = stack.oneshot(draw("img")).await.unwrap_err();
    assert_eq!(Error::find(error.as_ref()).map(Error::kind), Some(ErrorKind::DeploymentNotFound));
}

#[tokio::test]
async fn a_transcription_session_is_served_by_its_transcription() {
    let audio = json!({ "input": { "transcription": { "model": "say" } } });
    let body = json!({ "session": { "type": "transcription", "audio": audio } });
    let held = Client::new("held").allow(["say"]);
    for client in [None, Some(held)] {
        let (status, seen) = send(client, post("/openai/v1/realtime/client_secrets", &body), false).await;
        let name = &seen[0].json()["session"]["audio"]["input"]["transcription"]["model"];
        assert_eq!((status, &*seen[0].backend, name), (StatusCode::OK, "a", &json!("say-a")));
    }
    let other = Client::new("other").allow(["chat"]);
    let (status, _) = send(Some(other), post("/openai/v1/realtime/client_secrets", &body), false).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_model_beside_the_intent_to_transcribe_is_for_the_gateway_only() {
    for (query, expected) in [
        ("intent=transcription&model=say", "intent=transcription"),
        ("model=say&intent=transcription", "intent=transcription"),
        ("api-version=x&deployment=say&intent=transcription", "api-version=x&intent=transcription"),
        ("intent=conversation&model=say", "intent=conversation&model=say-a"),
    ] {
        let request = || Request::get(format!("/openai/v1/realtime?{query}")).body(Body::empty()).unwrap();
        let (_, seen) = send(None, request(), false).await;
        assert_eq!((&*seen[0].backend, seen[0].query.as_deref()), ("a", Some(expected)), "{query}");
        let (status, _) = send(Some(Client::new("other").allow(["chat"])), request(), false).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{query}");
    }
}

fn session_form(model: &str, transcription: &str) -> Request<Body> {
    let session = json!({ "type": "realtime", "audio": { "input": { "transcription": { "model": transcription } } }, "model": model });
    let body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\n\r\nv=0\r\n--b\r\n\
         Content-Disposition: form-data; name=\"session\"\r\nContent-Type: application/json\r\n\r\n{session}\r\n--b--\r\n"
    );
    let request = Request::post("/openai/v1/realtime/calls").header(CONTENT_TYPE, "multipart/form-data; boundary=b");
    request.header(CONTENT_LENGTH, body.len()).body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn a_call_names_its_models_in_the_session_of_its_form() {
    let (_, seen) = send(None, session_form("chat", "say"), false).await;
    assert_eq!(seen[0].backend, "a");
    let expected = session_form("chat-a", "say-a").into_body().collect().await.unwrap().to_bytes();
    assert_eq!(seen[0].body, expected);
    let held = || Some(Client::new("held").allow(["chat"]));
    assert_eq!(send(held(), session_form("chat", "say"), false).await.0, StatusCode::FORBIDDEN);
    assert_eq!(send(held(), session_form("img", "chat"), false).await.0, StatusCode::FORBIDDEN);
    let offer = Request::post("/openai/v1/realtime/calls").header(CONTENT_TYPE, "application/sdp");
    let (status, seen) = send(None, offer.body(Body::from("v=0\r\n")).unwrap(), false).await;
    assert_eq!((status, &*seen[0].body), (StatusCode::OK, &b"v=0\r\n"[..]));
}

fn grader(model: &str) -> Value {
    json!({ "type": "multi", "graders": { "g": { "type": "score_model", "model": model } } })
}

#[tokio::test]
async fn graders_evaluations_and_moderation_name_deployments_too() {
    let held = || Some(Client::new("held").allow(["chat"]).operations([Operation::Evals, Operation::FineTuning]));
    for (path, body, pointer) in [
        (
            "/openai/v1/fine_tuning/alpha/graders/run",
            (|m| json!({ "grader": grader(m), "model_sample": "x" })) as fn(&str) -> Value,
            "/grader/graders/g/model",
        ),
        (
            "/openai/v1/fine_tuning/jobs",
            |m| json!({ "model": "base", "method": { "reinforcement": { "grader": grader(m) } } }),
            "/method/reinforcement/grader/graders/g/model",
        ),
        (
            "/openai/v1/evals",
            |m| json!({ "testing_criteria": [{ "type": "label_model", "model": m }] }),
            "/testing_criteria/0/model",
        ),
        ("/openai/v1/evals", |m| json!({ "data_source": { "type": "completions", "model": m } }), "/data_source/model"),
        (
            "/openai/v1/chat/completions",
            |m| json!({ "model": "chat", "moderation": { "model": m } }),
            "/moderation/model",
        ),
        (
            "/openai/v1/realtime/transcription_sessions",
            |m| json!({ "input_audio_transcription": { "model": m } }),
            "/input_audio_transcription/model",
        ),
    ] {
        let (status, seen) = send(None, post(path, &body("say")), false).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!((&*seen[0].backend, seen[0].json().pointer(pointer)), ("a", Some(&json!("say-a"))), "{path}");
        assert_eq!(send(held(), post(path, &body("say")), false).await.0, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(send(held(), post(path, &body("chat")), false).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_form_below_a_deployment_that_azure_serves_without_one_gets_its_model() {
    let form = |parts: &str| {
        let body = format!("{parts}--b\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\nPNG\r\n--b--\r\n");
        let request = Request::post("/openai/v1/deployments/img/images/edits");
        let request = request.header(CONTENT_TYPE, "multipart/form-data; boundary=\"b\"");
        request.header(CONTENT_LENGTH, body.len()).body(Body::from(body)).unwrap()
    };
    let model = |name| format!("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{name}\r\n");
    for parts in [String::new(), model("whatever")] {
        let (status, seen) = send(None, form(&parts), false).await;
        assert_eq!((status, &*seen[0].backend), (StatusCode::OK, "a"));
        assert_eq!(seen[0].body, form(&model("img-a")).into_body().collect().await.unwrap().to_bytes());
    }
}

#[tokio::test]
async fn two_image_deployments_are_one_too_many() {
    let mut request = with_header("img");
    request.headers_mut().append(IMAGES, "ada".parse().unwrap());
    assert_eq!(send(None, request, false).await.0, StatusCode::BAD_REQUEST);
}

fn upload(purpose: &str, lines: &[&str]) -> Request<Body> {
    let lines: Vec<_> =
        lines.iter().map(|model| format!("{{\"custom_id\":\"1\",\"body\":{{\"model\":\"{model}\"}}}}")).collect();
    upload_file(purpose, &lines.join("\n"))
}

fn upload_file(purpose: &str, file: &str) -> Request<Body> {
    let body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n{file}\r\n--b--\r\n"
    );
    let request = Request::post("/openai/v1/files").header(CONTENT_TYPE, "multipart/form-data; boundary=b");
    request.header(CONTENT_LENGTH, body.len()).body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn a_batch_file_lies_where_all_its_aliases_are_served_and_has_the_names_from_there() {
    for (lines, backends, expected) in [
        (vec!["chat", "img", "chat"], &["a", "b"][..], &["chat", "img", "chat"][..]),
        (vec!["say"; 50], &["a"], &["say"; 50]),
        (vec!["img-2025", "ada"], &["a", "b"], &["img", "ada"]),
    ] {
        let (status, seen) = send(None, upload("batch", &lines), false).await;
        assert_eq!(status, StatusCode::OK);
        let at = &*seen[0].backend;
        assert!(backends.contains(&at), "{lines:?} at {at}");
        let own = |alias: &str| match (alias, at) {
            ("ada", "a") => "ada \\\"a\\\"".to_owned(),
            _ => format!("{alias}-{at}"),
        };
        let expected: Vec<_> = expected.iter().map(|alias| own(alias)).collect();
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        assert_eq!(seen[0].body, upload("batch", &expected).into_body().collect().await.unwrap().to_bytes());
    }
    let (_, seen) = send(None, upload("assistants", &["img"]), false).await;
    assert!(String::from_utf8_lossy(&seen[0].body).contains("\"img\""), "files for other purposes are as they were");
}

#[tokio::test]
async fn a_batch_file_that_cannot_be_used_is_refused_with_the_number_of_its_line() {
    let held = || Some(Client::new("held").allow(["chat", "gone"]));
    for (client, request, status) in [
        (held(), upload("batch", &["chat", "img"]), StatusCode::FORBIDDEN),
        (held(), upload("batch", &["chat", "gone"]), StatusCode::NOT_FOUND),
        (None, upload("batch", &["chat", "unknown"]), StatusCode::NOT_FOUND),
        (None, upload_file("batch", "{\"body\":{\"model\":\"chat\"}}\nnot JSON"), StatusCode::BAD_REQUEST),
    ] {
        let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
        let stack = gateway::builder(pool(), TerminateCredentialsLayer::without_clients()).build(inner);
        let mut request = request;
        request.extensions_mut().extend(
            client
                .map(|client| {
                    let mut extensions = http::Extensions::new();
                    extensions.insert(client);
                    extensions
                })
                .unwrap_or_default(),
        );
        let answer = stack.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), status);
        let body: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("line 2"), "{message}");
    }
    let (status, _) = send(held(), upload("batch", &["chat", "chat"]), false).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_batch_file_may_name_what_there_is_on_its_resource() {
    let held = || Some(Client::new("held").allow(["chat"]).deployment("chat-a", "chat").deployment("img-a", "img"));
    for (lines, status) in [
        (&["chat-a", "chat-a"][..], StatusCode::OK),
        (&["chat-a", "img-a"], StatusCode::FORBIDDEN),
        (&["chat-a", "chat-b"], StatusCode::FORBIDDEN),
    ] {
        let (seen_status, seen) = send(held(), upload("batch", lines), false).await;
        assert_eq!(seen_status, status, "{lines:?}");
        if let Some(seen) = seen.first() {
            let own = format!("chat-{}", seen.backend);
            let expected = upload("batch", &[&*own; 2]).into_body().collect().await.unwrap().to_bytes();
            assert_eq!(seen.body, expected, "at {}", seen.backend);
        }
    }
    let chat = Request::post("/openai/v1/chat/completions").header(CONTENT_TYPE, "application/json");
    let chat = chat.body(Body::from(r#"{"model":"chat-a","messages":[]}"#)).unwrap();
    assert_eq!(send(held(), chat, false).await.0, StatusCode::FORBIDDEN, "it is a name nowhere else");
}

/// Forwards to the one backend, with a layer of the embedder between inspection and selection.
async fn changed_between(body: &Value, change: fn(&mut Value) -> String) -> Value {
    let pool = {
        let west = Backend::new("a", "https://a.example")
            .add_deployment(Deployment::new("chat-a").alias("chat"))
            .add_deployment(Deployment::new("img-a").alias("img"));
        Pool::builder().add_backend(west).build().unwrap()
    };
    let changes = MapRequestLayer::new(move |request: Request<Body>| {
        request.map(|body| Body::from(change(&mut serde_json::from_slice(body.as_bytes().unwrap()).unwrap())))
    });
    let echo = service_fn(async |request: Request<Body>| Ok::<_, BoxError>(Response::new(request.into_body())));
    let layers = (InspectLayer::new(), changes, SelectBackendLayer::new(pool), ForwardLayer::new());
    let request = Request::post("/openai/v1/responses").header(CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    let answer = layers.layer(echo).oneshot(request).await.unwrap();
    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn names_are_found_again_in_a_body_that_changed_in_between() {
    let tools = json!([{ "type": "image_generation", "model": "img" }]);
    let body = json!({ "model": "chat", "input": "Hi", "tools": tools });
    let longer = changed_between(&body, |body| {
        body["instructions"] = "This stands before the model, in the order of keys.".into();
        body.to_string()
    })
    .await;
    assert_eq!((&longer["model"], &longer["tools"][0]["model"]), (&json!("chat-a"), &json!("img-a")));
    let padded = changed_between(&body, |body| format!("   {body}")).await;
    assert_eq!((&padded["model"], &padded["tools"][0]["model"]), (&json!("chat-a"), &json!("img-a")));
    let replaced = changed_between(&body, |body| {
        body["tools"] =
            json!([{ "type": "image_generation", "model": "img" }, { "type": "image_generation", "model": "x" }]);
        body["model"] = "something else".into();
        body.to_string()
    })
    .await;
    assert_eq!(replaced["model"], "chat-a", "the target's, whatever is there");
    assert_eq!((&replaced["tools"][0]["model"], &replaced["tools"][1]["model"]), (&json!("img-a"), &json!("x")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every value but the names is as it was, byte for byte.
    #[test]
    fn only_names_change(before in ".{0,20}", after in ".{0,20}", spaces in "[ \n\t]{0,3}", images in 0_usize..4) {
        let (before, after) = (json!(before), json!(after));
        let body = |chat: &str, image: &str| {
            let tool = format!("{{\"type\" :{spaces}\"image_generation\",\"x\":{after}, \"model\":{spaces}{image}}}");
            let tools = vec![tool; images].join(&format!(",{spaces}"));
            format!("{spaces}{{\"a\":{before},\"model\":{chat}{spaces},\"tools\":[{tools}]{spaces},\"b\":{after}}}")
        };
        let sent = Request::post("/openai/v1/responses").header(CONTENT_TYPE, "application/json");
        let sent = sent.body(Body::from(body("\"chat\"", "\"img\""))).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (_, seen) = runtime.block_on(send(None, sent, false));
        let (chat, image) = if images == 0 { ("\"chat-c\"", "") } else { ("\"chat-a\"", "\"img-a\"") };
        let expected = body(chat, image);
        prop_assert_eq!(&*seen[0].body, expected.as_bytes());
    }
}
