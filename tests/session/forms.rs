//! Ids in the fields of forms.

use http::Request;
use proptest::prelude::*;
use serde_json::Value;
use tower_azure_openai::body::Body;

use super::estate::{Estate, answered, call};
use super::support::send;

const NONE: Value = Value::Null;

fn form(path: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let part = |(name, value): &(&str, &str)| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body: String = fields.iter().map(part).chain(["--b--\r\n".to_owned()]).collect();
    let mut request = call("POST", path, &NONE);
    request.headers_mut().insert("content-type", "multipart/form-data; boundary=b".parse().unwrap());
    *request.body_mut() = Body::from(body);
    request
}

/// Where the specifications have an id in a form: the call, the field, what it holds, and where the object lies.
const PLACES: [(&str, &str, &str, &str); 8] = [
    ("audio/voices", "consent", "{}", "audio/voice_consents"),
    ("containers/cntr_x/files", "file_id", "{}", "files"),
    ("videos", "input_reference[file_id]", "{}", "files"),
    ("videos", "input_reference", r#"{"file_id":"{}"}"#, "files"),
    ("videos/edits", "video[id]", "{}", "videos"),
    ("videos/edits", "video", r#" {"id":"{}"} "#, "videos"),
    ("videos/extensions", "video[id]", "{}", "videos"),
    ("realtime/calls", "session", r#"{"model":"gpt-4o","prompt":{"variables":{"v":{"file_id":"{}"}}}}"#, "files"),
];

fn prefix(collection: &str) -> &'static str {
    match collection {
        "files" => "file-",
        "videos" => "video_",
        _ => "cons_",
    }
}

#[tokio::test(start_paused = true)]
async fn lead_to_the_backend_that_has_the_object() {
    for (path, field, value, collection) in PLACES {
        for owner in 0..3 {
            let estate = Estate::new();
            let id = format!("{}1", prefix(collection));
            estate.plant(owner, collection, &id);
            estate.plant(owner, "containers", "cntr_x");
            let gateway = estate.gateway();
            let fields = [("model", "gpt-4o"), ("name", "n"), (field, &value.replace("{}", &id))];
            let (backend, ..) = answered(&gateway, form(&format!("/openai/v1/{path}"), &fields)).await;
            assert_eq!(backend, Some(format!("b{owner}")), "{path} {field}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_backends_are_refused() {
    let estate = Estate::new();
    estate.plant(0, "containers", "cntr_x");
    estate.plant(1, "files", "file-1");
    let request = form("/openai/v1/containers/cntr_x/files", &[("file_id", "file-1")]);
    let (_, status, answer) = answered(&estate.gateway(), request).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("ids_on_different_backends")));
}

#[tokio::test(start_paused = true)]
async fn that_nobody_knows_are_not_found() {
    for (path, field) in [("audio/voices", "consent"), ("videos/edits", "video[id]")] {
        let request = form(&format!("/openai/v1/{path}"), &[(field, "video_nobodys")]);
        assert_eq!(send(&Estate::new().gateway(), request).await.status(), 404, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_stands_there_instead_is_none() {
    let estate = Estate::new();
    let file = "\u{0}\u{1}ftypmp42 video_1 {\"id\":\"video_1\"}";
    send(&estate.gateway(), form("/openai/v1/videos/edits", &[("video", file)])).await;
    assert_eq!(estate.counts().iter().sum::<usize>(), 1, "nobody is asked for it");
}

proptest! {
    /// A field that is no place never searches, pins or fails a request.
    #[test]
    fn that_are_the_clients_own_mean_nothing(
        path in prop::sample::select(vec!["audio/voices", "videos", "videos/edits", "files", "images/edits", "skills"]),
        name in "(metadata|client_metadata|prompt|name|x)(\\[(id|file_id|video|0|)\\]){0,3}",
        json in any::<bool>(),
    ) {
        let value = if json { r#"{"file_id":"file-1","id":"video_1"}"# } else { "file-1" };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let counts = runtime.block_on(async {
            let estate = Estate::new();
            let fields = [("model", "gpt-4o"), ("purpose", "assistants"), (&name, value)];
            answered(&estate.gateway(), form(&format!("/openai/v1/{path}"), &fields)).await;
            estate.counts()
        });
        prop_assert_eq!(counts.into_iter().sum::<usize>(), 1, "{}: nobody is asked for anything", name);
    }
}
