use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::event::{Action, Attempted, CircuitChange, Event, Requested};
use super::file::{self, Header, ReadRecordingError};
use crate::pool::CircuitConfig;

/// Recording of a [`FlightRecorder`](super::FlightRecorder), read back. Its `Debug` form is a table.
#[derive(Clone, PartialEq)]
pub struct Recording {
    header: Header,
    events: Vec<Event>,
    targets: HashMap<u64, usize>,
}

/// A target as it was configured when the recording was taken, or last before that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordedTarget {
    /// Its identity, the same in every process for a target of the same names.
    pub identity: u64,
    /// The hash of its alias; 0 without one.
    pub alias_hash: u64,
    /// The backend's name.
    pub backend: String,
    /// The deployment's name; `None` for calls that name no model.
    pub deployment: Option<String>,
    /// The alias that it serves.
    pub alias: Option<String>,
    /// Lower is tried first.
    pub priority: u32,
    /// The share inside its priority group.
    pub weight: u32,
    /// The backend's region.
    pub region: Option<String>,
    /// Tokens that it was declared with, or reported, for a minute.
    pub tokens_per_minute: Option<u64>,
}

/// [`CircuitConfig`] in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordedCircuit {
    min_open: u64,
    max_open: u64,
    default_open: u64,
    probe_interval: u64,
    consecutive_failures: u32,
    failure_ratio: f64,
    window: u64,
    min_requests: u32,
}

impl From<CircuitConfig> for RecordedCircuit {
    fn from(config: CircuitConfig) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            min_open: millis(config.min_open),
            max_open: millis(config.max_open),
            default_open: millis(config.default_open),
            probe_interval: millis(config.probe_interval),
            consecutive_failures: config.consecutive_failures,
            failure_ratio: config.failure_ratio,
            window: millis(config.window),
            min_requests: config.min_requests,
        }
    }
}

impl From<RecordedCircuit> for CircuitConfig {
    fn from(recorded: RecordedCircuit) -> Self {
        Self {
            min_open: Duration::from_millis(recorded.min_open),
            max_open: Duration::from_millis(recorded.max_open),
            default_open: Duration::from_millis(recorded.default_open),
            probe_interval: Duration::from_millis(recorded.probe_interval),
            consecutive_failures: recorded.consecutive_failures,
            failure_ratio: recorded.failure_ratio,
            window: Duration::from_millis(recorded.window),
            min_requests: recorded.min_requests,
        }
    }
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    /// It is no recording, of another version, cut off, damaged, or says what cannot be.
    pub fn read(file: &[u8]) -> Result<Self, ReadRecordingError> {
        let (header, slots) = file::read(file)?;
        let event = |(index, slot)| {
            Event::from_slot(slot).ok_or_else(|| ReadRecordingError::Malformed { what: format!("event {index}") })
        };
        let events = slots.iter().enumerate().map(event).collect::<Result<_, _>>()?;
        let targets = header.targets.iter().enumerate().map(|(index, target)| (target.identity, index)).collect();
        Ok(Self { header, events, targets })
    }

    /// All that happened, in the order in which it ended.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The requests, in the order in which they ended.
    pub fn requests(&self) -> impl Iterator<Item = &Requested> {
        self.events.iter().filter_map(|event| match event {
            Event::Request(requested) => Some(requested),
            _ => None,
        })
    }

    /// The attempts, in the order in which their requests ended.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempted> {
        self.events.iter().filter_map(|event| match event {
            Event::Attempt(attempted) => Some(attempted),
            _ => None,
        })
    }

    /// The changes of circuits.
    pub fn circuits(&self) -> impl Iterator<Item = &CircuitChange> {
        self.events.iter().filter_map(|event| match event {
            Event::Circuit(change) => Some(change),
            _ => None,
        })
    }

    /// The targets that there were.
    #[must_use]
    pub fn targets(&self) -> &[RecordedTarget] {
        &self.header.targets
    }

    /// The target of this identity.
    #[must_use]
    pub fn target(&self, identity: u64) -> Option<&RecordedTarget> {
        self.header.targets.get(*self.targets.get(&identity)?)
    }

    /// The alias of this hash; `None` for what no target served.
    #[must_use]
    pub fn alias(&self, hash: u64) -> Option<&str> {
        let target = self.header.targets.iter().find(|target| target.alias_hash == hash && hash != 0)?;
        target.alias.as_deref()
    }

    /// The name of the policy that chose targets, where the recorder was told.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        self.header.policy.as_deref()
    }

    /// Configuration of the circuits.
    #[must_use]
    pub fn circuit(&self) -> CircuitConfig {
        self.header.circuit.into()
    }

    /// Returns the time at which it began.
    #[must_use]
    pub fn began(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.header.began_ms)
    }

    /// Returns when it was taken, from its beginning.
    #[must_use]
    pub const fn taken(&self) -> Duration {
        Duration::from_micros(self.header.taken_us)
    }

    /// Returns when the first and the last event were; `None` without any.
    #[must_use]
    pub fn span(&self) -> Option<(Duration, Duration)> {
        let times = || self.events.iter().map(Event::at);
        times().min().zip(times().max())
    }

    fn name(&self, target: u64) -> String {
        match self.target(target) {
            Some(RecordedTarget { backend, deployment: Some(deployment), .. }) => format!("{backend}/{deployment}"),
            Some(RecordedTarget { backend, .. }) => backend.clone(),
            None => format!("{target:016x}"),
        }
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, event: &Event) -> fmt::Result {
        write!(f, "{:>12.3} s  ", event.at().as_secs_f64())?;
        match event {
            Event::Request(requested) => self.request(f, requested),
            Event::Attempt(attempted) => {
                let outcome = attempted.outcome.map_or("given up", |outcome| outcome.as_str());
                write!(f, "attempt  #{:<8} {:<32} {outcome}", attempted.number, self.name(attempted.target))?;
                if let Some(hint) = attempted.outcome.and_then(|outcome| outcome.hint()) {
                    write!(f, ", wait {} ms", hint.as_millis())?;
                }
                write!(f, " after {} ms", attempted.duration.as_millis())
            }
            Event::Circuit(change) => {
                write!(f, "circuit  {:<42} ", self.name(change.target))?;
                match change.opened {
                    Some(time) if change.is_throttled => write!(f, "open for {} ms, as it was told", time.as_millis()),
                    Some(time) => write!(f, "open for {} ms after failures", time.as_millis()),
                    None if change.is_half_open => f.write_str("half-open"),
                    None => f.write_str("closed"),
                }
            }
            Event::Action { action, .. } => self.action(f, *action),
        }
    }

    fn request(&self, f: &mut fmt::Formatter<'_>, requested: &Requested) -> fmt::Result {
        let alias = self.alias(requested.alias).unwrap_or("-");
        let status = requested.status.map_or(499, |status| status.as_u16());
        write!(f, "request  #{:<8} {alias:<32} {status} {}", requested.number, requested.ending.as_str())?;
        write!(f, " after {} ms, {} attempts", requested.total.as_millis(), requested.attempts)?;
        match requested.tokens {
            Some((input, output)) => write!(f, ", {input} + {output} tokens"),
            None => Ok(()),
        }
    }

    fn action(&self, f: &mut fmt::Formatter<'_>, action: Action) -> fmt::Result {
        match action {
            Action::CloseCircuit { target } => write!(f, "action   circuit of {} closed", self.name(target)),
            Action::Configure { fingerprint } => write!(f, "action   configuration {fingerprint:016x}"),
            other => write!(f, "action   {other:?}"),
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            self.row(f, event)?;
            f.write_str("\n")?;
        }
        Ok(())
    }
}
