//! The ids that an answer tells.

use std::collections::HashSet;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess};
use serde_json::Deserializer;

use super::json::{Key, Read, Value, Walk, skip};
use super::{Family, MAX_REFERENCES, ObjectId, Sealed};

/// How many sealed contents of one answer are kept.
const MAX_SEALED: usize = 64;

/// What a successful answer, or an event of one, says of stored objects.
///
/// Only places that the API defines are read, never what a client or a model wrote: `metadata` may say anything. Of a hostile
/// answer [`MAX_REFERENCES`] ids are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    ids: Vec<ObjectId>,
    seen: HashSet<ObjectId>,
    own: Option<ObjectId>,
    sealed: Vec<Sealed>,
    not_stored: bool,
}

impl Answered {
    /// Reads a JSON answer. What the answer itself is called by its `id` is told by the prefix, and else is `family`.
    ///
    /// Of a body that was cut, or is not JSON, what stands before that place is read.
    #[must_use]
    pub fn read(body: &[u8], family: Option<Family>) -> Self {
        let mut found = Self::default();
        let walker = Walker { found: &mut found, place: Place::Answer(family), depth: 0 };
        // What was found before an error was said all the same.
        let _cut = Value(walker).deserialize(&mut Deserializer::from_slice(body));
        found
    }

    /// Reads the data of an event of a stream, if that event is one that tells an id for the first time, or a content when it
    /// is complete.
    ///
    /// Events without a name are the chunks of a chat completion.
    #[must_use]
    pub fn read_event(name: Option<&[u8]>, data: &[u8]) -> Self {
        match name {
            Some(b"response.created") => Self::read(data, Some(Family::Response)),
            None | Some(b"response.output_item.added" | b"thread.created" | b"thread.run.created") => {
                let told = Self::read(data, None);
                Self { sealed: Vec::new(), ..told }
            }
            Some(b"response.output_item.done" | b"response.completed" | b"response.incomplete") => {
                Self { sealed: Self::read(data, None).sealed, ..Self::default() }
            }
            _ => Self::default(),
        }
    }

    /// The ids, in the order in which they stand.
    #[must_use]
    pub fn ids(&self) -> &[ObjectId] {
        if self.not_stored { &[] } else { &self.ids }
    }

    /// The id among them that is the answer's own, if it is of the family that was asked for. All others are mentioned.
    #[must_use]
    pub fn own(&self) -> Option<&ObjectId> {
        self.own.as_ref().filter(|_| !self.not_stored)
    }

    /// Content that only the resource reads that answered, whether it is kept or not.
    #[must_use]
    pub fn sealed(&self) -> &[Sealed] {
        &self.sealed
    }

    /// Whether the answer says that it is not kept.
    #[must_use]
    pub const fn is_not_stored(&self) -> bool {
        self.not_stored
    }

    fn learn(&mut self, family: Option<Family>, text: &str) {
        if self.ids.len() == MAX_REFERENCES {
            return;
        }
        let id = family.and_then(|family| ObjectId::new(family, text));
        self.ids.extend(id.filter(|id| self.seen.insert(id.clone())));
    }

    fn identify(&mut self, family: Option<Family>, text: &str) {
        if self.own.is_none()
            && let Some(family) = family
            && Family::of_prefix(text).is_none_or(|told| told == family)
        {
            self.own = ObjectId::new(family, text);
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// An answer or an object of a list, and what its `id` names where the prefix does not say.
    Answer(Option<Family>),
    /// Where an id stands, a list of ids, or an object with its `id`.
    Id(Family),
    /// What a model put out, or a list of that.
    Output,
    Store,
}

#[derive(Clone, Copy)]
enum Meaning {
    Data,
    Id,
    /// An object that an event is about.
    Nested,
    Other,
    Output,
    Reference(Family),
    Sealed,
    Store,
}

const KEYS: [(&str, Meaning); 16] = [
    ("assistant_id", Meaning::Reference(Family::Assistant)),
    ("container_id", Meaning::Reference(Family::Container)),
    ("conversation", Meaning::Reference(Family::Conversation)),
    ("data", Meaning::Data),
    ("encrypted_content", Meaning::Sealed),
    ("error_file_id", Meaning::Reference(Family::File)),
    ("file", Meaning::Reference(Family::File)),
    ("id", Meaning::Id),
    ("item", Meaning::Output),
    ("output", Meaning::Output),
    ("output_file_id", Meaning::Reference(Family::File)),
    ("response", Meaning::Nested),
    ("result_files", Meaning::Reference(Family::File)),
    ("store", Meaning::Store),
    ("thread_id", Meaning::Reference(Family::Thread)),
    ("vector_store_id", Meaning::Reference(Family::VectorStore)),
];

fn meaning(key: &str) -> Meaning {
    KEYS.iter().find(|(name, _)| *name == key).map_or(Meaning::Other, |(_, meaning)| *meaning)
}

struct Walker<'a> {
    found: &'a mut Answered,
    place: Place,
    /// How many lists of objects the place lies in.
    depth: usize,
}

impl Walker<'_> {
    fn at(&mut self, place: Place, depth: usize) -> Value<Walker<'_>> {
        Value(Walker { found: &mut *self.found, place, depth })
    }

    fn identify(&mut self, id: &str) {
        match self.place {
            Place::Answer(family) => {
                if self.depth == 0 {
                    self.found.identify(family, id);
                }
                self.found.learn(Family::of_prefix(id).or(family), id);
            }
            Place::Id(family) => self.found.learn(Some(family), id),
            Place::Output => self.found.learn(Some(Family::Item), id),
            Place::Store => {}
        }
    }
}

impl Walk for Walker<'_> {
    fn text(self, text: &str) {
        if let Place::Id(family) = self.place {
            self.found.learn(Some(family), text);
        }
    }

    fn flag(self, flag: bool) {
        if self.place == Place::Store {
            self.found.not_stored |= !flag;
        }
    }

    fn array<'de, A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        if self.place == Place::Store {
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let (place, depth) = (self.place, self.depth + 1);
        while elements.next_element_seed(self.at(place, depth))?.is_some() {}
        Ok(())
    }

    fn object<'de, A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let (place, depth) = (self.place, self.depth);
        while let Some(meaning) = members.next_key_seed(Key(meaning))? {
            let inside = match (place, meaning) {
                (_, Meaning::Id) => {
                    members.next_value_seed(Value(Read(|id: &str| self.identify(id))))?;
                    continue;
                }
                (Place::Output, Meaning::Sealed) => {
                    let sealed = &mut self.found.sealed;
                    members.next_value_seed(Value(Read(|content: &str| {
                        if sealed.len() < MAX_SEALED {
                            sealed.extend(Sealed::of(content));
                        }
                    })))?;
                    continue;
                }
                (Place::Answer(_), Meaning::Data | Meaning::Nested) => Some(place),
                (Place::Answer(_), Meaning::Output) => Some(Place::Output),
                (Place::Answer(_), Meaning::Store) => Some(Place::Store),
                (Place::Answer(_), Meaning::Reference(family)) => Some(Place::Id(family)),
                (Place::Output, Meaning::Reference(Family::Container)) => Some(Place::Id(Family::Container)),
                _ => None,
            };
            match inside {
                Some(place) => members.next_value_seed(self.at(place, depth))?,
                None => skip(&mut members)?,
            }
        }
        Ok(())
    }
}
