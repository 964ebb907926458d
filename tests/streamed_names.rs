//! What a body names behind the part of it that is held: nothing gets past a client's list of aliases.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::authorize::AuthorizeLayer;
use tower_azure_openai::azure::operation::Operation;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, Deployment, Pool};
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::{Error, ErrorKind};

const LIMIT: usize = 2_000;
const BEYOND: usize = 6_000;

/// An upload in frames.
struct Upload {
    frames: VecDeque<Bytes>,
    length: Option<u64>,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = self.frames.pop_front();
        self.length = self.length.map(|left| left - frame.as_ref().map_or(0, Bytes::len) as u64);
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}

fn upload(path: &str, content_type: &str, body: &[u8], piece: usize, known: bool) -> Request<Upload> {
    let frames = body.chunks(piece).map(Bytes::copy_from_slice).collect();
    let request = Request::post(path).header(CONTENT_TYPE, content_type);
    let request = if known { request.header(CONTENT_LENGTH, body.len()) } else { request };
    request.body(Upload { frames, length: known.then_some(body.len() as u64) }).unwrap()
}

/// What came to the backend, of a body that was cut off too.
#[derive(Clone, Debug, Default)]
struct Seen {
    backend: String,
    body: Vec<u8>,
    length: Option<u64>,
}

/// `west` serves `chat`, `say` and `img` under names of its own, `east` only `chat`.
fn pool() -> Pool {
    let at = |name: &str, aliases: &[&str]| {
        let backend = Backend::new(name, format!("https://{name}.example"));
        aliases.iter().fold(backend, |backend, alias| {
            backend.add_deployment(Deployment::new(format!("{alias}-{name}")).alias(*alias))
        })
    };
    let pool = Pool::builder().add_backend(at("east", &["chat"])).add_backend(at("west", &["chat", "say", "img"]));
    pool.add_backend(at("far", &["ada"]).priority(7)).build().unwrap()
}

async fn send(client: Option<Client>, mut request: Request<Upload>) -> (Seen, Option<Error>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let backend = service_fn({
        let seen = seen.clone();
        move |request: Request<Body>| {
            let seen = seen.clone();
            async move {
                let length = request.headers().get(CONTENT_LENGTH).map(|length| length.to_str().unwrap().parse());
                {
                    let mut seen = seen.lock().unwrap();
                    request.uri().host().unwrap().trim_end_matches(".example").clone_into(&mut seen.backend);
                    seen.length = length.transpose().unwrap();
                }
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    seen.lock().unwrap().body.extend_from_slice(frame?.data_ref().unwrap());
                }
                Ok::<_, BoxError>(Response::new(Body::empty()))
            }
        }
    });
    let layers = (
        InspectLayer::new().replay_limit(LIMIT),
        AuthorizeLayer::new(),
        SelectBackendLayer::new(pool()),
        ForwardLayer::new(),
    );
    request.extensions_mut().extend(client.into_iter().fold(http::Extensions::new(), |mut all, client| {
        all.insert(client);
        all
    }));
    let error = layers.layer(backend).oneshot(request).await.err();
    let error = error.map(|error| Error::find(error.as_ref()).expect("a cause of the crate").without_source());
    let seen = seen.lock().unwrap().clone();
    (seen, error)
}

fn held() -> Option<Client> {
    Some(Client::new("held").allow(["chat", "say"]))
}

// ===== JSON =====

fn padding() -> String {
    "x".repeat(BEYOND)
}

/// Bodies that name `{}` beside their alias, with padding before it or behind it.
fn bodies(name: &str, is_behind: bool) -> Vec<(&'static str, String)> {
    let members = |first: &str, named: &str| {
        let padding = format!("\"metadata\":\"{}\"", padding());
        if is_behind { format!("{{{first}{padding},{named}}}") } else { format!("{{{first}{named},{padding}}}") }
    };
    let source = format!(
        r#""data_sources":[{{"parameters":{{"embedding_dependency":{{"deployment_name":"{name}","type":"deployment_name"}}}}}}]"#
    );
    let image = format!(r#""tools":[{{"model":"{name}","type":"image_generation"}}]"#);
    let session = format!(r#""audio":{{"input":{{"transcription":{{"model":"{name}"}}}}}}"#);
    vec![
        ("/openai/deployments/chat/chat/completions?api-version=x", members("", &source)),
        ("/openai/v1/chat/completions", members(r#""model":"chat","#, &source)),
        ("/openai/v1/responses", members(r#""model":"chat","#, &image)),
        ("/openai/v1/responses", members(r#""model":"chat","#, &format!(r#""moderation":{{"mod\u0065l":"{name}"}}"#))),
        ("/openai/v1/realtime/calls/rtc_1/accept", members(r#""model":"chat","#, &session)),
        ("/openai/deployments/chat/responses", members("", &image)),
    ]
}

#[tokio::test]
async fn a_further_name_behind_what_is_held_is_refused_for_a_client_with_a_list() {
    for known in [true, false] {
        for piece in [100, 1_900, 100_000] {
            for name in ["img", "o3", "say"] {
                for (path, body) in bodies(name, true) {
                    let request = || upload(path, "application/json", body.as_bytes(), piece, known);
                    let (seen, error) = send(held(), request()).await;
                    // One frame is in hand, and so is what was held for a model that never came.
                    let is_in_hand = piece > body.len() || path == "/openai/deployments/chat/responses";
                    match error {
                        Some(error) => {
                            assert_eq!(error.kind(), ErrorKind::AliasNotAllowed, "{path} {name} {piece} {error}");
                            assert!(serde_json::from_slice::<serde_json::Value>(&seen.body).is_err(), "cut off");
                        }
                        None => assert!(is_in_hand && name == "say", "{path} {name} {piece}"),
                    }
                    for client in [None, Some(Client::new("free"))] {
                        let (seen, error) = send(client, request()).await;
                        assert!(error.is_none(), "{path} {error:?}");
                        assert!(seen.body.len() > BEYOND);
                        assert_eq!(seen.length.is_some(), known);
                        assert!(seen.length.is_none_or(|length| length == seen.body.len() as u64));
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_further_name_in_what_is_held_is_judged_and_rewritten_although_the_rest_streams() {
    for known in [true, false] {
        for (path, body) in bodies("say", false) {
            let (seen, error) = send(held(), upload(path, "application/json", body.as_bytes(), 300, known)).await;
            assert!(error.is_none(), "{path} {error:?}");
            assert_eq!(seen.backend, "west", "{path}: the one that serves both");
            assert!(memchr_count(&seen.body, b"\"say-west\"") == 1, "{path}");
            assert!(seen.length.is_none_or(|length| length == seen.body.len() as u64));
        }
        for (path, body) in bodies("o3", false) {
            let (seen, error) = send(held(), upload(path, "application/json", body.as_bytes(), 300, known)).await;
            assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::AliasNotAllowed), "{path}");
            assert!(seen.backend.is_empty(), "nothing was sent");
        }
    }
}

#[tokio::test]
async fn an_agent_behind_what_is_held_is_refused_for_a_client_with_a_list() {
    for agent in ["agent_reference", "agent", r"agent\u005freference"] {
        let body = format!(r#"{{"model":"chat","metadata":"{}","{agent}":{{"name":"a"}}}}"#, padding());
        for piece in [100, 1_900, 100_000] {
            let request = || upload("/openai/v1/responses", "application/json", body.as_bytes(), piece, true);
            let (seen, error) = send(held(), request()).await;
            assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::OperationNotAllowed), "{agent} {piece}");
            assert!(seen.body.len() < body.len(), "cut off");
            let may = held().map(|client| client.operations([Operation::Responses]));
            for client in [None, may] {
                let (seen, error) = send(client, request()).await;
                assert!(error.is_none(), "{error:?}");
                assert!(seen.body.len() > BEYOND);
            }
        }
    }
}

fn memchr_count(body: &[u8], text: &[u8]) -> usize {
    body.windows(text.len()).filter(|window| *window == text).count()
}

#[tokio::test]
async fn what_another_reader_could_take_for_json_is_refused_for_a_client_with_a_list() {
    let path = "/openai/deployments/chat/chat/completions?api-version=x";
    let json = r#"{"data_sources":[{"parameters":{"embedding_dependency":{"deployment_name":"o3"}}}]}"#;
    let utf_16: Vec<u8> = json.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [&[0xff, 0xfe][..], &utf_16].concat();
    let bom = format!("\u{feff}{json}");
    for body in [&utf_16[..], &marked, bom.as_bytes(), b"[{}]", b"data_sources=o3"] {
        let (seen, error) = send(held(), upload(path, "application/json", body, 4_000, true)).await;
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::InvalidBody), "{body:?}");
        assert!(seen.body.is_empty());
    }
}

// ===== files of requests =====

fn part(name: &str, value: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn line(model: &str, padding: usize) -> String {
    let padding = "x".repeat(padding);
    format!(
        r#"{{"custom_id":"{padding}","method":"POST","url":"/v1/responses","body":{{"input":"{padding}","model":"{model}"}}}}"#
    )
}

fn batch(lines: &[String]) -> String {
    format!("{}{}--b--\r\n", part("purpose", "batch"), part("file", &lines.join("\n")))
}

const FORM: &str = "multipart/form-data; boundary=b";

async fn send_batch(client: Option<Client>, lines: &[String], known: bool) -> (Seen, Option<Error>) {
    send(client, upload("/openai/v1/files", FORM, batch(lines).as_bytes(), 700, known)).await
}

#[tokio::test]
async fn each_line_of_a_large_file_is_rewritten_as_it_passes() {
    for known in [true, false] {
        for padding in [10, 500] {
            let models = ["say", "chat", "say", "say", "chat", "chat", "say", "chat"];
            let lines: Vec<_> = models.iter().cycle().take(40).map(|model| line(model, padding)).collect();
            let (seen, error) = send_batch(held(), &lines, known).await;
            assert!(error.is_none(), "{error:?}");
            assert_eq!(seen.backend, "west", "that serves what the first lines name");
            let expected: Vec<_> =
                models.iter().cycle().take(40).map(|model| line(&format!("{model}-west"), padding)).collect();
            assert_eq!(String::from_utf8(seen.body).unwrap(), batch(&expected), "{padding}");
            assert_eq!(seen.length, None, "not known before it has passed");
        }
    }
}

#[tokio::test]
async fn a_line_of_a_large_file_that_cannot_be_used_ends_it_with_its_number() {
    let with = |bad: String| {
        let mut lines = vec![line("say", 90); 60];
        lines[46] = bad;
        lines
    };
    let deployment = line("say", 9).replace("/v1/responses", "/openai/deployments/img/responses");
    for (bad, free, restricted) in [
        (line("img", 1), None, Some(ErrorKind::AliasNotAllowed)),
        (line("ada", 1), Some(ErrorKind::DeploymentNotFound), Some(ErrorKind::AliasNotAllowed)),
        (line("none", 1), Some(ErrorKind::DeploymentNotFound), Some(ErrorKind::AliasNotAllowed)),
        (r#"{"body":{}}"#.to_owned(), Some(ErrorKind::InvalidBody), Some(ErrorKind::InvalidBody)),
        ("not JSON".to_owned(), Some(ErrorKind::InvalidBody), Some(ErrorKind::InvalidBody)),
        (deployment, Some(ErrorKind::InvalidBody), Some(ErrorKind::InvalidBody)),
    ] {
        for (client, expected) in [(None, free), (held(), restricted)] {
            let (seen, error) = send_batch(client, &with(bad.clone()), true).await;
            assert_eq!(error.as_ref().map(Error::kind), expected, "{bad}");
            if let Some(error) = error {
                assert!(error.message().contains("ine 47 "), "{}", error.message());
                assert!(!seen.body.ends_with(b"--b--\r\n"), "cut off");
            }
        }
    }
    // More than is ever held stands between a tool's model and its type.
    let tool = format!(r#"{{"model":"say","x":"{}","type":"image_generation"}}"#, "x".repeat((1 << 20) + 9_000));
    let bad = format!(r#"{{"body":{{"model":"say","tools":[{tool}]}}}}"#);
    let (_, error) = send_batch(held(), &with(bad), true).await;
    assert!(error.unwrap().message().contains("Line 47 "));
}

#[tokio::test]
async fn a_purpose_behind_a_large_file_is_too_late_for_a_client_with_a_list() {
    let lines = vec![line("img", 90); 60].join("\n");
    for (purpose, is_refused) in [("batch", true), ("fine-tune", false)] {
        let body = format!("{}{}--b--\r\n", part("file", &lines), part("purpose", purpose));
        let request = || upload("/openai/v1/files", FORM, body.as_bytes(), 700, true);
        let (seen, error) = send(held(), request()).await;
        assert_eq!(error.map(|error| error.kind()), is_refused.then_some(ErrorKind::AliasNotAllowed), "{purpose}");
        assert_eq!(seen.body.len() < body.len(), is_refused);
        let (seen, error) = send(None, request()).await;
        assert!(error.is_none());
        assert_eq!((seen.body, seen.length), (body.clone().into_bytes(), Some(body.len() as u64)), "as it was");
    }
}

#[tokio::test]
async fn a_large_file_for_another_purpose_is_not_touched() {
    let body = batch(&vec![line("img", 90); 60]).replace("\r\n\r\nbatch\r\n", "\r\n\r\nfine-tune\r\n");
    for client in [held(), None] {
        let (seen, error) = send(client, upload("/openai/v1/files", FORM, body.as_bytes(), 700, true)).await;
        assert!(error.is_none());
        assert_eq!((seen.body, seen.length), (body.clone().into_bytes(), Some(body.len() as u64)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a file of requests is cut into frames and whichever of it is held, only its names change.
    #[test]
    fn only_names_change(
        models in prop::collection::vec("chat|say", 1..30),
        padding in 0_usize..300,
        piece in 1_usize..3_000,
        known in any::<bool>(),
    ) {
        let lines = |suffix: &str| -> Vec<_> {
            models.iter().map(|model| line(&format!("{model}{suffix}"), padding)).collect()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let body = batch(&lines(""));
        let sent = upload("/openai/v1/files", FORM, body.as_bytes(), piece, known);
        let (seen, error) = runtime.block_on(send(held(), sent));
        prop_assume!(error.as_ref().map(Error::kind) != Some(ErrorKind::DeploymentNotFound), "placed by its first lines");
        prop_assert!(error.is_none());
        let expected = batch(&lines(&format!("-{}", seen.backend)));
        prop_assert_eq!(String::from_utf8(seen.body).unwrap(), expected);
    }
}
