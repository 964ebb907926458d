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
fn each_name_is_there_once_where_it_stands_first() {
    let body = form("batch", &["\u{feff}".to_owned() + &line("a"), String::new(), line("b\""), line("a")].join("\r\n"));
    let found = find("b", body.as_bytes()).unwrap();
    assert_eq!(found.iter().map(|named| (&*named.name, named.line)).collect::<Vec<_>>(), [("a", 1), ("b\"", 3)]);
    let written: Vec<_> = found.iter().map(|named| &body[named.span.clone()]).collect();
    assert_eq!(written, ["\"a\"", "\"b\\\"\""]);
}

#[test]
fn what_a_line_names_beside_its_model_is_there_too() {
    let tools = serde_json::json!([{ "type": "image_generation", "model": "img" }]);
    let line = serde_json::json!({ "url": "/v1/responses", "body": { "model": "m", "tools": tools } }).to_string();
    let found = find("b", form("batch", &line).as_bytes()).unwrap();
    assert_eq!(found.iter().map(|named| &*named.name).collect::<Vec<_>>(), ["m", "img"]);
}

#[test]
fn a_file_that_says_no_purpose_is_what_its_lines_are() {
    let form = |file: &str| form("batch", file).replace("name=purpose", "name=other");
    assert_eq!(find("b", form(&line("a")).as_bytes()).unwrap()[0].name, "a");
    for file in ["not JSON", "{}", ""] {
        assert_eq!(find("b", form(&format!("{}\n{file}x", line("a"))).as_bytes()), Ok(Vec::new()), "{file}");
    }
}

#[test]
fn looking_for_the_purpose_reads_no_line() {
    let part =
        |name: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n{value}\r\n");
    let body = format!("{}{}--b--", part("purpose", "batch"), part("file", "not JSON"));
    assert!(BatchScan::of("b", body.as_bytes()).is_ok() && find("b", body.as_bytes()).is_err());
}

#[test]
fn a_purpose_behind_the_file_is_known_of_a_form_that_is_all_there() {
    let body = form("batch", &line("a"));
    assert_eq!(find("b", body.as_bytes()).unwrap().len(), 1);
    let mut scan = BatchScan::new("b");
    scan.feed(body.as_bytes()).unwrap();
    assert!(scan.is_unread() && !scan.is_batch() && scan.take_names().is_empty(), "too late to read it");
    let mut other = BatchScan::new("b");
    other.feed(form("assistants", &line("a")).as_bytes()).unwrap();
    assert!(!other.is_unread() && !other.is_batch());
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
        ("{", "line 2 of the file: not the JSON"),
        ("{}{}", "line 2 of the file: not the JSON"),
        ("[]", "line 2 of the file: not the JSON"),
        ("{}\r{}", "line 2 of the file: not the JSON"),
        (r#"{"url":"/openai/deployments/x/chat/completions","body":{"model":"x"}}"#, "line 2 of the file: its `url`"),
        (r#"{"url":"/%64eployments/x/y","body":{"model":"x"}}"#, "line 2 of the file: its `url`"),
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
        for named in &found {
            prop_assert_eq!(&serde_json::from_str::<String>(&body[named.span.clone()]).unwrap(), &named.name);
            prop_assert_eq!(models.iter().position(|model| *model == named.name), Some(named.line - 1));
        }
        prop_assert!(models.iter().all(|model| found.iter().any(|named| named.name == *model)));
    }

    /// Wherever the form is cut on its way, each line's name is found, and never before it is settled.
    #[test]
    fn pieces_say_what_the_whole_says(
        models in prop::collection::vec("[a-c\"é]{1,3}", 1..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let file: Vec<_> = models.iter().map(|model| line(model)).collect();
        let part = |name: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n{value}\r\n");
        let body = format!("{}{}--b--\r\n", part("purpose", "batch"), part("file", &file.join("\n")));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len())).collect();
        cuts.sort_unstable();
        let (mut scan, mut at, mut settled, mut found) = (BatchScan::new("b"), 0, 0, Vec::new());
        for cut in cuts.into_iter().chain([body.len()]) {
            scan.feed(&body.as_bytes()[at..cut]).unwrap();
            at = cut;
            for named in scan.take_names() {
                prop_assert!(named.span.start >= settled && named.span.end <= scan.settled());
                prop_assert_eq!(&serde_json::from_str::<String>(&body[named.span.clone()]).unwrap(), &named.name);
                found.push((named.name, named.line));
            }
            settled = scan.settled();
        }
        scan.finish().unwrap();
        prop_assert_eq!(found, models.into_iter().zip(1..).collect::<Vec<_>>());
    }

    #[test]
    fn any_file_is_read_without_a_panic(file in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut body = b"--b\r\nContent-Disposition: form-data; name=purpose\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; name=file\r\n\r\n".to_vec();
        body.extend(file);
        body.extend(b"\r\n--b--");
        let _ = find("b", &body);
    }
}

#[test]
fn names_are_found_with_their_lines_and_places() {
    let form = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"x.jsonl\"\r\n\r\n\
        {\"custom_id\":\"1\",\"method\":\"POST\",\"url\":\"/v1/responses\",\"body\":{\"model\":\"gpt-4o\"}}\r\n--b--\r\n";
    let names = find("b", form.as_bytes()).unwrap();
    assert_eq!((&*names[0].name, names[0].line), ("gpt-4o", 1));
    assert_eq!(&form[names[0].span.clone()], "\"gpt-4o\"");
}
