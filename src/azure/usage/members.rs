//! Members of a JSON object, picked out of bytes that pass.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;
use serde::Deserialize;
use smallvec::SmallVec;

/// What is picked.
const NAMES: [&str; 4] = ["background", "id", "object", "usage"];

/// Length of the longest value that is kept.
const LONGEST: usize = 4096;

/// How much is kept of all, those included that were given twice.
const MOST: usize = NAMES.len() * LONGEST;

/// For a usage with its details and the rest, so that one piece of memory will mostly do.
const USUAL: usize = 512;

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
    name: SmallVec<[u8; LONGEST_NAME]>,
    /// Which value passes now, if it is kept.
    keeping: Option<usize>,
    /// What is kept of all values, one after the other.
    kept: Vec<u8>,
    /// Where each stands in it.
    values: [Range<usize>; NAMES.len()],
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
pub(super) struct Picked {
    kept: Vec<u8>,
    values: [Range<usize>; NAMES.len()],
}

impl Picked {
    /// The value of a member, if it is there and of that kind.
    pub(super) fn value<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<T> {
        serde_json::from_slice(self.written(name)?).ok()
    }

    fn written(&self, name: &str) -> Option<&[u8]> {
        let index = NAMES.iter().position(|known| *known == name)?;
        self.kept.get(self.values[index].clone())
    }

    /// A member that is a string.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.value::<&str>(name).map(Cow::Borrowed).or_else(|| self.value::<String>(name).map(Cow::Owned))
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
        (self.place == Place::After).then_some(Picked { kept: self.kept, values: self.values })
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
            let start = self.kept.len();
            self.values[index] = start..start;
        }
    }

    /// Keeps a part of a name or of a value; one that is too long for what it should be is emptied.
    fn keep(&mut self, part: &[u8]) {
        match (self.place, self.keeping) {
            (Place::Name, _) if self.depth == 1 => self.keep_name(part),
            (_, Some(index)) => self.keep_value(index, part),
            _ => {}
        }
    }

    fn keep_name(&mut self, part: &[u8]) {
        if self.name.len() + part.len() > LONGEST_NAME {
            self.name.clear();
            self.name.push(b'?');
        } else {
            self.name.extend_from_slice(part);
        }
    }

    fn keep_value(&mut self, index: usize, part: &[u8]) {
        let value = &mut self.values[index];
        if value.len() + part.len() > LONGEST || self.kept.len() + part.len() > MOST {
            // No JSON, and so no value.
            *value = 0..0;
            self.keeping = None;
            return;
        }
        if self.kept.capacity() == 0 {
            self.kept.reserve(USUAL);
        }
        self.kept.extend_from_slice(part);
        value.end = self.kept.len();
    }
}
