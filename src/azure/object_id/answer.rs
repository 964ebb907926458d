//! The ids that an answer tells.
//!
//! Sources: the answers of <https://github.com/openai/openai-openapi>, and the events of <https://platform.openai.com/docs/api-reference/responses-streaming>.

use std::collections::HashSet;

use self::scan::{Keep, Places, Scan};
use super::{Family, MAX_LEN, MAX_REFERENCES, ObjectId, Sealed};

mod events;
mod scan;

pub(crate) use self::events::EventScan;

/// Number of sealed contents of one answer that are kept.
const MAX_SEALED: usize = 64;

/// Stored objects of which a successful answer, or an event of one, tells.
///
/// Only places that the API defines are read, never what a client or a model wrote: `metadata` may say anything. Of a hostile
/// answer 512 ids are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    ids: Vec<ObjectId>,
    seen: HashSet<ObjectId>,
    own: Option<ObjectId>,
    sealed: Vec<Sealed>,
    spoken: Vec<ObjectId>,
    not_stored: bool,
}

impl Answered {
    /// Reads a JSON answer. What the answer itself is called by its `id` is told by the prefix, and else is `family`.
    ///
    /// Of a body that was cut, or is not JSON, what stands before that place is read.
    #[must_use]
    pub fn read(body: &[u8], family: Option<Family>) -> Self {
        let mut scan = AnswerScan::new(family);
        scan.feed(body);
        scan.finish()
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

    /// Ids of what was said aloud, whether the answer is kept or not.
    #[must_use]
    pub fn spoken(&self) -> &[ObjectId] {
        &self.spoken
    }

    /// Tells whether the answer says that it is not kept.
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

    fn hear(&mut self, text: &str) {
        if self.spoken.len() < MAX_REFERENCES {
            self.spoken.extend(ObjectId::new(Family::Audio, text).filter(|id| !self.spoken.contains(id)));
        }
    }
}

/// A JSON answer that is read as it arrives: only what it tells is held, however long it is.
#[derive(Debug)]
pub(crate) struct AnswerScan {
    scan: Scan<Place>,
    found: Answered,
    has_begun: bool,
}

impl AnswerScan {
    pub(crate) fn new(family: Option<Family>) -> Self {
        Self { scan: Scan::new(Place::Answer { family, depth: 0 }), found: Answered::default(), has_begun: false }
    }

    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        self.has_begun |= !chunk.is_empty();
        self.scan.feed(chunk, &mut self.found);
    }

    /// Tells whether anything has arrived.
    pub(crate) const fn has_begun(&self) -> bool {
        self.has_begun
    }

    pub(crate) fn finish(self) -> Answered {
        self.found
    }
}

// ===== places =====

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// An answer or an object of a list, what its `id` names where the prefix does not say, and in how many lists it lies.
    Answer {
        family: Option<Family>,
        depth: u8,
    },
    /// The `id` of one.
    OwnId {
        family: Option<Family>,
        depth: u8,
    },
    /// A choice of a chat completion, and what a message is in it.
    Choice,
    /// Id, list of ids, or object with its `id`.
    Id(Family),
    /// A message of a chat completion.
    Message,
    /// Output of a model, or a list of it.
    Output,
    /// Content that only its maker reads.
    Sealed,
    /// Speech.
    Spoken,
    SpokenId,
    Store,
}

/// Members of an answer that hold an id, ids, or objects with an `id`.
const REFERENCES: [(&str, Family); 10] = [
    ("assistant_id", Family::Assistant),
    ("container_id", Family::Container),
    ("conversation", Family::Conversation),
    ("error_file_id", Family::File),
    ("file", Family::File),
    ("generations", Family::Video),
    ("output_file_id", Family::File),
    ("result_files", Family::File),
    ("thread_id", Family::Thread),
    ("vector_store_id", Family::VectorStore),
];

impl Place {
    fn member(self, key: &str) -> Option<Self> {
        Some(match (self, key) {
            (Self::Answer { family, depth }, "id") => Self::OwnId { family, depth },
            (Self::Answer { .. }, "data" | "response") => self,
            (Self::Answer { .. }, "choices") => Self::Choice,
            (Self::Answer { .. }, "item" | "output") => Self::Output,
            (Self::Answer { .. }, "store") => Self::Store,
            (Self::Answer { .. }, _) => {
                let (_, family) = REFERENCES.iter().find(|(name, _)| *name == key)?;
                Self::Id(*family)
            }
            (Self::Choice, "delta" | "message") => Self::Message,
            (Self::Id(_), "id") => self,
            (Self::Message, "audio") => Self::Spoken,
            (Self::Output, "container_id") => Self::Id(Family::Container),
            (Self::Output, "encrypted_content") => Self::Sealed,
            (Self::Output, "id") => Self::Id(Family::Item),
            (Self::Spoken, "id") => Self::SpokenId,
            _ => return None,
        })
    }
}

impl Places for Answered {
    type Place = Place;

    fn member(&self, place: Place, key: &str) -> Option<Place> {
        place.member(key)
    }

    fn element(&self, place: Place) -> Option<Place> {
        match place {
            Place::Answer { family, depth } => Some(Place::Answer { family, depth: depth.saturating_add(1) }),
            Place::Choice | Place::Id(_) | Place::Output => Some(place),
            _ => None,
        }
    }

    fn keeps(&self, place: Place) -> Keep {
        match place {
            Place::Id(_) | Place::OwnId { .. } | Place::SpokenId => Keep::UpTo(MAX_LEN),
            Place::Sealed if self.sealed.len() < MAX_SEALED => Keep::Mark,
            _ => Keep::Nothing,
        }
    }

    fn text(&mut self, place: Place, text: &str) {
        match place {
            Place::Id(family) => self.learn(Some(family), text),
            Place::OwnId { family, depth } => {
                if depth == 0 {
                    self.identify(family, text);
                }
                self.learn(Family::of_prefix(text).or(family), text);
            }
            Place::SpokenId => self.hear(text),
            _ => {}
        }
    }

    fn mark(&mut self, _: Place, mark: Sealed) {
        self.sealed.push(mark);
    }

    fn flag(&mut self, place: Place, flag: bool) {
        if place == Place::Store {
            self.not_stored |= !flag;
        }
    }
}
