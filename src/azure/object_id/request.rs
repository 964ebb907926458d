//! The ids that the body of a request refers to.

use std::collections::HashSet;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess};
use serde_json::Deserializer;
use serde_json::de::SliceRead;

use super::json::{Key, Read, Value, Walk, skip};
use super::look_alike::is_json;
use super::places::{Holds, Node, places};
use super::{Family, MAX_LEN, ObjectId, Sealed};

use crate::azure::json_text::with_whole_pairs;
use crate::azure::operation::Operation;
use crate::azure::request_body::each_field;

/// Number of ids of a body that are read.
pub(crate) const MAX_REFERENCES: usize = 512;

/// Bound on the ids that are read in a body, the same one again included.
const MAX_READ: usize = 8 * MAX_REFERENCES;

/// Number of ids that a body merely repeats that are kept: the objects of one conversation lie together.
const MAX_REPEATED: usize = 32;

/// Number of sealed contents that are kept, the last ones: those of one conversation have one maker.
const MAX_SEALED: usize = 8;

/// Bound on the times that one object says its own id.
const MAX_NAMES: usize = 4;

/// Stored objects to which the body of a request refers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    ids: Vec<ObjectId>,
    seen: HashSet<ObjectId>,
    read: usize,
    repeated: Vec<ObjectId>,
    sealed: Vec<Sealed>,
    oversized: bool,
    truncated: bool,
    speaks: bool,
    store: Option<bool>,
}

/// The body is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body cannot be searched for ids")]
#[non_exhaustive]
pub struct Unreadable;

impl References {
    /// Reads the JSON body of a call, at the places where the API defines ids for it; every occurrence of a repeated key
    /// counts. Everything else is the client's own and passed over.
    ///
    /// Reading ends with 512 ids: then the body [is truncated](Self::is_truncated).
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(operation: Operation, body: &[u8]) -> Result<Self, Unreadable> {
        Self::read_strictly(operation, body).or_else(|unreadable| {
            let whole = with_whole_pairs(body).ok_or(unreadable)?;
            Self::read_strictly(operation, &whole)
        })
    }

    fn read_strictly(operation: Operation, body: &[u8]) -> Result<Self, Unreadable> {
        let mut found = Self::default();
        let mut json = Deserializer::from_slice(body);
        found.walk(operation, &mut json).map_err(|_| Unreadable)?;
        json.end().map_err(|_| Unreadable)?;
        Ok(found)
    }

    /// Reads the beginning of such a body: what stands in it before the place at which it was cut counts.
    #[must_use]
    pub fn read_start(operation: Operation, start: &[u8]) -> Self {
        let whole = with_whole_pairs(start);
        let mut found = Self::default();
        let _cut = found.walk(operation, &mut Deserializer::from_slice(whole.as_deref().unwrap_or(start)));
        found
    }

    /// Reads the form of a call, whose fields are the members of its JSON: `video[id]` stands for `id` in `video`, `file_ids[]` for an
    /// element, and a field may hold JSON. What stands before the place at which the form was cut, or can no longer be read,
    /// counts.
    #[must_use]
    pub fn read_form(operation: Operation, boundary: &str, body: &[u8]) -> Self {
        let mut found = Self::default();
        if let (true, Some(root)) = (Self::are_in_forms_of(operation), places(operation)) {
            let _cut = each_field(boundary, body, |name, value| {
                if let Some(node) = root.field(name) {
                    found.field(node, value);
                }
            });
        }
        found
    }

    /// Tells whether a call can be made with a form that has places for ids.
    #[must_use]
    pub const fn are_in_forms_of(operation: Operation) -> bool {
        matches!(operation, Operation::AudioVoices | Operation::Containers | Operation::Realtime | Operation::Videos)
    }

    /// Tells whether a call has places for ids in its body at all.
    #[must_use]
    pub fn are_defined_for(operation: Operation) -> bool {
        places(operation).is_some()
    }

    /// The ids that the request refers to, each once: the backend must know what they name.
    #[must_use]
    pub fn ids(&self) -> &[ObjectId] {
        &self.ids
    }

    /// Ids of items that the request carries in full, as in a conversation that is replayed: the backend may know them.
    #[must_use]
    pub fn repeated(&self) -> &[ObjectId] {
        &self.repeated
    }

    /// Content that only its maker reads, the last few of it, in their order.
    #[must_use]
    pub fn sealed(&self) -> &[Sealed] {
        &self.sealed
    }

    /// Tells whether something longer than 256 bytes, or empty, stands where an id belongs.
    #[must_use]
    pub const fn is_oversized(&self) -> bool {
        self.oversized
    }

    /// Tells whether there are more ids than are read. Those that were are the first.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Number of times that an id was read, the same one again included.
    #[cfg(any(fuzzing, test))]
    pub(crate) const fn times_read(&self) -> usize {
        self.read
    }

    /// Returns what the request says of keeping its answer.
    #[must_use]
    pub const fn store(&self) -> Option<bool> {
        self.store
    }

    /// Tells whether the answer is to be said aloud, too, so that it has an id by which later turns refer to what was said.
    #[must_use]
    pub const fn speaks(&self) -> bool {
        self.speaks
    }

    fn walk(&mut self, operation: Operation, json: &mut Deserializer<SliceRead<'_>>) -> serde_json::Result<()> {
        static NOWHERE: Node = Node::NONE;
        let node = places(operation).unwrap_or(&NOWHERE);
        Value(Walker { found: self, node }).deserialize(json)
    }

    fn field(&mut self, node: &Node, value: &[u8]) {
        if !self.wants(node.holds) {
            return;
        }
        // A file that stands there instead is no JSON, and is not read beyond its first bytes.
        if node.leads_on() {
            let whole = if is_json(value) { with_whole_pairs(value) } else { None };
            let walker = Walker { found: &mut *self, node };
            let mut json = Deserializer::from_slice(whole.as_deref().unwrap_or(value));
            if Value(walker).deserialize(&mut json).is_ok() {
                return;
            }
        }
        if let Ok(text) = std::str::from_utf8(value.trim_ascii()) {
            Walker { found: self, node: node.elements.as_deref().unwrap_or(node) }.text(text);
        }
    }

    fn refer(&mut self, family: Family, text: &str) {
        self.read += 1;
        self.truncated |= self.read > MAX_READ;
        match ObjectId::new(family, text) {
            Some(id) if self.seen.contains(&id) => {}
            Some(_) if self.ids.len() == MAX_REFERENCES => self.truncated = true,
            Some(id) => {
                self.seen.insert(id.clone());
                self.ids.push(id);
            }
            None => self.oversized |= text.len() > MAX_LEN,
        }
    }

    fn repeat(&mut self, family: Family, text: &str) {
        if self.repeated.len() < MAX_REPEATED {
            self.repeated.extend(ObjectId::new(family, text));
        }
    }

    fn seal(&mut self, content: &str) {
        if content.is_empty() {
            return;
        }
        if self.sealed.len() < MAX_SEALED {
            self.sealed.push(Sealed::default());
        } else {
            self.sealed.rotate_left(1);
        }
        if let Some(last) = self.sealed.last_mut() {
            last.read(content);
        }
    }

    /// Tells whether what stands there is still read.
    const fn wants(&self, holds: Option<Holds>) -> bool {
        !self.truncated || matches!(holds, Some(Holds::Speech | Holds::Store))
    }
}

struct Walker<'a> {
    found: &'a mut References,
    node: &'a Node,
}

impl Walk for Walker<'_> {
    fn text(self, text: &str) {
        match self.node.holds {
            Some(Holds::Id(family)) => self.found.refer(family, text),
            Some(Holds::Repeated(family)) => self.found.repeat(family, text),
            Some(Holds::Sealed) => self.found.seal(text),
            _ => {}
        }
    }

    fn flag(self, flag: bool) {
        if matches!(self.node.holds, Some(Holds::Store)) {
            self.found.store = Some(flag);
        }
    }

    fn array<'de, A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        if let Some(node) = self.node.elements.as_deref() {
            while self.found.wants(node.holds) {
                let walker = Walker { found: &mut *self.found, node };
                if elements.next_element_seed(Value(walker))?.is_none() {
                    return Ok(());
                }
            }
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn object<'de, A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { found, node } = self;
        found.speaks |= matches!(node.holds, Some(Holds::Speech));
        let mut object = Object::of(node);
        while let Some((trait_, member)) =
            members.next_key_seed(Key(|key: &str| (object.trait_of(key), node.member(key))))?
        {
            match (trait_, member) {
                (Some(Trait::Name(name)), _) => {
                    members.next_value_seed(Value(Read(|text: &str| object.name(name, text))))?
                }
                (Some(Trait::Type), _) => members.next_value_seed(Value(Read(|text: &str| object.of_type(text))))?,
                (Some(Trait::Encrypted), Some(_)) => members.next_value_seed(Value(Read(|text: &str| {
                    object.is_encrypted = true;
                    found.seal(text);
                })))?,
                (content, Some(node)) if found.wants(node.holds) => {
                    object.has_content |= content.is_some();
                    members.next_value_seed(Value(Walker { found: &mut *found, node }))?;
                }
                (content, _) => {
                    object.has_content |= content.is_some();
                    skip(&mut members)?;
                }
            }
        }
        object.tell(found);
        Ok(())
    }
}

/// Traits of an object, where they decide what its `id` names. A key that is given twice counts twice.
#[derive(Default)]
struct Object {
    kind: Option<Holds>,
    ids: Vec<String>,
    approved: Vec<String>,
    has_more: bool,
    has_type: bool,
    has_content: bool,
    is_approval: bool,
    is_encrypted: bool,
    is_file: bool,
    is_reasoning: bool,
    is_reference: bool,
}

/// Trait that a member gives the object that it stands in.
#[derive(Clone, Copy)]
enum Trait {
    Content,
    Encrypted,
    Name(Name),
    Type,
}

#[derive(Clone, Copy)]
enum Name {
    /// Approval of something that only the backend has in full.
    Approved,
    Own,
}

impl Object {
    fn of(node: &Node) -> Self {
        let kind = node.holds.filter(|holds| matches!(holds, Holds::FileSource | Holds::Item));
        Self { kind, ..Self::default() }
    }

    fn trait_of(&self, key: &str) -> Option<Trait> {
        let is_item = matches!(self.kind?, Holds::Item);
        let is = |name: &str| key.eq_ignore_ascii_case(name);
        Some(match key.len() {
            2 if is("id") => Trait::Name(Name::Own),
            4 if is("type") => Trait::Type,
            6 | 7 if is_item && (is("output") || is("content")) => Trait::Content,
            17 if is_item && is("encrypted_content") => Trait::Encrypted,
            19 if is_item && is("approval_request_id") => Trait::Name(Name::Approved),
            _ => return None,
        })
    }

    fn name(&mut self, name: Name, text: &str) {
        let names = match name {
            Name::Approved => &mut self.approved,
            Name::Own => &mut self.ids,
        };
        if names.len() < MAX_NAMES {
            names.push(text.get(..=MAX_LEN).unwrap_or(text).to_owned());
        } else {
            self.has_more = true;
        }
    }

    fn of_type(&mut self, name: &str) {
        self.has_type = true;
        self.is_approval |= name == "mcp_approval_response";
        self.is_file |= name == "file_id";
        self.is_reasoning |= name == "reasoning";
        self.is_reference |= name == "item_reference";
    }

    /// An item that only the backend has in full: a reference, a bare id, or reasoning that was kept back.
    const fn stands_for_another(&self) -> bool {
        self.is_reference || (self.is_reasoning && !self.is_encrypted) || !(self.has_type || self.has_content)
    }

    fn tell(self, found: &mut References) {
        found.truncated |= self.has_more;
        let is_item = match self.kind {
            None => return,
            Some(Holds::Item) => true,
            Some(_) => false,
        };
        for id in &self.approved {
            if self.is_approval { found.refer(Family::Item, id) } else { found.repeat(Family::Item, id) }
        }
        for id in &self.ids {
            match is_item {
                true if self.stands_for_another() => found.refer(Family::Item, id),
                true => found.repeat(Family::Item, id),
                false if self.is_file => found.refer(Family::File, id),
                false => {}
            }
        }
    }
}
