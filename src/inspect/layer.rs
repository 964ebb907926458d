use std::fmt;
use std::time::Duration;

use tower_layer::Layer;

use super::{Inspect, REPLAY_LIMIT, REQUEST_BODY, REQUEST_TIMEOUT};
use crate::account::Account;
use crate::context::BasePath;

/// Finds out what is asked for: collects the body, inserts the route. See the [module docs](super).
///
/// All clones of a layer, and all services made from them, share one account of replay memory.
#[derive(Clone)]
#[must_use]
pub struct InspectLayer(pub(super) Settings);

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) request_body: u64,
    pub(super) replay_limit: usize,
    pub(super) account: Account,
    pub(super) request_timeout: Duration,
    pub(super) base_path: Option<BasePath>,
}

impl InspectLayer {
    /// The layer with its defaults and an account of its own.
    pub fn new() -> Self {
        Self(Settings {
            request_body: REQUEST_BODY,
            replay_limit: REPLAY_LIMIT,
            account: Account::default(),
            request_timeout: REQUEST_TIMEOUT,
            base_path: None,
        })
    }

    /// The largest body that is accepted, in bytes. Default: 600 MiB.
    pub fn request_body(mut self, bytes: u64) -> Self {
        self.0.request_body = bytes;
        self
    }

    /// The largest body that is collected, in bytes; a larger one is streamed once. Default: 32 MiB.
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.0.replay_limit = bytes;
        self
    }

    /// Bounds what all collected bodies hold together, in bytes. Default: 256 MiB.
    ///
    /// This opens a new account: call it before the layer is cloned.
    pub fn replay_memory(mut self, bytes: usize) -> Self {
        self.0.account = Account::new(bytes);
        self
    }

    /// Time that a body may take, from the arrival of its head. Default: 60 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.0.request_timeout = timeout;
        self
    }

    /// A prefix under which clients reach the API too; it is taken off the path. Default: none.
    ///
    /// What stands above this layer sees it. For the WebSockets of an [upgrade layer](crate::gateway::Builder::upgrade) take it off
    /// above, with [`BasePath::strip`].
    pub fn base_path(mut self, base_path: BasePath) -> Self {
        self.0.base_path = Some(base_path);
        self
    }

    /// Returns the share of what they may hold together that collected bodies hold at this moment, from 0 to 1.
    #[must_use]
    pub fn replay_memory_share(&self) -> f64 {
        self.0.account.share_in_use()
    }

    /// Returns the account that collected bodies are charged to, for others whose memory shall be bounded together with theirs.
    #[must_use]
    pub fn account(&self) -> Account {
        self.0.account.clone()
    }

    /// Returns what is charged to the account at this moment, in bytes.
    #[must_use]
    pub fn replay_memory_in_use(&self) -> usize {
        self.0.account.in_use()
    }
}

impl Default for InspectLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for InspectLayer {
    type Service = Inspect<S>;

    fn layer(&self, inner: S) -> Inspect<S> {
        Inspect { inner, settings: self.0.clone() }
    }
}

impl fmt::Debug for InspectLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InspectLayer").field(&self.0).finish()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("request_body", &self.request_body)
            .field("replay_limit", &self.replay_limit)
            .field("replay_memory_in_use", &self.account.in_use())
            .field("request_timeout", &self.request_timeout)
            .field("base_path", &self.base_path)
            .finish()
    }
}
