//! A JSON string that is read as it arrives, of which no more is kept than anybody reads; and words that a body may have as one.
//!
//! Sources: RFC 8259 §7 (<https://www.rfc-editor.org/rfc/rfc8259#section-7>).

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter};
use serde::de::DeserializeOwned;

use super::request_body::ReadBodyError;

/// A JSON string, or a word, as it is written; only so much of it is kept.
#[derive(Debug, Default)]
pub(super) struct Text {
    start: usize,
    bytes: Vec<u8>,
    limit: usize,
    is_cut: bool,
}

impl Text {
    pub(super) const fn new() -> Self {
        Self { start: 0, bytes: Vec::new(), limit: 0, is_cut: false }
    }

    /// Begins at `start`, and keeps up to `limit` bytes.
    pub(super) fn begin(&mut self, start: usize, limit: usize) {
        self.bytes.clear();
        (self.start, self.limit, self.is_cut) = (start, limit, false);
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        let room = self.limit - self.bytes.len();
        self.is_cut |= part.len() > room;
        self.bytes.extend_from_slice(&part[..part.len().min(room)]);
    }

    pub(super) const fn start(&self) -> usize {
        self.start
    }

    /// All of it as it is written, and nothing where it was too long.
    pub(super) fn take_written(&mut self) -> Vec<u8> {
        let written = std::mem::take(&mut self.bytes);
        if self.is_cut { Vec::new() } else { written }
    }

    /// Returns what it says, if it is all here.
    pub(super) fn unescaped(&self) -> Result<Option<Cow<'_, str>>, ReadBodyError> {
        if self.is_cut {
            return Ok(None);
        }
        let text = std::str::from_utf8(&self.bytes).map_err(|_| not_json())?;
        if !text.contains('\\') {
            return Ok(Some(text.into()));
        }
        let text = serde_json::from_str::<String>(&format!("\"{text}\"")).map_err(|_| not_json())?;
        Ok(Some(text.into()))
    }
}

pub(super) fn not_json() -> ReadBodyError {
    ReadBodyError::new("not the JSON it should be")
}

/// Tells whether a body may have one of these words as a string, in any case. `OpenAI` itself refuses a key in another case ("Unrecognized
/// request argument"), while the readers of Go and .NET, in which servers of its kind are written, take it for the same.
/// Most bodies have none, which is much quicker to see than to parse.
pub(crate) fn may_have_word(body: &[u8], words: &[&str]) -> bool {
    let is_one = |text: &[u8]| words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()));
    // Whatever stands between two quotes that follow one another, be it a string or what is between two.
    let mut from = body.len();
    let mut quoted = memchr_iter(b'"', body).filter_map(|at| body.get(std::mem::replace(&mut from, at + 1)..at));
    // A letter may be written as an escape, and a zero stands in texts of other encodings, which some readers see through.
    quoted.any(is_one) || memchr(0, body).is_some() || ESCAPE.find(body).is_some()
}

/// Reads a text as others do: half of a pair of surrogates in a message or an answer is no reason to see nothing of it.
///
/// # Errors
/// It is no JSON, or not of this shape.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(text).or_else(|error| match with_whole_pairs(text) {
        Some(whole) => serde_json::from_slice(&whole),
        None => Err(error),
    })
}

/// The same text with every half of a pair of surrogates that stands alone replaced; `None` where none does.
///
/// JSON allows such an escape, `JSON.stringify` writes one where a client has cut a text in two, and the readers of others take it. A
/// Rust string cannot hold it.
pub(super) fn with_whole_pairs(text: &[u8]) -> Option<Vec<u8>> {
    let mut whole: Option<Vec<u8>> = None;
    let (mut at, mut copied) = (0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| memchr(b'\\', rest)) {
        at += found;
        let (length, is_alone) = match unit(text, at) {
            Some(0xd800..=0xdbff) if matches!(unit(text, at + 6), Some(0xdc00..=0xdfff)) => (12, false),
            Some(0xd800..=0xdfff) => (6, true),
            _ => (2, false),
        };
        if is_alone {
            let whole = whole.get_or_insert_with(|| Vec::with_capacity(text.len()));
            whole.extend_from_slice(&text[copied..at]);
            whole.extend_from_slice(b"\\ufffd");
            copied = at + length;
        }
        at += length;
    }
    if let Some(whole) = &mut whole {
        whole.extend_from_slice(text.get(copied..).unwrap_or_default());
    }
    whole
}

/// Reads the escape by number that stands there.
fn unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..)?.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)? as u16))
}

static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\u00"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_that_stands_alone_is_replaced() {
        let replaced = |text: &str| with_whole_pairs(text.as_bytes()).map(|text| String::from_utf8(text).unwrap());
        for text in ["", r"\", r"\ud83d", r"\ud83d\ude00", r"\\ud83d", r"\u00e9\n", r"\ud83"] {
            let is_alone = text == r"\ud83d";
            assert_eq!(replaced(text).is_some(), is_alone, "{text}");
        }
        assert_eq!(
            replaced(r#"a\uD83Db\n\\ud83d\ud83d\ud83d\ude00"#).unwrap(),
            r#"a\ufffdb\n\\ud83d\ufffd\ud83d\ude00"#
        );
        assert_eq!(replaced(r"\ude00\ud83d").unwrap(), r"\ufffd\ufffd");
    }

    #[test]
    fn a_word_is_seen_in_any_case_and_spelling() {
        for body in [
            r#"{"store":true}"#,
            r#"{"STORE" : true}"#,
            r#"{"x":[{"audIo":1}]}"#,
            r#"{"\u0073tore":true}"#,
            "{\0\"\0s\0t\0o\0r\0e\0\"\0:\0\x31\0}\0",
        ] {
            assert!(may_have_word(body.as_bytes(), &["store", "audio"]), "{body}");
        }
        for body in ["", "\"", "\"stor", "\"store", r#"{"stored":true,"x":"restore"}"#, r#"{"xstore":1,"s":"\n"}"#] {
            assert!(!may_have_word(body.as_bytes(), &["store", "audio"]), "{body}");
        }
    }
}
