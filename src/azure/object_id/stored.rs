//! Evaluations of what is stored, which name no object and read everybody's.
//!
//! Sources: <https://platform.openai.com/docs/api-reference/evals>.

use serde::de::{DeserializeSeed, MapAccess, SeqAccess};
use serde_json::Deserializer;

use super::json::{Key, Read, Value, Walk};
use super::request::Unreadable;

/// The types of a data source that reads stored completions or responses by a filter, and not by their ids
/// (`openai-openapi`: `CreateEvalStoredCompletionsDataSourceConfig`, `CreateEvalLogsDataSourceConfig`,
/// `EvalStoredCompletionsSource`, `EvalResponsesSource`).
const STORED: [&str; 3] = ["logs", "responses", "stored_completions"];

/// Tells whether the body of an evaluation, or of one of its runs, reads what is stored by a filter.
///
/// # Errors
/// [`Unreadable`].
pub(crate) fn reads_stored(body: &[u8]) -> Result<bool, Unreadable> {
    let mut found = false;
    let mut json = Deserializer::from_slice(body);
    Value(Source { found: &mut found, is_source: false }).deserialize(&mut json).map_err(|_| Unreadable)?;
    json.end().map_err(|_| Unreadable)?;
    Ok(found)
}

struct Source<'a> {
    found: &'a mut bool,
    /// True if the value says where items come from.
    is_source: bool,
}

enum Member {
    Other,
    Source,
    Type,
}

impl Walk for Source<'_> {
    fn text(self, _: &str) {}

    fn array<'de, A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { found, is_source } = self;
        while elements.next_element_seed(Value(Source { found: &mut *found, is_source }))?.is_some() {}
        Ok(())
    }

    fn object<'de, A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { found, is_source } = self;
        let member = |key: &str| match key.to_ascii_lowercase().as_str() {
            "data_source_config" | "source" => Member::Source,
            "type" if is_source => Member::Type,
            _ => Member::Other,
        };
        while let Some(member) = members.next_key_seed(Key(member))? {
            match member {
                Member::Type => members.next_value_seed(Value(Read(|kind: &str| {
                    *found |= STORED.iter().any(|stored| kind.eq_ignore_ascii_case(stored));
                })))?,
                member => {
                    let is_source = matches!(member, Member::Source);
                    members.next_value_seed(Value(Source { found: &mut *found, is_source }))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_by_where_items_come_from() {
        for (body, expected) in [
            (r#"{"data_source_config":{"type":"stored_completions","metadata":{}}}"#, true),
            (r#"{"data_source_config":{"metadata":{},"type":"logs"}}"#, true),
            (r#"{"data_source":{"type":"completions","source":{"type":"stored_completions"}}}"#, true),
            (r#"{"data_source":{"type":"responses","source":{"model":"x","type":"responses"}}}"#, true),
            (r#"{"data_source":{"type":"responses","source":{"type":"file_id","id":"file-1"}}}"#, false),
            (r#"{"data_source":{"source":{"type":"file_content","content":[{"item":{"type":"logs"}}]}}}"#, false),
            (r#"{"data_source_config":{"type":"file_id","Type":"Logs"}}"#, true),
            (r#"{"name":"stored_completions"}"#, false),
        ] {
            assert_eq!(reads_stored(body.as_bytes()), Ok(expected), "{body}");
        }
        assert_eq!(reads_stored(b"{"), Err(Unreadable));
    }
}
