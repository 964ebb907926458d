//! The objects that a backend keeps. No other backend knows them.

mod call;
mod family;
mod reference;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

pub(super) use self::call::ObjectCall;
use self::call::Verb;
pub(super) use self::family::Family;
use self::family::{Action, amend};
use self::reference::references;
use super::answer::{self, Answer};
use super::call::{Page, Payload};

/// The objects of one backend.
#[derive(Debug, Default)]
pub(super) struct Objects {
    kept: Mutex<BTreeMap<Key, Kept>>,
    made: AtomicUsize,
}

/// The family, the id, and the id of the object around it.
type Key = (Family, String, String);

#[derive(Clone, Debug)]
struct Kept {
    /// Number of objects before it.
    number: usize,
    object: Value,
}

/// New object, and where it lies.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) family: Family,
    /// The id of the object around it, or nothing.
    pub(super) around: String,
    pub(super) object: Value,
}

impl Made {
    pub(super) const fn new(family: Family, object: Value) -> Self {
        Self { family, around: String::new(), object }
    }

    pub(super) fn within(self, around: impl Into<String>) -> Self {
        Self { around: around.into(), ..self }
    }
}

impl Objects {
    pub(super) fn keep(&self, made: Made) {
        let id = made.object["id"].as_str().unwrap_or_default().to_owned();
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        self.lock().insert((made.family, id, made.around), Kept { number, object: made.object });
    }

    /// The object of an id, wherever it lies.
    pub(super) fn find(&self, family: Family, id: &str) -> Option<Value> {
        let objects = self.lock();
        let mut from = objects.range((family, id.to_owned(), String::new())..);
        from.next()
            .filter(|((of, found, _), _)| (*of, found.as_str()) == (family, id))
            .map(|(_, kept)| kept.object.clone())
    }

    /// Returns what is said of the first object in a body that is not here.
    pub(super) fn unknown_in(&self, payload: &Payload) -> Option<Answer> {
        let named = payload.fields().map(references).unwrap_or_default();
        let unstored = payload.flag("store") == Some(false);
        let mut unknown = named.into_iter().filter(|(family, id)| self.find(*family, id).is_none());
        let (family, id) = unknown.find(|(family, _)| !(unstored && *family == Family::Item))?;
        Some(match family {
            Family::Item => answer::invalid(Some("input"), &family.unknown(&id)),
            Family::Response => answer::previous_response_not_found(&id),
            _ => answer::unknown_object(family, &id),
        })
    }

    /// Does what is asked. `fresh` gives what has not been the end of an id yet.
    pub(super) fn serve(
        &self,
        call: &ObjectCall,
        payload: &Payload,
        page: &Page,
        fresh: impl Fn() -> String,
    ) -> Answer {
        let mut around = "";
        let mut last = None;
        for (family, id) in &call.named {
            let key = (*family, id.clone(), around.to_owned());
            let Some(kept) = self.lock().get(&key).cloned() else { return answer::unknown_object(*family, id) };
            around = id;
            last = Some((key, kept.object));
        }
        match (call.verb, last) {
            (Verb::Create(family), _) => self.create(family, around, payload, fresh),
            (Verb::List(family), _) => self.list(family, around, page),
            (_, None) => answer::not_found(),
            (Verb::Act(action), Some((key, object))) => self.act(action, &key, object, payload, fresh),
            (Verb::Delete, Some((key, _))) => {
                // What lies in it goes with it.
                self.lock().retain(|kept, _| *kept != key && kept.2 != key.1);
                answer::deleted(&key.1, &key.0.deleted())
            }
            (Verb::Read, Some((key, object))) if key.0 == Family::Batch => self.finish_batch(&key, object),
            (Verb::Read, Some((_, object))) => answer::object(&object),
            (Verb::Update, Some((key, object))) => self.update(&key, object, payload),
        }
    }

    fn create(&self, family: Family, around: &str, payload: &Payload, fresh: impl Fn() -> String) -> Answer {
        if let Some(unknown) = self.unknown_in(payload) {
            return unknown;
        }
        let id = || format!("{}{}", family.id_prefix(payload), fresh());
        if family == Family::Item {
            return self.create_items(around, payload, id);
        }
        // A file in a vector store is called as it is outside.
        let id = match payload.text("file_id").filter(|_| family == Family::VectorStoreFile) {
            Some(file) => file.to_owned(),
            None => id(),
        };
        let mut object = family.object(&id, answer::unix_time(), payload);
        if let Some(outer) = family.outer_id() {
            object[outer] = around.into();
        }
        let answer = answer::object(&object);
        self.keep(Made::new(family, object).within(around));
        answer
    }

    /// Several at once.
    fn create_items(&self, conversation: &str, payload: &Payload, id: impl Fn() -> String) -> Answer {
        let items = payload.field("items").and_then(Value::as_array).into_iter().flatten();
        let made: Vec<_> = items
            .map(|asked| {
                let mut item = json!({ "type": "message" });
                amend(&mut item, Some(asked));
                amend(&mut item, Some(&json!({ "id": id(), "status": "completed" })));
                self.keep(Made::new(Family::Item, item.clone()).within(conversation));
                item
            })
            .collect();
        answer::list(&made, false)
    }

    fn update(&self, key: &Key, mut object: Value, payload: &Payload) -> Answer {
        amend(&mut object, payload.fields());
        object["id"] = key.1.as_str().into();
        self.replace(key, object)
    }

    fn act(
        &self,
        action: Action,
        key: &Key,
        mut object: Value,
        payload: &Payload,
        fresh: impl Fn() -> String,
    ) -> Answer {
        match action {
            Action::Cancel => {
                object["status"] = "cancelled".into();
                self.replace(key, object)
            }
            Action::Complete => {
                let payload = Payload::from(object.clone());
                let id = format!("{}{}", Family::File.id_prefix(&payload), fresh());
                let file = Family::File.object(&id, answer::unix_time(), &payload);
                self.keep(Made::new(Family::File, file.clone()));
                amend(&mut object, Some(&json!({ "status": "completed", "file": file })));
                self.replace(key, object)
            }
            Action::Content => Answer::text(format!("The content of {}.\n", key.1)),
            Action::Copy => {
                amend(&mut object, payload.fields());
                self.create(key.0, &key.2, &Payload::from(object), fresh)
            }
            Action::List => answer::list(&[], false),
            Action::Proceed => answer::object(&object),
        }
    }

    /// A batch is done when it is looked at, and tells what it used: a token of input and one of output for four bytes of its file.
    fn finish_batch(&self, key: &Key, mut batch: Value) -> Answer {
        if batch["status"] == "validating" {
            let file = batch["input_file_id"].as_str().and_then(|file| self.find(Family::File, file));
            let tokens = file.and_then(|file| file["bytes"].as_u64()).unwrap_or_default().div_ceil(4);
            let usage = json!({
                "input_tokens": tokens,
                "input_tokens_details": { "cached_tokens": 0 },
                "output_tokens": tokens,
                "output_tokens_details": { "reasoning_tokens": 0 },
                "total_tokens": 2 * tokens,
            });
            amend(&mut batch, Some(&json!({ "status": "completed", "usage": usage })));
        }
        self.replace(key, batch)
    }

    fn replace(&self, key: &Key, object: Value) -> Answer {
        let answer = answer::object(&object);
        if let Some(kept) = self.lock().get_mut(key) {
            kept.object = object;
        }
        answer
    }

    /// The newest first, unless it is asked for otherwise.
    fn list(&self, family: Family, around: &str, page: &Page) -> Answer {
        let mut all: Vec<_> = {
            let objects = self.lock();
            let of_family = objects.iter().filter(|((of, _, within), _)| (*of, within.as_str()) == (family, around));
            of_family.map(|(_, kept)| kept.clone()).collect()
        };
        all.sort_by_key(|kept| kept.number);
        if !page.ascending {
            all.reverse();
        }
        let position = |id: &str| all.iter().position(|kept| kept.object["id"] == id);
        let (mut start, mut end) = (0, all.len());
        for (cursor, bound, inclusive) in [(&page.after, &mut start, 1), (&page.before, &mut end, 0)] {
            let Some(id) = cursor else { continue };
            let Some(position) = position(id) else { return answer::unknown_object(family, id) };
            *bound = position + inclusive;
        }
        let left: Vec<_> = all.drain(..end.max(start)).skip(start).map(|kept| kept.object).collect();
        let shown = left.len().min(page.limit);
        answer::list(&left[..shown], shown < left.len())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
