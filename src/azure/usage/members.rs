//! Members of a JSON object, picked out of bytes that pass.

use std::borrow::Cow;

use memchr::memchr2;
use serde::Deserialize;

/// What is picked.
const NAMES: [&str; 4] = ["background", "id", "object", "usage"];

/// Length of the longest value that is kept.
const LONGEST: usize = 4096;

/// No name that is picked has more bytes, its quotes included.
const LONGEST_NAME: usize = 16;

/// Picks members of the outermost object and skips everything else; of a name that is given twice, the last.
///
/// Every byte is looked at once, and strings by [`memchr2`]. A name with escapes is none of those that are looked for.
#[derive(Debug, Default)]
pub(super) struct Members {
    depth: usize,
    place: Place,
    string: Option<Within>,
    name: Vec<u8>,
    /// Which value passes now, if it is kept.
    keeping: Option<usize>,
    values: [Vec<u8>; NAMES.len()],
}

/// Where in the outermost object the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Place {
    #[default]
    Before,
    Name,
    Value,
    After,
    /// Not one object.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Within {
    String,
    /// After a backslash.
    Escape,
}

/// What was picked, when the whole object has passed.
#[derive(Debug)]
pub(super) struct Picked([Vec<u8>; NAMES.len()]);

impl Picked {
    /// The value of a member, if it is there and of that kind.
    pub(super) fn value<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<T> {
        let index = NAMES.iter().position(|known| *known == name)?;
        serde_json::from_slice(&self.0[index]).ok()
    }

    /// A member that is a string.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.value::<String>(name).map(Cow::Owned)
    }
}

impl Members {
    /// Passes bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = match (self.place, self.string) {
                (Place::Broken, _) => return,
                (_, Some(within)) => self.pass_string(within, bytes),
                (_, None) => {
                    self.pass(byte);
                    rest
                }
            };
        }
    }

    /// What was picked, unless the object has not ended.
    pub(super) fn finish(self) -> Option<Picked> {
        (self.place == Place::After).then_some(Picked(self.values))
    }

    fn pass_string<'a>(&mut self, within: Within, bytes: &'a [u8]) -> &'a [u8] {
        let end = match within {
            Within::Escape => 1,
            Within::String => memchr2(b'"', b'\\', bytes).map_or(bytes.len(), |at| at + 1),
        };
        let (part, rest) = bytes.split_at(end);
        self.keep(part);
        self.string = match (within, part.last()) {
            (Within::String, Some(b'"')) => None,
            (Within::String, Some(b'\\')) => Some(Within::Escape),
            _ => Some(Within::String),
        };
        rest
    }

    fn pass(&mut self, byte: u8) {
        match (self.depth, byte) {
            (0, b'{') if self.place == Place::Before => {
                (self.depth, self.place) = (1, Place::Name);
                return;
            }
            (_, b' ' | b'\t' | b'\r' | b'\n') => return,
            (0, _) => self.place = Place::Broken,
            (1, b',' | b'}') => {
                self.keeping = None;
                self.name.clear();
                (self.depth, self.place) = if byte == b',' { (1, Place::Name) } else { (0, Place::After) };
                return;
            }
            (1, b':') if self.place == Place::Name => {
                self.place = Place::Value;
                self.begin_value();
                return;
            }
            (_, b'{' | b'[') => self.depth += 1,
            (1, b']') => self.place = Place::Broken,
            (_, b'}' | b']') => self.depth -= 1,
            (_, b'"') => self.string = Some(Within::String),
            _ => {}
        }
        self.keep(&[byte]);
    }

    fn begin_value(&mut self) {
        let name = self.name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\""));
        self.keeping = NAMES.iter().position(|known| name == Some(known.as_bytes()));
        if let Some(index) = self.keeping {
            self.values[index].clear();
        }
    }

    /// Keeps a part of a name or of a value; one that is too long for what it should be is emptied.
    fn keep(&mut self, part: &[u8]) {
        let (kept, longest) = match (self.place, self.keeping) {
            (Place::Name, _) if self.depth == 1 => (&mut self.name, LONGEST_NAME),
            (_, Some(index)) => (&mut self.values[index], LONGEST),
            _ => return,
        };
        if kept.len() + part.len() > longest {
            kept.clear();
            kept.push(b'?');
            self.keeping = None;
            return;
        }
        kept.extend_from_slice(part);
    }
}
