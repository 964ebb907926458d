//! Tokens that are there before anybody asks.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use tokio::time::{Instant, timeout};
use tower::BoxError;

use crate::pool::{BearerTokens, BoxFuture};
use crate::single_flight::{Landing, SingleFlight};

/// Time that one fetch may take.
pub(crate) const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Time before its end at which a token is refreshed; half of its life when it lives shorter than twice that.
pub(crate) const REFRESH_BEFORE: Duration = Duration::from_secs(300);
/// Time before its end from which on a token is no longer used; a quarter of its life when it lives shorter than four times that.
pub(crate) const MARGIN: Duration = Duration::from_secs(30);
/// The longest pause after failed fetches; the first is a second, and each doubles.
pub(crate) const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
/// Interval in which a refused token forces at most one fetch.
pub(crate) const FORCED_INTERVAL: Duration = Duration::from_secs(30);

const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// Source of tokens.
pub trait TokenSource: Send + Sync + 'static {
    /// Fetches a token. `forced`: the last one was refused before its end, so that none out of a cache will do.
    ///
    /// Never called twice at once by a keeper, which also sees to timeouts and repeats. What the error displays is shown to
    /// operators and must hold no secret. The future may be dropped at any time.
    fn fetch(&self, forced: bool) -> BoxFuture<Result<Token, BoxError>>;
}

/// An access token.
#[derive(Clone)]
#[non_exhaustive]
pub struct Token {
    /// The token itself, as it stands behind `Bearer`.
    pub secret: String,
    /// Time at which it ends.
    pub expires_at: Instant,
}

impl Token {
    /// A token and its end.
    pub fn new(secret: impl Into<String>, expires_at: Instant) -> Self {
        Self { secret: secret.into(), expires_at }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// No token could be fetched; shared by everybody who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no token: {0}")]
struct FetchFailed(Arc<str>);

/// Keeps the token of one identity fresh. Shared by all backends of that identity, behind an [`Arc`].
///
/// 1. While the token in hand is valid nobody waits: reading it takes no lock.
/// 2. The first reader of all, and the first within five minutes of a token's end, starts a fetch beside the requests.
///    When that fails, the old token is served on until 30 s before its end, and the first reader after a back-off of at
///    most 15 s starts the next. Selection, readiness and status read too, so that an identity comes back
///    without a request that waits for it.
/// 3. Without a valid token, callers share one fetch and its failure; during the back-off they get that failure at once.
/// 4. A token that a backend refused forces one fetch, at most one in 30 s.
/// 5. Each fetch has 10 s. Dropping the keeper ends one that is under way.
///
/// Fetches run on the runtime of whoever needs them; no task keeps time.
pub struct TokenKeeper(Arc<Inner>);

struct Inner {
    source: Box<dyn TokenSource>,
    held: ArcSwapOption<Held>,
    epoch: Instant,
    /// Time at which the next reader starts a refresh, in milliseconds since the epoch.
    refresh_due: AtomicU64,
    /// 0 … 1, so that keepers that started together do not fetch together.
    jitter: f64,
    flights: Mutex<Flights>,
}

struct Held {
    header: HeaderValue,
    expires_at: Instant,
    usable_until: Instant,
}

#[derive(Default)]
struct Flights {
    running: SingleFlight<Landed>,
    failed: Option<Failed>,
    forced_at: Option<Instant>,
}

struct Failed {
    why: FetchFailed,
    in_a_row: u32,
    retry_at: Instant,
}

type Landed = Result<HeaderValue, FetchFailed>;

impl TokenKeeper {
    /// Keeps the tokens of a source. Nothing is fetched before somebody asks.
    #[must_use]
    pub fn new(source: impl TokenSource) -> Self {
        let random = RandomState::new().build_hasher().finish();
        Self(Arc::new(Inner {
            source: Box::new(source),
            held: ArcSwapOption::empty(),
            epoch: Instant::now(),
            refresh_due: AtomicU64::new(0),
            jitter: f64::from(u16::try_from(random % 1_000).unwrap_or_default()) / 1_000.0,
            flights: Mutex::default(),
        }))
    }
}

impl BearerTokens for TokenKeeper {
    fn current(&self) -> Option<HeaderValue> {
        let now = Instant::now();
        if self.0.is_refresh_due(now) {
            self.0.refresh(now);
        }
        self.0.usable(now).map(|held| held.header.clone())
    }

    fn wait(&self) -> BoxFuture<Result<HeaderValue, BoxError>> {
        if let Some(header) = self.current() {
            return Box::pin(std::future::ready(Ok(header)));
        }
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let landing = inner.join(Instant::now());
            Ok(landed(landing?).await?)
        })
    }

    fn rejected(&self, token: &HeaderValue) -> BoxFuture<bool> {
        let (inner, refused) = (Arc::clone(&self.0), token.clone());
        Box::pin(async move {
            loop {
                if inner.has_other_than(&refused) {
                    return true;
                }
                let Some(landing) = inner.force(Instant::now()) else { return false };
                // Whether it failed shows in what is in hand.
                drop(landed(landing).await);
            }
        })
    }

    fn problem(&self) -> Option<String> {
        if self.0.usable(Instant::now()).is_some() {
            return None;
        }
        let flights = self.0.flights();
        flights.failed.as_ref().map(|failed| format!("No token could be fetched: {}.", failed.why.0))
    }
}

impl fmt::Debug for TokenKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.0.usable(Instant::now());
        f.debug_struct("TokenKeeper").field("has_token", &held.is_some()).finish_non_exhaustive()
    }
}

/// Waits for the end of a fetch that others may have started.
async fn landed(landing: Landing<Landed>) -> Landed {
    landing.landed().await.unwrap_or_else(|| Err(FetchFailed("the fetch was given up".into())))
}

impl Inner {
    fn usable(&self, now: Instant) -> Option<Arc<Held>> {
        self.held.load_full().filter(|held| now < held.usable_until)
    }

    fn has_other_than(&self, refused: &HeaderValue) -> bool {
        self.usable(Instant::now()).is_some_and(|held| held.header != *refused)
    }

    fn is_refresh_due(&self, now: Instant) -> bool {
        self.since_epoch(now) >= self.refresh_due.load(Relaxed)
    }

    fn since_epoch(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    fn refresh(self: &Arc<Self>, now: Instant) {
        let mut flights = self.flights();
        if self.is_refresh_due(now) && flights.running.flying().is_none() {
            // Outside a runtime nothing can be fetched; the token in hand is good all the same.
            drop(self.start(&mut flights, false));
        }
    }

    /// The fetch under way, or a new one, or the failure that the back-off is for.
    fn join(self: &Arc<Self>, now: Instant) -> Result<Landing<Landed>, FetchFailed> {
        let mut flights = self.flights();
        if let Some(landing) = flights.running.flying() {
            return Ok(landing);
        }
        if let Some(held) = self.usable(now) {
            // It came between the caller's look and the lock.
            return Ok(Landing::known(Ok(held.header.clone())));
        }
        match &flights.failed {
            Some(failed) if now < failed.retry_at => Err(failed.why.clone()),
            _ => self.start(&mut flights, false),
        }
    }

    /// The fetch under way, or a forced one; `None` when there was one lately.
    fn force(self: &Arc<Self>, now: Instant) -> Option<Landing<Landed>> {
        let mut flights = self.flights();
        if let Some(landing) = flights.running.flying() {
            return Some(landing);
        }
        if flights.forced_at.is_some_and(|at| now.saturating_duration_since(at) < FORCED_INTERVAL) {
            return None;
        }
        flights.forced_at = Some(now);
        self.start(&mut flights, true).ok()
    }

    fn start(self: &Arc<Self>, flights: &mut Flights, forced: bool) -> Result<Landing<Landed>, FetchFailed> {
        // Weak: a fetch must not outlive its keeper.
        let keeper = Arc::downgrade(self);
        let fetch = async move { Self::fetch(&keeper, forced).await };
        let landing = flights.running.start(fetch).ok_or_else(|| FetchFailed("there is no runtime".into()))?;
        // A fetch that lands says when the next is due; one whose source panics never lands.
        self.refresh_due.store(self.since_epoch(Instant::now() + FETCH_TIMEOUT + FIRST_BACKOFF), Relaxed);
        Ok(landing)
    }

    async fn fetch(keeper: &Weak<Self>, forced: bool) -> Option<Landed> {
        let fetching = keeper.upgrade()?.source.fetch(forced);
        let fetched = match timeout(FETCH_TIMEOUT, fetching).await {
            Ok(fetched) => fetched.map_err(|error| FetchFailed(error.to_string().into())),
            Err(_) => Err(FetchFailed("the identity endpoint did not answer in time".into())),
        };
        Some(keeper.upgrade()?.land(fetched, Instant::now()))
    }

    fn land(&self, fetched: Result<Token, FetchFailed>, now: Instant) -> Landed {
        let mut flights = self.flights();
        flights.running.end();
        let result = fetched.and_then(|token| self.hold(&token, now));
        let due = match &result {
            Ok((_, refresh_at)) => {
                flights.failed = None;
                *refresh_at
            }
            Err(why) => {
                let in_a_row = flights.failed.as_ref().map_or(0, |failed| failed.in_a_row);
                let retry_at = now + self.backoff(in_a_row);
                flights.failed = Some(Failed { why: why.clone(), in_a_row: in_a_row.saturating_add(1), retry_at });
                tracing::warn!(in_a_row = in_a_row + 1, %why, "a token could not be fetched");
                retry_at
            }
        };
        self.refresh_due.store(self.since_epoch(due), Relaxed);
        result.map(|(header, _)| header)
    }

    /// Takes a token in hand, and says when to fetch the next.
    fn hold(&self, token: &Token, now: Instant) -> Result<(HeaderValue, Instant), FetchFailed> {
        let header = HeaderValue::try_from(format!("Bearer {}", token.secret));
        let mut header = header.map_err(|_| FetchFailed("the token holds what a header cannot carry".into()))?;
        header.set_sensitive(true);
        let life = token.expires_at.saturating_duration_since(now);
        if life.is_zero() {
            return Err(FetchFailed("the token had ended already".into()));
        }
        let known = self.held.load_full();
        if known.is_some_and(|held| held.header == header && held.expires_at == token.expires_at) {
            // Out of a cache below: asking again at once would bring the same.
            return Ok((header, now + LONGEST_BACKOFF));
        }
        let early = REFRESH_BEFORE.min(life / 2);
        let refresh_at = token.expires_at - early + (early / 30).mul_f64(self.jitter);
        let usable_until = token.expires_at - MARGIN.min(life / 4);
        self.held.store(Some(Arc::new(Held { header: header.clone(), expires_at: token.expires_at, usable_until })));
        Ok((header, refresh_at.max(now + FIRST_BACKOFF)))
    }

    /// Doubling, and up to a fifth shorter.
    fn backoff(&self, in_a_row: u32) -> Duration {
        let full = FIRST_BACKOFF.saturating_mul(1_u32.checked_shl(in_a_row).unwrap_or(u32::MAX)).min(LONGEST_BACKOFF);
        full.mul_f64(1.0 - self.jitter / 5.0)
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
