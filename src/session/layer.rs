use std::sync::Arc;

use http::HeaderName;
use tower_layer::Layer;

use super::cookie::SessionCookie;
use super::service::StickySession;
use crate::context::EphemeralKeys;
use crate::directory::{DISCOVERY_RATE, Discovery, MemoryStore, SessionStore};
use crate::headers::ALIAS;
use crate::pool::Pool;

/// Number of ids that are remembered in memory, unless it is told.
pub const REMEMBER: usize = 100_000;
/// The header by which a client names a session, unless it is told.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("x-session-affinity");

/// The header by which a client says for which alias something is meant that names none, such as a file for a batch.
pub const ALIAS_HEADER: HeaderName = ALIAS;

/// Keeps requests on the backend that holds what they refer to. See the [module docs](super).
///
/// All services made from one layer, and from its clones, share one store and one discovery.
#[derive(Clone, Debug)]
#[must_use]
pub struct StickySessionLayer(Arc<Settings>);

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) pool: Pool,
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) discovery: Option<Arc<Discovery>>,
    pub(super) cookie: Option<SessionCookie>,
    pub(super) header: Option<HeaderName>,
    pub(super) when_unavailable: WhenUnavailable,
    pub(super) ephemeral: Option<EphemeralKeys>,
}

/// Treatment of a request whose cookie, header or home leads to a backend that cannot take it. What an id requires is never
/// moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenUnavailable {
    /// It goes elsewhere, and its session with it.
    Move,
    /// It is answered 429 with the time to wait.
    #[default]
    Refuse,
}

impl StickySessionLayer {
    /// Over the backends of a pool, with a [`MemoryStore`] of [`REMEMBER`] ids and the [`SESSION_HEADER`]; it discovers, and sets
    /// no cookie.
    pub fn new(pool: Pool) -> Self {
        Self(Arc::new(Settings {
            pool,
            store: Arc::new(MemoryStore::new(REMEMBER)),
            discovery: Some(Arc::new(Discovery::new(DISCOVERY_RATE))),
            cookie: None,
            header: Some(SESSION_HEADER),
            when_unavailable: WhenUnavailable::default(),
            ephemeral: None,
        }))
    }

    /// Remembers elsewhere.
    pub fn store(self, store: impl SessionStore + 'static) -> Self {
        self.with(|settings| settings.store = Arc::new(store))
    }

    /// Sets this cookie, and follows it.
    pub fn cookie(self, cookie: SessionCookie) -> Self {
        self.with(|settings| settings.cookie = Some(cookie))
    }

    /// The header by which clients name a session; `None` for none.
    pub fn header(self, header: Option<HeaderName>) -> Self {
        self.with(|settings| settings.header = header)
    }

    /// Treatment of a request whose cookie, header or home leads to a backend that cannot take it.
    pub fn when_unavailable(self, when_unavailable: WhenUnavailable) -> Self {
        self.with(|settings| settings.when_unavailable = when_unavailable)
    }

    /// At most so many calls in a second to find the backends of ids that are not remembered; `None` never asks. Default
    /// [`DISCOVERY_RATE`].
    pub fn discover(self, calls_per_second: Option<u32>) -> Self {
        self.with(|settings| settings.discovery = calls_per_second.map(|rate| Arc::new(Discovery::new(rate))))
    }

    /// Remembers here the ephemeral keys (`ek_…`) of realtime sessions that backends issue. Default: nowhere.
    ///
    /// Given to [`TerminateCredentialsLayer`](crate::terminate::TerminateCredentialsLayer::ephemeral_keys) too, they admit whoever
    /// presents one as the client that it was issued to.
    pub fn ephemeral_keys(self, keys: EphemeralKeys) -> Self {
        self.with(|settings| settings.ephemeral = Some(keys))
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl<S> Layer<S> for StickySessionLayer {
    type Service = StickySession<S>;

    fn layer(&self, inner: S) -> StickySession<S> {
        StickySession { inner, settings: self.0.clone() }
    }
}
