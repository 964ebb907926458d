//! Answers that are objects.
//!
//! Sources: `object` and `id` of each object in <https://github.com/openai/openai-openapi>.

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess};
use serde_json::Deserializer;

use super::ObjectId;
use super::json::{Key, Read, Value, Walk, skip};

impl ObjectId {
    /// Tells whether a body, or the beginning of one, is the object that has this id: of its kind, and called by it.
    #[must_use]
    pub fn is_shown_by(&self, body: &[u8]) -> bool {
        let mut seen = Seen::default();
        // What stands before the place at which it was cut was said all the same.
        let _cut = Value(Root { id: self, seen: &mut seen }).deserialize(&mut Deserializer::from_slice(body));
        seen.named && seen.kind
    }
}

#[derive(Default)]
struct Seen {
    named: bool,
    kind: bool,
}

struct Root<'a> {
    id: &'a ObjectId,
    seen: &'a mut Seen,
}

impl Walk for Root<'_> {
    fn text(self, _: &str) {}

    fn array<'de, A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn object<'de, A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { id, seen } = self;
        while let Some(key) = members.next_key_seed(Key(|key: &str| match key {
            "id" => Some(true),
            "object" => Some(false),
            _ => None,
        }))? {
            match key {
                Some(true) => members.next_value_seed(Value(Read(|text: &str| seen.named |= text == id.as_str())))?,
                Some(false) => members.next_value_seed(Value(Read(|text: &str| {
                    seen.kind |= id.family().object().is_some_and(|kind| kind == text)
                })))?,
                None => skip(&mut members)?,
            }
        }
        Ok(())
    }
}
