//! Every kind of answer that tells its usage: whole, streamed, chopped anywhere, left early and malformed, under both settings for
//! silent streams.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Route, UsageSource};
use tower_azure_openai::meter::{MeterUsageLayer, Metered, SilentStreams};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// A call and its answer, in which `USAGE` stands for what it tells.
struct Family {
    path: &'static str,
    body: &'static str,
    kind: &'static str,
    answer: &'static str,
    usage: &'static str,
    /// Input, output and milliseconds of audio.
    expected: (u64, u64, u128),
}

const OPENAI: &str = r#"{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":null},"completion_tokens_details":{"reasoning_tokens":2}}"#;
const NEWER: &str = r#"{"input_tokens":11,"output_tokens":5,"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":2}}"#;
const SECONDS: &str = r#"{"type":"duration","seconds":2.5}"#;
const ASKED: &str = r#"{"messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
const STREAMED: &str = r#"{"stream":true}"#;

const fn family(
    path: &'static str,
    body: &'static str,
    kind: &'static str,
    answer: &'static str,
    usage: &'static str,
) -> Family {
    Family { path, body, kind, answer, usage, expected: (11, 5, 0) }
}

fn families() -> Vec<Family> {
    let classic = "/openai/deployments/d/chat/completions?api-version=2024-10-21";
    let seconds = |family| Family { expected: (0, 0, 2_500), ..family };
    let prompt = |family| Family { expected: (11, 0, 0), ..family };
    let transcriptions = "/openai/deployments/d/audio/transcriptions?api-version=2024-10-21";
    let images = "/openai/deployments/d/images/generations?api-version=2025-04-01-preview";
    vec![
        family(
            classic,
            "{}",
            JSON,
            r#"{"id":"c","object":"chat.completion","choices":[{"message":{"content":"\"usage\":{}"}}],"usage":USAGE}"#,
            OPENAI,
        ),
        family(
            classic,
            ASKED,
            EVENTS,
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\\\"usage\\\"\"}}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":USAGE}\n\ndata: [DONE]\n\n",
            OPENAI,
        ),
        family("/openai/v1/completions", "{}", JSON, r#"{"usage":USAGE,"choices":[{"text":"x"}]}"#, OPENAI),
        prompt(family(
            "/openai/v1/embeddings",
            "{}",
            JSON,
            r#"{"object":"list","data":[{"embedding":[0.1,-2e3]}],"usage":USAGE}"#,
            r#"{"prompt_tokens":11,"total_tokens":11}"#,
        )),
        family(
            "/openai/v1/responses",
            "{}",
            JSON,
            r#"{"id":"resp_1","object":"response","status":"completed","usage":USAGE}"#,
            NEWER,
        ),
        family(
            "/openai/v1/responses",
            STREAMED,
            EVENTS,
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"usage\":USAGE}}\n\n",
            NEWER,
        ),
        family(
            "/openai/v1/responses",
            STREAMED,
            EVENTS,
            "event: response.incomplete\r\ndata: {\"type\":\"response.incomplete\",\"response\":{\"usage\":USAGE}}\r\n\r\n",
            NEWER,
        ),
        family(
            "/openai/v1/responses",
            STREAMED,
            EVENTS,
            "data: {\"type\":\"response.failed\",\"response\":{\"usage\":USAGE,\"error\":{\"code\":\"x\"}}}\n\n",
            NEWER,
        ),
        family(images, "{}", JSON, r#"{"created":1,"data":[{"b64_json":"aaaa"}],"usage":USAGE}"#, NEWER),
        family(
            images,
            STREAMED,
            EVENTS,
            "event: image_generation.partial_image\ndata: {\"b64_json\":\"aaaa\"}\n\nevent: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"usage\":USAGE}\n\n",
            NEWER,
        ),
        seconds(family(transcriptions, "{}", JSON, r#"{"text":"hi","usage":USAGE}"#, SECONDS)),
        seconds(family(
            transcriptions,
            STREAMED,
            EVENTS,
            "event: transcript.text.done\ndata: {\"type\":\"transcript.text.done\",\"text\":\"hi\",\"usage\":USAGE}\n\n",
            SECONDS,
        )),
        family(
            "/openai/threads/thread_1/runs?api-version=2024-10-21",
            STREAMED,
            EVENTS,
            "event: thread.run.step.completed\ndata: {\"object\":\"thread.run.step\",\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5}}\n\nevent: thread.run.completed\ndata: {\"id\":\"run_1\",\"object\":\"thread.run\",\"usage\":USAGE}\n\nevent: done\ndata: [DONE]\n\n",
            OPENAI,
        ),
        family(
            "/anthropic/v1/messages",
            "{}",
            JSON,
            r#"{"type":"message","content":[],"usage":USAGE}"#,
            r#"{"input_tokens":4,"cache_read_input_tokens":5,"cache_creation_input_tokens":2,"output_tokens":5}"#,
        ),
        family(
            "/anthropic/v1/messages",
            STREAMED,
            EVENTS,
            "event: content_block_delta\ndata: {\"delta\":{\"text\":\"hi\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":USAGE}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            r#"{"input_tokens":11,"output_tokens":5}"#,
        ),
        family(
            "/models/chat/completions?api-version=2024-05-01-preview",
            "{}",
            JSON,
            r#"{"choices":[],"usage":USAGE}"#,
            OPENAI,
        ),
    ]
}

/// What was counted: input, output and milliseconds, and how that is known.
type Counted = Vec<((u64, u64, u128), UsageSource)>;

/// The bytes that a client gets which reads so many frames of an answer that comes in pieces of this size.
async fn read(call: &Family, answer: &str, piece: usize, frames: usize, streams: SilentStreams) -> (Vec<u8>, Counted) {
    let counted = Arc::new(Mutex::new(Counted::new()));
    let list = counted.clone();
    let meter = MeterUsageLayer::new().silent_streams(streams).on_usage(move |metered: &Metered<'_>| {
        let usage = metered.usage;
        list.lock().unwrap().push(((usage.input, usage.output, usage.audio.as_millis()), metered.source));
    });
    let pieces: Vec<_> = answer.as_bytes().chunks(piece).map(Bytes::copy_from_slice).collect();
    let frames_of = pieces.into_iter().map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
    let answer =
        Response::builder().header("content-type", call.kind).body(Body::new(StreamBody::new(stream::iter(frames_of))));
    let answer = Mutex::new(Some(answer.unwrap()));
    let backend = service_fn(move |_: Request<Body>| {
        let answer = answer.lock().unwrap().take().unwrap();
        async move { Ok::<_, BoxError>(answer) }
    });
    let mut request = Request::post(call.path).body(Body::from(call.body)).unwrap();
    let route = Route::parse(request.method(), request.uri()).unwrap();
    request.extensions_mut().insert(route.with_streaming(call.body.contains("\"stream\":true")));
    let mut body = meter.layer(backend).oneshot(request).await.unwrap().into_body();
    let mut read = Vec::new();
    for _ in 0..frames {
        let Some(frame) = body.frame().await else { break };
        read.extend_from_slice(frame.unwrap().data_ref().unwrap());
    }
    drop(body);
    let counted = counted.lock().unwrap().clone();
    (read, counted)
}

const SETTINGS: [SilentStreams; 2] = [SilentStreams::Estimate, SilentStreams::Ask];
const PIECES: [usize; 6] = [1, 2, 3, 7, 64, usize::MAX];

#[tokio::test]
async fn every_family_counts_once_however_it_is_chopped_and_no_byte_changes() {
    for call in families() {
        let answer = call.answer.replace("USAGE", call.usage);
        for streams in SETTINGS {
            for piece in PIECES {
                let (read, counted) = read(&call, &answer, piece, usize::MAX, streams).await;
                assert_eq!(String::from_utf8_lossy(&read), answer, "{piece} {}", call.path);
                assert_eq!(counted, [(call.expected, UsageSource::Reported)], "{piece} {} {answer}", call.path);
            }
        }
    }
}

#[tokio::test]
async fn whoever_leaves_has_used_what_was_told_until_then() {
    for call in families() {
        let answer = call.answer.replace("USAGE", call.usage);
        let told = answer.rfind(call.usage).unwrap() + call.usage.len();
        for streams in SETTINGS {
            for piece in [3, 64] {
                for frames in 0..=answer.len().div_ceil(piece) {
                    let (read, counted) = read(&call, &answer, piece, frames, streams).await;
                    assert!(answer.as_bytes().starts_with(&read), "{}", call.path);
                    let reported = counted.iter().filter(|(_, source)| *source == UsageSource::Reported).count();
                    assert!(counted.len() <= 1, "{counted:?}");
                    // An event counts with the empty line that ends it, and an object with its last brace.
                    if read.len() == answer.len() {
                        assert_eq!(reported, 1, "{} {frames}", call.path);
                    }
                    if read.len() < told {
                        assert_eq!(reported, 0, "{} {frames} {counted:?}", call.path);
                    }
                    if call.kind == JSON {
                        assert_eq!(counted.len(), reported, "what is no stream is not estimated");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_usage_that_cannot_be_counts_nothing_and_harms_nothing() {
    let malformed = [
        "null",
        "{}",
        "[]",
        "7",
        "\"11\"",
        "true",
        r#"{"prompt_tokens":null}"#,
        r#"{"prompt_tokens":-1,"completion_tokens":5,"input_tokens":-1,"output_tokens":5}"#,
        r#"{"prompt_tokens":1e400,"input_tokens":1e400,"type":"duration","seconds":1e400}"#,
        r#"{"prompt_tokens":[11],"input_tokens":[11],"type":"duration","seconds":[2]}"#,
        r#"{"prompt_tokens":123456789012345678901234567,"input_tokens":123456789012345678901234567}"#,
        r#"{"prompt_tokens":11,"input_tokens":11,"output_tokens":"5","completion_tokens":"5","type":"duration","seconds":-1}"#,
        r#"{"prompt_tokens":11.5,"input_tokens":11.5,"type":"duration","seconds":"2"}"#,
    ];
    for call in families() {
        for usage in malformed {
            let answer = call.answer.replace("USAGE", usage);
            for (streams, piece) in SETTINGS.into_iter().zip([5, usize::MAX]) {
                let (read, counted) = read(&call, &answer, piece, usize::MAX, streams).await;
                assert_eq!(String::from_utf8_lossy(&read), answer, "{}", call.path);
                let reported = counted.iter().filter(|(_, source)| *source == UsageSource::Reported);
                assert_eq!(reported.count(), 0, "{} {usage}: {counted:?}", call.path);
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_asked_for_no_usage_sees_the_same_bytes_under_both_settings() {
    const WORD: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"word\"}}]";
    let shown = format!("{WORD}}}\n\n: ping\n\n{WORD}}}\n\ndata: [DONE]\n\n");
    let told = format!(
        "{WORD},\"usage\":null}}\n\n: ping\n\n{WORD},\"usage\":null}}\n\ndata: {{\"choices\":[],\"usage\":{OPENAI}}}\n\ndata: [DONE]\n\n"
    );
    let call = family("/openai/v1/chat/completions", r#"{"messages":[],"stream":true}"#, EVENTS, "", "");
    for piece in PIECES {
        let (estimated, counted) = read(&call, &shown, piece, usize::MAX, SilentStreams::Estimate).await;
        assert_eq!(String::from_utf8_lossy(&estimated), shown, "{piece}");
        assert_eq!(counted, [((0, 2, 0), UsageSource::Estimated)]);
        let (asked, counted) = read(&call, &told, piece, usize::MAX, SilentStreams::Ask).await;
        assert_eq!(String::from_utf8_lossy(&asked), shown, "{piece}");
        assert_eq!(counted, [((11, 5, 0), UsageSource::Reported)]);
        for frames in 0..told.len().div_ceil(piece).min(40) {
            let (left, counted) = read(&call, &told, piece, frames, SilentStreams::Ask).await;
            assert!(shown.as_bytes().starts_with(&left), "{piece} {frames}");
            assert!(counted.len() <= 1);
        }
    }
}
