//! What changes while a target serves: its circuit, its counters, its requests in flight.
//!
//! Live state outlives the description of its target: replacing the backends of a pool keeps it for every target that stays.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::circuit::{Circuit, CircuitConfig, CircuitState, Ticket, Verdict};

/// How long a target that refused the gateway's token is not tried again while others serve; as long as a token that was
/// fetched for it is not fetched anew.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// The live state of one target.
#[derive(Debug)]
pub(super) struct Live {
    name: Box<str>,
    epoch: Instant,
    circuit: Mutex<Watched>,
    /// When the circuit admits, in nanoseconds since `epoch`; 0 while it is closed. A copy for reading without the lock.
    gate: AtomicU64,
    /// When the gateway's token is tried again after it was refused, in nanoseconds since `epoch`; 0 while it is accepted.
    refused: AtomicU64,
    pub(super) in_flight: AtomicU32,
    pub(super) counters: Counters,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) throttled: AtomicU64,
    pub(super) failures: AtomicU64,
}

#[derive(Debug)]
struct Watched {
    circuit: Circuit,
    /// The state that was logged last.
    seen: &'static str,
}

impl Live {
    pub(super) fn new(name: String, epoch: Instant, config: CircuitConfig) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            epoch,
            circuit: Mutex::new(Watched { circuit: Circuit::new(config), seen: CircuitState::Closed.as_str() }),
            gate: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            counters: Counters::default(),
        })
    }

    /// `now` as [`Live::admits`] takes it.
    pub(super) fn since(epoch: Instant, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn admits(&self, since_epoch: u64) -> bool {
        self.gate.load(Relaxed) <= since_epoch
    }

    /// How long until the circuit admits.
    pub(super) fn admits_in(&self, since_epoch: u64) -> Duration {
        Duration::from_nanos(self.gate.load(Relaxed).saturating_sub(since_epoch))
    }

    pub(super) fn refuse_token(&self, now: Instant) {
        self.refused.store(Self::since(self.epoch, now + REFUSED_PAUSE), Relaxed);
    }

    pub(super) fn accept_token(&self) {
        // Read first: what many requests share is rarely written.
        if self.refused.load(Relaxed) != 0 {
            self.refused.store(0, Relaxed);
        }
    }

    /// Whether the token was refused, and it is not yet time to try again.
    pub(super) fn refuses_token(&self, now: Instant) -> bool {
        self.refused.load(Relaxed) > Self::since(self.epoch, now)
    }

    /// The same for a request that is about to be sent: when it is time to try again, one does.
    pub(super) fn turns_away(&self, now: Instant) -> bool {
        let refused = self.refused.load(Relaxed);
        if refused == 0 {
            return false;
        }
        let next = Self::since(self.epoch, now + REFUSED_PAUSE);
        let is_due = refused <= Self::since(self.epoch, now);
        !is_due || self.refused.compare_exchange(refused, next, Relaxed, Relaxed).is_err()
    }

    pub(super) fn waits(&self, now: Instant) -> Duration {
        self.admits_in(Self::since(self.epoch, now))
    }

    pub(super) fn state(&self, now: Instant) -> CircuitState {
        self.lock().circuit.state(now)
    }

    pub(super) fn is_throttled(&self, now: Instant) -> bool {
        self.lock().circuit.is_throttled(now)
    }

    pub(super) fn admit(&self, now: Instant) -> Option<Ticket> {
        self.change(now, |circuit| circuit.admit(now))
    }

    pub(super) fn commit(&self, ticket: &mut Ticket, now: Instant) {
        self.change(now, |circuit| circuit.commit(ticket, now));
    }

    pub(super) fn record(&self, ticket: Ticket, verdict: Verdict, now: Instant) {
        self.change(now, |circuit| circuit.record(ticket, verdict, now));
    }

    pub(super) fn throttle(&self, hint: Option<Duration>, now: Instant) {
        self.change(now, |circuit| circuit.throttle(hint, now));
    }

    pub(super) fn fail(&self, now: Instant) {
        self.change(now, |circuit| circuit.fail(true, now));
    }

    /// Whoever changes the configuration may have changed what was refused.
    pub(super) fn configure(&self, config: CircuitConfig, now: Instant) {
        self.accept_token();
        self.change(now, |circuit| circuit.configure(config));
    }

    fn change<T>(&self, now: Instant, change: impl FnOnce(&mut Circuit) -> T) -> T {
        let mut watched = self.lock();
        let changed = change(&mut watched.circuit);
        let gate = watched.circuit.admits_at().map_or(0, |at| Self::since(self.epoch, at).max(1));
        self.gate.store(gate, Relaxed);
        let state = watched.circuit.state(now);
        let was = std::mem::replace(&mut watched.seen, state.as_str());
        drop(watched);
        if was != state.as_str() {
            self.log(was, state, now);
        }
        changed
    }

    fn log(&self, was: &str, state: CircuitState, now: Instant) {
        let (to, target) = (state.as_str(), &*self.name);
        match state {
            CircuitState::Open { until, throttled } => {
                let reopens_in_ms = super::status::ceil_ms(until.saturating_duration_since(now));
                tracing::info!(target, from = was, to, reopens_in_ms, throttled, "circuit");
            }
            _ => tracing::info!(target, from = was, to, "circuit"),
        }
    }

    // A panic while the lock is held cannot leave the state machine half changed: it has no panicking step between writes.
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
