use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;

use super::reservation::MeanOutputs;
use super::service::ClientLimit;
use super::store::LimitStore;

/// How long a store may take for one answer: 50 ms. One that takes longer counts as out of reach.
pub const STORE_TIME: Duration = Duration::from_millis(50);

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
    pub(super) when_unavailable: Unavailable,
}

/// What becomes of a limited client's request while the store is out of reach.
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
        let means = Arc::new(MeanOutputs::new());
        Self(Arc::new(Settings { store: Arc::new(store), means, when_unavailable: Unavailable::default() }))
    }

    /// Says what happens while the store is out of reach.
    pub fn when_unavailable(mut self, unavailable: Unavailable) -> Self {
        Arc::make_mut(&mut self.0).when_unavailable = unavailable;
        self
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
