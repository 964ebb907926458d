use proptest::prelude::*;
use serde_json::json;

use super::*;

fn of_prompt(body: &serde_json::Value) -> u64 {
    Text::of_prompt(body.to_string().as_bytes()).tokens()
}

fn of_event(event: &str) -> u64 {
    let (mut reader, mut rest) = (sse::Reader::new(1024), event.as_bytes());
    let event = reader.next_event(&mut rest).expect("an event").expect("a short one");
    Text::of_event(&event).tokens()
}

#[test]
fn a_prompt_is_counted_by_its_characters_in_any_script() {
    let of_text = |text: &str| Text::of_prompt(json!({ "prompt": text }).to_string().as_bytes()).tokens();
    assert_eq!(of_text("four words of English"), 6);
    assert_eq!(of_text("人工智能网关"), 6, "a token for a character");
    assert_eq!(of_text("say \"hi\"\n"), 3, "an escape is one character");
    let escaped = Text::of_prompt(br#"{"prompt":"\u4eba\u5de5 \ud83d\ude00 \u0041"}"#);
    assert_eq!((escaped.ascii, escaped.other), (3, 3), "escapes are what they stand for, a pair is one");
    assert_eq!(Text::of_prompt(br#"{"input":[1,22,-3.5e2],"seed":7}"#).tokens(), 3, "an array of tokens");
}

#[test]
fn what_is_no_text_counts_nothing() {
    let media = "QUJD".repeat(4000);
    let question = json!({"messages": [{"content": [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{media}")}},
        {"type": "input_audio", "input_audio": {"data": media, "format": "wav"}}]}]});
    assert!(of_prompt(&question) < 20, "{}", of_prompt(&question));
    assert!(of_prompt(&json!({"input": [{"type": "reasoning", "encrypted_content": "a b c ".repeat(900)}]})) < 5);
}

#[test]
fn an_event_adds_what_is_new() {
    assert_eq!(
        of_event(
            "data: {\"id\":\"chatcmpl-1234567\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" hello\"}}],\"obfuscation\":\"abcdefgh\"}\n\n"
        ),
        2
    );
    assert_eq!(
        of_event(
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"delta\":\"hello\"}\n\n"
        ),
        2
    );
    assert_eq!(
        of_event("event: response.output_text.done\ndata: {\"text\":\"hello hello hello\"}\n\n"),
        0,
        "it sums up"
    );
    assert_eq!(
        of_event(
            "event: thread.message.delta\ndata: {\"delta\":{\"content\":[{\"type\":\"text\",\"text\":{\"value\":\"hello\"}}]}}\n\n"
        ),
        2
    );
    assert_eq!(
        of_event(
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"hello\"}}\n\n"
        ),
        2
    );
    assert_eq!(of_event("data: [DONE]\n\n"), 0);
    assert_eq!(of_event(": ping\n\n"), 0);
}

proptest! {
    #[test]
    fn a_string_counts_the_characters_that_it_has(text in "\\PC{0,60}", ascii_only in any::<bool>()) {
        let text: String = text.chars().filter(|c| !ascii_only || c.is_ascii()).collect();
        prop_assume!(!text.starts_with("data:"));
        let counted = Text::of_prompt(json!({ "prompt": text }).to_string().as_bytes());
        let ascii = text.chars().filter(char::is_ascii).count() as u64;
        prop_assert_eq!(counted, Text { ascii, other: text.chars().count() as u64 - ascii });
    }

    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = Text::of_prompt(&bytes);
        prop_assert!(text.ascii + text.other <= bytes.len() as u64);
    }
}
