use std::fmt;
use std::sync::Arc;

use quick_cache::sync::Cache;
use tower_layer::Layer;

use super::account::Metered;
use super::once::CountOnce;
use super::ratio::Ratios;
use super::service::MeterUsage;
use crate::directory::ObjectKey;

/// Number of objects that are remembered as counted: 100,000.
pub(crate) const COUNTED_OBJECTS: usize = 100_000;

/// Counts what requests use. See the [module docs](super).
///
/// All services made from one layer, and from its clones, share what is counted already.
#[derive(Clone)]
#[must_use]
pub struct MeterUsageLayer {
    state: Arc<State>,
    streams: SilentStreams,
    on_usage: Option<OnUsage>,
}

/// Treatment of a stream of chat or completions whose client does not ask for its usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SilentStreams {
    /// The backend is asked, with `stream_options.include_usage`, and what it tells is taken out of the stream, so that the client
    /// gets the bytes that it would have got. Where that cannot be asked (a version before 2024-09-01-preview, `data_sources`,
    /// a body that is not collected, `stream_options` of the client's own) it is estimated.
    Ask,
    /// It is estimated, and no byte of request or answer changes. No estimate sees the reasoning that is billed.
    #[default]
    Estimate,
}

pub(super) type OnUsage = Arc<dyn Fn(&Metered<'_>) + Send + Sync>;

/// State that is common to all requests.
pub(super) struct State {
    pub(super) counted: Cache<ObjectKey, ()>,
    pub(super) ratios: Ratios,
    pub(super) once: Option<Arc<dyn CountOnce>>,
}

impl State {
    /// Tells whether an object has not been counted yet; from then on it is.
    pub(super) fn is_new(&self, id: &str) -> bool {
        let mut is_new = false;
        let counted = self.counted.get_or_insert_with(&ObjectKey::of(id), || {
            is_new = true;
            Ok::<_, std::convert::Infallible>(())
        });
        counted.is_ok() && is_new
    }
}

impl MeterUsageLayer {
    /// Tells the [`Spending`](crate::context::Spending) of each request that has one, and nobody else.
    pub fn new() -> Self {
        let state = State { counted: Cache::new(COUNTED_OBJECTS), ratios: Ratios::new(), once: None };
        Self { state: Arc::new(state), streams: SilentStreams::default(), on_usage: None }
    }

    /// Asks, before an object is counted that was made in the background, whether another replica has counted it. To be called before
    /// services are made.
    pub fn count_once(mut self, once: impl CountOnce) -> Self {
        let state = State { counted: Cache::new(COUNTED_OBJECTS), ratios: Ratios::new(), once: Some(Arc::new(once)) };
        self.state = Arc::new(state);
        self
    }

    /// Says how the usage of streams is found whose clients do not ask for it.
    pub const fn silent_streams(mut self, streams: SilentStreams) -> Self {
        self.streams = streams;
        self
    }

    /// Calls a function for each usage, on the way of the answer: it must be quick.
    pub fn on_usage(mut self, record: impl Fn(&Metered<'_>) + Send + Sync + 'static) -> Self {
        self.on_usage = Some(Arc::new(record));
        self
    }
}

impl Default for MeterUsageLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for MeterUsageLayer {
    type Service = MeterUsage<S>;

    fn layer(&self, inner: S) -> MeterUsage<S> {
        MeterUsage { inner, state: self.state.clone(), streams: self.streams, on_usage: self.on_usage.clone() }
    }
}

impl fmt::Debug for MeterUsageLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterUsageLayer").finish_non_exhaustive()
    }
}
