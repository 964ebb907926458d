//! Fields of a JSON body, found where they stand, as the body arrives: for bodies that are too large to be parsed whole.
//!
//! It follows strings and nesting, and refuses what no JSON parser would take for the same members. That each value is JSON
//! is for the backend to say.

use memchr::memchr2;

use super::{Fields, Model, Opening, ReadBodyError};
use crate::azure::json_text::{Text, not_json};

/// More than any key that is read has, with every letter escaped.
const MAX_KEY: usize = 128;
/// More than any name has, with every letter escaped.
const MAX_NAME: usize = 4 << 10;

/// A JSON object on its way in.
#[derive(Debug, Default)]
pub(super) struct JsonScan {
    /// Offset of the next byte in the body.
    at: usize,
    /// Number of objects and arrays that are open.
    depth: usize,
    /// Token that may stand next in the object itself.
    expected: Expected,
    in_string: bool,
    /// True if the next byte of the string is escaped.
    escaped: bool,
    /// The key or value that is being read, as it is written.
    text: Text,
    key: Key,
    seen: Vec<Key>,
    fields: Fields,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Expected {
    #[default]
    Opening,
    KeyOrClosing,
    Key,
    Colon,
    Value,
    /// More of a number or a word, or what follows it.
    Word,
    CommaOrClosing,
    Nothing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Key {
    Agent,
    AgentReference,
    Background,
    Conversation,
    Model,
    #[default]
    Other,
    Stream,
}

impl JsonScan {
    pub(super) const fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<(), ReadBodyError> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let read = if self.in_string { self.string(rest)? } else { self.byte(rest[0]).map(|()| 1)? };
            self.at += read;
            rest = &rest[read..];
        }
        Ok(())
    }

    #[cfg(any(fuzzing, test))]
    pub(super) fn finish(self) -> Result<Fields, ReadBodyError> {
        if self.expected == Expected::Nothing { Ok(self.fields) } else { Err(not_json()) }
    }

    /// As much of a string as is there.
    fn string(&mut self, rest: &[u8]) -> Result<usize, ReadBodyError> {
        if std::mem::take(&mut self.escaped) {
            self.text.push(&rest[..1]);
            return Ok(1);
        }
        let Some(end) = memchr2(b'"', b'\\', rest) else {
            self.text.push(rest);
            return Ok(rest.len());
        };
        if rest[end] == b'\\' {
            self.escaped = true;
            self.text.push(&rest[..=end]);
        } else {
            self.in_string = false;
            self.text.push(&rest[..end]);
            if self.depth == 1 {
                self.ends_string(self.at + end + 1)?;
            }
        }
        Ok(end + 1)
    }

    fn byte(&mut self, byte: u8) -> Result<(), ReadBodyError> {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => self.ends_word(),
            b'"' => self.begins_string(),
            b'{' | b'[' => self.opens(byte),
            b'}' | b']' => self.closes(byte),
            b',' | b':' if self.depth > 1 => Ok(()),
            b',' => {
                self.ends_word()?;
                self.next(Expected::CommaOrClosing, Expected::Key)
            }
            b':' => self.next(Expected::Colon, Expected::Value),
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.' => self.word(byte),
            _ => Err(not_json()),
        }
    }

    fn next(&mut self, expected: Expected, next: Expected) -> Result<(), ReadBodyError> {
        if self.expected != expected {
            return Err(not_json());
        }
        self.expected = next;
        Ok(())
    }

    fn opens(&mut self, byte: u8) -> Result<(), ReadBodyError> {
        match self.depth {
            0 if byte == b'{' => {
                self.fields.opening = Opening { at: self.at + 1, is_empty: true };
                self.next(Expected::Opening, Expected::KeyOrClosing)?;
            }
            0 => return Err(ReadBodyError::new("not a JSON object")),
            1 => {
                self.next(Expected::Value, Expected::CommaOrClosing)?;
                self.ends_value(false, b"[")?;
            }
            _ => {}
        }
        self.depth += 1;
        Ok(())
    }

    fn closes(&mut self, byte: u8) -> Result<(), ReadBodyError> {
        if self.depth == 1 {
            self.ends_word()?;
            let may_close = matches!(self.expected, Expected::KeyOrClosing | Expected::CommaOrClosing);
            if !may_close || byte != b'}' {
                return Err(not_json());
            }
            self.expected = Expected::Nothing;
        }
        self.depth = self.depth.checked_sub(1).ok_or_else(not_json)?;
        Ok(())
    }

    fn begins_string(&mut self) -> Result<(), ReadBodyError> {
        self.in_string = true;
        let limit = match (self.depth, self.expected) {
            (0, _) => return Err(ReadBodyError::new("not a JSON object")),
            (1, Expected::Key | Expected::KeyOrClosing) => MAX_KEY,
            (1, Expected::Value) if self.key == Key::Model => MAX_NAME,
            (1, Expected::Value) => 0,
            (1, _) => return Err(not_json()),
            _ => 0,
        };
        self.text.begin(self.at, limit);
        Ok(())
    }

    fn ends_string(&mut self, end: usize) -> Result<(), ReadBodyError> {
        if self.expected == Expected::Value {
            self.expected = Expected::CommaOrClosing;
            if self.key == Key::Model {
                let name =
                    self.text.unescaped()?.ok_or_else(|| ReadBodyError::new("`model` is too long for a name"))?;
                self.fields.model = Some(Model { name: name.into_owned(), span: self.text.start()..end });
            }
            return self.ends_value(true, b"\"");
        }
        self.expected = Expected::Colon;
        self.fields.opening.is_empty = false;
        self.key = key(self.text.unescaped()?.as_deref().unwrap_or_default())?;
        if self.key != Key::Other {
            if self.seen.contains(&self.key) {
                return Err(ReadBodyError::new(format!("`{}` stands in it twice", self.key.name())));
            }
            self.seen.push(self.key);
        }
        Ok(())
    }

    fn word(&mut self, byte: u8) -> Result<(), ReadBodyError> {
        if self.depth > 1 {
            return Ok(());
        }
        if self.expected == Expected::Value {
            self.text.begin(self.at, "false".len());
            self.expected = Expected::Word;
        }
        if self.expected != Expected::Word {
            return Err(if self.depth == 0 { ReadBodyError::new("not a JSON object") } else { not_json() });
        }
        self.text.push(&[byte]);
        Ok(())
    }

    fn ends_word(&mut self) -> Result<(), ReadBodyError> {
        if self.depth != 1 || self.expected != Expected::Word {
            return Ok(());
        }
        self.expected = Expected::CommaOrClosing;
        let word = self.text.take_written();
        self.ends_value(false, &word)
    }

    /// Takes in a value of the object's own; of an object or array it is only known that it is one.
    fn ends_value(&mut self, is_string: bool, value: &[u8]) -> Result<(), ReadBodyError> {
        match self.key {
            Key::Agent | Key::AgentReference => self.fields.refers_to_agent |= value != b"null",
            Key::Background => self.fields.keeps |= value == b"true",
            Key::Conversation => self.fields.keeps |= value != b"null",
            Key::Stream => self.fields.streams = value == b"true",
            Key::Model if !is_string && value != b"null" => return Err(ReadBodyError::new("`model` is not a string")),
            Key::Model | Key::Other => {}
        }
        Ok(())
    }
}

impl Key {
    const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::AgentReference => "agent_reference",
            Self::Background => "background",
            Self::Conversation => "conversation",
            Self::Model => "model",
            Self::Other => "",
            Self::Stream => "stream",
        }
    }
}

fn key(text: &str) -> Result<Key, ReadBodyError> {
    Ok(match text {
        "agent" => Key::Agent,
        "agent_reference" => Key::AgentReference,
        "background" => Key::Background,
        "conversation" => Key::Conversation,
        "model" => Key::Model,
        "stream" => Key::Stream,
        text if text.eq_ignore_ascii_case("model") => {
            return Err(ReadBodyError::new("`model` is not spelt in lower case"));
        }
        _ => Key::Other,
    })
}
