//! State of a target that changes while it serves: its circuit, its figures, its counters, its requests in flight.
//!
//! Live state outlives the description of its target: replacing the backends of a pool keeps it for every target that stays.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::circuit::{Circuit, CircuitState, Failure, Ticket, Verdict};
use super::load::{Latency, Room, RouteKind};
use super::opening::Announcer;
use super::recent::Recent;
use super::transition::Transition;
use crate::azure::signals::Signals;
use crate::pool::describe::CircuitConfig;
use crate::sync::{AtomicU32, Gate, Mutex, MutexGuard};

/// Time for which a target that refused the gateway's token is not tried again while others serve; as long as a token that was
/// fetched for it is not fetched anew.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// The live state of one target.
#[derive(Debug)]
pub(in crate::pool) struct Live {
    name: Arc<str>,
    identity: u64,
    epoch: Instant,
    circuit: Mutex<Watched>,
    load: Mutex<Load>,
    glance: Glance,
    used: Used,
    /// Time at which the gateway's token is tried again after it was refused, in nanoseconds since `epoch`; 0 while it is
    /// accepted.
    refused: AtomicU64,
    pub(in crate::pool) counters: Counters,
    announcer: Announcer,
}

/// All that selection looks at, for reading without a lock, in one line of the processor's cache.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Glance {
    /// Time at which the circuit admits, in nanoseconds since `epoch`; 0 while it is closed.
    gate: Gate,
    /// Time at which the circuit last closed after failures, likewise; 0 for never.
    recovered: AtomicU64,
    /// Seconds and ranks of the latencies, as the bits of floating-point numbers.
    latency: [(AtomicU64, AtomicU64); 2],
    in_flight: AtomicU32,
}

/// Utilization of the target by its own report, for reading without a lock.
#[derive(Debug, Default)]
struct Used {
    /// The bits of a floating-point number from 0 to 1.
    share: AtomicU64,
    /// Time until which the report is believed, in nanoseconds since `epoch`.
    until: AtomicU64,
}

#[derive(Debug)]
struct Load {
    latency: [Latency; 2],
    room: Room,
    recent: Recent,
}

#[derive(Debug, Default)]
pub(in crate::pool) struct Counters {
    pub(in crate::pool) requests: AtomicU64,
    pub(in crate::pool) throttled: AtomicU64,
    pub(in crate::pool) failures: AtomicU64,
    pub(in crate::pool) spilled_over_by_azure: AtomicU64,
}

#[derive(Debug)]
struct Watched {
    circuit: Circuit,
    /// The state that was logged last.
    seen: &'static str,
}

impl Live {
    /// Changes of the circuit are told by `name` and `identity`.
    pub(in crate::pool) fn new(
        (name, identity): (String, u64),
        epoch: Instant,
        config: CircuitConfig,
        announcer: Announcer,
    ) -> Arc<Self> {
        let latency = Latency::new(Instant::now());
        let live = Self {
            name: name.into(),
            identity,
            epoch,
            circuit: Mutex::new(Watched { circuit: Circuit::new(config), seen: CircuitState::Closed.as_str() }),
            load: Mutex::new(Load { latency: [latency; 2], room: Room::default(), recent: Recent::default() }),
            glance: Glance::default(),
            used: Used::default(),
            refused: AtomicU64::new(0),
            counters: Counters::default(),
            announcer,
        };
        RouteKind::ALL.iter().for_each(|kind| live.show(*kind, &latency));
        Arc::new(live)
    }

    /// `now` as [`Live::admits`] takes it.
    pub(in crate::pool) fn since(epoch: Instant, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(in crate::pool) fn admits(&self, since_epoch: u64) -> bool {
        self.glance.gate.load(Relaxed) <= since_epoch
    }

    /// Returns how long until the circuit admits.
    pub(in crate::pool) fn admits_in(&self, since_epoch: u64) -> Duration {
        Duration::from_nanos(self.glance.gate.load(Relaxed).saturating_sub(since_epoch))
    }

    /// Returns when the circuit last closed after failures.
    pub(in crate::pool) fn recovered_at(&self) -> Option<Instant> {
        let since = self.glance.recovered.load(Relaxed);
        (since > 0).then(|| self.epoch + Duration::from_nanos(since))
    }

    #[inline]
    pub(in crate::pool) const fn in_flight(&self) -> &AtomicU32 {
        &self.glance.in_flight
    }

    /// See [`Latency::measured`].
    #[inline]
    pub(in crate::pool) fn latency(&self, kind: RouteKind) -> f64 {
        f64::from_bits(self.glance.latency[kind.index()].0.load(Relaxed))
    }

    /// See [`Latency::rank`].
    #[inline]
    pub(in crate::pool) fn latency_rank(&self, kind: RouteKind) -> f64 {
        f64::from_bits(self.glance.latency[kind.index()].1.load(Relaxed))
    }

    pub(in crate::pool) const fn epoch(&self) -> Instant {
        self.epoch
    }

    pub(in crate::pool) fn room(&self, now: Instant) -> Option<f64> {
        self.load().room.at(now)
    }

    pub(in crate::pool) fn token_limit(&self) -> Option<u64> {
        self.load().room.token_limit()
    }

    pub(in crate::pool) fn report(&self, signals: &Signals, now: Instant) {
        let mut load = self.load();
        load.room.report(signals, now);
        // While the figures are locked, as those of latencies.
        if let Some((share, until)) = load.room.used() {
            self.used.share.store(share.to_bits(), Relaxed);
            self.used.until.store(Self::since(self.epoch, until), Relaxed);
        }
    }

    /// Returns how much of it is used by its own report; `None` when that is too old.
    #[inline]
    pub(in crate::pool) fn told_utilization(&self, since_epoch: u64) -> Option<f64> {
        let is_believed = self.used.until.load(Relaxed) > since_epoch;
        is_believed.then(|| f64::from_bits(self.used.share.load(Relaxed)))
    }

    pub(in crate::pool) fn measure(&self, kind: RouteKind, measure: impl FnOnce(&mut Latency)) {
        let latency = &mut self.load().latency[kind.index()];
        measure(latency);
        self.show(kind, latency);
    }

    /// An answer began so long after its request was sent.
    pub(in crate::pool) fn began(&self, kind: RouteKind, took: Duration, now: Instant) {
        let load = &mut *self.load();
        load.recent.add(took, now);
        let latency = &mut load.latency[kind.index()];
        latency.sample(took, now);
        self.show(kind, latency);
    }

    /// The times to first content that half and 95 per cent of the last answers did not exceed.
    pub(in crate::pool) fn first_content(&self, now: Instant) -> Option<[Duration; 2]> {
        self.load().recent.percentiles([50, 95], now)
    }

    /// While the figures are locked, so that no older ones are shown last.
    fn show(&self, kind: RouteKind, latency: &Latency) {
        let (estimate, rank) = &self.glance.latency[kind.index()];
        estimate.store(latency.measured().to_bits(), Relaxed);
        rank.store(latency.rank(self.epoch).to_bits(), Relaxed);
    }

    pub(in crate::pool) fn refuse_token(&self, now: Instant) {
        self.refused.store(Self::since(self.epoch, now + REFUSED_PAUSE), Relaxed);
    }

    pub(in crate::pool) fn accept_token(&self) {
        // Read first: what many requests share is rarely written.
        if self.refused.load(Relaxed) != 0 {
            self.refused.store(0, Relaxed);
        }
    }

    /// Tells whether the token was refused, and it is not yet time to try again.
    pub(in crate::pool) fn refuses_token(&self, now: Instant) -> bool {
        self.refused.load(Relaxed) > Self::since(self.epoch, now)
    }

    /// The same for a request that is about to be sent: when it is time to try again, one does.
    pub(in crate::pool) fn turns_away(&self, now: Instant) -> bool {
        let refused = self.refused.load(Relaxed);
        if refused == 0 {
            return false;
        }
        let next = Self::since(self.epoch, now + REFUSED_PAUSE);
        let is_due = refused <= Self::since(self.epoch, now);
        !is_due || self.refused.compare_exchange(refused, next, Relaxed, Relaxed).is_err()
    }

    pub(in crate::pool) fn waits(&self, now: Instant) -> Duration {
        self.admits_in(Self::since(self.epoch, now))
    }

    pub(in crate::pool) fn state(&self, now: Instant) -> CircuitState {
        self.lock().circuit.state(now)
    }

    pub(in crate::pool) fn is_throttled(&self, now: Instant) -> bool {
        self.lock().circuit.is_throttled(now)
    }

    pub(in crate::pool) fn admit(&self, now: Instant) -> Option<Ticket> {
        self.change(now, |circuit| circuit.admit(now))
    }

    pub(in crate::pool) fn commit(&self, ticket: &mut Ticket, now: Instant) {
        self.change(now, |circuit| circuit.commit(ticket, now));
    }

    pub(in crate::pool) fn record(&self, ticket: Ticket, verdict: Verdict, now: Instant) {
        self.change(now, |circuit| circuit.record(ticket, verdict, now));
    }

    pub(in crate::pool) fn throttle(&self, hint: Option<Duration>, now: Instant) {
        self.change(now, |circuit| circuit.throttle(hint, now));
    }

    /// There was no connection to its backend.
    pub(in crate::pool) fn fail(&self, now: Instant) {
        self.change(now, |circuit| circuit.fail(Failure::Unreached, true, now));
    }

    /// Somebody knows better than what was seen.
    pub(in crate::pool) fn close(&self, now: Instant) {
        self.change(now, |circuit| circuit.close_now(now));
    }

    pub(in crate::pool) fn failing_since(&self, now: Instant) -> Option<Instant> {
        self.lock().circuit.failing_since(now)
    }

    /// Tells whether a probe was let through so recently that the next one waits.
    pub(in crate::pool) fn is_being_probed(&self, now: Instant) -> bool {
        let circuit = &self.lock().circuit;
        circuit.state(now) == CircuitState::HalfOpen && !circuit.admits(now)
    }

    pub(in crate::pool) fn admit_early(&self, now: Instant) -> Option<Ticket> {
        self.change(now, |circuit| circuit.admit_early(now))
    }

    /// Takes a new configuration: whoever changes it may have changed what was refused.
    pub(in crate::pool) fn configure(&self, config: CircuitConfig, now: Instant) {
        self.accept_token();
        self.change(now, |circuit| circuit.configure(config));
    }

    /// The name of its circuit.
    pub(in crate::pool) fn name(&self) -> &str {
        &self.name
    }

    /// Opens for as long as it is open elsewhere. That is told to nobody: it would never end.
    pub(in crate::pool) fn adopt(&self, until: Instant, throttled: bool, now: Instant) {
        self.alter(now, |circuit| circuit.adopt(until, throttled, now));
    }

    fn change<T>(&self, now: Instant, change: impl FnOnce(&mut Circuit) -> T) -> T {
        let (changed, was, is) = self.alter(now, change);
        if let CircuitState::Open { until, throttled } = is
            && !matches!(was, CircuitState::Open { until: was_until, .. } if was_until >= until)
        {
            self.announcer.tell(&self.name, until, throttled);
        }
        changed
    }

    /// Also says what the state was and is.
    fn alter<T>(&self, now: Instant, change: impl FnOnce(&mut Circuit) -> T) -> (T, CircuitState, CircuitState) {
        let mut watched = self.lock();
        let before = watched.circuit.state(now);
        let changed = change(&mut watched.circuit);
        let gate = watched.circuit.admits_at().map_or(0, |at| Self::since(self.epoch, at).max(1));
        self.glance.gate.store(gate, Relaxed);
        let recovered = watched.circuit.recovered_at().map_or(0, |at| Self::since(self.epoch, at).max(1));
        self.glance.recovered.store(recovered, Relaxed);
        let state = watched.circuit.state(now);
        let was = std::mem::replace(&mut watched.seen, state.as_str());
        drop(watched);
        if was != state.as_str() {
            self.tell(was, state, now);
        }
        (changed, before, state)
    }

    fn tell(&self, was: &'static str, state: CircuitState, now: Instant) {
        let (to, target) = (state.as_str(), &*self.name);
        match state {
            CircuitState::Open { until, throttled } => {
                let reopens_in_ms = super::ceil_ms(until.saturating_duration_since(now));
                tracing::info!(target, from = was, to, reopens_in_ms, throttled, "circuit");
            }
            _ => tracing::info!(target, from = was, to, "circuit"),
        }
        let transition = Transition { at: now, target, from: was, to: state, identity: self.identity };
        self.announcer.changed(&transition);
    }

    fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // A panic while the lock is held cannot leave the state machine half changed: it has no panicking step between writes.
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
