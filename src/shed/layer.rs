use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};

use tower_layer::Layer;

use super::service::Shed;
use super::{LOW, NORMAL};
use crate::pool::Priority;

/// Less than any part of a place that is meant.
const ROUNDING: f64 = 1e-6;

/// Refuses requests of lower priority while room runs out. See the [module docs](super).
///
/// All clones of a layer, and all services made from them, count the same requests, whatever their limits are.
#[derive(Clone, Default)]
#[must_use]
pub struct ShedLayer {
    /// 0 is unlimited.
    in_flight: usize,
    watched: Option<Arc<dyn Fn() -> f64 + Send + Sync>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    in_flight: AtomicUsize,
    shed: [AtomicU64; Priority::ALL.len()],
}

impl ShedLayer {
    /// No limit yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many requests may be in progress; 0 is unlimited, and the default.
    pub fn in_flight(mut self, requests: usize) -> Self {
        self.in_flight = requests;
        self
    }

    /// Sheds by a figure of yours too: which part of something that may run out is used, from 0 to 1. It is asked for each request.
    pub fn watch(mut self, share: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.watched = Some(match self.watched.take() {
            Some(other) => Arc::new(move || share().max(other())),
            None => Arc::new(share),
        });
        self
    }

    /// Number of requests of a priority that were refused here.
    #[must_use]
    pub fn shed(&self, priority: Priority) -> u64 {
        self.counts.shed[priority as usize].load(Relaxed)
    }

    /// Number of requests in progress.
    #[must_use]
    pub fn requests_in_flight(&self) -> usize {
        self.counts.in_flight.load(Relaxed)
    }

    /// A place for a request of this priority, if there is one.
    pub(super) fn admit(&self, priority: Priority) -> Option<Place> {
        let share = match priority {
            Priority::High => None,
            Priority::Normal => Some(NORMAL),
            Priority::Low => Some(LOW),
        };
        let is_scarce = share.is_some_and(|share| self.watched.as_ref().is_some_and(|used| used() >= share));
        let places = self.places(share);
        let one_more = |n: usize| (n < places && !is_scarce).then(|| n + 1);
        match self.counts.in_flight.fetch_update(AcqRel, Relaxed, one_more) {
            Ok(_) => Some(Place(self.counts.clone())),
            Err(_) => {
                self.counts.shed[priority as usize].fetch_add(1, Relaxed);
                None
            }
        }
    }

    fn places(&self, share: Option<f64>) -> usize {
        match (self.in_flight, share) {
            (0, _) => usize::MAX,
            (all, None) => all,
            (all, Some(share)) => (all as f64 * share - ROUNDING).ceil() as usize,
        }
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Shed<S> {
        Shed { inner, layer: self.clone() }
    }
}

impl fmt::Debug for ShedLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShedLayer")
            .field("in_flight", &self.in_flight)
            .field("is_watching", &self.watched.is_some())
            .field("requests_in_flight", &self.requests_in_flight())
            .finish()
    }
}

/// The place of one request; given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Counts>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, AcqRel);
    }
}
