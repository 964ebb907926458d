use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Script;

use super::link::{Call, Lazy, Link};
use crate::directory::{ObjectKey, Remembered, SessionStore, StoreFuture};

static REMEMBER: Lazy = Lazy::new(|| Script::new(include_str!("remember.lua")));
static RECALL: Lazy = Lazy::new(|| Script::new(include_str!("recall.lua")));
static FORGET: Lazy = Lazy::new(|| Script::new("return redis.call('DEL', KEYS[1])"));

/// Ids that all replicas remember, behind a store of this one. Made by [`Shared::ids`](super::Shared::ids).
///
/// What this replica remembers is not asked of Redis. While Redis is away or slow, each replica remembers for itself.
#[derive(Clone)]
pub struct SharedIds<S> {
    link: Link,
    own: S,
}

impl<S: SessionStore> SharedIds<S> {
    pub(super) const fn new(link: Link, own: S) -> Self {
        Self { link, own }
    }
}

impl<S: SessionStore> SessionStore for SharedIds<S> {
    fn look_up(&self, key: ObjectKey) -> StoreFuture<'_, Option<Remembered>> {
        StoreFuture::new(async move {
            if let Some(known) = self.own.look_up(key).await? {
                return Ok(Some(known));
            }
            let said = self.link.ask_briefly::<Vec<String>>(&Call::new(&RECALL, name(key))).await;
            let Some((object, lifetime)) = said.ok().and_then(|said| recalled(&said)) else { return Ok(None) };
            self.own.remember(key, object.clone(), lifetime).await?;
            Ok(Some(object))
        })
    }

    fn remember(&self, key: ObjectKey, object: Remembered, lifetime: Duration) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move {
            let call = Call::new(&REMEMBER, name(key))
                .arg(&object.backend)
                .arg(object.owner.as_deref().unwrap_or_default())
                .arg(lifetime.as_millis())
                .arg(object.alias.as_deref().unwrap_or_default());
            // Another replica may have an owner already.
            let object = match self.link.tell::<(String, String, String)>(call).await {
                Some((backend, owner, alias)) => told(&backend, &owner, &alias).on_behalf_of(object.client),
                None => object,
            };
            self.own.remember(key, object, lifetime).await
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

fn name(key: ObjectKey) -> String {
    key.named("aoai:id:")
}
