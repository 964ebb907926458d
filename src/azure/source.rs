//! Requests of a batch that come from where no gateway reads them.

use super::further_names::{NameScan, PURPOSE};

/// Returns the reason why nobody sees which models the requests use that such a body brings; `None` for one that brings none.
///
/// A file of requests can be made of [parts](https://platform.openai.com/docs/api-reference/uploads), imported from an address, or
/// be read by a batch from a blob.
pub(crate) fn unseen(body: &[u8], is_whole: bool) -> Option<&'static str> {
    if body.is_empty() && is_whole {
        return None;
    }
    let mut scan = NameScan::new(PURPOSE);
    if scan.feed(body).is_err() || !is_whole || !scan.is_complete() {
        return Some("cannot be read");
    }
    scan.found().iter().find_map(|found| match found.way {
        0 if found.name.name.trim().eq_ignore_ascii_case("batch") => {
            Some("brings a batch in parts or from elsewhere; upload it as one file")
        }
        0 => None,
        _ => Some("takes its requests from a blob; upload them as a file"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_brings_requests_is_seen() {
        for body in [
            r#"{"purpose":"batch","filename":"x","bytes":1,"mime_type":"a/b"}"#,
            r#"{"purpose":" Batch "}"#,
            r#"{"purpose":"b\u0061tch","content_url":"https://x.example"}"#,
            r#"{"endpoint":"/v1/responses","input_blob":"https://x.example/b.jsonl"}"#,
            r#"{"purpose":"assistants","purpose":"batch"}"#,
            r#"{"Purpose":"batch"}"#,
            r#"{"purpose":["batch"]}"#,
            "purpose=batch",
            "{",
        ] {
            assert!(unseen(body.as_bytes(), true).is_some(), "{body}");
        }
        for body in [
            "",
            "{}",
            r#"{"purpose":"assistants","batch":"batch"}"#,
            r#"{"purpose":"fine-tune"}"#,
            r#"{"input_file_id":"file-1","input_blob":null}"#,
            r#"{"metadata":{"purpose":"batch"}}"#,
        ] {
            assert_eq!(unseen(body.as_bytes(), true), None, "{body}");
        }
        assert!(unseen(b"{}", false).is_some() && unseen(b"", false).is_some());
    }
}
