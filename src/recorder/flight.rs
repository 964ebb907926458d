use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::event::{Action, Attempted, CircuitChange, Event, Requested};
use super::file::{self, Header};
use super::recording::RecordedTarget;
use super::ring::Ring;
use super::slot::SLOT;
use crate::azure::stable_hash;
use crate::context::{AttemptRecord, Record, Recorder};
use crate::pool::{CircuitState, Pool, Target, Transition};

/// Keeps the last events in memory and gives them as a file. Clones share them. See the [module docs](super).
#[derive(Clone)]
pub struct FlightRecorder(Arc<Inner>);

struct Inner {
    ring: Ring,
    began: Instant,
    began_ms: u64,
    numbers: AtomicU32,
    /// By identity and alias, with those that are configured no more: events speak of them.
    targets: Mutex<HashMap<(u64, u64), RecordedTarget>>,
    pool: Mutex<Pool>,
    policy: Mutex<Option<String>>,
}

impl FlightRecorder {
    /// Remembers what fits into so many bytes: 64 for each request, attempt and change. 0 remembers nothing.
    #[must_use]
    pub fn new(memory: usize, pool: &Pool) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let recorder = Self(Arc::new(Inner {
            ring: Ring::new(memory),
            began: Instant::now(),
            began_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            numbers: AtomicU32::new(0),
            targets: Mutex::default(),
            pool: Mutex::new(pool.clone()),
            policy: Mutex::default(),
        }));
        recorder.0.remember_targets();
        let inner = Arc::downgrade(&recorder.0);
        pool.on_transition(move |transition| {
            if let Some(inner) = inner.upgrade() {
                inner.ring.push([Event::Circuit(inner.changed(transition)).to_slot()]);
            }
        });
        recorder
    }

    /// A [successor](Pool::successor) takes the place of the pool, as after a reload.
    pub fn set_pool(&self, pool: Pool) {
        *self.0.pool.lock().unwrap_or_else(PoisonError::into_inner) = pool;
        self.0.remember_targets();
    }

    /// The name of the policy that chooses from now on, for whoever runs the recording again.
    pub fn set_policy(&self, name: impl Into<String>) {
        *self.0.policy.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.into());
    }

    /// Notes what was changed from outside.
    pub fn note(&self, action: Action) {
        self.0.ring.push([Event::Action { at: self.0.began.elapsed(), action }.to_slot()]);
    }

    /// All that is remembered, as a file.
    ///
    /// Takes some milliseconds for a large memory; requests that end meanwhile wait for some microseconds at most.
    #[must_use]
    pub fn dump(&self) -> Vec<u8> {
        self.0.remember_targets();
        let taken_us = u64::try_from(self.0.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let events = self.0.ring.copy();
        let mut targets: Vec<_> = self.0.targets().values().cloned().collect();
        targets.sort_by(|a, b| {
            (&a.alias, a.priority, &a.backend, &a.deployment).cmp(&(&b.alias, b.priority, &b.backend, &b.deployment))
        });
        let header = Header {
            began_ms: self.0.began_ms,
            taken_us,
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
            policy: self.0.policy.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            circuit: self.0.pool().circuit_config().into(),
            targets,
        };
        file::write(&header, &events)
    }
}

impl Inner {
    fn targets(&self) -> std::sync::MutexGuard<'_, HashMap<(u64, u64), RecordedTarget>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(&self) -> Pool {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember_targets(&self) {
        let configured = self.pool().all_targets();
        self.targets().extend(configured.iter().map(|target| {
            let described = described(target);
            ((described.identity, described.alias_hash), described)
        }));
    }

    fn at(&self, time: Instant) -> Duration {
        time.saturating_duration_since(self.began)
    }

    fn changed(&self, transition: &Transition<'_>) -> CircuitChange {
        let (opened, is_throttled) = match transition.to {
            CircuitState::Open { until, throttled } => {
                (Some(until.saturating_duration_since(transition.at)), throttled)
            }
            _ => (None, false),
        };
        CircuitChange {
            at: self.at(transition.at),
            target: transition.identity,
            opened,
            is_throttled,
            is_half_open: transition.to == CircuitState::HalfOpen,
        }
    }

    fn attempted(&self, number: u32, attempt: &AttemptRecord) -> Attempted {
        Attempted {
            number,
            at: self.at(attempt.started),
            target: attempt.target.identity(),
            outcome: attempt.outcome,
            duration: attempt.duration,
        }
    }

    fn requested(&self, number: u32, record: &Record) -> Requested {
        let route = record.route.as_ref();
        let alias = route.and_then(|route| route.alias());
        let alias = alias.map(|alias| record.client.as_ref().map_or(alias, |client| client.resolve(alias)));
        let size = record.size.unwrap_or_default();
        Requested {
            number,
            at: self.at(record.started),
            client: record.client.as_ref().map_or(0, |client| stable_hash([client.id().as_bytes()])),
            alias: alias.map_or(0, hash),
            operation: record.operation().map_or(0, |operation| operation as u8 + 1),
            is_streamed: route.is_some_and(|route| route.is_streaming()),
            bytes: u32::try_from(size.bytes).unwrap_or(u32::MAX),
            max_tokens: size.max_tokens,
            attempts: u8::try_from(record.attempts.len()).unwrap_or(u8::MAX),
            status: record.status,
            ending: record.ending,
            first_content: record.first_content,
            total: record.total,
            tokens: record.spent.map(|spent| (count(spent.usage.input), count(spent.usage.output))),
        }
    }
}

impl Recorder for FlightRecorder {
    fn record(&self, record: &Record) {
        let inner = &*self.0;
        let number = inner.numbers.fetch_add(1, Relaxed);
        let attempts = record.attempts.iter().map(|attempt| Event::Attempt(inner.attempted(number, attempt)));
        let request = Event::Request(inner.requested(number, record));
        let events: SmallVec<[[u8; SLOT]; 4]> = attempts.chain([request]).map(Event::to_slot).collect();
        inner.ring.push(events);
    }
}

impl fmt::Debug for FlightRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightRecorder").finish_non_exhaustive()
    }
}

fn hash(alias: &str) -> u64 {
    stable_hash([alias.as_bytes()])
}

fn count(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX - 1)
}

fn described(target: &Target) -> RecordedTarget {
    RecordedTarget {
        identity: target.identity(),
        alias_hash: target.alias().map_or(0, hash),
        backend: target.backend().to_owned(),
        deployment: target.deployment().map(ToOwned::to_owned),
        alias: target.alias().map(ToOwned::to_owned),
        priority: target.priority(),
        weight: target.weight(),
        region: target.region().map(ToOwned::to_owned),
        tokens_per_minute: target.token_limit(),
    }
}
