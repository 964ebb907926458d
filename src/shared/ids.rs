use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Script;

use super::link::{AT_ONCE, Call, Lazy, Link};
use crate::directory::{ObjectKey, Remembered, SessionStore, StoreFuture};

static REMEMBER: Lazy = Lazy::new(|| Script::new(include_str!("remember.lua")));
static RECALL: Lazy = Lazy::new(|| Script::new(include_str!("recall.lua")));
static SHELVE: Lazy = Lazy::new(|| Script::new(include_str!("shelve.lua")));
static CLEAR: Lazy = Lazy::new(|| Script::new(include_str!("clear.lua")));
static FORGET: Lazy = Lazy::new(|| Script::new("return redis.call('DEL', KEYS[1])"));

/// Number of ids that are remembered for one client: 100,000. They take some 40 MB of Redis.
pub const CLIENT_IDS: usize = 100_000;

/// Ids that all replicas remember, behind a store of this one. Made by [`Shared::ids`](super::Shared::ids).
///
/// What this replica remembers is not asked of Redis. While Redis is away or slow, each replica remembers for itself.
///
/// For one client [`CLIENT_IDS`] are remembered, unless [`per_client`](Self::per_client) says otherwise; beyond that its own go that
/// would be forgotten soonest, and nobody else's.
#[derive(Clone)]
pub struct SharedIds<S> {
    link: Link,
    own: S,
    per_client: usize,
}

impl<S: SessionStore> SharedIds<S> {
    pub(super) const fn new(link: Link, own: S) -> Self {
        Self { link, own, per_client: CLIENT_IDS }
    }

    /// Remembers so many ids for one client at most, at least one.
    #[must_use]
    pub fn per_client(mut self, ids: usize) -> Self {
        self.per_client = ids.max(1);
        self
    }

    /// Keeps a client within its share: what is beyond it is forgotten. Nobody waits for that.
    fn shelve(&self, client: Arc<str>, ids: Vec<(ObjectKey, Duration)>) {
        let (link, per_client) = (self.link.clone(), self.per_client);
        tokio::spawn(async move {
            for ids in ids.chunks(AT_ONCE) {
                let call = Call::new(&SHELVE, format!("aoai:ids:{client}")).arg(per_client);
                let call = ids.iter().fold(call, |call, (key, time)| call.arg(key.named("")).arg(time.as_millis()));
                let Ok(surplus) = link.send::<Vec<String>>(&call).await else { return };
                let clear = |id: &String| Call::new(&CLEAR, format!("{PREFIX}{id}")).arg(&client);
                for surplus in surplus.chunks(AT_ONCE) {
                    let calls: Vec<_> = surplus.iter().map(clear).collect();
                    if link.send_all::<u64>(&calls).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

impl<S: SessionStore> SessionStore for SharedIds<S> {
    fn look_up(&self, key: ObjectKey) -> StoreFuture<'_, Option<Remembered>> {
        StoreFuture::new(async move { Ok(self.look_up_all(vec![key]).await?.pop().flatten()) })
    }

    fn look_up_all(&self, keys: Vec<ObjectKey>) -> StoreFuture<'_, Vec<Option<Remembered>>> {
        StoreFuture::new(async move {
            let mut known = self.own.look_up_all(keys.clone()).await?;
            let unknown: Vec<_> = (0..keys.len()).filter(|at| known.get(*at).is_some_and(Option::is_none)).collect();
            if unknown.is_empty() {
                return Ok(known);
            }
            let calls: Vec<_> = unknown.iter().map(|at| Call::new(&RECALL, name(keys[*at]))).collect();
            let said = self.link.ask_briefly::<Vec<String>>(&calls).await.unwrap_or_default();
            let mut learned = Vec::new();
            for (at, said) in unknown.into_iter().zip(said) {
                if let Some((object, lifetime)) = recalled(&said) {
                    learned.push((keys[at], object.clone(), lifetime));
                    known[at] = Some(object);
                }
            }
            self.own.remember_all(learned).await?;
            Ok(known)
        })
    }

    fn remember(&self, key: ObjectKey, object: Remembered, lifetime: Duration) -> StoreFuture<'_, ()> {
        self.remember_all(vec![(key, object, lifetime)])
    }

    fn remember_all(&self, mut objects: Vec<(ObjectKey, Remembered, Duration)>) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move {
            let calls = objects.iter().map(|(key, object, lifetime)| {
                Call::new(&REMEMBER, name(*key))
                    .arg(&object.backend)
                    .arg(object.owner.as_deref().unwrap_or_default())
                    .arg(lifetime.as_millis())
                    .arg(object.alias.as_deref().unwrap_or_default())
                    .arg(object.client.as_deref().unwrap_or_default())
            });
            let said = self.link.tell_all::<(String, String, String)>(calls.collect()).await;
            let mut shelves = HashMap::<Arc<str>, Vec<_>>::new();
            for (key, object, lifetime) in &objects {
                let client = object.client.clone().unwrap_or_default();
                shelves.entry(client).or_default().push((*key, *lifetime));
            }
            shelves.into_iter().for_each(|(client, ids)| self.shelve(client, ids));
            // Another replica may have an owner already.
            for ((_, object, _), (backend, owner, alias)) in objects.iter_mut().zip(said) {
                *object = told(&backend, &owner, &alias).on_behalf_of(object.client.take());
            }
            self.own.remember_all(objects).await
        })
    }

    fn forget(&self, key: ObjectKey) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move {
            let _ = self.link.tell::<u64>(Call::new(&FORGET, name(key))).await;
            self.own.forget(key).await
        })
    }
}

impl<S: fmt::Debug> fmt::Debug for SharedIds<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedIds").field("link", &self.link).field("own", &self.own).finish()
    }
}

fn recalled(said: &[String]) -> Option<(Remembered, Duration)> {
    let [backend, owner, alias, lifetime] = said else { return None };
    let lifetime = lifetime.parse().ok().map(Duration::from_millis)?;
    Some((told(backend, owner, alias), lifetime))
}

fn told(backend: &str, owner: &str, alias: &str) -> Remembered {
    Remembered::on(backend).owner(named(owner)).made_by(named(alias))
}

fn named(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

const PREFIX: &str = "aoai:id:";

fn name(key: ObjectKey) -> String {
    key.named(PREFIX)
}
