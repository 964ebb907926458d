//! The ids that the body of a request refers to.

use serde::de::{DeserializeSeed, MapAccess, SeqAccess};
use serde_json::Deserializer;

use super::json::{Key, Text, Value, Walk, skip};
use super::{Family, MAX_LEN, ObjectId};

/// How many ids a body may refer to.
pub const MAX_REFERENCES: usize = 512;

/// How many ids that a body merely repeats are kept: the objects of one conversation lie together.
const MAX_REPEATED: usize = 32;

/// What the body of a request says of stored objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    ids: Vec<ObjectId>,
    repeated: Vec<ObjectId>,
    oversized: bool,
    store: Option<bool>,
}

/// The body is not JSON, or refers to more ids than [`MAX_REFERENCES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body cannot be searched for ids")]
#[non_exhaustive]
pub struct Unreadable;

impl References {
    /// Reads a JSON body, at whatever depth ids stand in it; every occurrence of a repeated key counts. What is the client's
    /// own, such as `metadata` or a schema, is passed over.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(body: &[u8]) -> Result<Self, Unreadable> {
        let mut found = Self::default();
        let mut json = Deserializer::from_slice(body);
        Value(Walker { found: &mut found, place: Place::Root }).deserialize(&mut json).map_err(|_| Unreadable)?;
        json.end().map_err(|_| Unreadable)?;
        if found.ids.len() > MAX_REFERENCES { Err(Unreadable) } else { Ok(found) }
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

    /// Whether something longer than [`MAX_LEN`](super::MAX_LEN), or empty, stands where an id belongs.
    #[must_use]
    pub const fn is_oversized(&self) -> bool {
        self.oversized
    }

    /// What the request says of keeping its answer.
    #[must_use]
    pub const fn store(&self) -> Option<bool> {
        self.store
    }

    fn refer(&mut self, family: Family, text: &str) {
        match ObjectId::new(family, text) {
            Some(id) if self.ids.len() <= MAX_REFERENCES && !self.ids.contains(&id) => self.ids.push(id),
            Some(_) => {}
            None => self.oversized |= text.len() > MAX_LEN,
        }
    }

    fn repeat(&mut self, family: Family, text: &str) {
        if self.repeated.len() < MAX_REPEATED {
            self.repeated.extend(ObjectId::new(family, text));
        }
    }
}

/// What a value is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// The body.
    Root,
    /// Part of the body.
    Inside,
    /// Where an id stands, a list of ids, or an object with its `id`.
    Id(Family),
    /// A list of items; a text is none.
    Items,
    /// An item of a response's input or of a conversation.
    Item,
    /// An id that an item says it came from.
    Repeated(Family),
    Store,
}

/// What a key stands for.
#[derive(Clone, Copy)]
enum Meaning {
    /// An item that the request approves, which only the backend has in full.
    Approved,
    Content,
    EncryptedContent,
    Id,
    Items,
    /// What is the client's own, or said by a model.
    Opaque,
    Other,
    Reference(Family),
    Store,
    Type,
}

const KEYS: [(&str, Meaning); 37] = [
    ("annotations", Meaning::Opaque),
    ("approval_request_id", Meaning::Approved),
    ("arguments", Meaning::Opaque),
    ("assistant_id", Meaning::Reference(Family::Assistant)),
    ("attributes", Meaning::Opaque),
    ("batch_id", Meaning::Reference(Family::Batch)),
    ("container", Meaning::Reference(Family::Container)),
    ("container_id", Meaning::Reference(Family::Container)),
    ("content", Meaning::Content),
    ("conversation", Meaning::Reference(Family::Conversation)),
    ("conversation_id", Meaning::Reference(Family::Conversation)),
    ("encrypted_content", Meaning::EncryptedContent),
    ("eval_id", Meaning::Reference(Family::Eval)),
    ("file_id", Meaning::Reference(Family::File)),
    ("file_ids", Meaning::Reference(Family::File)),
    ("headers", Meaning::Opaque),
    ("id", Meaning::Id),
    ("input", Meaning::Items),
    ("input_file_id", Meaning::Reference(Family::File)),
    ("items", Meaning::Items),
    ("json_schema", Meaning::Opaque),
    ("metadata", Meaning::Opaque),
    ("output", Meaning::Content),
    ("parameters", Meaning::Opaque),
    ("previous_response_id", Meaning::Reference(Family::Response)),
    ("response_id", Meaning::Reference(Family::Response)),
    ("schema", Meaning::Opaque),
    ("store", Meaning::Store),
    ("thread_id", Meaning::Reference(Family::Thread)),
    ("training_file", Meaning::Reference(Family::File)),
    ("type", Meaning::Type),
    ("upload_id", Meaning::Reference(Family::Upload)),
    ("validation_file", Meaning::Reference(Family::File)),
    ("variables", Meaning::Opaque),
    ("vector_store_id", Meaning::Reference(Family::VectorStore)),
    ("vector_store_ids", Meaning::Reference(Family::VectorStore)),
    ("video_id", Meaning::Reference(Family::Video)),
];

fn meaning(key: &str) -> Meaning {
    KEYS.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map_or(Meaning::Other, |(_, meaning)| *meaning)
}

struct Walker<'a> {
    found: &'a mut References,
    place: Place,
}

impl Walker<'_> {
    fn at(&mut self, place: Place) -> Value<Walker<'_>> {
        Value(Walker { found: &mut *self.found, place })
    }

    /// What a member of this object is, and `None` for what is passed over.
    fn member(&self, meaning: Meaning) -> Option<Place> {
        let in_item = self.place == Place::Item;
        match meaning {
            Meaning::Opaque => None,
            Meaning::Approved => Some(Place::Id(Family::Item)),
            Meaning::Reference(family) if in_item => Some(Place::Repeated(family)),
            Meaning::Reference(family) => Some(Place::Id(family)),
            Meaning::Items if in_item => None,
            Meaning::Items => Some(Place::Items),
            Meaning::Store if self.place == Place::Root => Some(Place::Store),
            Meaning::Other if in_item => None,
            _ => Some(Place::Inside),
        }
    }

    fn finish(self, object: &Object) {
        for id in &object.ids {
            match self.place {
                Place::Id(family) => self.found.refer(family, id),
                _ if object.is_reference => self.found.refer(Family::Item, id),
                _ if object.is_file => self.found.refer(Family::File, id),
                Place::Item if object.stands_for_another() => self.found.refer(Family::Item, id),
                Place::Item => self.found.repeat(Family::Item, id),
                _ => {}
            }
        }
    }
}

/// What decides what the `id` of an object is. A key that is given twice counts twice.
#[derive(Default)]
struct Object {
    ids: Vec<String>,
    has_type: bool,
    has_content: bool,
    is_encrypted: bool,
    is_file: bool,
    is_reasoning: bool,
    is_reference: bool,
}

impl Object {
    fn of_type(&mut self, name: &str) {
        self.has_type = true;
        self.is_file |= name == "file_id";
        self.is_reasoning |= name == "reasoning";
        self.is_reference |= name == "item_reference";
    }

    /// An item that only the backend has in full: a bare id, or reasoning that was kept back.
    const fn stands_for_another(&self) -> bool {
        (self.is_reasoning && !self.is_encrypted) || !(self.has_type || self.has_content)
    }
}

impl Walk for Walker<'_> {
    fn text(self, text: &str) {
        match self.place {
            Place::Id(family) => self.found.refer(family, text),
            Place::Repeated(family) => self.found.repeat(family, text),
            _ => {}
        }
    }

    fn flag(self, flag: bool) {
        if self.place == Place::Store {
            self.found.store = Some(flag);
        }
    }

    fn array<'de, A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let place = match self.place {
            Place::Items => Place::Item,
            Place::Root | Place::Store => Place::Inside,
            place => place,
        };
        while elements.next_element_seed(self.at(place))?.is_some() {}
        Ok(())
    }

    fn object<'de, A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let mut object = Object::default();
        while let Some(meaning) = members.next_key_seed(Key(meaning))? {
            match meaning {
                Meaning::Id => object.ids.extend(members.next_value::<Text>()?.0),
                Meaning::Type => members.next_value::<Text>()?.0.iter().for_each(|name| object.of_type(name)),
                Meaning::EncryptedContent => object.is_encrypted |= members.next_value::<Text>()?.0.is_some(),
                _ => {
                    object.has_content |= matches!(meaning, Meaning::Content);
                    match self.member(meaning) {
                        Some(place) => members.next_value_seed(self.at(place))?,
                        None => skip(&mut members)?,
                    }
                }
            }
        }
        self.finish(&object);
        Ok(())
    }
}
