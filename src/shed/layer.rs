use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tower_layer::Layer;

use super::service::Shed;
use super::{CLIENT_SHARE, LOW, NORMAL};
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
    /// Half unless said.
    of_one_client: Option<usize>,
    watched: Option<Arc<dyn Fn() -> f64 + Send + Sync>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    in_flight: AtomicUsize,
    clients: Clients,
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

    /// So many of them may be one client's, where it is known who asks. Default: half.
    pub fn of_one_client(mut self, requests: usize) -> Self {
        self.of_one_client = Some(requests);
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
    pub(super) fn admit(&self, priority: Priority, client: Option<&str>) -> Result<Place, Full> {
        let admitted = self.share_of(client).and_then(|share| Ok((share, self.one_more(priority)?)));
        match admitted {
            Ok((share, ())) => Ok(Place { _share: share, counts: self.counts.clone() }),
            Err(full) => {
                self.counts.shed[priority as usize].fetch_add(1, Relaxed);
                Err(full)
            }
        }
    }

    /// One of the places that are a client's; nothing where there are as many as anybody wants.
    fn share_of(&self, client: Option<&str>) -> Result<Option<Share>, Full> {
        let Some(client) = client.filter(|_| self.in_flight > 0) else { return Ok(None) };
        let most = self.of_one_client.unwrap_or_else(|| self.in_flight.div_ceil(CLIENT_SHARE));
        Share::take(&self.counts, client, most).map(Some).ok_or(Full::OfOneClient)
    }

    fn one_more(&self, priority: Priority) -> Result<(), Full> {
        let share = match priority {
            Priority::High => None,
            Priority::Normal => Some(NORMAL),
            Priority::Low => Some(LOW),
        };
        let is_scarce = share.is_some_and(|share| self.watched.as_ref().is_some_and(|used| used() >= share));
        let places = self.places(share);
        let one_more = |n: usize| (n < places && !is_scarce).then(|| n + 1);
        self.counts.in_flight.fetch_update(AcqRel, Relaxed, one_more).map(drop).map_err(|_| Full::OfAll)
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
            .field("of_one_client", &self.of_one_client)
            .field("is_watching", &self.watched.is_some())
            .field("requests_in_flight", &self.requests_in_flight())
            .finish()
    }
}

/// Places that there are none of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    OfAll,
    OfOneClient,
}

/// The place of one request; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    _share: Option<Share>,
    counts: Arc<Counts>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.in_flight.fetch_sub(1, AcqRel);
    }
}

/// Requests in progress of each client that has any. Clients are known by a digest of their id, so that an entry owns nothing.
#[derive(Debug, Default)]
struct Clients {
    digest: RandomState,
    requests: Mutex<HashMap<u64, usize>>,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request of a client; given back when dropped.
#[derive(Debug)]
struct Share {
    client: u64,
    counts: Arc<Counts>,
}

impl Share {
    fn take(counts: &Arc<Counts>, client: &str, most: usize) -> Option<Self> {
        let client = counts.clients.digest.hash_one(client);
        let mut requests = counts.clients.lock();
        let held = requests.get(&client).copied().unwrap_or(0);
        if held >= most {
            return None;
        }
        requests.insert(client, held + 1);
        drop(requests);
        Some(Self { client, counts: counts.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut requests = self.counts.clients.lock();
        match requests.get(&self.client).map_or(0, |held| held - 1) {
            0 => drop(requests.remove(&self.client)),
            left => drop(requests.insert(self.client, left)),
        }
    }
}
