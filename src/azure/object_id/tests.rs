use proptest::prelude::*;
use serde_json::json;

use super::*;

fn refers(body: &str) -> Vec<(Family, String)> {
    named(References::read(body.as_bytes()).unwrap().ids())
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

#[test]
fn every_place_of_an_id_in_a_body_is_known() {
    for (body, family, id) in [
        (r#"{"thread_id":"thread_1"}"#, Family::Thread, "thread_1"),
        (r#"{"assistant_id":"asst_1"}"#, Family::Assistant, "asst_1"),
        (r#"{"previous_response_id":"resp_1"}"#, Family::Response, "resp_1"),
        (r#"{"conversation":"conv_1"}"#, Family::Conversation, "conv_1"),
        (r#"{"conversation":{"id":"conv_1"}}"#, Family::Conversation, "conv_1"),
        (r#"{"file_id":"file-1"}"#, Family::File, "file-1"),
        (r#"{"file_ids":["file-1"]}"#, Family::File, "file-1"),
        (r#"{"attachments":[{"file_id":"assistant-1","tools":[]}]}"#, Family::File, "assistant-1"),
        (r#"{"tool_resources":{"code_interpreter":{"file_ids":["file-1"]}}}"#, Family::File, "file-1"),
        (r#"{"tool_resources":{"file_search":{"vector_store_ids":["vs_1"]}}}"#, Family::VectorStore, "vs_1"),
        (r#"{"tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]}"#, Family::VectorStore, "vs_1"),
        (r#"{"tools":[{"type":"code_interpreter","container":"cntr_1"}]}"#, Family::Container, "cntr_1"),
        (r#"{"tools":[{"container":{"type":"auto","file_ids":["file-1"]}}]}"#, Family::File, "file-1"),
        (r#"{"input_file_id":"file-1"}"#, Family::File, "file-1"),
        (r#"{"training_file":"file-1"}"#, Family::File, "file-1"),
        (r#"{"validation_file":"file-1"}"#, Family::File, "file-1"),
        (r#"{"data_source":{"source":{"id":"file-1","type":"file_id"}}}"#, Family::File, "file-1"),
        (r#"{"thread":{"messages":[{"content":[{"image_file":{"file_id":"file-1"}}]}]}}"#, Family::File, "file-1"),
        (r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"file-1"}}]}]}"#, Family::File, "file-1"),
        (r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]}"#, Family::File, "f"),
        (r#"{"input":[{"type":"function_call_output","output":[{"file_id":"file-1"}]}]}"#, Family::File, "file-1"),
        (r#"{"input":[{"type":"item_reference","id":"msg_1"}]}"#, Family::Item, "msg_1"),
        (r#"{"input":[{"id":"msg_1"}]}"#, Family::Item, "msg_1"),
        (r#"{"input":[{"type":"reasoning","id":"rs_1","summary":[]}]}"#, Family::Item, "rs_1"),
        (r#"{"input":[{"type":"mcp_approval_response","approval_request_id":"mcpr_1"}]}"#, Family::Item, "mcpr_1"),
        (r#"{"items":[{"type":"item_reference","id":"msg_1"}]}"#, Family::Item, "msg_1"),
        (r#"{"\u0074hread_id":"thread_\u0031"}"#, Family::Thread, "thread_1"),
        (r#"{"Thread_ID":"thread_1"}"#, Family::Thread, "thread_1"),
    ] {
        assert_eq!(refers(body), one(family, id), "{body}");
    }
}

#[test]
fn what_is_the_clients_own_is_no_id() {
    for body in [
        r#"{"metadata":{"thread_id":"thread_1"}}"#,
        r#"{"messages":[{"role":"user","content":"thread_id: thread_1"}],"id":"x"}"#,
        r#"{"tools":[{"type":"function","parameters":{"default":{"file_id":"file-1"}}}]}"#,
        r#"{"text":{"format":{"schema":{"file_id":"file-1"}}}}"#,
        r#"{"input":"item_reference"}"#,
        r#"{"input":["a","b"]}"#,
        r#"{"conversation":null,"container":{"type":"auto"}}"#,
        r#"{"files":[{"attributes":{"thread_id":"thread_1"}}]}"#,
        r#"{"input":[{"content":[{"annotations":[{"file_id":"cfile_1"}]}],"id":"msg_1"}]}"#,
        r"[]",
        r"7",
    ] {
        assert_eq!(refers(body), [], "{body}");
    }
}

#[test]
fn items_that_are_carried_in_full_only_hint() {
    let body = json!({"input": [
        {"type": "message", "id": "msg_1", "role": "assistant", "content": []},
        {"type": "reasoning", "id": "rs_1", "encrypted_content": "x"},
        {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "outputs": [{"file_id": "f"}]},
    ]});
    let references = References::read(body.to_string().as_bytes()).unwrap();
    assert_eq!(references.ids(), []);
    let repeated: Vec<_> = references.repeated().iter().map(ObjectId::as_str).collect();
    assert_eq!(repeated, ["msg_1", "rs_1", "cntr_1", "ci_1"]);
}

#[test]
fn every_occurrence_of_a_repeated_key_counts() {
    let body = r#"{"thread_id":"thread_1","thread_id":"thread_2"}"#;
    assert_eq!(refers(body).len(), 2);
    let body = r#"{"input":[{"id":"msg_1","id":"msg_2","type":"message","type":"item_reference"}]}"#;
    assert_eq!(refers(body).len(), 2);
}

#[test]
fn a_body_that_cannot_be_searched_says_so() {
    for body in ["", "{", "{}x", r#"{"thread_id":"#, "\u{feff}{}", &"[".repeat(10_000)] {
        assert_eq!(References::read(body.as_bytes()), Err(Unreadable), "{body}");
    }
    let many: Vec<_> = (0..=MAX_REFERENCES).map(|i| format!("file-{i}")).collect();
    assert_eq!(References::read(json!({"file_ids": many}).to_string().as_bytes()), Err(Unreadable));
    let enough = json!({"file_ids": many[1..]}).to_string();
    assert_eq!(References::read(enough.as_bytes()).unwrap().ids().len(), MAX_REFERENCES);
}

#[test]
fn an_id_has_a_length() {
    let read = |id: &str| References::read(json!({"thread_id": id}).to_string().as_bytes()).unwrap();
    assert!(read(&"x".repeat(MAX_LEN + 1)).is_oversized() && read(&"x".repeat(MAX_LEN + 1)).ids().is_empty());
    assert!(!read(&"x".repeat(MAX_LEN)).is_oversized() && read("").ids().is_empty());
}

#[test]
fn only_the_stores_of_the_request_itself_count() {
    let store = |body: &str| References::read(body.as_bytes()).unwrap().store();
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
fn the_first_event_that_names_an_object_tells_it() {
    let read =
        |name: Option<&str>, data: &str| named(Answered::read_event(name.map(str::as_bytes), data.as_bytes()).ids());
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

proptest! {
    #[test]
    fn no_input_makes_a_reader_panic(body in any::<Vec<u8>>()) {
        let _ = References::read(&body);
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
