//! Members of a JSON object, picked out of bytes that pass.

use std::ops::Range;

use memchr::memchr2;
use smallvec::SmallVec;

use super::{Family, Id, Usage, is_step, text, written};

/// Names of members, in their quotes.
type Names = &'static [(&'static [u8], Member)];

/// Members that are picked of an object that may tell a usage.
const OF_OBJECT: Names = &[
    (b"\"background\"", Member::Background),
    (b"\"id\"", Member::Id),
    (b"\"message\"", Member::Carried),
    (b"\"object\"", Member::Object),
    (b"\"response\"", Member::Carried),
    (b"\"type\"", Member::Type),
    (b"\"usage\"", Member::Usage),
];

/// Members that are picked of a request for a stream.
const OF_REQUEST: Names = &[(b"\"stream_options\"", Member::Carried)];

/// No name that is picked has more bytes, its quotes included.
const LONGEST_NAME: usize = 16;

/// Length of the longest value that is read.
const LONGEST: usize = 4096;

#[derive(Clone, Copy, PartialEq)]
enum Member {
    Background,
    /// An object of which a message tells.
    Carried,
    Id,
    Object,
    Type,
    Usage,
}

/// Picks members of the outermost object and skips everything else; of a name that is given twice, the last.
///
/// Every byte is looked at once, and strings by [`memchr2`]. A value is read where it stands; only of one that a chunk cuts off
/// something is kept. A name with escapes is none of those that are looked for.
pub(super) struct Members {
    names: Names,
    depth: usize,
    place: Place,
    string: Option<Within>,
    name: SmallVec<[u8; LONGEST_NAME]>,
    /// Member whose value passes now, if it is one that is picked.
    picking: Option<Member>,
    /// Part of it that earlier chunks had.
    begun: Vec<u8>,
    picked: Picked,
    /// Place where in the last bytes the object stands that is carried, if all of it does.
    carried: Range<usize>,
}

/// Place of the next byte in the outermost object.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Before,
    Name,
    Value,
    After,
    /// Not one object.
    Broken,
}

#[derive(Clone, Copy)]
enum Within {
    String,
    /// After a backslash.
    Escape,
}

/// Effect of a byte on the value that passes.
enum Step {
    Begins,
    Ends,
    GoesOn,
}

/// Members that were picked of a whole object.
#[derive(Default)]
pub(super) struct Picked {
    pub(super) is_in_background: bool,
    pub(super) family: Family,
    pub(super) id: Option<Id>,
    pub(super) usage: Option<Usage>,
    /// True if its `type` says so.
    pub(super) is_step: bool,
}

impl Picked {
    /// Reads a whole message, and what it carries where it tells no usage of its own.
    pub(super) fn of_message(message: &[u8]) -> Option<Self> {
        let (own, carried) = Members::of_whole(message)?;
        let is_step = own.is_step;
        if own.usage.is_some() {
            return Some(own);
        }
        carried.and_then(Members::of_whole).map(|(carried, _)| Self { is_step, ..carried })
    }
}

impl Members {
    /// Picks the members of a whole object, and where in it the object stands that it carries.
    fn of_whole(object: &[u8]) -> Option<(Picked, Option<&[u8]>)> {
        Self::new().pick_whole(object)
    }

    /// The options of a stream, in a whole body that asks for one.
    pub(super) fn stream_options(body: &[u8]) -> Option<&[u8]> {
        Self { names: OF_REQUEST, ..Self::new() }.pick_whole(body)?.1
    }

    pub(super) fn new() -> Self {
        Self {
            names: OF_OBJECT,
            depth: 0,
            place: Place::Before,
            string: None,
            name: SmallVec::new(),
            picking: None,
            begun: Vec::new(),
            picked: Picked::default(),
            carried: 0..0,
        }
    }

    fn pick_whole(mut self, object: &[u8]) -> Option<(Picked, Option<&[u8]>)> {
        self.push(object);
        let carried = self.carried.clone();
        let picked = self.finish()?;
        Some((picked, object.get(carried).filter(|carried| !carried.is_empty())))
    }

    /// Passes bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        // Where in these bytes the value stands that is picked.
        let (mut at, mut value) = (0, 0);
        loop {
            if self.depth > 1 && self.string.is_none() {
                at += plain(&bytes[at..]);
            }
            let Some(&byte) = bytes.get(at) else { break };
            if let Some(within) = self.string {
                at += self.pass_string(within, &bytes[at..]);
                continue;
            }
            match self.pass(byte) {
                Step::Begins => value = at + 1,
                Step::Ends if self.picking == Some(Member::Carried) => {
                    (self.picking, self.carried) = (None, value..at);
                }
                Step::Ends => self.pick(&bytes[value..at]),
                Step::GoesOn => {}
            }
            if self.place == Place::Broken {
                return;
            }
            at += 1;
        }
        if self.picking.is_some() {
            self.keep(&bytes[value..]);
        }
    }

    /// Returns what was picked, unless the object has not ended.
    pub(super) fn finish(self) -> Option<Picked> {
        (self.place == Place::After).then_some(self.picked)
    }

    /// Passes a part of a string; how long it is.
    fn pass_string(&mut self, within: Within, bytes: &[u8]) -> usize {
        let end = match within {
            Within::Escape => 1,
            Within::String => memchr2(b'"', b'\\', bytes).map_or(bytes.len(), |at| at + 1),
        };
        let part = &bytes[..end];
        if self.is_name() {
            self.keep_name(part);
        }
        self.string = match (within, part.last()) {
            (Within::String, Some(b'"')) => None,
            (Within::String, Some(b'\\')) => Some(Within::Escape),
            _ => Some(Within::String),
        };
        end
    }

    fn pass(&mut self, byte: u8) -> Step {
        match (self.depth, byte) {
            (_, b' ' | b'\t' | b'\r' | b'\n') => {}
            (0, b'{') if self.place == Place::Before => (self.depth, self.place) = (1, Place::Name),
            (0, _) => self.place = Place::Broken,
            (1, b',' | b'}') => {
                self.name.clear();
                (self.depth, self.place) = if byte == b',' { (1, Place::Name) } else { (0, Place::After) };
                return if self.picking.is_some() { Step::Ends } else { Step::GoesOn };
            }
            (1, b':') if self.place == Place::Name => {
                self.place = Place::Value;
                self.begin_value();
                return Step::Begins;
            }
            (_, b'{' | b'[') => self.depth += 1,
            (1, b']') => self.place = Place::Broken,
            (_, b'}' | b']') => self.depth -= 1,
            (_, b'"') => {
                self.string = Some(Within::String);
                if self.is_name() {
                    self.keep_name(b"\"");
                }
            }
            // No name: it will not be known.
            _ if self.is_name() => self.keep_name(b"?"),
            _ => {}
        }
        Step::GoesOn
    }

    fn is_name(&self) -> bool {
        self.place == Place::Name && self.depth == 1
    }

    /// Keeps a part of a name; one that is too long is none of those that are known.
    fn keep_name(&mut self, part: &[u8]) {
        if self.name.len() + part.len() > LONGEST_NAME {
            self.name.clear();
            self.name.push(b'?');
        } else {
            self.name.extend_from_slice(part);
        }
    }

    fn begin_value(&mut self) {
        self.picking = self.names.iter().find(|(known, _)| *known == &*self.name).map(|(_, member)| *member);
        self.begun.clear();
        match self.picking {
            Some(Member::Background) => self.picked.is_in_background = false,
            Some(Member::Id) => self.picked.id = None,
            Some(Member::Object) => self.picked.family = Family::default(),
            Some(Member::Type) => self.picked.is_step = false,
            Some(Member::Usage) => self.picked.usage = None,
            Some(Member::Carried) | None => {}
        }
    }

    /// Keeps what a chunk has of a value, unless it is longer than any that would be read.
    fn keep(&mut self, part: &[u8]) {
        if self.picking != Some(Member::Carried) && self.begun.len() + part.len() <= LONGEST {
            self.begun.extend_from_slice(part);
        } else {
            self.picking = None;
        }
    }

    /// Reads the value of which this is the last part.
    fn pick(&mut self, rest: &[u8]) {
        let Some(member) = self.picking else { return };
        if self.begun.is_empty() {
            if rest.len() <= LONGEST {
                self.picked.set(member, rest);
            }
        } else {
            self.keep(rest);
            if self.picking.is_some() {
                self.picked.set(member, &self.begun);
            }
        }
        self.picking = None;
    }
}

/// Length of what begins the bytes inside a value and neither opens nor ends anything there.
fn plain(bytes: &[u8]) -> usize {
    let is_structure = |byte: &u8| matches!(byte, b'"' | b'[' | b']' | b'{' | b'}');
    bytes.iter().position(is_structure).unwrap_or(bytes.len())
}

impl Picked {
    fn set(&mut self, member: Member, value: &[u8]) {
        let Ok(value) = std::str::from_utf8(value) else { return };
        match member {
            Member::Background => self.is_in_background = value.trim_ascii() == "true",
            Member::Id => self.id = text(value).map(|id| Id::from_slice(id.as_bytes())),
            Member::Carried => {}
            Member::Object => self.family = text(value).map(|name| Family::of(&name)).unwrap_or_default(),
            Member::Type => self.is_step = text(value).is_some_and(|kind| is_step(kind.as_bytes())),
            Member::Usage => self.usage = written::read(value),
        }
    }
}
