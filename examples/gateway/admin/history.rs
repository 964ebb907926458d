//! The last ten minutes, in steps: what came of requests, how circuits stood, and what happened.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tower_azure_openai::context::{Ending, Record, Recorder};
use tower_azure_openai::pool::{BackendStatus, DeploymentStatus, PoolStatus};

use super::Steering;

/// Length of a step.
const STEP: Duration = Duration::from_secs(5);
/// So many steps are remembered.
const STEPS: usize = 120;
/// Interval at which circuits are looked at: the worst of a step stands for it.
const LOOK: Duration = Duration::from_secs(1);
/// So many events are remembered.
const EVENTS: usize = 20;

/// Memory of the last hours. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Inner>);

#[derive(Default)]
struct Inner {
    counted: Counted,
    past: Mutex<Past>,
}

/// Counts of requests in the step that is not over yet.
#[derive(Default)]
struct Counted {
    served: AtomicU64,
    refused: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
}

/// The same of a step that is over: served, refused, rejected, failed.
type Counts = [u64; 4];

#[derive(Default)]
struct Past {
    /// The oldest first.
    steps: VecDeque<Counts>,
    /// By backend and deployment, the oldest first.
    circuits: BTreeMap<(String, String), VecDeque<State>>,
    /// Circuits in the step that is not over yet.
    now: BTreeMap<(String, String), Seen>,
    /// The latest first.
    events: VecDeque<Event>,
}

/// A circuit in the step that is not over yet.
#[derive(Clone, Copy)]
struct Seen {
    worst: State,
    last: State,
}

/// State of a circuit, the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Unknown,
    Closed,
    HalfOpen,
    Open,
}

impl State {
    fn of(circuit: &str) -> Self {
        match circuit {
            "closed" => Self::Closed,
            "half-open" => Self::HalfOpen,
            _ => Self::Open,
        }
    }

    const fn letter(self) -> char {
        match self {
            Self::Unknown => '-',
            Self::Closed => 'c',
            Self::HalfOpen => 'h',
            Self::Open => 'o',
        }
    }
}

/// Something that happened.
struct Event {
    at: u64,
    about: String,
    text: String,
}

impl History {
    /// Looks at the circuits for as long as it is polled.
    pub(crate) async fn keep(self, steering: Steering) {
        let (mut looks, mut passed) = (interval(LOOK), Duration::ZERO);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let pool = steering.current().pool.clone();
            self.look(&pool.status());
            passed += LOOK;
            if passed >= STEP {
                self.step();
                passed = Duration::ZERO;
            }
        }
    }

    /// Remembers that something happened.
    pub(crate) fn note(&self, about: impl Into<String>, text: impl Into<String>) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let event = Event { at: u64::try_from(at).unwrap_or(u64::MAX), about: about.into(), text: text.into() };
        let mut past = self.past();
        past.events.truncate(EVENTS - 1);
        past.events.push_front(event);
    }

    /// As the page draws it; the step that is not over yet comes last.
    pub(super) fn tell(&self) -> Value {
        let counting = self.0.counted.read();
        let past = self.past();
        let series = |which: usize| {
            let known = past.steps.iter().chain([&counting]).map(|counts| counts[which]);
            let missing = STEPS.saturating_sub(past.steps.len() + 1);
            std::iter::repeat_n(0, missing).chain(known).collect::<Vec<u64>>()
        };
        let circuits = past.now.iter().map(|(of, now)| {
            let states = past.circuits.get(of).into_iter().flatten().chain([&now.worst]).map(|state| state.letter());
            json!({ "backend": of.0, "deployment": of.1, "states": states.collect::<String>() })
        });
        let events =
            past.events.iter().map(|Event { at, about, text }| json!({ "at": at, "about": about, "text": text }));
        json!({
            "step_ms": u64::try_from(STEP.as_millis()).unwrap_or(u64::MAX),
            "served": series(0),
            "refused": series(1),
            "rejected": series(2),
            "failed": series(3),
            "circuits": circuits.collect::<Vec<_>>(),
            "events": events.collect::<Vec<_>>(),
        })
    }

    fn look(&self, status: &PoolStatus) {
        let (mut seen, mut changes) = (BTreeMap::new(), Vec::new());
        let mut past = self.past();
        for backend in &status.backends {
            for deployment in &backend.deployments {
                let of = (backend.name.clone(), deployment.name.clone());
                let state = State::of(deployment.circuit);
                let before = past.now.get(&of).copied().unwrap_or(Seen { worst: state, last: State::Closed });
                let change = change(before.last, state, backend, deployment);
                changes.extend(change.map(|text| (format!("{}/{}", backend.name, deployment.name), text)));
                seen.insert(of, Seen { worst: before.worst.max(state), last: state });
            }
        }
        past.now = seen;
        drop(past);
        changes.into_iter().for_each(|(about, text)| self.note(about, text));
    }

    fn step(&self) {
        let counts = self.0.counted.take();
        let mut past = self.past();
        past.steps.push_back(counts);
        let surplus = past.steps.len().saturating_sub(STEPS - 1);
        past.steps.drain(..surplus);
        let Past { circuits, now, .. } = &mut *past;
        circuits.retain(|of, _| now.contains_key(of));
        for (of, seen) in now {
            let states = circuits.entry(of.clone()).or_default();
            states.push_back(std::mem::replace(&mut seen.worst, State::Unknown));
            let surplus = states.len().saturating_sub(STEPS - 1);
            states.drain(..surplus);
        }
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.0.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what happened to a circuit, with the cause as far as the status tells it.
fn change(was: State, is: State, backend: &BackendStatus, deployment: &DeploymentStatus) -> Option<String> {
    match (was, is) {
        (State::Open | State::HalfOpen, State::Closed) => Some("has closed its circuit again".to_owned()),
        (State::Closed | State::HalfOpen, State::Open) => {
            let obstacles = deployment.obstacles.iter().map(String::as_str);
            let causes: Vec<_> =
                obstacles.filter(|cause| *cause != "drained").chain(backend.last_error.as_deref()).collect();
            Some(format!("has opened its circuit: {}", causes.join("; ")))
        }
        _ => None,
    }
}

impl Counted {
    fn each(&self, read: impl Fn(&AtomicU64) -> u64) -> Counts {
        [&self.served, &self.refused, &self.rejected, &self.failed].map(read)
    }

    fn read(&self) -> Counts {
        self.each(|count| count.load(Relaxed))
    }

    fn take(&self) -> Counts {
        self.each(|count| count.swap(0, Relaxed))
    }
}

/// Counts what came of requests for the API. A probe is none, nor is a client that left before there was an answer.
impl Recorder for History {
    fn record(&self, record: &Record) {
        let counted = &self.0.counted;
        let count = match record.status.map(|status| status.as_u16()) {
            None => return,
            Some(400..=428 | 430..=499) => &counted.rejected,
            _ if record.route.is_none() => return,
            Some(429 | 503) => &counted.refused,
            Some(500..) => &counted.failed,
            Some(_) if matches!(record.ending, Ending::Broken | Ending::Failed) => &counted.failed,
            Some(_) => &counted.served,
        };
        count.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tower_azure_openai::pool::{Backend, Deployment, Pool};

    use super::*;

    fn pool() -> Pool {
        let east = Backend::new("east", "https://east.example").add_deployment(Deployment::new("gpt-4o"));
        Pool::builder().add_backend(east).build().unwrap()
    }

    #[tokio::test]
    async fn ten_minutes_are_remembered_and_no_more() {
        let (history, pool) = (History::default(), pool());
        for step in 0..3 * STEPS {
            history.0.counted.served.fetch_add(step as u64, Relaxed);
            history.look(&pool.status());
            history.step();
        }
        history.0.counted.refused.fetch_add(7, Relaxed);
        history.look(&pool.status());
        let told = history.tell();
        let served: Vec<_> = told["served"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect();
        assert_eq!((served.len(), served[STEPS - 2], served[STEPS - 1]), (STEPS, 3 * STEPS as u64 - 1, 0));
        assert_eq!(told["refused"][STEPS - 1], 7);
        assert_eq!(told["circuits"][0]["states"].as_str().unwrap(), "c".repeat(STEPS));
    }

    #[tokio::test]
    async fn the_worst_of_a_step_stands_for_it() {
        let (history, pool) = (History::default(), pool());
        let mut status = pool.status();
        status.backends[0].deployments[0].obstacles = vec!["asked to wait, 300 ms left".to_owned()];
        for (circuit, told) in [("closed", "c"), ("open", "o"), ("half-open", "o"), ("closed", "o")] {
            status.backends[0].deployments[0].circuit = circuit;
            history.look(&status);
            assert_eq!(history.tell()["circuits"][0]["states"], told);
        }
        let events = history.tell()["events"].clone();
        let texts: Vec<_> = events.as_array().unwrap().iter().map(|event| event["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["has closed its circuit again", "has opened its circuit: asked to wait, 300 ms left"]);
        history.step();
        history.look(&status);
        assert_eq!(history.tell()["circuits"][0]["states"], "oc");
        status.backends.clear();
        history.look(&status);
        history.step();
        assert_eq!(history.tell()["circuits"].as_array().unwrap().len(), 0, "what is gone is forgotten");
    }

    #[test]
    fn the_last_events_come_first() {
        let history = History::default();
        (0..2 * EVENTS).for_each(|number| history.note("east", number.to_string()));
        let told = history.tell();
        let events = told["events"].as_array().unwrap();
        assert_eq!((events.len(), &events[0]["text"]), (EVENTS, &json!((2 * EVENTS - 1).to_string())));
    }
}
