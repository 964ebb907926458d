//! Idle connections by event loop.

use arc_swap::ArcSwap;
use hyper_util::client::legacy;
use tokio::runtime::{self, Handle};

use super::upload::UploadBody;

type Client<C> = legacy::Client<C, UploadBody>;

/// Runtimes that are remembered. A program has one, or one per core; tests have many, one after the other.
const MOST: usize = 256;

/// One set of connections for each runtime that sends, and one for all of them together.
///
/// A connection is driven by the runtime that opened it: sent from another, every request and every part of an answer would wake a
/// thread, and nothing would move once that runtime is gone.
pub(super) struct Lanes<C> {
    in_common: Client<C>,
    own: ArcSwap<Vec<(runtime::Id, Client<C>)>>,
    make: Box<dyn Fn() -> Client<C> + Send + Sync>,
}

impl<C: Clone> Lanes<C> {
    pub(super) fn new(make: impl Fn() -> Client<C> + Send + Sync + 'static) -> Self {
        Self { in_common: make(), own: ArcSwap::default(), make: Box::new(make) }
    }

    /// Connections that any runtime may use. Where there is room for few, one that is idle must not lie with a runtime that has
    /// nothing to send.
    pub(super) const fn in_common(&self) -> &Client<C> {
        &self.in_common
    }

    /// Sends by the connections of the runtime that this is called in.
    pub(super) fn with_own<T>(&self, send: impl FnOnce(&Client<C>) -> T) -> T {
        let Ok(runtime) = Handle::try_current().map(|runtime| runtime.id()) else { return send(&self.in_common) };
        if let Some((_, client)) = self.own.load().iter().find(|(id, _)| *id == runtime) {
            return send(client);
        }
        send(&self.add(runtime))
    }

    /// A runtime sends from one thread at a time or from many: the first to come decides.
    fn add(&self, runtime: runtime::Id) -> Client<C> {
        let made = (self.make)();
        self.own.rcu(|own| {
            let mut own = own.as_ref().clone();
            if !own.iter().any(|(id, _)| *id == runtime) {
                let gone = (own.len() + 1).saturating_sub(MOST);
                own.drain(..gone);
                own.push((runtime, made.clone()));
            }
            own
        });
        let own = self.own.load();
        own.iter().find(|(id, _)| *id == runtime).map_or(made, |(_, client)| client.clone())
    }
}
