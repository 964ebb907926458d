use std::fmt;
use std::time::Duration;

use quick_cache::sync::{Cache, EntryAction, EntryResult};
use tokio::time::Instant;

use super::store::{ObjectKey, Remembered, SessionStore, StoreFuture};

/// Remembers in this process, so many ids at most; those that nobody asks for go first.
///
/// An id takes about 150 bytes. A restart forgets everything, and another replica knows nothing of it.
pub struct MemoryStore(Cache<ObjectKey, Entry>);

#[derive(Clone)]
struct Entry {
    object: Remembered,
    expires: Instant,
}

impl MemoryStore {
    /// A store of at most `capacity` ids.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Cache::new(capacity.max(1)))
    }

    /// How many ids are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no id is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn put(&self, key: ObjectKey, object: &Remembered, lifetime: Duration) {
        let now = Instant::now();
        let expires = now + lifetime;
        let renew = |entry: &mut Entry| {
            let known = if entry.expires > now { entry.object.owner.take() } else { None };
            match (known, &object.owner) {
                (Some(first), Some(other)) if first != *other => entry.object.owner = Some(first),
                (known, _) => {
                    let owner = known.or_else(|| object.owner.clone());
                    *entry = Entry { object: object.clone().owner(owner), expires };
                }
            }
            EntryAction::Retain(())
        };
        if let EntryResult::Vacant(place) = self.0.entry(&key, None, |_, entry| renew(entry)) {
            // A place that was taken away by a flood of others needs nothing from us.
            let _taken_away = place.insert(Entry { object: object.clone(), expires });
        }
    }
}

impl SessionStore for MemoryStore {
    fn look_up(&self, key: ObjectKey) -> StoreFuture<'_, Option<Remembered>> {
        let entry = self.0.get(&key).filter(|entry| entry.expires > Instant::now());
        StoreFuture::ready(entry.map(|entry| entry.object))
    }

    fn remember(&self, key: ObjectKey, object: Remembered, lifetime: Duration) -> StoreFuture<'_, ()> {
        self.put(key, &object, lifetime);
        StoreFuture::ready(())
    }

    fn forget(&self, key: ObjectKey) -> StoreFuture<'_, ()> {
        self.0.remove(&key);
        StoreFuture::ready(())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("len", &self.len()).field("capacity", &self.0.capacity()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_new_ids_stays_within_the_bound() {
        let store = MemoryStore::new(1_000);
        for i in 0..50_000 {
            let key = ObjectKey::of(&format!("thread_{i}"));
            store.remember(key, Remembered::on("b0"), Duration::from_secs(60)).await.unwrap();
            assert!(store.len() <= 1_000);
        }
        assert!(store.len() > 500, "and is made use of: {}", store.len());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_outlives_a_flood() {
        let store = MemoryStore::new(1_000);
        let hot = ObjectKey::of("thread_hot");
        store.remember(hot, Remembered::on("b0"), Duration::from_secs(60)).await.unwrap();
        for i in 0..20_000 {
            assert!(store.look_up(hot).await.unwrap().is_some(), "after {i} others");
            let key = ObjectKey::of(&format!("thread_{i}"));
            store.remember(key, Remembered::on("b1"), Duration::from_secs(60)).await.unwrap();
        }
    }
}
