//! `AuthorizeLayer` from outside.

#[path = "support/passing.rs"]
mod passing;

use http::{Method, Request, Response};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::authorize::AuthorizeLayer;
use tower_azure_openai::azure::operation::Operation;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, Route};
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::{Error, ErrorKind};

fn request(method: &str, path: &str, client: Option<Client>) -> Request<()> {
    let mut request = Request::builder().method(method).uri(path).body(()).expect("a request");
    if let Some(client) = client {
        request.extensions_mut().insert(client);
    }
    request
}

async fn refusal(request: Request<()>) -> Option<ErrorKind> {
    let inner = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(())));
    let error = AuthorizeLayer::new().layer(inner).oneshot(request).await.err()?;
    Some(Error::find(error.as_ref()).expect("a cause of the crate").kind())
}

fn restricted() -> Client {
    Client::new("team-a").allow(["gpt-4o", "chat"])
}

#[tokio::test]
async fn without_a_client_or_a_list_nothing_is_constrained() {
    for client in [None, Some(Client::new("free"))] {
        assert_eq!(refusal(request("POST", "/openai/deployments/o3/chat/completions", client.clone())).await, None);
        assert_eq!(refusal(request("POST", "/openai/batches", client.clone())).await, None);
        assert_eq!(refusal(request("POST", "/elsewhere", client)).await, None);
    }
}

#[tokio::test]
async fn a_restricted_client_uses_what_it_may_and_nothing_else() {
    use ErrorKind::{AliasNotAllowed, AmbiguousRequest, OperationNotAllowed, PathNotFound};
    for (method, path, expected) in [
        ("POST", "/openai/deployments/gpt-4o/chat/completions", None),
        ("POST", "/openai/deployments/gpt%2D4o/embeddings", None),
        ("POST", "/openai/deployments/chat/completions", None),
        ("POST", "/openai/deployments/o3/chat/completions", Some(AliasNotAllowed)),
        ("GET", "/openai/deployments/o3/chat/completions", Some(AliasNotAllowed)),
        ("POST", "/openai/deployments/GPT-4O/chat/completions", Some(AliasNotAllowed)),
        ("POST", "/openai/v1/chat/completions", Some(OperationNotAllowed)),
        ("POST", "/openai/responses", Some(OperationNotAllowed)),
        ("POST", "/openai/batches", Some(OperationNotAllowed)),
        ("POST", "/openai/threads/thread_1/runs", Some(OperationNotAllowed)),
        ("PATCH", "/openai/new-thing", Some(OperationNotAllowed)),
        ("CONNECT", "/openai/responses", Some(OperationNotAllowed)),
        ("POST", "/openai/deployments/gpt-4o/batches", Some(OperationNotAllowed)),
        ("POST", "/openai/deployments/gpt-4o/threads/thread_1/runs", None),
        ("OPTIONS", "/openai/responses", None),
        ("POST", "/openai/deployments/gpt-4o/chat/completions?model=gpt-4o", None),
        ("POST", "/openai/deployments/gpt-4o/chat/completions?model=gpt-4o&Model=o%33", Some(AliasNotAllowed)),
        ("POST", "/openai/v1/files?deployment=o3", Some(AliasNotAllowed)),
        ("GET", "/openai/v1/chat/completions?model=o3", None),
        ("GET", "/openai/realtime?deployment=o3", Some(OperationNotAllowed)),
        ("GET", "/openai/batches/batch_1", Some(OperationNotAllowed)),
        ("GET", "/openai/new-thing", Some(OperationNotAllowed)),
        ("POST", "/openai/threads/thread_1/messages", None),
        ("POST", "/openai/threads/thread_1/runs/run_1/submit_tool_outputs", None),
        ("HEAD", "/openai/models", None),
        ("DELETE", "/openai/assistants/asst_1", None),
        ("POST", "/openai/files", None),
        ("POST", "/openai/uploads/upload_1/parts", None),
        ("POST", "/openai/v1/vector_stores", None),
        ("POST", "/openai/deployments/gpt-4o/../o3/chat/completions", Some(AmbiguousRequest)),
        ("POST", "/elsewhere", Some(PathNotFound)),
    ] {
        assert_eq!(refusal(request(method, path, Some(restricted()))).await, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn calls_of_which_nobody_sees_the_model_need_their_operation() {
    let client = restricted().operations([Operation::Batches]);
    assert_eq!(refusal(request("POST", "/openai/batches", Some(client.clone()))).await, None);
    assert_eq!(refusal(request("GET", "/openai/batches/batch_1", Some(client.clone()))).await, None);
    for path in ["/openai/fine_tuning/jobs", "/openai/evals", "/openai/new-thing"] {
        let refused = refusal(request("POST", path, Some(client.clone()))).await;
        assert_eq!(refused, Some(ErrorKind::OperationNotAllowed), "{path}");
    }
}

#[tokio::test]
async fn every_call_can_be_opened() {
    let calls = [
        ("POST", "/openai/v1/assistants/asst_1", Operation::Assistants),
        ("POST", "/openai/v1/batches", Operation::Batches),
        ("POST", "/openai/v1/chatkit/sessions", Operation::ChatKit),
        ("POST", "/openai/v1/evals/eval_1/runs", Operation::Evals),
        ("POST", "/openai/v1/fine_tuning/alpha/graders/run", Operation::FineTuning),
        ("DELETE", "/openai/v1/models/ft-1", Operation::Models),
        ("PUT", "/openai/v1/unheard/of", Operation::Other),
        ("POST", "/openai/v1/realtime/calls", Operation::Realtime),
        ("POST", "/openai/v1/realtime/calls/rtc_1/accept", Operation::Realtime),
        ("POST", "/openai/v1/realtime/transcription_sessions", Operation::Realtime),
        ("POST", "/openai/v1/realtime/translations/client_secrets", Operation::Realtime),
        ("GET", "/openai/v1/realtime?intent=transcription", Operation::Realtime),
        ("POST", "/openai/v1/responses", Operation::Responses),
        ("POST", "/openai/v1/threads/runs", Operation::Threads),
        ("POST", "/openai/v1/videos/edits", Operation::Videos),
        ("POST", "/openai/v1/videos/video_1/remix", Operation::Videos),
    ];
    for (method, path, opens) in calls {
        for (.., operation) in calls {
            let client = restricted().operations([operation]);
            let is_apart = [Operation::Batches, Operation::Evals, Operation::FineTuning].contains(&opens);
            let is_open = operation == opens || operation == Operation::Other && !is_apart;
            let expected = (!is_open).then_some(ErrorKind::OperationNotAllowed);
            assert_eq!(refusal(request(method, path, Some(client))).await, expected, "{path} by {operation:?}");
        }
    }
}

/// Below there would have to be somebody who remembers videos.
#[tokio::test]
async fn what_objects_decide_is_left_to_those_who_know_them() {
    let call = async |path: &str, decide: bool, client: Client| {
        let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(())));
        let service = AuthorizeLayer::new().objects_decide(decide).layer(inner);
        service.oneshot(request("POST", path, Some(client)).map(|()| Body::empty())).await.is_ok()
    };
    for path in ["videos/edits", "videos/video_1/remix", "assistants/asst_1", "threads/runs", "threads/thread_1/runs"] {
        let path = format!("/openai/v1/{path}");
        assert!(!call(&path, false, restricted()).await && call(&path, true, restricted()).await, "{path}");
    }
    for path in ["videos/characters", "batches", "realtime/calls/rtc_1/accept", "evals", "assistants"] {
        let path = format!("/openai/v1/{path}");
        assert!(!call(&path, true, restricted()).await, "{path} goes on with nothing of which the model is remembered");
    }
}

#[tokio::test]
async fn a_batch_of_which_nobody_sees_the_models_is_refused_whatever_is_opened() {
    let opened =
        || restricted().operations([Operation::Batches, Operation::Files, Operation::Uploads, Operation::Other]);
    for (path, body, expected) in [
        ("/openai/v1/uploads", r#"{"purpose":"batch","filename":"x","bytes":9,"mime_type":"a/b"}"#, false),
        ("/openai/uploads?api-version=x", r#"{"purpose":"fine-tune","filename":"x"}"#, true),
        ("/openai/files/import?api-version=x", r#"{"content_url":"https://x.example/b","purpose":"batch"}"#, false),
        ("/openai/files/import?api-version=x", r#"{"purpose":"fine-tune"}"#, true),
        ("/openai/v1/files", "purpose=batch&file=x", false),
        ("/openai/v1/batches", r#"{"endpoint":"/v1/responses","input_blob":"https://x.example/b"}"#, false),
        ("/openai/v1/batches", r#"{"endpoint":"/v1/responses","input_file_id":"file-1"}"#, true),
        ("/openai/v1/uploads/upload_1/parts", "anything", true),
        ("/openai/v1/uploads/upload_1/complete", r#"{"part_ids":[]}"#, true),
    ] {
        for (client, passes) in [(Some(opened()), expected), (Some(Client::new("free")), true), (None, true)] {
            let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(())));
            let service = (InspectLayer::new(), AuthorizeLayer::new()).layer(inner);
            let mut request = Request::post(path).body(Body::from(body)).unwrap();
            request.extensions_mut().extend(client.into_iter().fold(http::Extensions::new(), |mut all, client| {
                all.insert(client);
                all
            }));
            let refused = service.oneshot(request).await.err();
            let refused = refused.map(|error| Error::find(error.as_ref()).expect("a cause of the crate").kind());
            assert_eq!(refused, (!passes).then_some(ErrorKind::OperationNotAllowed), "{path} {body}");
        }
    }
}

#[tokio::test]
async fn an_alias_is_judged_wherever_it_stands() {
    let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n{}\r\n--b--";
    let session = "--b\r\ncontent-disposition: form-data; name=sdp\r\n\r\nv=0\r\n--b\r\n\
        content-disposition: form-data; name=session\r\n\r\n{\"type\":\"realtime\",\"model\":\"{}\"}\r\n--b--";
    for (method, path, content_type, body) in [
        ("POST", "/openai/v1/chat/completions", "application/json", r#"{"model":"{}"}"#),
        ("POST", "/openai/v1/chat/completions", "text/plain", r#"{"model":"{}"}"#),
        ("POST", "/openai/responses?api-version=x", "application/json", r#"{"model":"{}"}"#),
        ("POST", "/openai/v1/realtime/client_secrets", "application/json", r#"{"session":{"model":"{}"}}"#),
        ("POST", "/openai/v1/realtime/calls", "multipart/form-data; boundary=b", session),
        (
            "POST",
            "/openai/v1/realtime/transcription_sessions",
            "application/json",
            r#"{"input_audio_transcription":{"model":"{}"}}"#,
        ),
        ("POST", "/openai/v1/audio/transcriptions", "multipart/form-data; boundary=b", form),
        ("POST", "/openai/threads/runs", "application/json", r#"{"model":"{}"}"#),
        ("POST", "/openai/deployments/{}/responses", "application/json", r#"{"model":"o1"}"#),
        ("POST", "/openai/deployments/{}/chat/completions", "application/json", r#"{"model":"o1"}"#),
        ("GET", "/openai/v1/realtime?model={}", "", ""),
        ("GET", "/openai/realtime?deployment={}&api-version=x", "", ""),
    ] {
        for (alias, expected) in [("gpt-4o", None), ("o3", Some(ErrorKind::AliasNotAllowed))] {
            let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(())));
            let service = (InspectLayer::new(), AuthorizeLayer::new()).layer(inner);
            let request = Request::builder().method(method).uri(path.replace("{}", alias)).extension(restricted());
            let request =
                request.header("content-type", content_type).body(Body::from(body.replace("{}", alias))).unwrap();
            let refused = service.oneshot(request).await.err();
            let refused = refused.map(|error| Error::find(error.as_ref()).expect("a cause of the crate").kind());
            assert_eq!(refused, expected, "{method} {path} {alias}");
        }
    }
}

#[tokio::test]
async fn an_agent_is_judged_beside_a_model_too() {
    let judged = async |client: Client, body: &str| {
        let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(())));
        let service = (InspectLayer::new(), AuthorizeLayer::new()).layer(inner);
        let request = Request::post("/openai/v1/responses").extension(client).body(Body::from(body.to_owned()));
        let refused = service.oneshot(request.unwrap()).await.err();
        refused.map(|error| Error::find(error.as_ref()).expect("a cause of the crate").kind())
    };
    for agent in ["agent_reference", "agent", r"\u0061gent"] {
        for model in ["", r#""model":"gpt-4o","#] {
            let body = format!(r#"{{{model}"{agent}":{{"name":"o3","type":"agent_reference"}},"input":"Hi"}}"#);
            assert_eq!(judged(restricted(), &body).await, Some(ErrorKind::OperationNotAllowed), "{body}");
            let may = restricted().operations([Operation::Responses]);
            assert_eq!(judged(may, &body).await, None, "{body}");
            assert_eq!(judged(Client::new("free"), &body).await, None, "{body}");
        }
    }
    let nobody = r#"{"model":"gpt-4o","agent_reference":null,"input":{"agent":{"name":"o3"}}}"#;
    assert_eq!(judged(restricted(), nobody).await, None);
}

#[tokio::test]
async fn the_deployment_that_draws_is_judged_too() {
    for (deployment, expected) in [("chat", None), ("o3", Some(ErrorKind::AliasNotAllowed))] {
        let mut drawing = request("POST", "/openai/deployments/gpt-4o/responses", Some(restricted()));
        drawing.headers_mut().insert("x-ms-oai-image-generation-deployment", deployment.parse().unwrap());
        assert_eq!(refusal(drawing).await, expected, "{deployment}");
    }
}

#[tokio::test]
async fn a_websocket_is_more_than_a_look() {
    let mut upgrade = request("GET", "/openai/v1/responses", Some(restricted()));
    upgrade.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    assert_eq!(refusal(upgrade).await, Some(ErrorKind::OperationNotAllowed));
}

#[tokio::test]
async fn a_route_that_is_there_is_believed() {
    let route = Route::parse(&Method::POST, &"/openai/deployments/o3/completions".parse().unwrap()).unwrap();
    let mut routed = request("POST", "/embedded", Some(restricted()));
    routed.extensions_mut().insert(route);
    assert_eq!(refusal(routed).await, Some(ErrorKind::AliasNotAllowed));
}

#[tokio::test]
async fn calls_the_inner_service_only_when_it_is_ready() {
    passing::assert_keeps_readiness(AuthorizeLayer::new(), request("GET", "/openai/models", None));
}

#[test]
fn dropping_the_future_drops_the_request_below() {
    passing::assert_drops_what_is_below(&AuthorizeLayer::new(), request("GET", "/openai/models", None));
}

#[tokio::test]
async fn a_client_may_be_required() {
    use tower_azure_openai::terminate::TerminateCredentialsLayer;

    let inner = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(())));
    let strict = AuthorizeLayer::new().require_client().layer(inner);
    let ask = |client| request("POST", "/openai/deployments/gpt-4o/chat/completions", client);
    let refused = strict.clone().oneshot(ask(None)).await.unwrap_err();
    assert_eq!(Error::find(refused.as_ref()).map(Error::kind), Some(ErrorKind::Unauthenticated));
    assert!(strict.clone().oneshot(ask(Some(restricted()))).await.is_ok());
    let open = TerminateCredentialsLayer::without_clients().layer(strict);
    assert!(open.oneshot(ask(None)).await.is_ok(), "nobody is asked, in so many words");
}

#[tokio::test]
async fn a_builder_whose_own_layer_inserts_no_client_serves_nobody() {
    use tower_azure_openai::gateway;
    use tower_azure_openai::pool::{Backend, Deployment, Pool};

    let backend = Backend::new("east", "https://east.example").add_deployment(Deployment::new("gpt-4o"));
    let pool = Pool::builder().add_backend(backend).build().expect("a pool");
    let network = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
    let of = |inserts: bool| {
        tower::util::MapRequestLayer::new(move |mut request: Request<Body>| {
            if inserts {
                request.extensions_mut().insert(Client::new("team-a"));
            }
            request
        })
    };
    for (inserts, status) in [(false, 401), (true, 200)] {
        let gateway = gateway::builder(pool.clone(), of(inserts)).build(network);
        let chat =
            Request::post("/openai/deployments/gpt-4o/chat/completions").body(Body::from("{}")).expect("a request");
        let answer = gateway.oneshot(chat).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{inserts}");
    }
}
