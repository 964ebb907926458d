use std::time::{Duration, SystemTime};

use http::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::azure::outcome::Outcome;

const MODEL_TIER_FILTER: &str = r#"{"error":{"message":"filtered","type":null,"param":"prompt","code":"content_filter","status":400,
"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true}}}}}"#;

fn frame(name: &str, data: &str) -> String {
    let name = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
    let data: String = data.split('\n').map(|line| format!("data: {line}\n")).collect();
    format!("{name}{data}\n")
}

fn all(reader: Reader, stream: &str) -> Vec<StreamEvent> {
    let (mut reader, mut chunk, mut events) = (reader, stream.as_bytes(), Vec::new());
    while let Some(event) = reader.next_event(&mut chunk) {
        events.push(event);
    }
    events.extend(reader.finish());
    events
}

fn one(name: &str, data: &str) -> StreamEvent {
    let stream = frame(name, data);
    let (mut reader, mut chunk) = (sse::Reader::new(4096), stream.as_bytes());
    StreamEvent::of(&reader.next_event(&mut chunk).unwrap().unwrap())
}

fn error(event: &StreamEvent) -> (u16, String, String) {
    let (StreamEvent::Error(error) | StreamEvent::RunFailed(error)) = event else { panic!("{event:?} is no error") };
    let body = envelope::read(error.body()).unwrap();
    (error.status().as_u16(), body.code().unwrap().to_owned(), body.message().unwrap().to_owned())
}

#[test]
fn half_of_a_pair_that_an_error_quotes_hides_no_failure() {
    let said = r#"{"error":{"code":"429","message":"\ud83d"}}"#;
    assert_eq!(error(&one("", said)), (429, "429".to_owned(), "\u{fffd}".to_owned()));
    let failed = r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"at \udc00"}}}"#;
    assert_eq!(error(&one("response.failed", failed)).1, "server_error");
}

#[test]
fn the_preamble_says_nothing() {
    for data in [
        r#"{"id":"","object":"","created":0,"model":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#,
        r#"{"choices":[],"prompt_annotations":[]}"#,
        r#"{"object":"chat.completion.chunk"}"#,
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null,"logprobs":null}],"usage":null}"#,
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"refusal":null,"tool_calls":[]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{}}],"error":null}"#,
        r#"{"choices":[{"index":0,"content_filter_offsets":{"check_offset":1},"content_filter_results":{"hate":{"filtered":false}}}]}"#,
        r#"{"choices":[{"index":0,"text":"","finish_reason":null}]}"#,
    ] {
        assert_eq!(one("", data), StreamEvent::Preamble, "{data}");
    }
    for kind in PREAMBLE {
        assert_eq!(one(kind, r#"{"id":"x","type":"message_creation"}"#), StreamEvent::Preamble, "{kind}");
        assert_eq!(
            one("", &format!(r#"{{"type":"{kind}","response":{{"error":null}}}}"#)),
            StreamEvent::Preamble,
            "{kind}"
        );
    }
    assert_eq!(all(Reader::new(99), ": ping\n\n:\n: x\n\n"), [StreamEvent::Preamble, StreamEvent::Preamble]);
}

#[test]
fn everything_else_commits() {
    for data in [
        r#"{"choices":[{"delta":{"content":"Hi"}}]}"#,
        r#"{"choices":[{"delta":{"refusal":"No"}}]}"#,
        r#"{"choices":[{"delta":{"reasoning_content":"Hm"}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
        r#"{"choices":[{"delta":{"function_call":{"name":"f"}}}]}"#,
        r#"{"choices":[{"delta":{"audio":{"id":"a"}}}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#,
        r#"{"choices":[{"text":"Hi"}]}"#,
        r#"{"choices":[{"delta":{}},{"delta":{"content":"Hi"}}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
        r#"{"choices":[1]}"#,
        r#"{"choices":[],"choices":[]}"#,
        r#"{"hello":1}"#,
        r#"{"type":"response.output_text.delta","delta":"Hi"}"#,
        r#"{"type":7}"#,
        r#"{"choices":["#,
        "[DONE] \n and more",
        "[]",
        "no healthy upstream",
        "",
    ] {
        assert_eq!(one("", data), StreamEvent::Content, "{data}");
    }
    for name in ["response.output_item.added", "response.incomplete", "thread.run.requires_action", "response.created"]
    {
        assert_eq!(one(name, "[DONE]"), StreamEvent::Content, "{name}");
    }
    assert_eq!(all(Reader::new(99), "retry: 3000\n\n"), [StreamEvent::Content]);
    assert_eq!(all(Reader::new(9), ": a long comment\n\n"), [StreamEvent::Content], "longer than the limit");
    assert!(matches!(all(Reader::new(99), "data: \u{fffd}\n\n")[..], [StreamEvent::Content]));
}

#[test]
fn the_mark_of_the_end_is_no_content() {
    for name in ["", "message", "done"] {
        assert_eq!(one(name, "[DONE]"), StreamEvent::Done, "{name}");
        assert_eq!(one(name, " [DONE] "), StreamEvent::Done, "{name}");
    }
    assert_eq!(one("done", "{}"), StreamEvent::Content);
}

#[test]
fn an_observer_knows_whether_a_stream_was_complete() {
    let complete = |stream: &str| {
        let mut reader = Reader::new(4096).failures_only();
        let mut chunk = stream.as_bytes();
        while reader.next_event(&mut chunk).is_some() {}
        reader.finish();
        reader.is_complete()
    };
    for kind in CLOSING {
        assert!(complete(&frame(kind, "{}")), "{kind}");
        assert!(complete(&frame("", &format!(r#"{{"type":"{kind}"}}"#))), "{kind}");
        assert!(!complete(&frame("response.output_text.delta", &format!(r#"{{"delta":"{kind}"}}"#))), "{kind}");
        assert!(!complete(&frame("", &format!(r#"{{"choices":[{{"delta":{{"content":"{kind}"}}}}]}}"#))), "{kind}");
    }
    assert!(complete("data: [DONE]"), "without its empty line");
    let long = |word: &str| complete(&frame("", &format!("{word}{}", "x".repeat(5_000))));
    assert!(long(r#"{"finish_reason":""#), "nobody knows what a longer event was");
    assert!(!long("delta"), "it was read, and there was no closing event in it");
    assert!(complete(&frame("error", "{}")));
    assert!(!complete(&frame("", r#"{"finish_reason":null}"#)));
    assert!(!complete(""));
}

#[test]
fn errors_are_read_in_every_shape() {
    let nested = r#"{"type":"error","error":{"type":"too_many_requests","code":"rate_limit_exceeded","headers":{"x-ms-fe-error":"true"},"message":"slow down","param":null}}"#;
    let flat =
        r#"{"type":"error","code":"rate_limit_exceeded","message":"slow down","param":null,"sequence_number":3}"#;
    let chat = r#"{"error":{"code":"429","message":"slow down"}}"#;
    for (name, data, code) in [
        ("error", nested, "rate_limit_exceeded"),
        ("error", flat, "rate_limit_exceeded"),
        ("", nested, "rate_limit_exceeded"),
        ("", flat, "rate_limit_exceeded"),
        ("message", flat, "rate_limit_exceeded"),
        ("", chat, "429"),
        ("error", chat, "429"),
        ("error", r#"{"message":"slow down","code":429}"#, "429"),
        (
            "response.failed",
            r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"slow down"}}}"#,
            "rate_limit_exceeded",
        ),
    ] {
        assert_eq!(error(&one(name, data)), (429, code.to_owned(), "slow down".to_owned()), "{name} {data}");
    }
    let text = one("error", "upstream connect error");
    assert_eq!(error(&text), (500, "500".to_owned(), "upstream connect error".to_owned()));
    for nothing in ["{}", "", "null", r#"{"type":"error","error":null}"#] {
        assert_eq!(error(&one("error", nothing)).0, 500, "{nothing}");
    }
    let failed =
        one("thread.run.failed", r#"{"id":"run_1","last_error":{"code":"rate_limit_exceeded","message":"slow down"}}"#);
    assert!(matches!(failed, StreamEvent::RunFailed(_)));
    assert_eq!(error(&failed).0, 429);
}

#[test]
fn an_error_that_says_nothing_is_none() {
    for data in [r#"{"choices":[],"error":null}"#, r#"{"choices":[],"error":{}}"#, r#"{"choices":[],"error":""}"#] {
        assert_eq!(one("", data), StreamEvent::Preamble, "{data}");
    }
}

#[test]
fn an_error_stands_for_a_status() {
    for (status, code, kind, message) in [
        (429, "rate_limit_exceeded", "too_many_requests", ""),
        (429, "", "too_many_requests", ""),
        (429, "RateLimitReached", "", ""),
        (429, "429", "invalid_request_error", ""),
        (429, "insufficient_quota", "insufficient_quota", ""),
        (429, "", "tokens", ""),
        (429, "", "", "Rate limit is exceeded. Try again in 40 seconds."),
        (429, "", "", "The system is currently experiencing high demand and cannot process your request."),
        (500, "server_error", "server_error", "The server had an error"),
        (500, "InternalServerError", "", ""),
        (500, "500", "", ""),
        (503, "server_error", "", "We're experiencing high demand"),
        (503, "", "service_unavailable", ""),
        (503, "", "", "no healthy upstream"),
        (503, "503", "", ""),
        (504, "504", "", ""),
        (400, "content_filter", "", ""),
        (400, "", "invalid_request_error", ""),
        (400, "invalid_prompt", "", ""),
        (400, "context_length_exceeded", "", ""),
        (400, "image_content_policy_violation", "", ""),
        (400, "", "", "triggered Azure OpenAI's content management policy"),
        (500, "", "", ""),
        (500, "teapot", "brewing", "what?"),
        (500, "200", "", ""),
        (500, "777", "", ""),
    ] {
        let data = format!(r#"{{"error":{{"code":"{code}","type":"{kind}","message":"{message}"}}}}"#);
        assert_eq!(error(&one("error", &data)).0, status, "{data}");
    }
}

#[test]
fn a_filtered_prompt_is_answered_as_without_a_stream() {
    let StreamEvent::Error(filtered) = one("", MODEL_TIER_FILTER) else { panic!("an error") };
    assert_eq!(filtered.status(), StatusCode::BAD_REQUEST);
    let body: Value = serde_json::from_slice(filtered.body()).unwrap();
    assert_eq!(body["error"]["code"], "content_filter");
    assert_eq!(body["error"]["param"], "prompt");
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert_eq!(body["error"]["innererror"]["content_filter_result"]["hate"]["filtered"], true);
    assert_eq!(filtered.outcome(HeadHint::default()), Outcome::ClientFault);
}

#[test]
fn the_wait_comes_from_the_head_or_the_message() {
    let read = |code: &str| {
        let data = format!(r#"{{"error":{{"code":"{code}","message":"Please retry after 7 seconds."}}}}"#);
        let StreamEvent::Error(error) = one("", &data) else { panic!("an error") };
        error
    };
    let head = |headers: &[(&'static str, &'static str)]| {
        let headers = headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        HeadHint::of(&headers.collect(), SystemTime::UNIX_EPOCH)
    };
    let seconds = |n| Some(Duration::from_secs(n));
    let throttled = read("429");
    assert_eq!(throttled.hint(), seconds(7));
    let quota = ("x-ratelimit-reset-tokens", "30");
    assert_eq!(throttled.outcome(head(&[quota])), Outcome::Throttled { hint: seconds(7) });
    assert_eq!(throttled.outcome(head(&[("retry-after", "3"), quota])), Outcome::Throttled { hint: seconds(3) });
    let busy = Outcome::ServerFailed { status: StatusCode::SERVICE_UNAVAILABLE, hint: seconds(7) };
    assert_eq!(read("503").outcome(head(&[quota])), busy);
    let failed = Outcome::ServerFailed { status: StatusCode::INTERNAL_SERVER_ERROR, hint: None };
    assert_eq!(read("500").outcome(head(&[quota])), failed);
    let StreamEvent::Error(silent) = one("", r#"{"error":{"code":"429"}}"#) else { panic!("an error") };
    assert_eq!(silent.outcome(head(&[quota])), Outcome::Throttled { hint: seconds(30) });
    assert_eq!(silent.outcome(HeadHint::default()), Outcome::Throttled { hint: None });
}

#[test]
fn a_failure_waits_for_its_reason() {
    let bare = frame("response.failed", r#"{"type":"response.failed","response":{"id":"resp_1","error":null}}"#);
    let reason = frame("error", r#"{"type":"error","error":{"code":"rate_limit_exceeded","message":"slow down"}}"#);
    for reader in [|| Reader::new(4096), || Reader::new(4096).failures_only()] {
        let events = all(reader(), &format!("{bare}: ping\n\n{reason}"));
        assert_eq!(events[..2], [StreamEvent::Preamble, StreamEvent::Preamble]);
        assert_eq!(error(&events[2]).0, 429);
        for without in [bare.clone(), bare.clone() + "data: [DONE]\n\n", bare.clone() + "data: x"] {
            let events = all(reader(), &without);
            assert_eq!(error(&events[1]).0, 500, "{without}");
            assert_eq!(events.len(), 2);
        }
    }
}

#[test]
fn an_observer_reads_failures_only() {
    let stream = [
        frame("", r#"{"choices":[],"prompt_filter_results":[]}"#),
        frame("", r#"{"choices":[{"delta":{"content":"an \"error\" it is"}}]}"#),
        frame("response.created", r#"{"type":"response.created","response":{"error":null}}"#),
        frame("thread.run.failed", r#"{"last_error":{"code":"server_error"}}"#),
        frame("", r#"{"error":{"code":"429"}}"#),
    ]
    .concat();
    let events = all(Reader::new(4096).failures_only(), &stream);
    assert_eq!(events[..3], [StreamEvent::Content, StreamEvent::Content, StreamEvent::Content]);
    assert!(matches!(&events[3..], [StreamEvent::RunFailed(_), StreamEvent::Error(_)]));
}

#[test]
fn debug_shows_no_content() {
    let shown = format!("{:?}", one("error", r#"{"message":"secret"}"#));
    assert!(!shown.contains("secret"), "{shown}");
}

proptest! {
    #[test]
    fn any_event_is_read_without_panic(name in "[a-z.]{0,12}", data in r#"\{?["{}\[\]:,a-z0-9 \\.-]{0,80}\}?"#) {
        let _ = one(&name, &format!("{data} "));
    }

    #[test]
    fn an_observer_sees_the_failures_that_a_reader_sees(
        picks in prop::collection::vec(0..7usize, 0..9), size in prop::option::of(1..200usize),
    ) {
        let kinds = [
            frame("", r#"{"choices":[{"delta":{"content":"x"}}]}"#),
            frame("", r#"{"error":{"code":"429"}}"#),
            frame("", r#"{"type":"error","code":"server_error"}"#),
            frame("response.failed", r#"{"response":{"error":null}}"#),
            frame("error", "{}"),
            frame("response.created", "{}"),
            ": ping\n\n".to_owned(),
        ];
        let events: Vec<_> = picks.iter().map(|pick| kinds[*pick].as_bytes()).collect();
        let stream = events.concat();
        let chunks: Vec<&[u8]> = size.map_or(events, |size| stream.chunks(size).collect());
        let errors = |mut reader: Reader| -> Vec<_> {
            let mut events = Vec::new();
            for mut chunk in chunks.iter().copied() {
                while let Some(event) = reader.next_event(&mut chunk) {
                    events.push(event);
                }
            }
            events.into_iter().chain(reader.finish()).filter(|event| matches!(event, StreamEvent::Error(_))).collect()
        };
        prop_assert_eq!(errors(Reader::new(4096)), errors(Reader::new(4096).failures_only()));
    }
}
