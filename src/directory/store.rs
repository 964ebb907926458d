use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tower::BoxError;

use crate::azure::object_id::Sealed;

/// Remembers which backend holds an object, and whose it is.
///
/// A store never sees an id: it is asked by a digest. It may forget whatever it likes at any time, as one that is bounded
/// must; an id that is forgotten is looked for again, except below an [`OwnershipLayer`](crate::ownership::OwnershipLayer), where it
/// is refused. The suite in `directory::conformance` (feature `testkit`) checks an implementation against what stands here.
pub trait SessionStore: fmt::Debug + Send + Sync {
    /// Reads what is remembered of an object and has not expired.
    ///
    /// Asked for the ids of a request, before it is sent.
    fn look_up(&self, key: ObjectKey) -> StoreFuture<'_, Option<Remembered>>;

    /// Reads what is remembered of several objects, in their order.
    ///
    /// By default one after the other. A store outside the process asks at once: the request waits for all of them.
    fn look_up_all(&self, keys: Vec<ObjectKey>) -> StoreFuture<'_, Vec<Option<Remembered>>> {
        StoreFuture::new(async move {
            let mut known = Vec::with_capacity(keys.len());
            for key in keys {
                known.push(self.look_up(key).await?);
            }
            Ok(known)
        })
    }

    /// Remembers an object for as long as `lifetime`, from now.
    ///
    /// The first owner stays: what is remembered with an owner is not changed by another owner, and keeps its owner when it is
    /// remembered without one. Checking and writing are one step. An answer that tells an id waits for this, so that its client
    /// cannot come back earlier.
    fn remember(&self, key: ObjectKey, object: Remembered, lifetime: Duration) -> StoreFuture<'_, ()>;

    /// Remembers several objects, each as [`remember`](Self::remember) does, with its lifetime.
    ///
    /// By default one after the other; the first that cannot be remembered ends it. A store outside the process says all at once: an
    /// answer may tell thousands.
    fn remember_all(&self, objects: Vec<(ObjectKey, Remembered, Duration)>) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move {
            for (key, object, lifetime) in objects {
                self.remember(key, object, lifetime).await?;
            }
            Ok(())
        })
    }

    /// Forgets an object; nothing happens when it is not remembered.
    fn forget(&self, key: ObjectKey) -> StoreFuture<'_, ()>;
}

impl<S: SessionStore + ?Sized> SessionStore for Arc<S> {
    fn look_up(&self, key: ObjectKey) -> StoreFuture<'_, Option<Remembered>> {
        (**self).look_up(key)
    }

    fn look_up_all(&self, keys: Vec<ObjectKey>) -> StoreFuture<'_, Vec<Option<Remembered>>> {
        (**self).look_up_all(keys)
    }

    fn remember(&self, key: ObjectKey, object: Remembered, lifetime: Duration) -> StoreFuture<'_, ()> {
        (**self).remember(key, object, lifetime)
    }

    fn remember_all(&self, objects: Vec<(ObjectKey, Remembered, Duration)>) -> StoreFuture<'_, ()> {
        (**self).remember_all(objects)
    }

    fn forget(&self, key: ObjectKey) -> StoreFuture<'_, ()> {
        (**self).forget(key)
    }
}

/// Key of an id in a store: the first 128 bits of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectKey([u8; 16]);

impl ObjectKey {
    /// The key of an id.
    #[must_use]
    pub fn of(id: &str) -> Self {
        Self::of_parts(&[id])
    }

    /// The key of a content that only its maker reads.
    pub(crate) fn of_sealed(content: &Sealed) -> Self {
        Self::of_parts(&["sealed", content.as_str()])
    }

    /// The key of several texts together. One text alone is never confused with several.
    pub(crate) fn of_parts(parts: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                digest.update([0xff]);
            }
            digest.update(part);
        }
        let digest = digest.finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }

    /// The key in hexadecimal digits, after a prefix.
    #[cfg(feature = "redis")]
    pub(crate) fn named(&self, prefix: &str) -> String {
        self.0.iter().fold(prefix.to_owned(), |name, byte| format!("{name}{byte:02x}"))
    }

    /// The bytes, for stores that lie outside the process.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectKey").finish_non_exhaustive()
    }
}

/// Memory of an object: where it is, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remembered {
    /// The name of the backend that holds it.
    pub backend: Arc<str>,
    /// The id of the client that made it; `None` while ownership is not enforced.
    pub owner: Option<Arc<str>>,
    /// The client for whom it is remembered, in whose share of a bounded store it takes its place. A store need not keep it.
    pub client: Option<Arc<str>>,
    /// The alias by which it was made, where what goes on with it uses the same. A store need not keep it; then such calls need
    /// their operation.
    pub alias: Option<Arc<str>>,
}

impl Remembered {
    /// An object of nobody in particular on a backend.
    pub fn on(backend: impl Into<Arc<str>>) -> Self {
        Self { backend: backend.into(), owner: None, client: None, alias: None }
    }

    /// The object belongs to a client.
    #[must_use]
    pub fn owner(mut self, owner: Option<Arc<str>>) -> Self {
        self.owner = owner;
        self
    }

    /// The client for whom it is remembered.
    #[must_use]
    pub fn on_behalf_of(mut self, client: Option<Arc<str>>) -> Self {
        self.client = client;
        self
    }

    /// The alias by which it was made.
    #[must_use]
    pub fn made_by(mut self, alias: Option<Arc<str>>) -> Self {
        self.alias = alias;
        self
    }
}

/// Time that a store may take for one answer, about however many ids: 1 s. One that takes longer counts as out of reach.
pub(crate) const STORE_TIME: Duration = Duration::from_secs(1);

/// Waits for what a store says, for as long as it may take.
pub(crate) async fn in_time<T: Unpin>(said: StoreFuture<'_, T>) -> Result<T, BoxError> {
    timeout(STORE_TIME, said).await.unwrap_or_else(|_| Err("the session store takes too long".into()))
}

/// Logs a write that failed: nothing depends on it.
pub(crate) fn warn(written: Result<(), BoxError>) {
    if let Err(error) = written {
        tracing::warn!(%error, "the session store cannot be reached");
    }
}

/// Answer of a store, now or later. Dropping it may leave the work undone.
#[must_use = "futures do nothing unless polled"]
pub struct StoreFuture<'a, T>(State<'a, T>);

enum State<'a, T> {
    Ready(Ready<Result<T, BoxError>>),
    Waiting(Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>),
}

impl<'a, T> StoreFuture<'a, T> {
    /// Known already.
    pub fn ready(value: T) -> Self {
        Self(State::Ready(ready(Ok(value))))
    }

    /// Known later; an error says that the store cannot be reached.
    pub fn new(future: impl Future<Output = Result<T, BoxError>> + Send + 'a) -> Self {
        Self(State::Waiting(Box::pin(future)))
    }
}

impl<T: Unpin> Future for StoreFuture<'_, T> {
    type Output = Result<T, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(value) => Pin::new(value).poll(cx),
            State::Waiting(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for StoreFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreFuture").finish_non_exhaustive()
    }
}
