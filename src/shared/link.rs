//! The connection to Redis, and whether it can be relied on.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisError};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

mod call;
mod keeper;

pub(super) use self::call::{Call, Lazy};
use self::keeper::keep;
use super::dial::{Connected, Dial};
use super::{Address, Login};

/// Time for which a request waits for Redis before it goes on without: 40 ms. Whoever takes longer counts as gone.
pub(crate) const PATIENCE: Duration = Duration::from_millis(40);
/// Divisor of the wait for what can be done without, such as where an id lies: a request may come to that a few times.
const SHORT: u32 = 5;
/// Number of questions that are under way at once, of many that belong together.
pub(super) const AT_ONCE: usize = 200;

/// Time until a connection with its greeting is there; nobody waits for that.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Work that has to reach Redis once it is back: so many pieces at most.
const MOST_OWED: usize = 10_000;

/// A connection that is kept, found out to be broken, and made anew. Clones share it.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

pub(super) struct Inner {
    dial: Dial,
    /// This process among the replicas.
    replica: String,
    patience: Duration,
    connection: ArcSwapOption<Connected>,
    is_up: AtomicBool,
    /// True if answers come so late that nothing is asked which can be done without.
    is_slow: AtomicBool,
    late: AtomicU64,
    /// True if the first attempt to connect has ended.
    is_known: watch::Sender<bool>,
    why: Mutex<String>,
    replicas: AtomicU32,
    owed: Mutex<Vec<Call>>,
    trouble: Notify,
    listener: Listener,
    keeper: Mutex<Option<AbortHandle>>,
    tasks: Mutex<HashMap<&'static str, AbortHandle>>,
}

/// A link for a task that is not to keep it alive.
pub(super) struct WeakLink(Weak<Inner>);

impl WeakLink {
    pub(super) fn upgrade(&self) -> Option<Link> {
        self.0.upgrade().map(Link)
    }
}

/// Listener to what others tell: texts that other replicas publish, and what is open when a connection begins.
pub(super) type Listener = Arc<Mutex<Option<Box<dyn Fn(Told<'_>) + Send + Sync>>>>;

/// An opening, as Redis tells it.
pub(super) struct Told<'a> {
    pub(super) circuit: &'a str,
    /// By the clock of Redis, in milliseconds: two openings with the same are one.
    pub(super) until: u64,
    pub(super) left: Duration,
    /// The replica that told it just now.
    pub(super) by: Option<&'a str>,
}

/// Redis does not answer, or not in time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("Redis is out of reach")]
pub(super) struct Away;

impl Link {
    pub(super) fn new(
        address: Address,
        login: Login,
        replica: String,
        patience: Duration,
    ) -> Result<Self, super::InvalidAddress> {
        let listener = Listener::default();
        let inner = Arc::new(Inner {
            dial: Dial::new(address, login, listener.clone())?,
            replica,
            patience,
            connection: ArcSwapOption::empty(),
            is_up: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            late: AtomicU64::new(0),
            is_known: watch::Sender::new(false),
            why: Mutex::new("the first connection is being made".to_owned()),
            replicas: AtomicU32::new(1),
            owed: Mutex::default(),
            trouble: Notify::new(),
            listener,
            keeper: Mutex::default(),
            tasks: Mutex::default(),
        });
        let keeping = tokio::spawn(keep(Arc::downgrade(&inner)));
        *lock(&inner.keeper) = Some(keeping.abort_handle());
        Ok(Self(inner))
    }

    pub(super) fn is_up(&self) -> bool {
        self.0.is_up.load(Relaxed)
    }

    /// Returns why it is away; `None` while it is not.
    pub(super) fn problem(&self) -> Option<String> {
        (!self.is_up()).then(|| lock(&self.0.why).clone())
    }

    /// Returns how many replicas there were when that was last known, this one among them.
    pub(super) fn replicas(&self) -> u32 {
        self.0.replicas.load(Relaxed).max(1)
    }

    /// Has a function hear what others publish.
    pub(super) fn listen(&self, listener: impl Fn(Told<'_>) + Send + Sync + 'static) {
        *lock(&self.0.listener) = Some(Box::new(listener));
    }

    /// The end of the first attempt to connect.
    pub(super) async fn known(&self) {
        let _ = self.0.is_known.subscribe().wait_for(|is_known| *is_known).await;
    }

    pub(super) fn downgrade(&self) -> WeakLink {
        WeakLink(Arc::downgrade(&self.0))
    }

    /// Ends a task with the link, or when another takes its place.
    pub(super) fn keep_task(&self, name: &'static str, task: AbortHandle) {
        if let Some(before) = lock(&self.0.tasks).insert(name, task) {
            before.abort();
        }
    }

    /// One attempt, for whoever wants to know now.
    pub(super) async fn try_now(&self) -> Result<(), String> {
        self.0.tend().await
    }

    /// Asks what a request cannot do without.
    pub(super) async fn ask<T: FromRedisValue>(&self, call: &Call) -> Result<T, Away> {
        let mut connection = self.0.connection().ok_or(Away)?;
        let begun = Instant::now();
        match timeout(self.0.patience, call.run(&mut connection)).await {
            Ok(Ok(said)) => {
                if begun.elapsed() > self.0.short_patience() {
                    self.0.is_slow.store(true, Relaxed);
                }
                Ok(said)
            }
            Ok(Err(error)) => Err(self.0.fail(described(&error))),
            Err(_) => Err(self.0.fail(LATE.to_owned())),
        }
    }

    /// Says something that no request waits for.
    pub(super) async fn send<T: FromRedisValue>(&self, call: &Call) -> Result<T, Away> {
        let mut said = self.send_all(std::slice::from_ref(call)).await?;
        said.pop().ok_or(Away)
    }

    /// Says several things that no request waits for.
    pub(super) async fn send_all<T: FromRedisValue>(&self, calls: &[Call]) -> Result<Vec<T>, Away> {
        let connection = self.0.connection().ok_or(Away)?;
        match timeout(CONNECT_TIME, run_all(calls, &connection)).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(error)) => Err(self.0.fail(described(&error))),
            Err(_) => Err(self.0.fail(LATE.to_owned())),
        }
    }

    /// The name of this process among the replicas.
    pub(super) fn replica(&self) -> &str {
        &self.0.replica
    }

    /// Number of answers that came too late for the request that they were for.
    pub(super) fn late(&self) -> u64 {
        self.0.late.load(Relaxed)
    }

    /// Asks what a request can do without: not while answers are late. However many questions there are, they are waited for once.
    pub(super) async fn ask_briefly<T: FromRedisValue>(&self, calls: &[Call]) -> Result<Vec<T>, Away> {
        if self.0.is_slow.load(Relaxed) {
            self.0.late.fetch_add(1, Relaxed);
            return Err(Away);
        }
        let connection = self.0.connection().ok_or(Away)?;
        match timeout(self.0.short_patience(), run_all(calls, &connection)).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(error)) => Err(self.0.fail(described(&error))),
            Err(_) => {
                self.0.be_slow();
                Err(Away)
            }
        }
    }

    /// Says something whose answer is of use when it comes soon, and that is said to the end in any case; what cannot be said now
    /// is said when Redis is back.
    pub(super) async fn tell<T: FromRedisValue + Send + 'static>(&self, call: Call) -> Option<T> {
        self.tell_all(vec![call]).await.pop()
    }

    /// The same for several. Nothing is answered when not all answers came soon.
    pub(super) async fn tell_all<T: FromRedisValue + Send + 'static>(&self, calls: Vec<Call>) -> Vec<T> {
        let Some(connection) = self.0.connection() else {
            calls.into_iter().for_each(|call| self.0.owe(call));
            return Vec::new();
        };
        let link = self.clone();
        let telling = tokio::spawn(async move {
            let mut said = Vec::with_capacity(calls.len());
            for calls in calls.chunks(AT_ONCE) {
                match timeout(CONNECT_TIME, run_all(calls, &connection)).await {
                    Ok(Ok(more)) => said.extend(more),
                    Ok(Err(error)) => {
                        let _ = link.0.fail(described(&error));
                        // A connection that broke may have carried it, and what is said twice would count twice.
                        if error.code() == Some("OOM") {
                            calls.iter().for_each(|call| link.0.owe(call.clone()));
                        }
                        return Vec::new();
                    }
                    Err(_) => {
                        let _ = link.0.fail(LATE.to_owned());
                        return Vec::new();
                    }
                }
            }
            said
        });
        let patience = if self.0.is_slow.load(Relaxed) { Duration::ZERO } else { self.0.short_patience() };
        match timeout(patience, telling).await {
            Ok(said) => said.unwrap_or_default(),
            Err(_) => {
                self.0.be_slow();
                Vec::new()
            }
        }
    }
}

async fn run_all<T: FromRedisValue>(calls: &[Call], connection: &MultiplexedConnection) -> Result<Vec<T>, RedisError> {
    let said = calls
        .chunks(AT_ONCE)
        .map(|calls| try_join_all(calls.iter().map(async |call| call.run(&mut connection.clone()).await)));
    let mut all = Vec::with_capacity(calls.len());
    for said in said {
        all.extend(said.await?);
    }
    Ok(all)
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_up", &self.is_up()).field("replicas", &self.replicas()).finish_non_exhaustive()
    }
}

const LATE: &str = "it takes too long to answer";

/// Without what the server says in its own words, which may repeat what it was given.
pub(super) fn described(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("it answers {code}"),
        None => error.category().to_owned(),
    }
}

// ===== impl Inner =====

impl Inner {
    fn short_patience(&self) -> Duration {
        self.patience / SHORT
    }

    /// An answer was not there while it would have been of use: until a heartbeat says otherwise, none is waited for that can be done
    /// without.
    fn be_slow(&self) {
        self.is_slow.store(true, Relaxed);
        self.late.fetch_add(1, Relaxed);
    }

    fn connection(&self) -> Option<MultiplexedConnection> {
        if !self.is_up.load(Relaxed) {
            return None;
        }
        self.connection.load().as_ref().map(|connected| connected.connection.clone())
    }

    fn fail(&self, why: String) -> Away {
        let was_up = self.is_up.swap(false, Relaxed);
        self.late.fetch_add(u64::from(was_up), Relaxed);
        let was_known = self.is_known.send_replace(true);
        if was_up || !was_known {
            let replicas = self.replicas.load(Relaxed);
            tracing::error!(%why, replicas, "Redis is out of reach: this replica goes on alone");
        }
        *lock(&self.why) = why;
        self.trouble.notify_one();
        Away
    }

    fn owe(&self, call: Call) {
        let mut owed = lock(&self.owed);
        if owed.len() < MOST_OWED {
            owed.push(call);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner).drain();
        keeper.into_iter().chain(tasks.map(|(_, task)| task)).for_each(|task| task.abort());
    }
}

// The braces keep both on one node of a cluster.
const REPLICAS: &str = "aoai:{replicas}";
pub(super) const OPEN: &str = "aoai:{replicas}:open";

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
