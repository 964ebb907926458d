//! Target: what selection picks and what a circuit belongs to.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::load::LATENCY_DECAY;
use super::{CircuitState, Live, RouteKind, Trouble};
use crate::pool::describe::{BackendKind, Credential, Endpoint, Override, Place, Release};
use crate::sync::AtomicU32;

/// Less than any part of a place that is meant.
const ROUNDING: f64 = 1e-6;

/// A backend with one of its deployments, or without one for calls that name no model.
///
/// Cheap to clone. Selection puts it into the extensions of the attempt and of the answer.
#[derive(Clone)]
pub struct Target {
    pub(in crate::pool) live: Arc<Live>,
    pub(in crate::pool) inner: Arc<Inner>,
    // What selection asks of each of a thousand targets lies in the handle, and these side by side.
    pub(in crate::pool) identity: u64,
    pub(in crate::pool) slot: u32,
    pub(in crate::pool) weight: u32,
}

/// The rest of a target as it was built.
pub(in crate::pool) struct Inner {
    pub(in crate::pool) priority: u32,
    /// Of the backend; 0 is unlimited.
    pub(in crate::pool) max_in_flight: u32,
    pub(in crate::pool) drained: bool,
    /// The backend is shown the client's own token.
    pub(in crate::pool) pass_through: bool,
    pub(in crate::pool) backend: Arc<Resource>,
    pub(in crate::pool) deployment: Option<Served>,
    pub(in crate::pool) quota_group: Option<Box<str>>,
}

/// A backend as it was built.
pub(in crate::pool) struct Resource {
    pub(in crate::pool) name: Arc<str>,
    pub(in crate::pool) kind: BackendKind,
    pub(in crate::pool) endpoint: Endpoint,
    pub(in crate::pool) credential: Option<Credential>,
    pub(in crate::pool) priority: u32,
    /// As it is described, or told beside that.
    pub(in crate::pool) weight: u32,
    pub(in crate::pool) configured_weight: u32,
    pub(in crate::pool) told: Override,
    pub(in crate::pool) region: Option<Box<str>>,
    pub(in crate::pool) place: Place,
    pub(in crate::pool) names: Names,
    pub(in crate::pool) in_flight: Arc<AtomicU32>,
    pub(in crate::pool) trouble: Arc<Trouble>,
}

/// Aliases that a backend serves under any name, among those that all backends serve.
pub(in crate::pool) struct Names {
    pub(in crate::pool) own: HashSet<Arc<str>>,
    pub(in crate::pool) all: Arc<HashSet<Arc<str>>>,
}

impl Resource {
    /// Tells whether none of its targets gets anything new.
    pub(in crate::pool) const fn is_drained(&self) -> bool {
        self.told.is_drained || self.weight == 0
    }
}

impl Names {
    /// Tells whether the backend serves the alias, or nobody does.
    pub(in crate::pool) fn serve_as_far_as_anybody(&self, alias: &str) -> bool {
        self.own.contains(alias) || !self.all.contains(alias)
    }
}

/// A deployment as it was built.
pub(in crate::pool) struct Served {
    pub(in crate::pool) name: Arc<str>,
    pub(in crate::pool) path_segment: Box<str>,
    pub(in crate::pool) json_name: Box<str>,
    pub(in crate::pool) alias: Arc<str>,
    pub(in crate::pool) model: Box<str>,
    pub(in crate::pool) version: Option<Box<str>>,
    pub(in crate::pool) tokens_per_minute: Option<u64>,
}

impl Target {
    pub(in crate::pool) fn new(live: Arc<Live>, slot: u32, identity: u64, weight: u32, inner: Inner) -> Self {
        Self { live, inner: Arc::new(inner), identity, slot, weight }
    }

    /// The backend's configured name.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.inner.backend.name
    }

    pub(crate) fn backend_name(&self) -> Arc<str> {
        self.inner.backend.name.clone()
    }

    /// The deployment's name on that backend.
    #[must_use]
    pub fn deployment(&self) -> Option<&str> {
        self.inner.deployment.as_ref().map(|served| &*served.name)
    }

    /// The same, for whoever keeps it.
    #[cfg(feature = "metrics")]
    pub(crate) fn deployment_name(&self) -> Option<Arc<str>> {
        self.inner.deployment.as_ref().map(|served| served.name.clone())
    }

    /// The deployment's name as it stands in a path.
    pub(crate) fn path_segment(&self) -> Option<&str> {
        self.inner.deployment.as_ref().map(|served| &*served.path_segment)
    }

    /// The deployment's name as a value of JSON, with its quotes.
    pub(crate) fn json_name(&self) -> Option<&str> {
        self.inner.deployment.as_ref().map(|served| &*served.json_name)
    }

    /// The name that clients use for the deployment.
    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        self.inner.deployment.as_ref().map(|served| &*served.alias)
    }

    pub(crate) fn shared_alias(&self) -> Option<Arc<str>> {
        self.inner.deployment.as_ref().map(|served| served.alias.clone())
    }

    /// Returns which form of the API its backend speaks.
    #[must_use]
    pub fn kind(&self) -> BackendKind {
        self.inner.backend.kind
    }

    /// Returns where requests go.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.backend.endpoint
    }

    /// Returns the credential that the backend is shown.
    #[must_use]
    pub fn credential(&self) -> Option<&Credential> {
        self.inner.backend.credential.as_ref()
    }

    /// The backend's region, if it was told.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.inner.backend.region.as_deref()
    }

    /// Lower is tried first.
    #[must_use]
    pub fn priority(&self) -> u32 {
        self.inner.priority
    }

    /// The share inside its priority group.
    #[must_use]
    #[inline]
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Requests that this target is serving now, streams counted to their end.
    #[must_use]
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.live.in_flight().load(Relaxed)
    }

    /// Returns how long the target takes to the first content of an answer of this kind, as of the last request; `None` before
    /// the first. [`load`](crate::pool::load) says how it is estimated.
    #[must_use]
    pub fn latency(&self, kind: RouteKind) -> Option<Duration> {
        let seconds = self.last_latency(kind);
        seconds.is_finite().then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// The same in the light of how long the target was not used since, for what was slow a while ago is worth another try;
    /// [`DEFAULT_LATENCY`](crate::pool::load::DEFAULT_LATENCY) to begin with.
    #[must_use]
    pub fn latency_at(&self, kind: RouteKind, now: Instant) -> Duration {
        Duration::try_from_secs_f64(self.discounted_latency(kind, now)).unwrap_or(Duration::MAX)
    }

    /// [`latency`](Self::latency) in seconds; infinite before the first answer.
    #[inline]
    pub(crate) fn last_latency(&self, kind: RouteKind) -> f64 {
        self.live.latency(kind)
    }

    /// [`latency_at`](Self::latency_at) in seconds.
    pub(crate) fn discounted_latency(&self, kind: RouteKind, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.live.epoch()).as_secs_f64();
        libm::exp(self.latency_rank(kind) - elapsed / LATENCY_DECAY.as_secs_f64())
    }

    /// Orders targets as [`latency_at`](Self::latency_at) does at any moment, without computing anything.
    #[inline]
    pub(crate) fn latency_rank(&self, kind: RouteKind) -> f64 {
        self.live.latency_rank(kind)
    }

    /// A number that is the same in every process for a target of the same names.
    #[inline]
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }

    /// The share of its quota that the target says it has left, from 0 to 1; `None` unless it said so within
    /// [`SIGNAL_LIFETIME`](crate::pool::load::SIGNAL_LIFETIME).
    #[must_use]
    pub fn room(&self, now: Instant) -> Option<f64> {
        self.live.room(now)
    }

    /// Returns how much of it is used, from 0 to 1: by its own report within
    /// [`SIGNAL_LIFETIME`](crate::pool::load::SIGNAL_LIFETIME), or as requests in flight of those that its backend may have,
    /// whichever is more; `None` when neither is known.
    #[must_use]
    pub fn utilization(&self, now: Instant) -> Option<f64> {
        let told = self.live.told_utilization(Live::since(self.live.epoch(), now));
        let max = f64::from(self.inner.max_in_flight);
        let in_flight = (max > 0.0).then(|| f64::from(self.inner.backend.in_flight.load(Relaxed)) / max);
        [told, in_flight].into_iter().flatten().reduce(f64::max)
    }

    /// The tokens of its quota: what it reported last, else what it was declared with.
    pub(crate) fn token_limit(&self) -> Option<u64> {
        let declared = || self.inner.deployment.as_ref().and_then(|served| served.tokens_per_minute);
        self.live.token_limit().or_else(declared)
    }

    /// Returns when the target last came back after failures; a wait that it asked for is none.
    #[must_use]
    pub fn recovered_at(&self) -> Option<Instant> {
        self.live.recovered_at()
    }

    /// A small number that stays the same for this target as long as the pool lives: an index for the state of a policy.
    #[must_use]
    #[inline]
    pub fn slot(&self) -> usize {
        self.slot as usize
    }

    /// The backend refused the gateway's token for this target, and there is no other to show it.
    ///
    /// It then counts as without identity: it is used only when nobody else could serve, except for one request every 30 s,
    /// until [`accept_token`](Self::accept_token). Other targets of the same identity are not concerned.
    pub fn refuse_token(&self) {
        self.live.refuse_token(Instant::now());
    }

    /// The backend took the gateway's token for this target.
    pub fn accept_token(&self) {
        self.live.accept_token();
    }

    /// Tells whether requests can carry what the backend is shown, and it takes that.
    pub(in crate::pool) fn has_identity(&self, now: Instant) -> bool {
        !self.live.refuses_token(now) && self.credential().is_none_or(Credential::is_at_hand)
    }

    /// The same for a request that is about to be sent.
    pub(in crate::pool) fn admits_identity(&self, now: Instant) -> bool {
        self.credential().is_none_or(Credential::is_at_hand) && !self.live.turns_away(now)
    }

    /// Tells whether it could serve now, or as soon as a first token is there.
    pub(in crate::pool) fn is_able(&self, now: Instant) -> bool {
        let usable = !self.live.refuses_token(now) && self.credential().is_none_or(Credential::is_usable);
        usable && !self.is_drained() && !self.is_down(now)
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.inner.drained
    }

    /// Tells whether it asks nothing of a request: it is not drained, has no limit, and takes the gateway's credential.
    pub(in crate::pool) fn is_plain(&self) -> bool {
        !self.inner.drained && self.inner.max_in_flight == 0 && !self.inner.pass_through
    }

    pub(in crate::pool) fn place(&self) -> &Place {
        &self.inner.backend.place
    }

    /// Tells whether its backend has a bound on requests in flight.
    #[cfg(feature = "client")]
    pub(crate) fn is_limited(&self) -> bool {
        self.inner.max_in_flight > 0
    }

    pub(in crate::pool) fn is_full(&self) -> bool {
        let max = self.inner.max_in_flight;
        max > 0 && self.inner.backend.in_flight.load(Relaxed) >= max
    }

    /// Returns how many places its backend has for requests that leave what lies above a utilization to others.
    pub(in crate::pool) fn places(&self, threshold: Option<f64>) -> u32 {
        match (self.inner.max_in_flight, threshold) {
            (0, _) => u32::MAX,
            (max, None) => max,
            // The share of a place that is not there would be lost to rounding.
            (max, Some(threshold)) => (f64::from(max) * threshold - ROUNDING).ceil().max(0.0) as u32,
        }
    }

    /// Tells whether it is used so much that the rest is left to others.
    pub(in crate::pool) fn is_reserved(&self, threshold: Option<f64>, since_epoch: u64) -> bool {
        let Some(share) = threshold else { return false };
        let is_told = self.live.told_utilization(since_epoch).is_some_and(|used| used >= share);
        is_told || self.inner.backend.in_flight.load(Relaxed) >= self.places(threshold)
    }

    pub(in crate::pool) fn is_down(&self, now: Instant) -> bool {
        matches!(self.live.state(now), CircuitState::Open { throttled: false, .. })
    }

    pub(in crate::pool) fn shares_quota_with(&self, other: &Self) -> bool {
        self.inner.quota_group.is_some()
            && self.inner.quota_group == other.inner.quota_group
            && self.model() == other.model()
    }

    pub(in crate::pool) fn is_of(&self, release: &Release) -> bool {
        let served = self.inner.deployment.as_ref();
        served.is_some_and(|served| release.is_of(&served.alias, &served.model, served.version.as_deref()))
    }

    /// Tells whether both serve the same model in the same version.
    pub(in crate::pool) fn shares_release_with(&self, other: &Self) -> bool {
        let version = |target: &Self| target.inner.deployment.as_ref().and_then(|served| served.version.clone());
        self.model() == other.model() && version(self) == version(other)
    }

    pub(in crate::pool) fn shares_place_with(&self, other: &Self) -> bool {
        self.backend() == other.backend() && self.endpoint().is_same_place(other.endpoint())
    }

    fn model(&self) -> Option<&str> {
        self.inner.deployment.as_ref().map(|served| &*served.model)
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.slot == other.slot && Arc::ptr_eq(&self.live, &other.live)
    }
}

impl Eq for Target {}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("backend", &self.backend())
            .field("deployment", &self.deployment())
            .finish_non_exhaustive()
    }
}
