use bytes::Bytes;
use http::{HeaderMap, Version};
use tokio::time::Instant;

use super::*;

fn read(method: Method, uri: &str, body: &'static str) -> Option<Call> {
    Call::read(&ReceivedRequest {
        method,
        uri: uri.parse().unwrap(),
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        at: Instant::now(),
    })
}

fn inference(uri: &str, body: &'static str) -> Inference {
    match read(Method::POST, uri, body) {
        Some(Call::Infer(inference)) => inference,
        other => panic!("{uri} is an inference, not {other:?}"),
    }
}

#[test]
fn classic_paths_name_the_deployment() {
    let call = inference("/openai/deployments/chat/chat/completions?api-version=2024-10-21", "{}");
    assert_eq!(call.operation, Operation::ChatCompletions);
    assert_eq!(call.deployment.as_deref(), Some("chat"));
    assert_eq!(call.api_version, "2024-10-21");

    let call = inference("/openai/deployments/a%20b/embeddings?x=1&api-version=2024-10-21", "{}");
    assert_eq!(call.operation, Operation::Embeddings);
    assert_eq!(call.deployment.as_deref(), Some("a b"));
}

#[test]
fn v1_bodies_name_the_deployment() {
    let call = inference("http://host/openai/v1/completions", r#"{"model":"gpt"}"#);
    assert_eq!(call.operation, Operation::Completions);
    assert_eq!(call.deployment.as_deref(), Some("gpt"));
    assert_eq!(inference("/openai/v1/chat/completions", r#"{"model":4}"#).deployment, None);
}

#[test]
fn responses_and_runs_name_it_in_the_body_on_both_surfaces() {
    for uri in ["/openai/responses?api-version=1", "/openai/v1/responses"] {
        let call = inference(uri, r#"{"model":"gpt"}"#);
        assert_eq!((call.operation, call.deployment.as_deref()), (Operation::Responses, Some("gpt")));
    }
    for (uri, thread) in [
        ("/openai/threads/runs?api-version=1", None),
        ("/openai/threads/thread_1/runs?api-version=1", Some("thread_1")),
    ] {
        let call = inference(uri, r#"{"model":"gpt","assistant_id":"asst_1"}"#);
        assert_eq!((call.operation, call.thread.as_deref()), (Operation::Runs, thread));
        assert_eq!((call.deployment.as_deref(), call.assistant()), (Some("gpt"), Some("asst_1")));
    }
}

#[test]
fn forms_are_read_like_objects() {
    let form = "--x y\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n\
                --x y\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
                Content-Type: audio/wav\r\n\r\n\r\n--x\r\n--x y--\r\n";
    let mut headers = HeaderMap::new();
    headers.insert("content-type", r#"multipart/form-data; boundary="x y""#.parse().unwrap());
    let payload = Payload::read(&headers, form.as_bytes());
    assert!(payload.is_form());
    assert_eq!(payload.text("model"), Some("whisper"));
    assert_eq!(payload.field("file").unwrap()["bytes"], "\r\n--x".len());

    for broken in ["", "--x y\r\n\r\n", &form[..form.len() - 6], "--x y\r\nname\r\n\r\n\r\n--x y--"] {
        assert!(!Payload::read(&headers, broken.as_bytes()).is_readable(), "{broken}");
    }
}

#[test]
fn other_calls() {
    assert_eq!(read(Method::GET, "/openai/v1/models", ""), Some(Call::Models));
    assert_eq!(read(Method::GET, "/openai/models?api-version=1", ""), Some(Call::Models));
    let of = |deployment: Option<&str>, transcribes| {
        Some(Call::Realtime { deployment: deployment.map(str::to_owned), transcribes })
    };
    let realtime = |deployment| of(deployment, false);
    assert_eq!(read(Method::GET, "/openai/v1/realtime?intent=transcription", ""), of(None, true));
    assert_eq!(read(Method::GET, "/openai/v1/realtime?model=a&intent=transcription", ""), of(Some("a"), true));
    assert_eq!(read(Method::GET, "/openai/v1/realtime?model=a%20b", ""), realtime(Some("a b")));
    assert_eq!(read(Method::GET, "/openai/realtime?api-version=1&deployment=gpt", ""), realtime(Some("gpt")));
    assert_eq!(read(Method::GET, "/openai/realtime?api-version=1&model=gpt", ""), realtime(None));
}

#[test]
fn objects_are_named_by_their_paths() {
    for (method, uri) in [
        (Method::POST, "/openai/threads?api-version=1"),
        (Method::GET, "/openai/v1/responses/resp_1"),
        (Method::DELETE, "/openai/responses/resp_1?api-version=1"),
        (Method::GET, "/openai/threads/thread_1/runs/run_1/steps?api-version=1"),
        (Method::POST, "/openai/v1/fine_tuning/jobs/ftjob-1/cancel"),
        (Method::GET, "/openai/v1/chat/completions"),
    ] {
        let call = read(method.clone(), uri, "{}");
        assert!(matches!(call, Some(Call::Objects(..))), "{method} {uri}: {call:?}");
    }
    let page = |query| match read(Method::GET, &format!("/openai/v1/files?{query}"), "") {
        Some(Call::Objects(_, _, page)) => page,
        other => panic!("a list is asked for, not {other:?}"),
    };
    let plain = Page { after: None, before: None, ascending: false, limit: 20 };
    assert_eq!(page(""), plain);
    assert_eq!(page("limit=0&order=asc"), Page { ascending: true, limit: 1, ..plain.clone() });
    assert_eq!(page("limit=900&after=file-1"), Page { after: Some("file-1".to_owned()), limit: 100, ..plain });
}

#[test]
fn what_azure_does_not_serve() {
    for (method, uri) in [
        (Method::POST, "/openai/deployments/gpt/chat/completions"),
        (Method::POST, "/openai/deployments/gpt/chat/completions?api-version="),
        (Method::GET, "/openai/deployments/gpt/chat/completions?api-version=1"),
        (Method::POST, "/openai/deployments/gpt/chat/completions/?api-version=1"),
        (Method::POST, "/openai/deployments/gpt/threads?api-version=1"),
        (Method::POST, "/openai/deployments/gpt/threads/runs?api-version=1"),
        (Method::POST, "/openai/deployments/gpt/responses?api-version=1"),
        (Method::GET, "/openai/deployments/gpt/responses/resp_1?api-version=1"),
        (Method::GET, "/openai/deployments/gpt/models?api-version=1"),
        (Method::POST, "/openai/responses"),
        (Method::GET, "/openai/realtime?deployment=gpt"),
        (Method::POST, "/openai/v1/realtime?model=gpt"),
        (Method::DELETE, "/openai/v1/batches/batch_1"),
        (Method::GET, "/openai/v1/threads"),
        (Method::GET, "/openai/v1/uploads/upload_1"),
        (Method::GET, "/openai/v1/files/file-1/cancel"),
        (Method::PUT, "/openai/v1/files"),
        (Method::POST, "/openai/v1/fine_tuning"),
        (Method::POST, "/openai/deployments/gpt?api-version=1"),
        (Method::POST, "/openai/chat/completions?api-version=1"),
        (Method::GET, "/v1/models"),
        (Method::GET, "/"),
    ] {
        assert_eq!(read(method.clone(), uri, "{}"), None, "{method} {uri}");
    }
}

#[test]
fn cost_is_a_quarter_of_the_characters_and_the_longest_answer() {
    let uri = "/openai/v1/chat/completions";
    let call = inference(uri, r#"{"messages":[{"role":"user","content":"häll"},{"content":[{"text":"o"}]}]}"#);
    assert_eq!(call.prompt_tokens(), 2);
    assert_eq!(call.estimate(), 2 + 16);
    assert_eq!(inference(uri, r#"{"max_tokens":5}"#).estimate(), 5);
    assert_eq!(inference(uri, r#"{"max_completion_tokens":7,"max_tokens":null}"#).estimate(), 7);

    let call = inference("/openai/v1/embeddings", r#"{"input":["abcd",[1,2]]}"#);
    assert_eq!(call.estimate(), 3, "an embedding has no answer to reckon with");
}
