//! Aliases wherever they can stand: what a client names, and what the backend then sees.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::azure::operation::Repeat;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{BasePath, Client, Route};
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::gateway;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::models::ListModelsLayer;
use tower_azure_openai::pool::{Backend, Deployment, Pool};
use tower_azure_openai::reissue::ReissueCredentialsLayer;
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::terminate::TerminateCredentialsLayer;
use tower_azure_openai::{Error, ErrorKind};

const JSON: &str = "application/json";
const FORM: &str = "multipart/form-data; boundary=b";

/// What a backend sees of a request.
#[derive(Debug, PartialEq)]
struct Seen {
    uri: String,
    length: Option<String>,
    body: Bytes,
}

/// One backend, where the alias `gpt-4o` is the deployment `prod 4o"` and `same` is `same`.
fn pool() -> Pool {
    let east = Backend::new("east", "https://east.example/prefix")
        .add_deployment(Deployment::new("prod 4o\"").alias("gpt-4o"))
        .add_deployment(Deployment::new("same"));
    Pool::builder().add_backend(east).build().unwrap()
}

async fn send(request: Request<Body>) -> Result<Seen, ErrorKind> {
    let seen = Arc::new(Mutex::new(None));
    let inner = service_fn({
        let seen = seen.clone();
        move |request: Request<Body>| {
            let seen = seen.clone();
            async move {
                let (parts, body) = request.into_parts();
                let length = parts.headers.get(CONTENT_LENGTH).map(|value| value.to_str().unwrap().to_owned());
                assert_eq!(body_length(&body), length.as_deref().map_or(body_length(&body), |l| l.parse().ok()));
                let body = body.collect().await?.to_bytes();
                *seen.lock().unwrap() = Some(Seen { uri: parts.uri.to_string(), length, body });
                Ok::<_, BoxError>(Response::new(Body::empty()))
            }
        }
    });
    let service = (InspectLayer::new(), SelectBackendLayer::new(pool()), ForwardLayer::new()).layer(inner);
    match service.oneshot(request).await {
        Ok(_) => Ok(seen.lock().unwrap().take().expect("a request")),
        Err(error) => Err(Error::find(error.as_ref()).expect("a cause of the crate").kind()),
    }
}

fn body_length(body: &Body) -> Option<u64> {
    http_body::Body::size_hint(body).exact()
}

fn post(path: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Body> {
    let body = body.into();
    Request::post(path)
        .header(CONTENT_TYPE, content_type)
        .header(CONTENT_LENGTH, body.len())
        .body(Body::from(body))
        .unwrap()
}

#[tokio::test]
async fn the_deployment_takes_the_place_of_the_alias_and_nothing_else_changes() {
    for (path, uri, content_type, body, expected) in [
        (
            "/openai/v1/chat/completions",
            "/openai/v1/chat/completions",
            JSON,
            r#" {"messages":[{"model":"gpt-4o"}] , "model" : "gpt-4o", "x":"\u00e9é" } "#,
            r#" {"messages":[{"model":"gpt-4o"}] , "model" : "prod 4o\"", "x":"\u00e9é" } "#,
        ),
        (
            "/openai/v1/responses?api-version=preview",
            "/openai/v1/responses?api-version=preview",
            JSON,
            r#"{"mod\u0065l":"gpt\u002d4o","stream":true}"#,
            r#"{"mod\u0065l":"prod 4o\"","stream":true}"#,
        ),
        (
            "/openai/responses?api-version=1",
            "/openai/responses?api-version=1",
            "text/plain",
            r#"{"model":"gpt-4o"}"#,
            r#"{"model":"prod 4o\""}"#,
        ),
        (
            "/openai/v1/realtime/client_secrets",
            "/openai/v1/realtime/client_secrets",
            JSON,
            r#"{"model":"gpt-4o","session":{"model":"gpt-4o"}}"#,
            r#"{"model":"gpt-4o","session":{"model":"prod 4o\""}}"#,
        ),
        (
            "/openai/deployments/gpt-4o/chat/completions?api-version=1",
            "/openai/deployments/prod%204o%22/chat/completions?api-version=1",
            JSON,
            r#"{"model":"another","messages":[]}"#,
            r#"{"model":"another","messages":[]}"#,
        ),
        (
            "/openai/deployments/gpt-4o/responses?api-version=1",
            "/openai/responses?api-version=1",
            JSON,
            r#"{"input":"Hi","model":"another"}"#,
            r#"{"input":"Hi","model":"prod 4o\""}"#,
        ),
        (
            "/openai/deployments/gpt-4o/responses?api-version=1",
            "/openai/responses?api-version=1",
            JSON,
            r#" { "input":"Hi"}"#,
            r#" {"model":"prod 4o\"", "input":"Hi"}"#,
        ),
        (
            "/openai/deployments/gpt-4o/threads/thread_1/runs",
            "/openai/threads/thread_1/runs",
            JSON,
            "{}",
            r#"{"model":"prod 4o\""}"#,
        ),
        ("/openai/deployments/gpt-4o/threads", "/openai/threads", JSON, "{}", "{}"),
        ("/openai/deployments/gpt-4o/batches", "/openai/batches", JSON, r#"{"model":"x"}"#, r#"{"model":"x"}"#),
        (
            "/openai/v1/audio/transcriptions",
            "/openai/v1/audio/transcriptions",
            FORM,
            "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-4o\r\n--b--\r\n",
            "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nprod 4o\"\r\n--b--\r\n",
        ),
        (
            "/openai/v1/chat/completions",
            "/openai/v1/chat/completions",
            JSON,
            r#"{"model":"s\u0061me"}"#,
            r#"{"model":"s\u0061me"}"#,
        ),
    ] {
        let seen = send(post(path, content_type, body)).await.unwrap_or_else(|kind| panic!("{path}: {kind:?}"));
        let uri = format!("https://east.example/prefix{uri}");
        let length = Some(expected.len().to_string());
        assert_eq!(seen, Seen { uri, length, body: Bytes::from(expected) }, "{path}");
    }
}

#[tokio::test]
async fn the_query_of_a_realtime_session_is_rewritten() {
    for (path, expected) in [
        ("/openai/v1/realtime?model=gpt-4o", "/openai/v1/realtime?model=prod%204o%22"),
        ("/openai/v1/realtime?x=1&model=gpt%2D4o&y=2", "/openai/v1/realtime?x=1&model=prod%204o%22&y=2"),
        ("/openai/realtime?deployment=gpt-4o&api-version=1", "/openai/realtime?deployment=prod%204o%22&api-version=1"),
        ("/openai/realtime?deployment=same", "/openai/realtime?deployment=same"),
        ("/openai/realtime?api-version=1", "/openai/realtime?api-version=1"),
    ] {
        let seen = send(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(seen.uri, format!("https://east.example/prefix{expected}"));
    }
    let twice = Request::get("/openai/v1/realtime?model=same&deployment=gpt-4o").body(Body::empty()).unwrap();
    assert_eq!(send(twice).await, Err(ErrorKind::AmbiguousRequest));
}

#[tokio::test]
async fn what_a_foundry_resource_has_beside_the_api_is_rewritten_too() {
    let seen = send(post("/models/images/generations?api-version=1", JSON, r#"{"prompt":"x","model":"gpt-4o"}"#)).await;
    let seen = seen.unwrap();
    assert_eq!(seen.uri, "https://east.example/prefix/models/images/generations?api-version=1");
    assert_eq!(seen.body, r#"{"prompt":"x","model":"prod 4o\""}"#);
    let seen =
        send(Request::get("/models/info?model=gpt-4o&api-version=1").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(seen.uri, "https://east.example/prefix/models/info?model=prod%204o%22&api-version=1");
    let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from("a backend's"))));
    let request = Request::get("/models/info?model=gpt-4o").body(Body::empty()).unwrap();
    let answer = ListModelsLayer::new(pool()).layer(inner).oneshot(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "a backend's", "it is no list of models");
}

#[tokio::test]
async fn an_image_before_the_model_is_passed_on_without_a_copy() {
    let image = "A".repeat(20 << 20);
    let body = Bytes::from(format!(r#"{{"input":"{image}","model":"gpt-4o"}}"#));
    let seen = send(post("/openai/v1/responses", JSON, body.clone())).await.unwrap();
    let expected = format!(r#"{{"input":"{image}","model":"prod 4o\""}}"#);
    assert!(seen.body == expected, "every byte but the name");
    assert_eq!(seen.length, Some(expected.len().to_string()));
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused() {
    let chat = "/openai/v1/chat/completions";
    for (content_type, body) in [
        (JSON, &b"{\"model\":\"gpt-4o\",\"model\":\"same\"}"[..]),
        (JSON, b"{\"model\":\"gpt-4o\""),
        (JSON, b"{\"messages\":[]}"),
        (JSON, b"{\"model\":4}"),
        (JSON, b"{\"model\":\"gpt-4o\",\"x\":\"\xff\"}"),
        (JSON, b""),
        (JSON, b"model=gpt-4o"),
        (FORM, b"{\"model\":\"gpt-4o\"}"),
        (FORM, b"--b--"),
    ] {
        let refused = send(post(chat, content_type, body)).await;
        assert_eq!(refused, Err(ErrorKind::InvalidBody), "{}", String::from_utf8_lossy(body));
    }
    let mut encoded = post(chat, JSON, r#"{"model":"gpt-4o"}"#);
    encoded.headers_mut().insert(CONTENT_ENCODING, "br".parse().unwrap());
    assert_eq!(send(encoded).await, Err(ErrorKind::UnsupportedEncoding));

    let mut two_types = post(chat, JSON, r#"{"model":"gpt-4o"}"#);
    two_types.headers_mut().append(CONTENT_TYPE, FORM.parse().unwrap());
    assert_eq!(send(two_types).await, Err(ErrorKind::AmbiguousRequest));

    let unread = post("/openai/deployments/gpt-4o/chat/completions", JSON, "nonsense");
    assert_eq!(send(unread).await.unwrap().body, "nonsense", "the backend answers for what nobody has to read");
    assert_eq!(send(post(chat, JSON, r#"{"model":"unknown"}"#)).await, Err(ErrorKind::DeploymentNotFound));
}

#[tokio::test]
async fn the_message_names_the_problem_and_repeats_nothing() {
    let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
    let service = (RespondLayer::new(), InspectLayer::new()).layer(inner);
    for (body, problem) in [
        (r#"{"model":"secret","model":"b"}"#, "`model` stands in it twice"),
        (r#"{"model":["secret"]}"#, "`model` is not a string"),
        (r#"{"input":"secret"}"#, "it has no `model`"),
        (r#"{"input":"secret"#, "not the JSON it should be"),
    ] {
        let answer = service.clone().oneshot(post("/openai/v1/embeddings", JSON, body)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let answer = answer.into_body().collect().await.unwrap().to_bytes();
        let answer = std::str::from_utf8(&answer).unwrap();
        assert!(answer.contains(problem) && answer.contains("invalid_body") && !answer.contains("secret"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_must_be_read_must_be_held() {
    let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
    let body = format!(r#"{{"input":"{}","model":"same"}}"#, "x".repeat(1_000));
    let session = format!(r#"{{"session":{{"x":"{}","model":"same"}}}}"#, "x".repeat(1_000));
    let secrets = "/openai/v1/realtime/client_secrets";
    for (layer, path, body, expected) in [
        (InspectLayer::new().replay_limit(500), "/openai/v1/responses", &body, None),
        (InspectLayer::new().replay_memory(500), "/openai/v1/responses", &body, None),
        (InspectLayer::new().replay_limit(500), secrets, &session, Some(ErrorKind::RequestTooLarge)),
        (InspectLayer::new().replay_memory(500), secrets, &session, Some(ErrorKind::Overloaded)),
    ] {
        let answer = layer.layer(inner).oneshot(post(path, JSON, body.clone())).await;
        let error = answer.err();
        let error = error.as_ref().and_then(|error| Error::find(error.as_ref()));
        assert_eq!(error.map(Error::kind), expected, "{path}");
        let waits = error.is_some_and(|error| error.retry_after().is_some());
        assert_eq!(waits, expected == Some(ErrorKind::Overloaded));
    }
}

#[tokio::test]
async fn a_response_that_the_client_can_name_is_not_repeated() {
    let route = async |path: &str, body: &'static str| {
        let inner = service_fn(async |request: Request<Body>| {
            Ok::<_, BoxError>(Response::new(request.extensions().get::<Route>().unwrap().repeat()))
        });
        InspectLayer::new().layer(inner).oneshot(post(path, JSON, body)).await.unwrap().into_body()
    };
    for path in ["/openai/v1/responses", "/openai/responses", "/openai/deployments/m/responses"] {
        assert_eq!(route(path, r#"{"model":"m"}"#).await, Repeat::Safe, "{path}");
        assert_eq!(route(path, r#"{"model":"m","background":true}"#).await, Repeat::Creates, "{path}");
        assert_eq!(route(path, r#"{"model":"m","conversation":"conv_1"}"#).await, Repeat::Creates, "{path}");
    }
    assert_eq!(route("/openai/v1/embeddings", r#"{"model":"m","background":true}"#).await, Repeat::Safe);
}

#[tokio::test]
async fn the_base_path_leads_in_and_back() {
    let inner = service_fn(async |request: Request<Body>| {
        let location = format!("https://east.example/prefix{}", request.uri().path().strip_prefix("/prefix").unwrap());
        Ok::<_, BoxError>(Response::builder().header("operation-location", location).body(Body::empty()).unwrap())
    });
    let inspect = InspectLayer::new().base_path(BasePath::new("/ai").unwrap());
    let service =
        (inspect, SelectBackendLayer::new(pool()), ForwardLayer::new(), ReissueCredentialsLayer::new()).layer(inner);
    for (path, location) in [("/ai/openai/files/f", "/ai/openai/files/f"), ("/openai/files/f", "/openai/files/f")] {
        let answer = service.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.headers()["operation-location"], location);
    }
    let outside =
        service.oneshot(Request::get("/other/openai/files/f").body(Body::empty()).unwrap()).await.unwrap_err();
    assert_eq!(Error::find(outside.as_ref()).unwrap().kind(), ErrorKind::PathNotFound);
}

mod models {
    use serde_json::{Value, json};

    use super::*;

    async fn ask(client: Option<Client>, method: Method, path: &str) -> (StatusCode, Value) {
        let backends = [
            Backend::new("east", "https://east.example").geography("us").add_deployment(Deployment::new("o3")),
            Backend::new("west", "https://west.example")
                .geography("eu")
                .add_deployment(Deployment::new("d").alias("gpt-4o")),
        ];
        let pool =
            backends.into_iter().fold(Pool::builder(), |pool, backend| pool.add_backend(backend)).build().unwrap();
        let inner = service_fn(async |_: Request<Body>| {
            Ok::<_, BoxError>(Response::builder().status(StatusCode::IM_A_TEAPOT).body(Body::empty()).unwrap())
        });
        let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        if let Some(client) = client {
            request.extensions_mut().insert(client);
        }
        let answer = (RespondLayer::new(), ListModelsLayer::new(pool)).layer(inner).oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn ids(list: &Value) -> Vec<&str> {
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn are_the_aliases_that_this_client_may_use() {
        let paths = ["/openai/models?api-version=1", "/openai/v1/models", "/openai/deployments/o3/models"];
        for path in paths {
            for (client, expected) in [
                (None, &["gpt-4o", "o3"][..]),
                (Some(Client::new("free")), &["gpt-4o", "o3"]),
                (Some(Client::new("held").allow(["o3", "gone"])), &["o3"]),
                (Some(Client::new("resident").geography("eu")), &["gpt-4o"]),
                (
                    Some(Client::new("renamed").allow(["mine", "lost"]).route("mine", "o3").route("lost", "gone")),
                    &["mine"],
                ),
            ] {
                let (status, list) = ask(client, Method::GET, path).await;
                assert_eq!((status, ids(&list)), (StatusCode::OK, expected.to_vec()), "{path}");
            }
        }
    }

    #[tokio::test]
    async fn one_is_shown_by_its_alias() {
        let held = || Some(Client::new("held").allow(["o3"]));
        let (status, model) = ask(held(), Method::GET, "/openai/v1/models/o3").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(model, json!({ "id": "o3", "object": "model", "created": 0, "owned_by": "azure-openai" }));
        assert_eq!(ask(held(), Method::GET, "/openai/v1/models/gpt-4o").await.0, StatusCode::NOT_FOUND);
        assert_eq!(
            ask(None, Method::GET, "/openai/models/d").await.0,
            StatusCode::NOT_FOUND,
            "not a deployment's name"
        );
    }

    #[tokio::test]
    async fn everything_else_passes() {
        for (method, path) in [
            (Method::DELETE, "/openai/v1/models/ft-1"),
            (Method::POST, "/openai/models"),
            (Method::GET, "/openai/files"),
        ] {
            assert_eq!(ask(None, method, path).await.0, StatusCode::IM_A_TEAPOT, "{path}");
        }
    }
}

#[tokio::test]
async fn every_attempt_gets_the_name_of_its_own_target() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let backend = service_fn({
        let bodies = bodies.clone();
        move |request: Request<Body>| {
            let bodies = bodies.clone();
            async move {
                let host = request.uri().host().unwrap().to_owned();
                let body = request.into_body().collect().await?.to_bytes();
                bodies.lock().unwrap().push((host.clone(), String::from_utf8(body.to_vec()).unwrap()));
                let status = if host.starts_with("a.") { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
                Ok::<_, BoxError>(Response::builder().status(status).body(Body::empty()).unwrap())
            }
        }
    });
    let at = |name: &str, deployment: &str| {
        Backend::new(name, format!("https://{name}.example"))
            .add_deployment(Deployment::new(deployment).alias("gpt-4o"))
    };
    let pool = Pool::builder().add_backend(at("a", "one")).add_backend(at("b", "gpt-4o").priority(1)).build().unwrap();
    let gateway = gateway::builder(pool, TerminateCredentialsLayer::without_clients()).build(backend);
    let answer = gateway.oneshot(post("/openai/v1/responses", JSON, r#"{"model":"gpt-4o"}"#)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let expected = [("a.example", r#"{"model":"one"}"#), ("b.example", r#"{"model":"gpt-4o"}"#)];
    let bodies = bodies.lock().unwrap();
    assert_eq!(bodies.iter().map(|(host, body)| (&**host, &**body)).collect::<Vec<_>>(), expected);
}

mod shapes {
    use super::*;

    const NAMED: &str = r#"{"model":"gpt-4o"}"#;
    const RENAMED: &str = r#"{"model":"prod 4o\""}"#;

    async fn sent(path: &str, body: &'static str) -> (String, String) {
        let seen = send(post(path, JSON, body)).await.unwrap();
        let path = seen.uri.strip_prefix("https://east.example/prefix").unwrap().to_owned();
        (path, String::from_utf8(seen.body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn of_client_libraries_reach_the_call_that_they_mean() {
        let dated = "api-version=2025-04-01-preview";
        let in_path = "/openai/deployments/prod%204o%22";
        for (path, expected) in [
            ("/openai/embeddings".to_owned(), "/openai/v1/embeddings".to_owned()),
            (
                "/openai/audio/speech?api-version=preview".to_owned(),
                "/openai/v1/audio/speech?api-version=preview".to_owned(),
            ),
            (format!("/openai/images/generations?{dated}"), format!("{in_path}/images/generations?{dated}")),
            (format!("/openai/embeddings/?{dated}"), format!("{in_path}/embeddings/?{dated}")),
            (format!("/openai/v1/responses?{dated}"), "/openai/v1/responses".to_owned()),
            ("//openai/v1/images/variations".to_owned(), "/openai/v1/images/variations".to_owned()),
            ("/v1/moderations".to_owned(), "/openai/v1/moderations".to_owned()),
            ("/v1/responses/input_tokens?x=1".to_owned(), "/openai/v1/responses/input_tokens?x=1".to_owned()),
            (format!("/openai/realtimeapi/sessions?{dated}"), format!("/openai/realtimeapi/sessions?{dated}")),
            ("/openai/v1/realtime/calls/rtc_1/accept".to_owned(), "/openai/v1/realtime/calls/rtc_1/accept".to_owned()),
            (
                "/models/embeddings?api-version=2024-05-01-preview".to_owned(),
                "/models/embeddings?api-version=2024-05-01-preview".to_owned(),
            ),
            ("/anthropic/v1/messages".to_owned(), "/anthropic/v1/messages".to_owned()),
            ("//anthropic/v1/messages/count_tokens".to_owned(), "/anthropic/v1/messages/count_tokens".to_owned()),
        ] {
            assert_eq!(sent(&path, NAMED).await, (expected, RENAMED.to_owned()), "{path}");
        }
    }

    #[tokio::test]
    async fn with_the_alias_in_the_path_reach_the_deployment() {
        let dated = "?api-version=2024-10-21";
        for path in [
            "/openai/v1/openai/deployments/gpt-4o/audio/speech",
            "/openai/deployments/gpt-4o/v1/audio/speech",
            "/deployments/gpt-4o/audio/speech",
            "//openai/deployments/gpt-4o/audio/speech",
            "/v1/openai/deployments/gpt-4o/audio/speech",
        ] {
            let expected = format!("/openai/deployments/prod%204o%22/audio/speech{dated}");
            assert_eq!(sent(&format!("{path}{dated}"), "{}").await, (expected, "{}".to_owned()), "{path}");
        }
        for (body, expected) in [(r#"{"input":"x"}"#, r#"{"model":"prod 4o\"","input":"x"}"#), (NAMED, RENAMED)] {
            let (path, body) = sent("/openai/v1/deployments/gpt-4o/embeddings", body).await;
            assert_eq!((&*path, &*body), ("/openai/v1/embeddings", expected));
        }
    }

    #[tokio::test]
    async fn of_no_part_of_the_api_are_told_where_it_is() {
        let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
        let service = (RespondLayer::new(), InspectLayer::new()).layer(inner);
        let answer = service.oneshot(post("/api/chat/completions", JSON, NAMED)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("`/openai/v1/chat/completions`, with the alias as `model` of the body"), "{body}");
    }

    #[tokio::test]
    async fn of_agents_name_no_model() {
        let agents = r#"{"agent_reference":{"name":"a","type":"agent_reference"},"input":"Hi"}"#;
        assert_eq!(sent("/openai/v1/responses", agents).await, ("/openai/v1/responses".to_owned(), agents.to_owned()));
        for (path, body) in
            [("/openai/v1/embeddings", agents), ("/openai/v1/responses", r#"{"agent_reference":null,"input":"Hi"}"#)]
        {
            assert_eq!(send(post(path, JSON, body)).await, Err(ErrorKind::InvalidBody), "{path}");
        }
    }
}
