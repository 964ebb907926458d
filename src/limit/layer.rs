use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tower_layer::Layer;

use super::reservation::MeanOutputs;
use super::service::ClientLimit;
use super::store::{Limit, LimitStore};

/// Time that a store may take for one answer: 50 ms. One that takes longer counts as out of reach.
pub(crate) const STORE_TIME: Duration = Duration::from_millis(50);

/// Holds each client to its limits. See the [module docs](super).
///
/// All services made from one layer, and from its clones, share one store.
#[derive(Clone)]
#[must_use]
pub struct ClientLimitLayer(Arc<Settings>);

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) store: Arc<dyn LimitStore>,
    pub(super) means: Arc<MeanOutputs>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) when_unavailable: Unavailable,
}

/// Treatment of a limited client's request while the store is out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unavailable {
    /// It passes, uncounted. A store that has a substitute for itself, as a shared one should, does not come to this.
    #[default]
    Admit,
    /// It is refused with [`Overloaded`](crate::ErrorKind::Overloaded).
    Refuse,
}

impl ClientLimitLayer {
    /// Accounts in a store, such as [`MemoryLimits`](super::MemoryLimits).
    pub fn new(store: impl LimitStore + 'static) -> Self {
        Self(Arc::new(Settings {
            store: Arc::new(store),
            means: Arc::new(MeanOutputs::new()),
            refusals: Arc::default(),
            when_unavailable: Unavailable::default(),
        }))
    }

    /// Says what happens while the store is out of reach.
    pub fn when_unavailable(mut self, unavailable: Unavailable) -> Self {
        Arc::make_mut(&mut self.0).when_unavailable = unavailable;
        self
    }
}

impl ClientLimitLayer {
    /// Number of requests of a client that were refused, by limit.
    #[must_use]
    pub fn refused(&self, client: &str) -> Vec<(Limit, u64)> {
        self.0.refusals.of(client)
    }
}

/// Number of clients that are counted apart: 10,000.
const COUNTED_CLIENTS: usize = 10_000;

/// Counts refusals by client and limit.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<Arc<str>, [u64; Limit::ALL.len()]>>);

impl Refusals {
    pub(super) fn count(&self, client: &Arc<str>, limit: Limit) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() < COUNTED_CLIENTS || counts.contains_key(client) {
            counts.entry(client.clone()).or_default()[limit as usize] += 1;
        }
    }

    fn of(&self, client: &str) -> Vec<(Limit, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(client).copied().unwrap_or_default();
        Limit::ALL.into_iter().zip(counts).collect()
    }
}

impl<S> Layer<S> for ClientLimitLayer {
    type Service = ClientLimit<S>;

    fn layer(&self, inner: S) -> ClientLimit<S> {
        ClientLimit { inner, settings: self.0.clone() }
    }
}

impl fmt::Debug for ClientLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { store, when_unavailable, .. } = &*self.0;
        f.debug_struct("ClientLimitLayer").field("store", store).field("when_unavailable", when_unavailable).finish()
    }
}
