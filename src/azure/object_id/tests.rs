use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::azure::operation::Operation;

mod own;

fn read(operation: Operation, body: &str) -> References {
    References::read(operation, body.as_bytes()).unwrap()
}

fn refers(operation: Operation, body: &str) -> Vec<(Family, String)> {
    named(read(operation, body).ids())
}

fn named(ids: &[ObjectId]) -> Vec<(Family, String)> {
    ids.iter().map(|id| (id.family(), id.as_str().to_owned())).collect()
}

fn one(family: Family, id: &str) -> Vec<(Family, String)> {
    vec![(family, id.to_owned())]
}

fn learns(body: &str, family: Option<Family>) -> Vec<(Family, String)> {
    named(Answered::read(body.as_bytes(), family).ids())
}

/// What an event tells that comes in two pieces.
fn event(name: Option<&str>, data: &str) -> Answered {
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    let text = format!("{name}data: {data}\n\n");
    let (mut first, mut second) = text.as_bytes().split_at(text.len() / 2);
    let mut scan = EventScan::default();
    assert!(scan.next_event(&mut first).is_none(), "it has not ended");
    scan.next_event(&mut second).map(|(answered, _)| answered).unwrap_or_default()
}

#[test]
fn every_place_of_an_id_in_a_body_is_known() {
    use Operation::{
        Assistants, AudioSpeech, Batches, ChatCompletions, Containers, Conversations, Evals, FineTuning, ImagesEdits,
        Realtime, Responses, Threads, VectorStores, Videos,
    };
    for (operation, body, family, id) in [
        (Assistants, r#"{"file_ids":["file-1"]}"#, Family::File, "file-1"),
        (Assistants, r#"{"file_id":"file-1"}"#, Family::File, "file-1"),
        (Assistants, r#"{"tool_resources":{"code_interpreter":{"file_ids":["f"]}}}"#, Family::File, "f"),
        (
            Assistants,
            r#"{"tool_resources":{"file_search":{"vector_store_ids":["vs_1"]}}}"#,
            Family::VectorStore,
            "vs_1",
        ),
        (
            Assistants,
            r#"{"tool_resources":{"file_search":{"vector_stores":[{"file_ids":["file-1"]}]}}}"#,
            Family::File,
            "file-1",
        ),
        (AudioSpeech, r#"{"voice":{"id":"voice_1"}}"#, Family::Voice, "voice_1"),
        (ChatCompletions, r#"{"audio":{"voice":{"id":"voice_1"}}}"#, Family::Voice, "voice_1"),
        (ChatCompletions, r#"{"messages":[{"audio":{"id":"audio_1"}}]}"#, Family::Audio, "audio_1"),
        (Containers, r#"{"skills":[{"type":"skill_reference","skill_id":"skill_1"}]}"#, Family::Skill, "skill_1"),
        (Realtime, r#"{"session":{"audio":{"output":{"voice":{"id":"voice_1"}}}}}"#, Family::Voice, "voice_1"),
        (Realtime, r#"{"type":"realtime","prompt":{"variables":{"x":{"file_id":"f"}}}}"#, Family::File, "f"),
        (Responses, r#"{"tools":[{"environment":{"skills":[{"skill_id":"skill_1"}]}}]}"#, Family::Skill, "skill_1"),
        (Batches, r#"{"input_file_id":"file-1"}"#, Family::File, "file-1"),
        (ChatCompletions, r#"{"messages":[{"content":[{"file":{"file_id":"file-1"}}]}]}"#, Family::File, "file-1"),
        (Containers, r#"{"name":"x","file_ids":["file-1"]}"#, Family::File, "file-1"),
        (Containers, r#"{"file_id":"file-1"}"#, Family::File, "file-1"),
        (Conversations, r#"{"items":[{"type":"item_reference","id":"msg_1"}]}"#, Family::Item, "msg_1"),
        (Conversations, r#"{"items":[{"content":[{"file_id":"f"}],"role":"user"}]}"#, Family::File, "f"),
        (Evals, r#"{"data_source":{"source":{"id":"file-1","type":"file_id"}}}"#, Family::File, "file-1"),
        (
            Evals,
            r#"{"data_source":{"input_messages":{"template":[{"content":[{"file_id":"f"}]}]}}}"#,
            Family::File,
            "f",
        ),
        (
            Evals,
            r#"{"data_source":{"sampling_params":{"tools":[{"vector_store_ids":["vs_1"]}]}}}"#,
            Family::VectorStore,
            "vs_1",
        ),
        (FineTuning, r#"{"training_file":"file-1"}"#, Family::File, "file-1"),
        (FineTuning, r#"{"validation_file":"file-1"}"#, Family::File, "file-1"),
        (ImagesEdits, r#"{"images":[{"file_id":"file-1"}]}"#, Family::File, "file-1"),
        (ImagesEdits, r#"{"mask":{"file_id":"file-1"}}"#, Family::File, "file-1"),
        (Realtime, r#"{"session":{"prompt":{"variables":{"x":{"file_id":"f"}}}}}"#, Family::File, "f"),
        (Responses, r#"{"previous_response_id":"resp_1"}"#, Family::Response, "resp_1"),
        (Responses, r#"{"conversation":"conv_1"}"#, Family::Conversation, "conv_1"),
        (Responses, r#"{"conversation":{"id":"conv_1"}}"#, Family::Conversation, "conv_1"),
        (Responses, r#"{"tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]}"#, Family::VectorStore, "vs_1"),
        (Responses, r#"{"tools":[{"type":"code_interpreter","container":"cntr_1"}]}"#, Family::Container, "cntr_1"),
        (Responses, r#"{"tools":[{"container":{"type":"auto","file_ids":["file-1"]}}]}"#, Family::File, "file-1"),
        (Responses, r#"{"tools":[{"input_image_mask":{"file_id":"file-1"}}]}"#, Family::File, "file-1"),
        (
            Responses,
            r#"{"tools":[{"type":"shell","environment":{"type":"container_reference","container_id":"cntr_1"}}]}"#,
            Family::Container,
            "cntr_1",
        ),
        (Responses, r#"{"prompt":{"id":"pmpt_1","variables":{"a":{"file_id":"file-1"}}}}"#, Family::File, "file-1"),
        (
            Responses,
            r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]}"#,
            Family::File,
            "f",
        ),
        (Responses, r#"{"input":[{"type":"function_call_output","output":[{"file_id":"f"}]}]}"#, Family::File, "f"),
        (Responses, r#"{"input":[{"type":"computer_call_output","output":{"file_id":"f"}}]}"#, Family::File, "f"),
        (Responses, r#"{"input":[{"type":"item_reference","id":"msg_1"}]}"#, Family::Item, "msg_1"),
        (Responses, r#"{"input":[{"id":"msg_1"}]}"#, Family::Item, "msg_1"),
        (Responses, r#"{"input":[{"type":"reasoning","id":"rs_1","summary":[]}]}"#, Family::Item, "rs_1"),
        (
            Responses,
            r#"{"input":[{"approval_request_id":"mcpr_1","type":"mcp_approval_response"}]}"#,
            Family::Item,
            "mcpr_1",
        ),
        (Threads, r#"{"assistant_id":"asst_1"}"#, Family::Assistant, "asst_1"),
        (Threads, r#"{"attachments":[{"file_id":"assistant-1","tools":[]}]}"#, Family::File, "assistant-1"),
        (Threads, r#"{"content":[{"type":"image_file","image_file":{"file_id":"f"}}]}"#, Family::File, "f"),
        (Threads, r#"{"additional_messages":[{"attachments":[{"file_id":"f"}]}]}"#, Family::File, "f"),
        (Threads, r#"{"messages":[{"file_ids":["f"]}]}"#, Family::File, "f"),
        (
            Threads,
            r#"{"thread":{"messages":[{"content":[{"image_file":{"file_id":"file-1"}}]}]}}"#,
            Family::File,
            "file-1",
        ),
        (
            Threads,
            r#"{"thread":{"tool_resources":{"file_search":{"vector_store_ids":["vs_1"]}}}}"#,
            Family::VectorStore,
            "vs_1",
        ),
        (VectorStores, r#"{"file_id":"file-1"}"#, Family::File, "file-1"),
        (VectorStores, r#"{"files":[{"file_id":"file-1","attributes":{}}]}"#, Family::File, "file-1"),
        (Videos, r#"{"prompt":"x","video":{"id":"video_1"}}"#, Family::Video, "video_1"),
        (Responses, r#"{"\u0070revious_response_id":"resp_\u0031"}"#, Family::Response, "resp_1"),
        (Responses, r#"{"Previous_Response_ID":"resp_1"}"#, Family::Response, "resp_1"),
    ] {
        assert_eq!(refers(operation, body), one(family, id), "{body}");
    }
}

#[test]
fn what_is_the_clients_own_is_no_id() {
    for (operation, body) in [
        (Operation::Responses, r#"{"metadata":{"conversation":"conv_1"}}"#),
        (Operation::Responses, r#"{"client_metadata":{"thread_id":"thread_1","previous_response_id":"resp_1"}}"#),
        (Operation::Responses, r#"{"structured_inputs":{"conversation_id":"conv_1"}}"#),
        (Operation::Responses, r#"{"thread_id":"thread_1","file_id":"f","nobody":{"knows":{"file_ids":["f"]}}}"#),
        (Operation::Responses, r#"{"tools":[{"type":"function","parameters":{"default":{"file_id":"file-1"}}}]}"#),
        (Operation::Responses, r#"{"text":{"format":{"schema":{"file_id":"file-1"}}}}"#),
        (Operation::Responses, r#"{"input":"item_reference"}"#),
        (Operation::Responses, r#"{"input":["a","b"]}"#),
        (Operation::Responses, r#"{"input":[{"type":"function_call","arguments":{"file_id":"f"},"call_id":"c"}]}"#),
        (
            Operation::Responses,
            r#"{"input":[{"type":"message","id":"m","content":[{"annotations":[{"file_id":"f"}]}]}]}"#,
        ),
        (Operation::Responses, r#"{"input":[{"type":"mcp_call","approval_request_id":"mcpr_1"}]}"#),
        (Operation::Responses, r#"{"conversation":null,"tools":[{"container":{"type":"auto"}}]}"#),
        (Operation::ChatCompletions, r#"{"messages":[{"role":"user","content":"thread_id: thread_1"}],"id":"x"}"#),
        (Operation::ChatCompletions, r#"{"messages":[],"file_ids":["f"],"previous_response_id":"resp_1"}"#),
        (Operation::Embeddings, r#"{"input":"x","file_id":"f"}"#),
        (Operation::Evals, r#"{"data_source":{"source":{"content":[{"item":{"file_id":"f","thread_id":"t"}}]}}}"#),
        (Operation::Evals, r#"{"data_source":{"source":{"type":"file_content","id":"file-1"}}}"#),
        (Operation::VectorStores, r#"{"files":[{"attributes":{"file_id":"f","thread_id":"thread_1"}}]}"#),
        (Operation::Batches, r"[]"),
        (Operation::Threads, r"7"),
    ] {
        assert_eq!(refers(operation, body), [], "{body}");
    }
}

#[test]
fn items_that_are_carried_in_full_only_hint() {
    let body = json!({"input": [
        {"type": "message", "id": "msg_1", "role": "assistant", "content": []},
        {"type": "reasoning", "id": "rs_1", "encrypted_content": "x"},
        {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "outputs": [{"file_id": "f"}]},
    ]});
    let references = read(Operation::Responses, &body.to_string());
    assert_eq!(references.ids(), []);
    let repeated: Vec<_> = references.repeated().iter().map(ObjectId::as_str).collect();
    assert_eq!(repeated, ["msg_1", "rs_1", "cntr_1", "ci_1"]);
}

#[test]
fn the_last_contents_that_only_one_resource_reads_are_known() {
    let items: Vec<_> = (0..20).map(|i| json!({"type": "compaction", "encrypted_content": format!("c{i}")})).collect();
    let references = read(Operation::Responses, &json!({"input": items}).to_string());
    let expected: Vec<_> = (12..20).filter_map(|i| Sealed::of(&format!("c{i}"))).collect();
    assert_eq!(references.sealed(), expected);
    let nothing = read(Operation::Responses, r#"{"input":[{"encrypted_content":""}],"encrypted_content":"x"}"#);
    assert_eq!(nothing.sealed(), []);
}

#[test]
fn every_occurrence_of_a_repeated_key_counts() {
    let body = r#"{"previous_response_id":"resp_1","previous_response_id":"resp_2"}"#;
    assert_eq!(refers(Operation::Responses, body).len(), 2);
    let body = r#"{"input":[{"id":"msg_1","id":"msg_2","type":"message","type":"item_reference"}]}"#;
    assert_eq!(refers(Operation::Responses, body).len(), 2);
}

#[test]
fn a_body_that_cannot_be_searched_says_so() {
    for body in ["", "{", "{}x", r#"{"thread_id":"#, "\u{feff}{}", &"[".repeat(10_000)] {
        for operation in [Operation::Threads, Operation::Embeddings] {
            assert_eq!(References::read(operation, body.as_bytes()), Err(Unreadable), "{body}");
        }
    }
}

/// What a client writes that has cut a text between the halves of a pair.
#[test]
fn half_of_a_pair_hides_no_id() {
    let body = r#"{"input":"a cut text \ud83d","previous_response_id":"resp_1"}"#;
    assert_eq!(refers(Operation::Responses, body), one(Family::Response, "resp_1"));
    let cut = References::read_start(Operation::Responses, &body.as_bytes()[..body.len() - 1]);
    assert_eq!(named(cut.ids()), one(Family::Response, "resp_1"));
    let mut texts = LookAlikes::default();
    texts.json(r#"{"x":["\udc00",{"\ud83d":"thread_1"}]}"#.as_bytes()).unwrap();
    assert!(texts.into_texts().unwrap().contains("thread_1"));
    let answer = r#"{"metadata":{"a":"\ud83d"},"\u0069d":"resp\u005f1"}"#;
    assert_eq!(learns(answer, None), one(Family::Response, "resp_1"), "in any text before it");
    assert_eq!(learns(r#"{"id":"resp_\ud83d\u0031"}"#, None), one(Family::Response, "resp_\u{fffd}1"));
    assert_eq!(learns(r#"{"id":"resp_\ud83d\ude00"}"#, None), one(Family::Response, "resp_😀"));
}

#[test]
fn reading_ends_with_a_number_of_ids() {
    let many: Vec<_> = (0..=MAX_REFERENCES).map(|i| format!("file-{i}")).collect();
    let body = |ids: &[String], after: &str| format!(r#"{{"file_ids":{},"assistant_id":"{after}"}}"#, json!(ids));
    let read = |body: &str| References::read(Operation::Threads, body.as_bytes()).unwrap();
    let all = read(&body(&many[2..], "asst_1"));
    assert_eq!((all.ids().len(), all.is_truncated()), (MAX_REFERENCES, false));
    let cut = read(&body(&many, "asst_1"));
    assert_eq!((cut.ids().len(), cut.is_truncated()), (MAX_REFERENCES, true));

    let same = vec!["file-1".to_owned(); 1_000_000];
    let cut = read(&body(&same, "asst_1"));
    assert_eq!((cut.ids().len(), cut.is_truncated()), (1, true));
    let names = format!(r#"{{"input":[{{"type":"message"{}}}],"store":false}}"#, r#","id":"a""#.repeat(1_000_000));
    let cut = References::read(Operation::Responses, names.as_bytes()).unwrap();
    assert!(cut.is_truncated() && cut.repeated().len() < 10);
    assert_eq!(cut.store(), Some(false), "what decides about the answer is read all the same");
}

#[test]
fn an_id_has_a_length() {
    let read = |id: &str| read(Operation::Batches, &json!({"input_file_id": id}).to_string());
    assert!(read(&"x".repeat(MAX_LEN + 1)).is_oversized() && read(&"x".repeat(MAX_LEN + 1)).ids().is_empty());
    assert!(!read(&"x".repeat(MAX_LEN)).is_oversized() && read("").ids().is_empty());
    let item = json!({"input": [{"type": "item_reference", "id": "x".repeat(MAX_LEN + 1)}]});
    assert!(self::read(Operation::Responses, &item.to_string()).is_oversized());
}

#[test]
fn only_the_stores_of_the_request_itself_count() {
    let store = |body: &str| read(Operation::Responses, body).store();
    assert_eq!(store(r#"{"store":false}"#), Some(false));
    assert_eq!(store(r#"{"store":true,"input":[{"content":[{"store":false}]}]}"#), Some(true));
    assert_eq!(store(r#"{"store":null}"#), None);
}

#[test]
fn answers_tell_ids_where_the_api_puts_them() {
    for (body, family, expected) in [
        (r#"{"id":"thread_1","object":"thread"}"#, Some(Family::Thread), one(Family::Thread, "thread_1")),
        (r#"{"id":"odd","object":"file"}"#, Some(Family::File), one(Family::File, "odd")),
        (
            r#"{"id":"run_1","thread_id":"thread_1","assistant_id":"asst_1"}"#,
            None,
            vec![(Family::Thread, "thread_1".to_owned()), (Family::Assistant, "asst_1".to_owned())],
        ),
        (r#"{"id":"upload_1","file":{"id":"file-1"}}"#, None, {
            vec![(Family::Upload, "upload_1".to_owned()), (Family::File, "file-1".to_owned())]
        }),
        (r#"{"conversation":{"id":"conv_1"}}"#, None, one(Family::Conversation, "conv_1")),
        (r#"{"output_file_id":"file-1","error_file_id":null}"#, None, one(Family::File, "file-1")),
        (r#"{"result_files":["file-1"]}"#, None, one(Family::File, "file-1")),
        (r#"{"data":[{"id":"a"},{"id":"b"}]}"#, Some(Family::Batch), {
            vec![(Family::Batch, "a".to_owned()), (Family::Batch, "b".to_owned())]
        }),
        (r#"{"output":[{"id":"rs_1"},{"id":"ci_1","container_id":"cntr_1"}]}"#, None, {
            let item = |id: &str| (Family::Item, id.to_owned());
            vec![item("rs_1"), item("ci_1"), (Family::Container, "cntr_1".to_owned())]
        }),
        (r#"{"id":"resp_1","store":false}"#, None, vec![]),
        (r#"{"metadata":{"thread_id":"thread_1"},"tools":[{"container_id":"cntr_1"}]}"#, None, vec![]),
        (r#"{"id":"resp_1","output":[{"id":"rs_"#, None, one(Family::Response, "resp_1")),
        ("<html>", Some(Family::File), vec![]),
    ] {
        assert_eq!(learns(body, family), expected, "{body}");
    }
}

#[test]
fn what_is_said_aloud_has_an_id_whether_the_answer_is_kept_or_not() {
    let spoken = |answered: &Answered| named(answered.spoken());
    let whole = r#"{"id":"chatcmpl-1","store":false,"choices":[{"message":{"audio":{"data":"AAAA","id":"audio_1"}}}]}"#;
    let whole = Answered::read(whole.as_bytes(), Some(Family::Completion));
    assert_eq!((spoken(&whole), whole.ids()), (one(Family::Audio, "audio_1"), &[][..]));
    let chunk = event(None, r#"{"id":"chatcmpl-1","choices":[{"delta":{"audio":{"id":"audio_2"}}}]}"#);
    assert_eq!(spoken(&chunk), one(Family::Audio, "audio_2"));
    let elsewhere = r#"{"choices":[{"message":{"content":{"audio":{"id":"audio_1"}}}}],"audio":{"id":"audio_1"}}"#;
    assert_eq!(spoken(&Answered::read(elsewhere.as_bytes(), None)), []);
}

#[test]
fn a_content_is_known_however_long_it_is_and_however_it_is_written() {
    for length in [1, 511, 512, 513, 300_000, 3 << 20] {
        let content: String = (0..length).map(|i| char::from(b'A' + (i % 23) as u8)).collect();
        let item = json!({"item": {"type": "reasoning", "encrypted_content": content}}).to_string();
        let told = event(Some("response.output_item.done"), &item);
        assert_eq!(told.sealed(), Sealed::of(&content).as_slice(), "{length}");
    }
    let escaped = br#"{"output":[{"encrypted\u005fcontent":"a\/b\u00e9\ud83d\ude00\n"}]}"#;
    assert_eq!(Answered::read(escaped, None).sealed(), Sealed::of("a/b\u{e9}\u{1f600}\n").as_slice());
}

#[test]
fn what_lies_deeper_than_anything_is_passed_over() {
    let deep = format!("{}{{\"id\":\"thread_1\"}}{}", r#"{"data":"#.repeat(1_000_000), "}".repeat(1_000_000));
    assert_eq!(learns(&format!("{deep},{{}}"), None), []);
    assert_eq!(learns(&format!("{{\"x\":{deep},\"id\":\"thread_2\"}}"), None), one(Family::Thread, "thread_2"));
}

#[test]
fn the_first_event_that_names_an_object_tells_it() {
    let read = |name: Option<&str>, data: &str| named(event(name, data).ids());
    let created = r#"{"type":"response.created","response":{"id":"resp_1","store":true}}"#;
    assert_eq!(read(Some("response.created"), created), one(Family::Response, "resp_1"));
    assert_eq!(read(Some("response.in_progress"), created), []);
    let kept_nowhere = r#"{"response":{"id":"resp_1","store":false}}"#;
    assert_eq!(read(Some("response.created"), kept_nowhere), []);
    let added = r#"{"item":{"id":"rs_1","type":"reasoning"}}"#;
    assert_eq!(read(Some("response.output_item.added"), added), one(Family::Item, "rs_1"));
    assert_eq!(read(Some("thread.created"), r#"{"id":"thread_1"}"#), one(Family::Thread, "thread_1"));
    let run = r#"{"id":"run_1","thread_id":"thread_1"}"#;
    assert_eq!(read(Some("thread.run.created"), run), one(Family::Thread, "thread_1"));
    assert_eq!(read(None, r#"{"id":"chatcmpl-1"}"#), one(Family::Completion, "chatcmpl-1"));
    assert_eq!(read(None, "[DONE]"), []);
}

#[test]
fn an_answer_makes_what_it_is_called_by_and_mentions_the_rest() {
    let own = |body: &str, family| Answered::read(body.as_bytes(), family).own().map(|id| id.as_str().to_owned());
    let thread = r#"{"id":"thread_1","object":"thread"}"#;
    assert_eq!(own(thread, Some(Family::Thread)).as_deref(), Some("thread_1"));
    assert_eq!(own(thread, Some(Family::Response)), None, "of another family");
    assert_eq!(own(thread, None), None);
    assert_eq!(own(r#"{"data":[{"id":"thread_1"}]}"#, Some(Family::Thread)), None, "of a list");
    assert_eq!(own(r#"{"thread":{"id":"thread_1"},"id":"x"}"#, Some(Family::Thread)).as_deref(), Some("x"));
}

#[test]
fn an_answer_tells_content_that_only_its_maker_reads_when_it_is_complete() {
    let count = |name: &str, data: &str| event(Some(name), data).sealed().len();
    let item = r#"{"item":{"id":"rs_1","type":"reasoning","encrypted_content":"x"}}"#;
    assert_eq!(count("response.output_item.added", item), 0);
    assert_eq!(count("response.output_item.done", item), 1);
    let whole =
        r#"{"response":{"id":"resp_1","store":false,"output":[{"encrypted_content":"x"},{"encrypted_content":"y"}]}}"#;
    assert_eq!(count("response.completed", whole), 2);
    let answer = Answered::read(br#"{"store":false,"output":[{"type":"compaction","encrypted_content":"x"}]}"#, None);
    assert_eq!(answer.sealed().len(), 1, "kept or not");
    assert_eq!(Answered::read(br#"{"metadata":{"encrypted_content":"x"},"encrypted_content":"y"}"#, None).sealed(), []);
}

#[test]
fn an_object_is_shown_by_its_kind_and_id() {
    let id = ObjectId::new(Family::Thread, "thread_1").unwrap();
    assert!(id.is_shown_by(br#"{"id":"thread_1","object":"thread","created_at":1"#));
    for other in [
        r#"{"id":"thread_2","object":"thread"}"#,
        r#"{"id":"thread_1"}"#,
        r#"{"id":"thread_1","object":"file"}"#,
        r#"{"data":[{"id":"thread_1","object":"thread"}]}"#,
        r#"[{"id":"thread_1","object":"thread"}]"#,
        "<html>thread_1</html>",
        "",
    ] {
        assert!(!id.is_shown_by(other.as_bytes()), "{other}");
    }
}

#[test]
fn only_ids_that_mean_nothing_in_a_path_are_asked_for() {
    let path = |id: &str| ObjectId::new(Family::File, id).unwrap().read_path(Surface::V1);
    assert_eq!(path("file-1_a.b~").as_deref(), Some("/openai/v1/files/file-1_a.b~"));
    for odd in ["..", ".", "a/b", "a?b", "a#b", "a%2fb", "a b", "a\nb", "ä", "a\\b", "a:b@c", "a;b"] {
        assert_eq!(path(odd), None, "{odd}");
    }
    let job = ObjectId::new(Family::FineTuningJob, "ftjob-1").unwrap();
    assert_eq!(job.read_path(Surface::Classic).as_deref(), Some("/openai/fine_tuning/jobs/ftjob-1"));
    assert_eq!(ObjectId::new(Family::Item, "rs_1").unwrap().read_path(Surface::V1), None);
}

fn answer() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        "(thread_|file-|rs_|audio_)[0-9\"\\\\é]{1,3}".prop_map(|text| json!(text)),
        Just(json!(false)),
        Just(json!(7))
    ];
    const KEYS: [&str; 11] = [
        "id",
        "data",
        "output",
        "response",
        "store",
        "encrypted_content",
        "thread_id",
        "choices",
        "message",
        "audio",
        "x",
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            prop::collection::vec((prop::sample::select(&KEYS[..]), inner), 0..5).prop_map(|members| {
                serde_json::Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn how_an_answer_is_cut_changes_nothing(answer in answer(), size in 1_usize..9) {
        let text = answer.to_string();
        let mut scan = AnswerScan::new(Some(Family::File));
        text.as_bytes().chunks(size).for_each(|chunk| scan.feed(chunk));
        prop_assert_eq!(scan.finish(), Answered::read(text.as_bytes(), Some(Family::File)));
        let pretty = serde_json::to_string_pretty(&answer).unwrap();
        prop_assert_eq!(Answered::read(pretty.as_bytes(), None), Answered::read(text.as_bytes(), None));
    }

    #[test]
    fn no_input_makes_a_reader_panic(body in any::<Vec<u8>>()) {
        let _ = References::read(Operation::Responses, &body);
        let _ = Answered::read(&body, Some(Family::File));
    }

    #[test]
    fn a_cut_answer_tells_nothing_that_the_whole_does_not(cut in 0_usize..120) {
        let body = r#"{"id":"resp_1","output":[{"id":"rs_1","type":"reasoning"},{"id":"msg_1","content":[]}],"x":"conv_1"}"#;
        let whole = Answered::read(body.as_bytes(), None);
        let part = Answered::read(&body.as_bytes()[..cut.min(body.len())], None);
        prop_assert!(whole.ids().starts_with(part.ids()));
    }
}
