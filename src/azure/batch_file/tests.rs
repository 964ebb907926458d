use proptest::prelude::*;

use super::*;

fn form(purpose: &str, file: &str) -> String {
    let part =
        |name: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n{value}\r\n");
    format!("{}{}--b--\r\n", part("\"file\"; filename=\"x.jsonl\"", file), part("purpose", purpose))
}

fn line(model: &str) -> String {
    serde_json::json!({ "custom_id": "1", "url": "/v1/responses", "body": { "input": "model", "model": model } })
        .to_string()
}

#[test]
fn each_name_is_there_once_with_all_its_places() {
    let body = form("batch", &["\u{feff}".to_owned() + &line("a"), String::new(), line("b\""), line("a")].join("\r\n"));
    let found = find("b", body.as_bytes()).unwrap();
    assert_eq!(found.iter().map(|named| (&*named.name, named.line)).collect::<Vec<_>>(), [("a", 1), ("b\"", 3)]);
    let written: Vec<_> = found.iter().flat_map(|named| &named.spans).map(|span| &body[span.clone()]).collect();
    assert_eq!(written, ["\"a\"", "\"a\"", "\"b\\\"\""]);
}

#[test]
fn files_for_other_purposes_name_nothing() {
    for purpose in ["assistants", "fine-tune", "user_data", "batch_output", ""] {
        assert_eq!(find("b", form(purpose, "not JSON").as_bytes()), Ok(Vec::new()), "{purpose}");
    }
    assert_eq!(find("b", form("batch", "").as_bytes()), Ok(Vec::new()));
}

#[test]
fn a_line_that_cannot_be_read_is_told_by_its_number() {
    for (second, problem) in [
        ("{", "line 2 of the file: not JSON"),
        ("{}{}", "line 2 of the file: not JSON"),
        ("[]", "line 2 of the file: it has no `model` in its `body`"),
        (r#"{"body":{}}"#, "line 2 of the file: it has no `model` in its `body`"),
        (r#"{"model":"x","body":{"messages":[{"model":"x"}]}}"#, "line 2 of the file: it has no `model`"),
        (r#"{"body":{"model":"x","model":"y"}}"#, "line 2 of the file: `model`"),
        (r#"{"body":{"model":"x"},"Body":{"model":"y"}}"#, "line 2 of the file: `body`"),
        (r#"{"body":{"model":["x"]}}"#, "line 2 of the file: the name"),
    ] {
        let error = find("b", form("batch", &format!("{}\n{second}\n", line("a"))).as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(problem), "{second}: {error}");
    }
    let two =
        form("batch", "").replace("--b--", "--b\r\nContent-Disposition: form-data; name=purpose\r\n\r\nx\r\n--b--");
    assert!(matches!(find("b", two.as_bytes()), Err(BatchFileError::Form(_))));
}

proptest! {
    #[test]
    fn spans_are_the_names(models in prop::collection::vec("[a-c\"é]{1,3}", 1..20), purpose in "batch| Batch") {
        let file: Vec<_> = models.iter().map(|model| line(model)).collect();
        let body = form(&purpose, &file.join("\n"));
        let found = find("b", body.as_bytes()).unwrap();
        prop_assert_eq!(found.iter().map(|named| named.spans.len()).sum::<usize>(), models.len());
        for named in found {
            for span in named.spans {
                prop_assert_eq!(&serde_json::from_str::<String>(&body[span]).unwrap(), &named.name);
            }
        }
    }

    #[test]
    fn any_file_is_read_without_a_panic(file in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut body = b"--b\r\nContent-Disposition: form-data; name=purpose\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; name=file\r\n\r\n".to_vec();
        body.extend(file);
        body.extend(b"\r\n--b--");
        let _ = find("b", &body);
    }
}
