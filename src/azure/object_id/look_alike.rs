//! Texts of a request that could be ids, wherever they stand.

use std::collections::HashSet;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess};
use serde_json::Deserializer;

use super::json::{Key, Value, Walk};
use super::request::Unreadable;
use super::{MAX_LEN, is_plain};
use crate::azure::json_text::with_whole_pairs;
use crate::azure::request_body;

/// Number of different texts of one request that are kept.
pub(crate) const MAX_LOOK_ALIKES: usize = 4096;
/// The shortest text that could be an id although nothing is set off in it.
const UNBROKEN: usize = 16;

/// Tells whether a text is built like an id: of characters that mean nothing in a path, and either a short word with `_` or `-` behind
/// it, as every id of Azure begins, or as long as what is drawn at random.
pub(crate) fn is_look_alike(text: &str) -> bool {
    is_plain(text) && text.len() <= MAX_LEN && (text.len() >= UNBROKEN || begins_with_word(text))
}

fn begins_with_word(text: &str) -> bool {
    let word = text.find(['_', '-']).map(|at| &text.as_bytes()[..at]);
    word.is_some_and(|word| (1..=12).contains(&word.len()) && word.iter().all(u8::is_ascii_alphabetic))
}

/// The texts of one request that are built like ids, each once.
#[derive(Debug, Default)]
pub(crate) struct LookAlikes(HashSet<String>);

impl LookAlikes {
    /// The texts, unless there are more of them than are kept.
    pub(crate) fn into_texts(self) -> Result<HashSet<String>, Unreadable> {
        if self.0.len() > MAX_LOOK_ALIKES { Err(Unreadable) } else { Ok(self.0) }
    }

    /// Takes a text that stands for itself.
    pub(crate) fn text(&mut self, text: &str) {
        if self.0.len() <= MAX_LOOK_ALIKES && is_look_alike(text) && !self.0.contains(text) {
            self.0.insert(text.to_owned());
        }
    }

    /// Takes what stands in a text between characters that no id has.
    pub(crate) fn tokens(&mut self, text: &str) {
        let parts = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~'));
        // A sentence ends with a full stop.
        text.split(parts).for_each(|token| self.text(token.trim_end_matches('.')));
    }

    /// Takes every text of a JSON document, key or value.
    pub(crate) fn json(&mut self, document: &[u8]) -> Result<(), Unreadable> {
        self.json_strictly(document).or_else(|unreadable| {
            let whole = with_whole_pairs(document).ok_or(unreadable)?;
            self.json_strictly(&whole)
        })
    }

    fn json_strictly(&mut self, document: &[u8]) -> Result<(), Unreadable> {
        let mut json = Deserializer::from_slice(document);
        Value(Everywhere(self)).deserialize(&mut json).map_err(|_| Unreadable)?;
        json.end().map_err(|_| Unreadable)
    }

    /// Takes names and values of the fields of a form, JSON in them as JSON. What files hold is passed over.
    pub(crate) fn form(&mut self, boundary: &str, form: &[u8]) -> Result<(), Unreadable> {
        for part in request_body::parts(boundary, form).map_err(|_| Unreadable)? {
            self.tokens(part.head);
            if part.is_file() {
                continue;
            }
            let is_read = is_json(part.value) && self.json(part.value).is_ok();
            if !is_read {
                self.tokens(std::str::from_utf8(part.value).map_err(|_| Unreadable)?);
            }
        }
        Ok(())
    }
}

/// Tells whether a text begins like a JSON document that holds others.
pub(crate) fn is_json(text: &[u8]) -> bool {
    text.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| matches!(byte, b'{' | b'['))
}

struct Everywhere<'a>(&'a mut LookAlikes);

impl Walk for Everywhere<'_> {
    fn text(self, text: &str) {
        self.0.text(text);
    }

    fn array<'de, A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Value(Everywhere(&mut *self.0)))?.is_some() {}
        Ok(())
    }

    fn object<'de, A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_key_seed(Key(|key: &str| self.0.text(key)))?.is_some() {
            members.next_value_seed(Value(Everywhere(&mut *self.0)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(found: LookAlikes) -> Vec<String> {
        let mut found: Vec<_> = found.into_texts().unwrap().into_iter().collect();
        found.sort();
        found
    }

    #[test]
    fn texts_are_found_wherever_they_stand() {
        let body = br#"{"a":[{"x":{"\u0074hread_1":"file-2"}}],"b":"see thread_9","c":"gpt-4o","d":"01a2-b","e":"max_tokens"}"#;
        let mut found = LookAlikes::default();
        found.json(body).unwrap();
        assert_eq!(sorted(found), ["file-2", "gpt-4o", "max_tokens", "thread_1"]);
        assert_eq!(LookAlikes::default().json(b"{"), Err(Unreadable));
    }

    #[test]
    fn an_id_need_not_have_a_digit_or_a_word_before_it() {
        for id in [
            "thread_abcDEFghiJKLmnoPQRstuVWX",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "0123456789abcdef0123456789abcdef",
            "assistant-AbCd",
            "x_1",
        ] {
            assert!(is_look_alike(id), "{id}");
        }
        for text in ["", "user", "gpt4o", "hello_ world", "a/b_c", "2024-10-21", "_x"] {
            assert!(!is_look_alike(text), "{text}");
        }
    }

    #[test]
    fn fields_of_forms_are_read_and_files_are_not() {
        let form = concat!(
            "--b\r\nContent-Disposition: form-data; name=\"file_ids[]\"\r\n\r\nfile-1, file-2.\r\n",
            "--b\r\nContent-Disposition: form-data; name=\"session\"\r\n\r\n {\"x\":[\"vs_\\u0031\"]}\r\n",
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nfile-3\r\n--b--\r\n",
        );
        let mut found = LookAlikes::default();
        found.form("b", form.as_bytes()).unwrap();
        let found: Vec<_> = sorted(found).into_iter().filter(|text| text.bytes().any(|b| b.is_ascii_digit())).collect();
        assert_eq!(found, ["file-1", "file-2", "vs_1"]);
        assert_eq!(LookAlikes::default().form("c", form.as_bytes()), Err(Unreadable));
    }

    #[test]
    fn there_is_a_bound() {
        let texts = |n| {
            let mut found = LookAlikes::default();
            let json = serde_json::json!((0..n).map(|i| format!("file-{i}")).collect::<Vec<_>>()).to_string();
            found.json(json.as_bytes()).unwrap();
            found.into_texts().map(|found| found.len())
        };
        assert_eq!(texts(MAX_LOOK_ALIKES), Ok(MAX_LOOK_ALIKES));
        assert_eq!(texts(MAX_LOOK_ALIKES + 1), Err(Unreadable));
    }
}
