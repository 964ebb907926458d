use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tower_layer::Layer;

use super::service::Capture;
use super::{MEMORY, Redact, Sink};
use crate::account::Account;

/// The golden ratio of 2^64: multiples of it fall evenly, however many there are.
const EVENLY: u64 = 0x9e37_79b9_7f4a_7c15;

/// Writes requests and answers down. See the [module docs](super).
///
/// All clones of a layer, and all services made from them, share one account of memory.
#[derive(Clone, Default)]
#[must_use]
pub struct CaptureLayer(Option<Settings>);

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) redact: Option<Arc<dyn Redact>>,
    clients: Arc<HashSet<Box<str>>>,
    sample: f64,
    pub(super) body: usize,
    pub(super) account: Account,
    turn: Arc<AtomicU64>,
}

impl CaptureLayer {
    /// Every request of every client, without bodies.
    pub fn new(sink: impl Sink + 'static) -> Self {
        Self(Some(Settings {
            sink: Arc::new(sink),
            redact: None,
            clients: Arc::default(),
            sample: 1.0,
            body: 0,
            account: Account::new(MEMORY),
            turn: Arc::default(),
        }))
    }

    /// Writes nothing: everything passes untouched.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Only requests of these clients; of none is of all.
    pub fn clients<C: Into<Box<str>>>(self, ids: impl IntoIterator<Item = C>) -> Self {
        let ids = Arc::new(ids.into_iter().map(Into::into).collect());
        self.with(|settings| settings.clients = ids)
    }

    /// This share of the requests, from 0 to 1, evenly; and all that end in an error. Default: 1.
    pub fn sample(self, share: f64) -> Self {
        self.with(|settings| settings.sample = share.clamp(0.0, 1.0))
    }

    /// Writes so many bytes of the body of each side. Default: 0, nothing.
    pub fn body(self, bytes: usize) -> Self {
        self.with(|settings| settings.body = bytes)
    }

    /// Takes out of bodies what must not be written.
    pub fn redact(self, redact: impl Redact + 'static) -> Self {
        self.with(|settings| settings.redact = Some(Arc::new(redact)))
    }

    /// Bounds what all running captures hold together, in bytes. Default: 64 MiB.
    ///
    /// This opens a new account: call it before the layer is cloned.
    pub fn memory(self, bytes: usize) -> Self {
        self.with(|settings| settings.account = Account::new(bytes))
    }

    /// Bytes that running captures hold at this moment.
    #[must_use]
    pub fn memory_in_use(&self) -> usize {
        self.0.as_ref().map_or(0, |settings| settings.account.in_use())
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        if let Some(settings) = &mut self.0 {
            change(settings);
        }
        self
    }

    /// `None` where nothing of this client's is written.
    pub(super) fn of(&self, client: Option<&str>) -> Option<&Settings> {
        let settings = self.0.as_ref()?;
        let is_one = |clients: &HashSet<Box<str>>| client.is_some_and(|client| clients.contains(client));
        (settings.clients.is_empty() || is_one(&settings.clients)).then_some(settings)
    }
}

impl Settings {
    /// Tells whether the next request is written whatever it comes to.
    pub(super) fn draw(&self) -> bool {
        let place = self.turn.fetch_add(1, Relaxed).wrapping_mul(EVENLY) as f64 / 2_f64.powi(64);
        place < self.sample
    }
}

impl<S> Layer<S> for CaptureLayer {
    type Service = Capture<S>;

    fn layer(&self, inner: S) -> Capture<S> {
        Capture { inner, layer: self.clone() }
    }
}

impl fmt::Debug for CaptureLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(settings) = &self.0 else { return f.write_str("CaptureLayer(off)") };
        f.debug_struct("CaptureLayer")
            .field("clients", &settings.clients)
            .field("sample", &settings.sample)
            .field("body", &settings.body)
            .field("memory_in_use", &settings.account.in_use())
            .finish_non_exhaustive()
    }
}
