//! Estimate of the tokens of a text, where nobody says.
//!
//! Tokenizers of these models take about four ASCII characters for a token, and about one character of most other scripts. What is
//! counted are the characters of JSON strings, unescaped: bytes would be several times too low for Chinese, and escapes five times
//! too high. No tokenizer would do better where it matters, since none sees the reasoning that is billed.
//!
//! What is no text counts nothing: media in base64 and `data:` URLs, encrypted content, padding against eavesdroppers.
//! Numbers count one each, because prompts may be given as arrays of tokens.
//!
//! Sources: <https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them>.

use std::ops::{Add, AddAssign};

use memchr::memchr2;

use super::sse;

/// Number of ASCII characters that are taken for a token.
pub(crate) const ASCII_PER_TOKEN: u64 = 4;

/// A string of this length without a space, of base64's letters alone, is taken for media.
const LONGEST_WORD: usize = 512;

/// Members whose strings are no prompt.
const fn is_no_text(name: &[u8]) -> bool {
    matches!(
        name,
        b"b64_json" | b"data" | b"encrypted_content" | b"file_data" | b"file_id" | b"image_url" | b"obfuscation"
    )
}

/// Members that may be arrays of tokens.
const fn may_be_tokens(name: &[u8]) -> bool {
    matches!(name, b"input" | b"prompt")
}

/// Members that carry what is new of an answer.
const fn carries_news(name: &[u8]) -> bool {
    matches!(
        name,
        b"arguments"
            | b"content"
            | b"delta"
            | b"input"
            | b"partial_json"
            | b"reasoning"
            | b"reasoning_content"
            | b"refusal"
            | b"text"
            | b"thinking"
            | b"transcript"
            | b"value"
    )
}

/// Characters by script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct Text {
    /// Of ASCII.
    pub(crate) ascii: u64,
    /// Others, and numbers.
    pub(crate) other: u64,
}

impl Text {
    /// The text of a prompt, as a JSON request body has it.
    ///
    /// Reads each byte once and never fails: of what is not JSON, as much as looks like it.
    #[must_use]
    pub(crate) fn of_prompt(body: &[u8]) -> Self {
        Self::of_members(body, |name| !is_no_text(name), may_be_tokens)
    }

    /// Returns what an event adds to the answer. Events that only sum up what others said before add nothing.
    #[must_use]
    pub(crate) fn of_event(event: &sse::Event<'_>) -> Self {
        let is_news = event.name().is_none_or(|name| name.ends_with(b"delta") || name == b"message");
        let data = event.data().filter(|_| is_news).unwrap_or_default();
        Self::of_members(&data, carries_news, |_| false)
    }

    fn of_members(json: &[u8], is_text: impl Fn(&[u8]) -> bool, is_tokens: impl Fn(&[u8]) -> bool) -> Self {
        let (mut text, mut counts, mut counts_numbers) = (Self::default(), is_text(b""), false);
        for lexeme in Lexemes(json) {
            match lexeme {
                Lexeme::Name(name) => (counts, counts_numbers) = (is_text(name), is_tokens(name)),
                Lexeme::Number => text.other += u64::from(counts_numbers),
                Lexeme::String(written) if counts && !is_media(written) => text += Self::of_string(written),
                Lexeme::String(_) => {}
            }
        }
        text
    }

    /// The characters of a JSON string, given without its quotes.
    fn of_string(mut written: &[u8]) -> Self {
        let mut text = Self::default();
        while let Some(at) = memchr::memchr(b'\\', written) {
            let (plain, escaped) = written.split_at(at);
            text += Self::of_plain(plain);
            let length = match escaped {
                [_, b'u', digits @ ..] => {
                    let digits = digits.get(..4).unwrap_or(digits);
                    match str::from_utf8(digits).ok().and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
                        Some(0..=0x7f) => text.ascii += 1,
                        // The second half of a pair.
                        Some(0xdc00..=0xdfff) => {}
                        _ => text.other += 1,
                    }
                    2 + digits.len()
                }
                _ => {
                    text.ascii += 1;
                    2
                }
            };
            written = escaped.get(length..).unwrap_or_default();
        }
        text + Self::of_plain(written)
    }

    fn of_plain(plain: &[u8]) -> Self {
        let ascii = plain.iter().filter(|byte| byte.is_ascii()).count();
        let beginnings = plain.iter().filter(|byte| **byte >= 0xc0).count();
        Self { ascii: ascii as u64, other: beginnings as u64 }
    }

    /// Number of tokens that it is taken for; a text that is not empty is at least one.
    #[must_use]
    pub(crate) const fn tokens(&self) -> u64 {
        self.ascii.div_ceil(ASCII_PER_TOKEN).saturating_add(self.other)
    }

    /// Tells whether there is none.
    #[must_use]
    pub(crate) const fn is_empty(&self) -> bool {
        self.ascii == 0 && self.other == 0
    }
}

impl Add for Text {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { ascii: self.ascii.saturating_add(more.ascii), other: self.other.saturating_add(more.other) }
    }
}

impl AddAssign for Text {
    fn add_assign(&mut self, more: Self) {
        *self = *self + more;
    }
}

fn is_media(written: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(byte);
    written.starts_with(b"data:") || written.len() > LONGEST_WORD && written.iter().all(is_word)
}

// ===== Lexemes =====

/// Parts of JSON that are looked at, in their order.
struct Lexemes<'a>(&'a [u8]);

enum Lexeme<'a> {
    /// A member's name.
    Name(&'a [u8]),
    Number,
    /// Without its quotes.
    String(&'a [u8]),
}

impl<'a> Iterator for Lexemes<'a> {
    type Item = Lexeme<'a>;

    fn next(&mut self) -> Option<Lexeme<'a>> {
        loop {
            let (&first, rest) = self.0.split_first()?;
            self.0 = rest;
            match first {
                b'"' => {
                    let string = self.string();
                    let is_name = self.0.trim_ascii_start().starts_with(b":");
                    return Some(if is_name { Lexeme::Name(string) } else { Lexeme::String(string) });
                }
                b'-' | b'0'..=b'9' => {
                    let goes_on = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                    self.0 = &rest[rest.iter().take_while(goes_on).count()..];
                    return Some(Lexeme::Number);
                }
                _ => {}
            }
        }
    }
}

impl<'a> Lexemes<'a> {
    /// Takes a string to its closing quote, or to the end where it has none.
    fn string(&mut self) -> &'a [u8] {
        let (all, mut from) = (self.0, 0);
        while let Some(at) = all.get(from..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
            if all[from + at] == b'"' {
                self.0 = &all[from + at + 1..];
                return &all[..from + at];
            }
            from += at + 2;
        }
        self.0 = &[];
        all
    }
}

#[cfg(test)]
mod tests;
