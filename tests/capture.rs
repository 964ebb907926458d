//! What is written down of requests and answers, and what is not.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::capture::{CaptureLayer, Captured, JsonLines, Pointers, Sink, from_fn};
use tower_azure_openai::context::Client;
use tower_azure_openai::{Error, ErrorKind};

type Lines = Arc<Mutex<Vec<Value>>>;

/// A layer, and what it has written.
fn capture() -> (CaptureLayer, Lines) {
    let lines = Lines::default();
    let written = lines.clone();
    let sink = move |captured: &Captured| {
        written.lock().unwrap().push(serde_json::from_str(&captured.to_json()).unwrap());
    };
    (CaptureLayer::new(from_fn(sink)).body(64 << 10), lines)
}

fn last(lines: &Lines) -> Value {
    lines.lock().unwrap().last().unwrap().clone()
}

fn request(kind: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post("/openai/deployments/gpt-4o/chat/completions").header(CONTENT_TYPE, kind);
    request.extension(Client::new("team-a")).body(body.into()).unwrap()
}

fn frames(parts: impl IntoIterator<Item = &'static [u8], IntoIter: Send + 'static>) -> Body {
    let frames = parts.into_iter().map(|part| Ok::<_, BoxError>(Frame::data(Bytes::from_static(part))));
    Body::new(StreamBody::new(stream::iter(frames)))
}

/// What a client gets that reads to the end.
async fn ask(
    layer: &CaptureLayer,
    request: Request<Body>,
    kind: &'static str,
    answer: Body,
) -> Result<Bytes, BoxError> {
    let answer = Arc::new(Mutex::new(Some(answer)));
    let backend = service_fn(move |request: Request<Body>| {
        let answer = answer.lock().unwrap().take().unwrap();
        async move {
            request.into_body().collect().await?;
            let mut answer = Response::new(answer);
            answer.headers_mut().insert(CONTENT_TYPE, kind.parse()?);
            Ok::<_, BoxError>(answer)
        }
    });
    let answer = ServiceBuilder::new().layer(layer.clone()).service(backend).oneshot(request).await?;
    Ok(answer.into_body().collect().await?.to_bytes())
}

const JSON: &str = "application/json";

#[tokio::test]
async fn both_sides_are_written_and_pass_untouched() {
    let (layer, lines) = capture();
    let asked = frames([br#"{"messages":[{"role":"us"#.as_slice(), br#"er","content":"Hi"}]}"#]);
    let said = r#"{"choices":[{"message":{"content":"Hello"}}]}"#;
    assert_eq!(ask(&layer, request(JSON, asked), JSON, Body::from(said)).await.unwrap(), said);
    let line = last(&lines);
    assert_eq!((&line["client"], &line["status"], &line["ending"]), (&json!("team-a"), &json!(200), &json!("whole")));
    assert_eq!(line["request"]["json"], json!({"messages": [{"role": "user", "content": "Hi"}]}));
    assert_eq!(line["answer"], json!({"length": said.len(), "json": {"choices": [{"message": {"content": "Hello"}}]}}));
    assert_eq!(layer.memory_in_use(), 0);
}

#[tokio::test]
async fn without_a_size_no_body_is_written() {
    let (layer, lines) = capture();
    ask(&layer.body(0), request(JSON, r#"{"a":1}"#), JSON, Body::from(r#"{"b":2}"#)).await.unwrap();
    assert_eq!((&last(&lines)["request"], &last(&lines)["answer"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn streams_become_what_they_say_and_frames_are_not_copied() {
    let (layer, lines) = capture();
    let first: &'static [u8] = b"data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\n";
    let rest: &'static [u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"}}]}\n\ndata: [DONE]\n\n";
    let backend = service_fn(async |_: Request<Body>| {
        let answer = Response::builder().header(CONTENT_TYPE, "text/event-stream");
        Ok::<_, BoxError>(answer.body(frames([first, rest]))?)
    });
    let answer = ServiceBuilder::new().layer(layer).service(backend).oneshot(request(JSON, "{}")).await.unwrap();
    let mut body = Box::pin(answer.into_body());
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(frame.as_ptr(), first.as_ptr());
    while body.frame().await.is_some() {}
    assert!(lines.lock().unwrap().is_empty(), "nothing waits for the record");
    drop(body);
    let said = json!({"id": "1", "choices": [{"index": 0, "message": {"content": "Hello"}}]});
    assert_eq!(last(&lines)["answer"], json!({"length": first.len() + rest.len(), "json": said}));
}

#[tokio::test]
async fn media_become_a_length_and_a_digest() {
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const THREE: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let (layer, lines) = capture();
    let asked = r#"{"a":"data:image/png;base64,YWJj","b":"data:image/png;base64,"}"#;
    ask(&layer, request(JSON, asked), "audio/mpeg", frames([b"a".as_slice(), b"bc"])).await.unwrap();
    let medium = |length, digest: &str| json!({"media": {"type": "image/png", "length": length, "sha256": digest}});
    assert_eq!(last(&lines)["request"]["json"], json!({"a": medium(3, THREE), "b": medium(0, EMPTY)}));
    assert_eq!(last(&lines)["answer"], json!({"length": 3, "sha256": THREE}));
    ask(&layer, request("multipart/form-data; boundary=x", "--x--"), JSON, Body::from("{}")).await.unwrap();
    assert_eq!(last(&lines)["request"]["json"], Value::Null);
    assert_eq!(last(&lines)["request"]["sha256"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn what_is_redacted_is_in_nothing_that_a_sink_sees() {
    let (layer, lines) = capture();
    let layer = layer.body(40).redact(Pointers::parse(["/messages/*/content", "/choices/*/message/content"]).unwrap());
    let asked = r#"{"messages":[{"content":"my secret name","role":"user"}],"user":"somebody with a long name"}"#;
    let said = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"my secret name\"}}]}\n\n";
    ask(&layer, request(JSON, asked), "text/event-stream", Body::from(said)).await.unwrap();
    let line = last(&lines);
    assert!(!line.to_string().contains("secret name"), "{line}");
    assert!(line["request"]["truncated"] == true && line["request"]["text"].as_str().unwrap().len() == 40, "{line}");
    for (kind, body) in [(JSON, r#"{"messages":[{"content":"my secret name"#), ("text/plain", "my secret name")] {
        ask(&layer, request(kind, body), kind, Body::from(body)).await.unwrap();
        assert!(!last(&lines).to_string().contains("secret"), "what cannot be read whole is left out");
    }
}

#[tokio::test]
async fn credentials_in_bodies_are_never_written() {
    let (layer, lines) = capture();
    let asked = r#"{"data_sources":[{"parameters":{"authentication":{"key":"search-key"}}}]}"#;
    ask(&layer, request(JSON, asked), JSON, Body::from(r#"{"client_secret":{"value":"ek_1"},"value":"ek_2"}"#))
        .await
        .unwrap();
    let line = last(&lines).to_string();
    assert!(!line.contains("search-key") && !line.contains("ek_"), "{line}");
}

#[tokio::test]
async fn a_sample_is_written_and_every_error() {
    let (layer, lines) = capture();
    let layer = layer.sample(0.25);
    for _ in 0..100 {
        ask(&layer, request(JSON, "{}"), JSON, Body::from("{}")).await.unwrap();
    }
    assert!((22..=28).contains(&lines.lock().unwrap().len()), "{}", lines.lock().unwrap().len());
    let layer = layer.sample(0.0);
    lines.lock().unwrap().clear();
    ask(&layer, request(JSON, "{}"), JSON, Body::from("{}")).await.unwrap();
    assert!(lines.lock().unwrap().is_empty());

    let broken = stream::iter([Ok(Frame::data(Bytes::from_static(b"{"))), Err(BoxError::from("broken"))]);
    ask(&layer, request(JSON, r#"{"x":1}"#), JSON, Body::new(StreamBody::new(broken))).await.unwrap_err();
    assert_eq!((&last(&lines)["ending"], &last(&lines)["request"]["json"]), (&json!("broken"), &json!({"x": 1})));

    let refusing = service_fn(async |_: Request<Body>| {
        Err::<Response<Body>, BoxError>(Error::new(ErrorKind::OperationNotAllowed, "Not you.").into())
    });
    let service = ServiceBuilder::new().layer(layer).service(refusing);
    assert!(service.oneshot(request(JSON, "{}")).await.is_err());
    let line = last(&lines);
    assert_eq!(
        (&line["status"], &line["answer"]["json"]["error"]["code"]),
        (&json!(403), &json!("operation_not_allowed"))
    );
}

#[tokio::test]
async fn only_of_the_clients_that_are_named() {
    let (layer, lines) = capture();
    let layer = layer.clients(["team-b"]);
    ask(&layer, request(JSON, "{}"), JSON, Body::from("{}")).await.unwrap();
    let mut other = request(JSON, "{}");
    other.extensions_mut().insert(Client::new("team-b"));
    ask(&layer, other, JSON, Body::from("{}")).await.unwrap();
    assert_eq!(lines.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_is_written_down_as_such() {
    let (layer, lines) = capture();
    let endless = || Body::new(StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>()));
    let backend = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(endless())));
    let service = ServiceBuilder::new().layer(layer.clone()).service(backend);
    drop(service.oneshot(request(JSON, "{}")).await.unwrap());
    assert_eq!((&last(&lines)["ending"], &last(&lines)["status"]), (&json!("left"), &json!(200)));
    let waiting = service_fn(async |_: Request<Body>| std::future::pending::<Result<Response<Body>, BoxError>>().await);
    let future = ServiceBuilder::new().layer(layer).service(waiting).oneshot(request(JSON, "{}"));
    assert!(tokio_test::task::spawn(future).poll().is_pending());
    assert_eq!((&last(&lines)["ending"], &last(&lines)["status"]), (&json!("left"), &Value::Null));
}

#[tokio::test]
async fn a_sink_that_panics_harms_nobody() {
    let layer = CaptureLayer::new(from_fn(|_| panic!("full")));
    assert_eq!(ask(&layer, request(JSON, "{}"), JSON, Body::from("{}")).await.unwrap(), "{}");
}

#[tokio::test]
async fn ten_thousand_streams_hold_no_more_than_the_account() {
    const MEMORY: usize = 1 << 20;
    let (layer, lines) = capture();
    let layer = layer.memory(MEMORY);
    let event = Bytes::from("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n");
    let words = event.clone();
    let backend = service_fn(move |_: Request<Body>| {
        let words = words.clone();
        let frames = stream::iter((0..50).map(move |_| Ok::<_, BoxError>(Frame::data(words.clone()))));
        async {
            let answer = Response::builder().header(CONTENT_TYPE, "text/event-stream");
            Ok::<_, BoxError>(answer.body(Body::new(StreamBody::new(frames)))?)
        }
    });
    let service = ServiceBuilder::new().layer(layer.clone()).service(backend);
    let mut running = Vec::new();
    for n in 0..10_000 {
        let mut request = request(JSON, "{}");
        request.extensions_mut().insert(Client::new(format!("client-{}", n % 10)));
        running.push(Box::pin(service.clone().oneshot(request).await.unwrap().into_body()));
    }
    for _ in 0..50 {
        for body in &mut running {
            let frame = futures_util::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), event, "nothing is missing to anybody");
        }
        assert!(layer.memory_in_use() <= MEMORY, "{}", layer.memory_in_use());
    }
    assert!(layer.memory_in_use() > MEMORY / 2);
    drop(running);
    assert_eq!((layer.memory_in_use(), lines.lock().unwrap().len()), (0, 10_000));
    let is_told = |line: &Value| line["answer"]["json"].is_object() && line["answer"]["length"] == 0;
    assert!(!lines.lock().unwrap().iter().any(is_told));
}

// ===== files =====

/// A directory of its own.
fn directory(name: &str) -> std::path::PathBuf {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&path));
    path
}

fn files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn files_hold_one_line_for_each_and_are_their_owners_alone() {
    let directory = directory("captures");
    let files_of = JsonLines::builder(&directory).rotate(2_000).build().unwrap();
    let layer = CaptureLayer::new(files_of.clone()).body(1 << 10);
    for n in 0..50 {
        ask(&layer, request(JSON, format!("{{\"n\":{n}}}")), JSON, Body::from("{}")).await.unwrap();
    }
    files_of.finish(Duration::from_secs(20));
    let mut found = Vec::new();
    for file in files(&directory) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.len() <= 2_000 && text.ends_with('\n'));
        found.extend(
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["request"]["json"]["n"].clone()),
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
    assert!(files(&directory).len() > 3);
    found.sort_by_key(Value::as_u64);
    assert_eq!(found, (0..50).map(Value::from).collect::<Vec<_>>());
    assert_eq!(files_of.dropped(), 0);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn old_files_are_deleted_and_others_left_alone() {
    let directory = directory("old-captures");
    std::fs::create_dir_all(&directory).unwrap();
    let old = SystemTime::now() - Duration::from_secs(3_600);
    for (name, modified) in
        [("capture-old-1-1.jsonl", old), ("capture-new-1-1.jsonl", SystemTime::now()), ("notes.jsonl", old)]
    {
        let file = std::fs::File::create(directory.join(name)).unwrap();
        file.set_modified(modified).unwrap();
    }
    let _files = JsonLines::builder(&directory).keep(Duration::from_secs(1_800)).build().unwrap();
    let names: Vec<_> = files(&directory).iter().map(|file| file.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["capture-new-1-1.jsonl", "notes.jsonl"]);
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn what_waits_for_the_disk_is_bounded_and_what_is_lost_is_counted() {
    let directory = directory("full-captures");
    let files_of = JsonLines::builder(&directory).queue(0).build().unwrap();
    let layer = CaptureLayer::new(files_of.clone());
    ask(&layer, request(JSON, "{}"), JSON, Body::from("{}")).await.unwrap();
    assert_eq!((files_of.dropped(), files(&directory).len()), (1, 0));
    std::fs::remove_dir_all(&directory).unwrap();

    let gone = JsonLines::builder(&directory).build().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    let layer = CaptureLayer::new(gone.clone());
    ask(&layer, request(JSON, "{}"), JSON, Body::from("{}")).await.unwrap();
    gone.finish(Duration::from_secs(20));
    assert_eq!(gone.dropped(), 1, "there is no directory any more");
}

#[test]
fn sinks_are_objects_that_threads_share() {
    fn is<T: Send + Sync>() {}
    is::<Box<dyn Sink>>();
    is::<CaptureLayer>();
}
