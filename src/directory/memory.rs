use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::store::{ObjectKey, Remembered, SessionStore, StoreFuture};

/// One client's ids take at most one part in this many of a store.
const CLIENT_SHARE: usize = 2;

/// Remembers in this process, so many ids at most.
///
/// One client can fill at most half of it, after which its own oldest go: those that nobody has asked for longest. When all is full,
/// the oldest go of whoever holds most, so that no client loses an id to one that holds as much or more. What is remembered for nobody
/// in particular is one share, which may take all that nobody else needs.
///
/// An id takes about 300 bytes. A restart forgets everything, and another replica knows nothing of it.
pub struct MemoryStore {
    capacity: usize,
    shelves: Mutex<Shelves>,
}

#[derive(Default)]
struct Shelves {
    entries: HashMap<ObjectKey, Entry>,
    /// Objects of each client, the one first that was asked for longest ago. That of nobody in particular is empty.
    shares: HashMap<Arc<str>, BTreeMap<u64, ObjectKey>>,
    /// Number of objects of each client.
    sizes: BTreeSet<(usize, Arc<str>)>,
    /// Counts what was asked for or told.
    clock: u64,
}

struct Entry {
    backend: Arc<str>,
    owner: Option<Arc<str>>,
    alias: Option<Arc<str>>,
    expires: Instant,
    share: Arc<str>,
    used: u64,
}

impl MemoryStore {
    /// A store of at most `capacity` ids.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), shelves: Mutex::default() }
    }

    /// Number of ids that are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shelves().entries.len()
    }

    /// Tells whether no id is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, key: ObjectKey, object: &Remembered, lifetime: Duration) {
        let now = Instant::now();
        let expires = now + lifetime;
        let mut shelves = self.shelves();
        if let Some(entry) = shelves.entries.get_mut(&key).filter(|entry| entry.expires > now) {
            entry.renew(object, expires);
            shelves.touch(key);
            return;
        }
        shelves.remove(key);
        let share = object.client.clone().unwrap_or_default();
        let bound = if share.is_empty() { self.capacity } else { (self.capacity / CLIENT_SHARE).max(1) };
        if shelves.held_by(&share) >= bound {
            shelves.remove_oldest_of(&share);
        } else if shelves.entries.len() >= self.capacity {
            let fullest = shelves.fullest_before(&share);
            shelves.remove_oldest_of(&fullest);
        }
        let Remembered { backend, owner, alias, .. } = object.clone();
        shelves.add(key, Entry { backend, owner, alias, expires, share, used: 0 });
    }

    fn get(&self, key: ObjectKey) -> Option<Remembered> {
        let mut shelves = self.shelves();
        let object = shelves.entries.get(&key).filter(|entry| entry.expires > Instant::now())?.object();
        shelves.touch(key);
        Some(object)
    }
}

impl Entry {
    /// The first owner stays, and another one changes nothing.
    fn renew(&mut self, object: &Remembered, expires: Instant) {
        let is_others = matches!((&self.owner, &object.owner), (Some(first), Some(other)) if first != other);
        if !is_others {
            self.owner = self.owner.take().or_else(|| object.owner.clone());
            (self.backend, self.alias) = (object.backend.clone(), object.alias.clone());
            self.expires = expires;
        }
    }

    fn object(&self) -> Remembered {
        Remembered::on(self.backend.clone()).owner(self.owner.clone()).made_by(self.alias.clone())
    }
}

impl Shelves {
    fn held_by(&self, share: &Arc<str>) -> usize {
        self.shares.get(share).map_or(0, BTreeMap::len)
    }

    /// Returns who holds most, unless this one holds as much.
    fn fullest_before(&self, share: &Arc<str>) -> Arc<str> {
        let held = self.held_by(share);
        let fullest = self.sizes.last().filter(|(most, _)| *most > held);
        fullest.map_or(share, |(_, fullest)| fullest).clone()
    }

    fn add(&mut self, key: ObjectKey, mut entry: Entry) {
        self.clock += 1;
        entry.used = self.clock;
        self.change(&entry.share.clone(), |held| {
            held.insert(entry.used, key);
        });
        self.entries.insert(key, entry);
    }

    fn touch(&mut self, key: ObjectKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        self.clock += 1;
        if let Some(held) = self.shares.get_mut(&entry.share) {
            held.remove(&entry.used);
            held.insert(self.clock, key);
        }
        entry.used = self.clock;
    }

    fn remove_oldest_of(&mut self, share: &Arc<str>) {
        let oldest = self.shares.get(share).and_then(|held| held.values().next().copied());
        if let Some(key) = oldest {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: ObjectKey) {
        if let Some(entry) = self.entries.remove(&key) {
            self.change(&entry.share, |held| {
                held.remove(&entry.used);
            });
        }
    }

    /// Changes what a client holds, and how much that is. Nobody is kept who holds nothing.
    fn change(&mut self, share: &Arc<str>, change: impl FnOnce(&mut BTreeMap<u64, ObjectKey>)) {
        let held = self.shares.entry(share.clone()).or_default();
        self.sizes.remove(&(held.len(), share.clone()));
        change(held);
        match held.len() {
            0 => drop(self.shares.remove(share)),
            held => drop(self.sizes.insert((held, share.clone()))),
        }
    }
}

impl SessionStore for MemoryStore {
    fn look_up(&self, key: ObjectKey) -> StoreFuture<'_, Option<Remembered>> {
        StoreFuture::ready(self.get(key))
    }

    fn remember(&self, key: ObjectKey, object: Remembered, lifetime: Duration) -> StoreFuture<'_, ()> {
        self.put(key, &object, lifetime);
        StoreFuture::ready(())
    }

    fn forget(&self, key: ObjectKey) -> StoreFuture<'_, ()> {
        self.shelves().remove(key);
        StoreFuture::ready(())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("len", &self.len()).field("capacity", &self.capacity).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn of(client: &str) -> Remembered {
        Remembered::on("b0").owner(Some(client.into())).on_behalf_of(Some(client.into()))
    }

    fn key(client: &str, i: usize) -> ObjectKey {
        ObjectKey::of(&format!("{client}_{i}"))
    }

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

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_one_client_takes_half_and_nothing_of_others() {
        let store = MemoryStore::new(100);
        (0..20).for_each(|i| store.put(key("b", i), &of("b"), MINUTE));
        (0..5_000).for_each(|i| store.put(key("a", i), &of("a"), MINUTE));
        assert_eq!(store.len(), 70, "half of it, and b's");
        assert!((0..20).all(|i| store.get(key("b", i)).is_some()));
        assert!((4_950..5_000).all(|i| store.get(key("a", i)).is_some()), "its own oldest go");
        (0..500).for_each(|i| store.put(ObjectKey::of(&i.to_string()), &Remembered::on("b0"), MINUTE));
        assert!((0..20).all(|i| store.get(key("b", i)).is_some()), "nor does one of nobody in particular");
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_when_its_id_is_forgotten_or_its_time_is_over() {
        let store = MemoryStore::new(4);
        (0..2).for_each(|i| store.put(key("a", i), &of("a"), MINUTE));
        store.forget(key("a", 0)).await.unwrap();
        store.put(key("a", 2), &of("a"), MINUTE);
        assert!(store.get(key("a", 1)).is_some(), "it need not go");
        tokio::time::advance(MINUTE).await;
        store.put(key("a", 1), &of("b"), MINUTE);
        assert_eq!(store.get(key("a", 1)).unwrap().owner.as_deref(), Some("b"));
        assert_eq!(store.shelves().held_by(&"b".into()), 1);
        for i in 0..3 {
            store.forget(key("a", i)).await.unwrap();
        }
        let shelves = store.shelves();
        assert!(shelves.shares.is_empty() && shelves.sizes.is_empty(), "nobody is kept who holds nothing");
    }

    proptest! {
        /// No client loses an id to one that holds as much or more, and the books are right.
        #[test]
        fn nobody_is_pushed_out_by_whoever_holds_more(ops in proptest::collection::vec((0_usize..5, 0_usize..60), 0..400)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let _entered = runtime.enter();
            let store = MemoryStore::new(40);
            let names: [Arc<str>; 5] = ["", "a", "b", "c", "d"].map(Arc::from);
            for (who, i) in ops {
                let held = |name: &Arc<str>| store.shelves().held_by(name);
                let before: Vec<_> = names.iter().map(held).collect();
                let object = Remembered::on("b0").on_behalf_of(Some(names[who].clone()).filter(|name| !name.is_empty()));
                store.put(key(&names[who], i), &object, MINUTE);
                for (other, name) in names.iter().enumerate().filter(|(other, _)| *other != who) {
                    prop_assert!(held(name) == before[other] || before[other] > before[who]);
                }
                let bound = if who == 0 { 40 } else { 20 };
                prop_assert!(held(&names[who]) <= bound);
                let shelves = store.shelves();
                prop_assert!(shelves.entries.len() <= 40);
                prop_assert_eq!(shelves.shares.values().map(BTreeMap::len).sum::<usize>(), shelves.entries.len());
                prop_assert_eq!(shelves.sizes.len(), shelves.shares.len());
                prop_assert!(shelves.sizes.iter().all(|(size, name)| shelves.held_by(name) == *size));
            }
        }
    }
}
