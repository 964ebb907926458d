//! Texts that could be ids, wherever they stand.

use std::collections::HashSet;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess};
use serde_json::Deserializer;

use super::json::{Key, Value, Walk};
use super::request::Unreadable;
use super::{MAX_LEN, is_plain};

/// How many different texts are kept.
pub(crate) const MAX_LOOK_ALIKES: usize = 4096;

/// Whether a text is built like an id: a short word, `_` or `-`, and then characters that mean nothing in a path, a digit among
/// them.
pub(crate) fn is_look_alike(text: &str) -> bool {
    let Some(at) = text.find(['_', '-']) else { return false };
    (1..=12).contains(&at)
        && text.len() <= MAX_LEN
        && text[..at].bytes().all(|byte| byte.is_ascii_alphabetic())
        && text.bytes().any(|byte| byte.is_ascii_digit())
        && is_plain(text)
}

/// Every text of a JSON body, key or value, that is built like an id.
///
/// # Errors
/// The body is not JSON, or has more of them than [`MAX_LOOK_ALIKES`].
pub(crate) fn look_alikes(body: &[u8]) -> Result<HashSet<String>, Unreadable> {
    let mut found = HashSet::new();
    let mut json = Deserializer::from_slice(body);
    Value(Everywhere(&mut found)).deserialize(&mut json).map_err(|_| Unreadable)?;
    json.end().map_err(|_| Unreadable)?;
    if found.len() > MAX_LOOK_ALIKES { Err(Unreadable) } else { Ok(found) }
}

struct Everywhere<'a>(&'a mut HashSet<String>);

impl Everywhere<'_> {
    fn keep(&mut self, text: &str) {
        if self.0.len() <= MAX_LOOK_ALIKES && is_look_alike(text) && !self.0.contains(text) {
            self.0.insert(text.to_owned());
        }
    }
}

impl Walk for Everywhere<'_> {
    fn text(mut self, text: &str) {
        self.keep(text);
    }

    fn array<'de, A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Value(Everywhere(&mut *self.0)))?.is_some() {}
        Ok(())
    }

    fn object<'de, A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while members.next_key_seed(Key(|key: &str| self.keep(key)))?.is_some() {
            members.next_value_seed(Value(Everywhere(&mut *self.0)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_wherever_they_stand() {
        let body = br#"{"a":[{"x":{"\u0074hread_1":"file-2"}}],"b":"see thread_9","c":"gpt-4o","d":"01a2-b","e":"max_tokens"}"#;
        let mut found: Vec<_> = look_alikes(body).unwrap().into_iter().collect();
        found.sort();
        assert_eq!(found, ["file-2", "gpt-4o", "thread_1"]);
        assert_eq!(look_alikes(b"{"), Err(Unreadable));
    }

    #[test]
    fn there_is_a_bound() {
        let texts = |n| serde_json::json!((0..n).map(|i| format!("file-{i}")).collect::<Vec<_>>()).to_string();
        assert_eq!(look_alikes(texts(MAX_LOOK_ALIKES).as_bytes()).map(|found| found.len()), Ok(MAX_LOOK_ALIKES));
        assert_eq!(look_alikes(texts(MAX_LOOK_ALIKES + 1).as_bytes()), Err(Unreadable));
    }
}
