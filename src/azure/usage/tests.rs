use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const fn tokens(input: u64, output: u64) -> Usage {
    Usage {
        input,
        output,
        details: Details {
            input_cached: 0,
            input_cache_write: 0,
            input_audio: 0,
            input_image: 0,
            output_reasoning: 0,
            output_audio: 0,
            output_image: 0,
        },
        audio: Duration::ZERO,
    }
}

fn of_answer(answer: &[u8], cuts: &[usize]) -> Option<Reported> {
    let (mut reader, mut start) = (AnswerReader::new(), 0);
    for cut in cuts.iter().copied().filter(|cut| *cut <= answer.len()) {
        if cut > start {
            reader.push(&answer[start..cut]);
            start = cut;
        }
    }
    reader.push(&answer[start..]);
    reader.finish()
}

fn usage_of(answer: &Value) -> Option<Usage> {
    of_answer(answer.to_string().as_bytes(), &[]).map(|reported| reported.usage)
}

fn of_stream(stream: &str) -> Vec<Usage> {
    let (mut events, mut rest, mut found) = (sse::Reader::new(1024), stream.as_bytes(), Vec::new());
    while let Some(Ok(event)) = events.next_event(&mut rest) {
        found.extend(Reported::of_event(&event).map(|reported| reported.usage));
    }
    found
}

#[test]
fn every_family_tells_its_figures_and_their_parts() {
    let chat = json!({"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"message": {"content": "{\"usage\":{\"prompt_tokens\":999}}"}}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 2, "cache_write_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 1, "accepted_prediction_tokens": 0}}});
    let details = Details {
        input_cached: 4,
        input_cache_write: 3,
        input_audio: 2,
        output_reasoning: 5,
        output_audio: 1,
        ..Details::default()
    };
    assert_eq!(usage_of(&chat), Some(Usage { details, ..tokens(12, 7) }));

    let embeddings = json!({"object": "list", "data": [{"embedding": [0.1, -2e-3, 4]}], "usage": {"prompt_tokens": 8, "total_tokens": 8}});
    assert_eq!(usage_of(&embeddings), Some(tokens(8, 0)));

    let response =
        json!({"usage": {"input_tokens": 30, "output_tokens": 20, "output_tokens_details": {"reasoning_tokens": 16}}});
    let details = Details { output_reasoning: 16, ..Details::default() };
    assert_eq!(usage_of(&response), Some(Usage { details, ..tokens(30, 20) }));

    let image = json!({"data": [], "usage": {"input_tokens": 50, "output_tokens": 1056, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}});
    let details = Details { input_image: 40, ..Details::default() };
    assert_eq!(usage_of(&image), Some(Usage { details, ..tokens(50, 1056) }));

    let transcription = json!({"text": "", "usage": {"type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 10, "audio_tokens": 4}, "output_tokens": 101}});
    let details = Details { input_audio: 4, ..Details::default() };
    assert_eq!(usage_of(&transcription), Some(Usage { details, ..tokens(14, 101) }));

    let seconds = json!({"text": "", "usage": {"type": "duration", "seconds": 3.5}});
    assert_eq!(usage_of(&seconds), Some(Usage { audio: Duration::from_millis(3500), ..Usage::default() }));

    let message = json!({"usage": {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 100, "output_tokens": 5}});
    let details = Details { input_cached: 100, input_cache_write: 3, ..Details::default() };
    assert_eq!(
        usage_of(&message),
        Some(Usage { details, ..tokens(113, 5) }),
        "what its cache had belongs to the prompt"
    );
}

#[test]
fn objects_that_can_be_read_again_are_told_apart() {
    let stored = |answer: Value| of_answer(answer.to_string().as_bytes(), &[]).and_then(|reported| reported.object);
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    let response = stored(json!({"id": "resp_1", "object": "response", "usage": usage})).expect("a response is stored");
    assert_eq!((response.id(), response.is_in_background), ("resp_1", false));
    let polled = stored(json!({"id": "resp_2", "object": "response", "background": true, "usage": usage}));
    assert!(polled.is_some_and(|response| response.is_in_background));
    let run = stored(json!({"id": "run_1", "object": "thread.run", "usage": {"prompt_tokens": 1}}));
    assert!(run.is_some_and(|run| run.is_in_background));
    assert!(stored(json!({"id": "chatcmpl-1", "object": "chat.completion", "usage": usage})).is_none());
    assert!(stored(json!({"object": "response", "usage": usage})).is_none(), "without an id it cannot be read again");
}

#[test]
fn streams_tell_where_their_events_do() {
    let chat = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\"\"}}],\"usage\":null}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    assert_eq!(of_stream(chat), [tokens(3, 2)]);
    let responses = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n\
        event: response.incomplete\ndata: {\"type\":\"response.incomplete\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"usage\":{\"input_tokens\":3,\"output_tokens\":2}}}\n\n";
    assert_eq!(of_stream(responses), [tokens(3, 2)]);
    let run = "event: thread.run.step.completed\ndata: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n\
        event: thread.run.completed\ndata: {\"id\":\"run_1\",\"object\":\"thread.run\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";
    assert_eq!(of_stream(run), [tokens(3, 2)], "a step is a part of its run");
    let image = "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"usage\":{\"input_tokens\":3,\"output_tokens\":2}}\n\n";
    assert_eq!(of_stream(image), [tokens(3, 2)]);
    let anthropic = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3,\"cache_read_input_tokens\":4,\"output_tokens\":1}}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":9}}\n\n";
    let told = of_stream(anthropic).into_iter().reduce(|known, later| known.grown_to(later)).expect("told twice");
    assert_eq!((told.input, told.output, told.details.input_cached), (7, 9, 4), "running counts only grow");
}

#[test]
fn frames_of_a_realtime_session_tell_each_their_own() {
    let done = br#"{"type":"response.done","response":{"id":"resp_1","object":"realtime.response","usage":{"input_tokens":100,"output_tokens":50,
        "input_token_details":{"audio_tokens":90,"cached_tokens":64,"cached_tokens_details":{"audio_tokens":64}},"output_token_details":{"audio_tokens":40}}}}"#;
    let usage = Reported::of_frame(done).expect("a usage").usage;
    let details = Details { input_cached: 64, input_audio: 90, output_audio: 40, ..Details::default() };
    assert_eq!(usage, Usage { details, ..tokens(100, 50) });
    let transcript =
        br#"{"type":"conversation.item.input_audio_transcription.completed","usage":{"type":"duration","seconds":2}}"#;
    assert_eq!(Reported::of_frame(transcript).expect("a usage").usage.audio, Duration::from_secs(2));
    assert_eq!(Reported::of_frame(br#"{"type":"response.output_text.delta","delta":"\"usage\""}"#), None);
}

#[test]
fn what_cannot_be_counts_nothing() {
    for usage in [
        "null",
        "[]",
        "[3]",
        "7",
        "\"many\"",
        "true",
        "{}",
        r#"{"prompt_tokens":-1}"#,
        r#"{"prompt_tokens":1e400,"completion_tokens":1}"#,
        r#"{"prompt_tokens":1.5}"#,
        r#"{"prompt_tokens":[1]}"#,
        r#"{"prompt_tokens":"7"}"#,
        r#"{"prompt_tokens":123456789012345678901234567,"completion_tokens":1}"#,
        r#"{"prompt_tokens":1,"prompt_tokens":2}"#,
        r#"{"type":"duration","seconds":-1}"#,
        r#"{"type":"duration","seconds":1e400}"#,
        r#"{"type":"duration","seconds":"3"}"#,
        r#"{"type":"duration"}"#,
    ] {
        let answer = format!(r#"{{"usage":{usage}}}"#);
        assert_eq!(of_answer(answer.as_bytes(), &[]), None, "{usage}");
        assert_eq!(of_stream(&format!("data: {answer}\n\n")), [], "{usage}");
        assert_eq!(Reported::of_frame(answer.as_bytes()), None, "{usage}");
    }
    for answer in [
        "",
        "[]",
        "{",
        r#"{"usage":{"prompt_tokens":1}"#,
        r#"{"usage":{"prompt_tokens":1}}{}"#,
        r#"{"usage":{"prompt_tokens":1}]}"#,
        "x{}",
    ] {
        assert_eq!(of_answer(answer.as_bytes(), &[]), None, "{answer}");
    }
    let long = format!(r#"{{"usage":{{"prompt_tokens":1,"x":"{}"}}}}"#, "y".repeat(5000));
    assert_eq!(of_answer(long.as_bytes(), &[]), None, "no usage is so long");
}

#[test]
fn a_stream_that_asks_for_its_usage_is_known() {
    for (body, asks) in [
        (r#"{"stream":true,"stream_options":{"include_usage":true}}"#, true),
        (
            r#"{"stream_options" : { "include_obfuscation":false, "include_usage" : true } ,"messages":[{"content":"\"}"}]}"#,
            true,
        ),
        (r#"{"stream_options":{"include_usage":false}}"#, false),
        (r#"{"stream_options":{"include_usage":"true"}}"#, false),
        (r#"{"stream_options":null,"metadata":{"include_usage":true}}"#, false),
        (r#"{"messages":[{"stream_options":{"include_usage":true}}]}"#, false),
        (r#"{"messages":[{"content":"\"stream_options\":{\"include_usage\":true}"}]}"#, false),
        (r#"{"stream_options":{"include_usage":true}"#, false),
        (r#"[{"stream_options":{"include_usage":true}}]"#, false),
        ("", false),
    ] {
        assert_eq!(asks_for_usage(body.as_bytes()), asks, "{body}");
    }
}

#[test]
fn parts_are_never_more_than_what_they_are_part_of() {
    let usage = usage_of(&json!({"usage": {"prompt_tokens": 3, "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 900, "audio_tokens": -4}, "completion_tokens_details": null}}));
    let details = Details { input_cached: 3, ..Details::default() };
    assert_eq!(usage, Some(Usage { details, ..tokens(3, 2) }), "a part that cannot be read is none");
}

fn arb_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z\"\\\\{}\\[\\]:, é]{0,12}".prop_map(Value::from),
        Just(json!("usage")),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("usage|id|object|[a-z\"\\\\{}:, é]{0,9}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn chopping_changes_nothing_and_only_the_outermost_usage_counts(
        mut members in prop::collection::btree_map("[a-z\"\\\\{}:, é]{0,20}", arb_json(), 0..6),
        usage in prop::option::of((0..1000_u64, 0..1000_u64)),
        pretty in any::<bool>(),
        cuts in prop::collection::vec(0..600_usize, 0..40),
    ) {
        if let Some((input, output)) = usage {
            members.insert("usage".to_owned(), json!({"prompt_tokens": input, "completion_tokens": output}));
        } else {
            members.remove("usage");
        }
        let answer = Value::Object(members.into_iter().collect());
        let answer = if pretty { serde_json::to_string_pretty(&answer) } else { serde_json::to_string(&answer) };
        let answer = answer.expect("JSON can be written");
        let mut cuts = cuts;
        cuts.sort_unstable();
        let expected = usage.map(|(input, output)| tokens(input, output)).filter(|usage| !usage.is_nothing());
        prop_assert_eq!(of_answer(answer.as_bytes(), &cuts).map(|reported| reported.usage), expected);
    }

    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..200_usize) {
        let _ = of_answer(&bytes, &[cut]);
        let _ = Reported::of_frame(&bytes);
    }
}
