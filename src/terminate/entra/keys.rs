//! The signing keys of a tenant: fetched, kept, refreshed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use http::header::ACCEPT;
use http::uri::Scheme;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use jsonwebtoken::DecodingKey;
use tokio::time::{Instant, timeout};

use super::jwks::Keys;
use super::{BuildError, FETCH_TIMEOUT, FIRST_KEYS_INTERVAL, MAX_AGE, MAX_KEY_SET, REFRESH_AFTER, SEARCH_INTERVAL};
use crate::below::Below;
use crate::body::Body;
use crate::pool::{BoxFuture, is_loopback};
use crate::single_flight::{Landing, SingleFlight};

/// The signing keys behind a URL. Clones share them, so that they outlive a change of what is accepted.
///
/// 1. Nothing is fetched before a token asks for a key. Then there is one fetch at a time, for all who wait for it, of at most
///    5 s.
/// 2. While the key is in hand nobody waits. The first reader after an hour starts a fetch beside the requests;
///    only keys that are older than a day are fetched first.
/// 3. An id that is not among them starts a fetch, at most one in a minute.
/// 4. After a fetch that failed the last good keys stay. The next follows after a minute, or after
///    5 s while there are none.
/// 5. Only RSA keys for signatures are taken, out of a document of at most 256 KiB. Redirects are not followed.
///
/// Fetches run on the runtime of whoever needs them; no task keeps time. Dropping the last clone ends one that is under way.
#[derive(Clone)]
pub struct KeySet(Arc<Inner>);

struct Inner {
    fetch: Box<dyn Fn() -> BoxFuture<Result<Keys, Failure>> + Send + Sync>,
    held: ArcSwapOption<Held>,
    flights: Mutex<Flights>,
}

struct Held {
    keys: Keys,
    fetched_at: Instant,
}

#[derive(Default)]
struct Flights {
    running: SingleFlight<()>,
    last: Option<Instant>,
    /// The last that was started because of an id that is not known.
    last_search: Option<Instant>,
}

type Failure = std::borrow::Cow<'static, str>;

impl KeySet {
    /// The keys behind a URL, which must be https, or http on this machine.
    ///
    /// # Errors
    /// The URL is not one of these.
    pub fn new<S: Below + Sync>(url: &str, http: S) -> Result<Self, BuildError> {
        let uri = trustworthy(url).map_err(|why| BuildError(format!("the URL of the signing keys {why}").into()))?;
        let fetch = move || -> BoxFuture<_> { Box::pin(fetch(http.clone(), uri.clone())) };
        let inner = Inner { fetch: Box::new(fetch), held: ArcSwapOption::empty(), flights: Mutex::default() };
        Ok(Self(Arc::new(inner)))
    }

    /// The keys of a tenant of the public cloud: `https://login.microsoftonline.com/{tenant}/discovery/v2.0/keys`.
    ///
    /// # Errors
    /// The id of the tenant does not fit into a URL.
    pub fn of_tenant<S: Below + Sync>(tenant_id: &str, http: S) -> Result<Self, BuildError> {
        Self::new(&format!("https://login.microsoftonline.com/{tenant_id}/discovery/v2.0/keys"), http)
    }

    /// The key with this id, if it is in hand and not too old.
    pub(super) fn known(&self, id: &str) -> Option<Arc<DecodingKey>> {
        let (held, now) = (self.0.held.load(), Instant::now());
        let held = held.as_ref().filter(|held| held.age(now) < MAX_AGE)?;
        if held.age(now) >= REFRESH_AFTER {
            self.0.refresh(now);
        }
        held.keys.get(id)
    }

    /// The key with this id, after the fetch that may bring it.
    pub(super) async fn seek(&self, id: &str) -> Option<Arc<DecodingKey>> {
        if let Some(landing) = self.0.join(id, Instant::now()) {
            // It ends with a word or, when its task is gone, without: what counts is what is in hand then.
            let _ = landing.landed().await;
        }
        self.0.held.load().as_ref()?.keys.get(id)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.0.held.load().as_ref().map_or(0, |held| held.keys.len());
        f.debug_struct("KeySet").field("keys", &held).finish_non_exhaustive()
    }
}

fn trustworthy(url: &str) -> Result<Uri, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "is none")?;
    let authority = uri.authority().ok_or("names no host")?;
    if authority.as_str().contains('@') {
        return Err("must not carry credentials");
    }
    let is_local = uri.scheme() == Some(&Scheme::HTTP) && is_loopback(authority.host());
    if uri.scheme() == Some(&Scheme::HTTPS) || is_local { Ok(uri) } else { Err("must be https") }
}

async fn fetch<S: Below>(http: S, uri: Uri) -> Result<Keys, Failure> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = uri;
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    // The errors themselves may name hosts.
    let answer = http.send_once(FETCH_TIMEOUT, request).await.map_err(|_| "the endpoint cannot be reached")?;
    if answer.status() != StatusCode::OK {
        return Err(format!("the endpoint answered {}", answer.status().as_u16()).into());
    }
    let body = Limited::new(answer.into_body(), MAX_KEY_SET).collect().await;
    Ok(Keys::read(&body.map_err(|_| "the answer broke off or is too long")?.to_bytes())?)
}

impl Inner {
    fn refresh(self: &Arc<Self>, now: Instant) {
        let mut flights = self.flights();
        if flights.running.flying().is_none() && has_passed(flights.last, SEARCH_INTERVAL, now) {
            drop(self.start(&mut flights, now));
        }
    }

    /// The fetch under way, or a new one, if that may bring a key.
    fn join(self: &Arc<Self>, id: &str, now: Instant) -> Option<Landing<()>> {
        let mut flights = self.flights();
        if let Some(landing) = flights.running.flying() {
            return Some(landing);
        }
        let is_due = match self.held.load().as_ref() {
            None => has_passed(flights.last, FIRST_KEYS_INTERVAL, now),
            Some(held) if held.keys.get(id).is_some() => {
                held.age(now) >= MAX_AGE && has_passed(flights.last, SEARCH_INTERVAL, now)
            }
            Some(_) if has_passed(flights.last_search, SEARCH_INTERVAL, now) => {
                flights.last_search = Some(now);
                true
            }
            Some(_) => false,
        };
        if is_due { self.start(&mut flights, now) } else { None }
    }

    fn start(self: &Arc<Self>, flights: &mut Flights, now: Instant) -> Option<Landing<()>> {
        // Weak: a fetch must not outlive those who need it.
        let keys = Arc::downgrade(self);
        let landing = flights.running.start(async move { Self::fetch(&keys).await })?;
        flights.last = Some(now);
        Some(landing)
    }

    async fn fetch(keys: &Weak<Self>) -> Option<()> {
        let fetching = (keys.upgrade()?.fetch)();
        let fetched =
            timeout(FETCH_TIMEOUT, fetching).await.unwrap_or(Err("the endpoint did not answer in time".into()));
        let inner = keys.upgrade()?;
        match fetched {
            Ok(keys) => inner.held.store(Some(Arc::new(Held { keys, fetched_at: Instant::now() }))),
            Err(why) => tracing::warn!(%why, "the signing keys of Entra ID could not be fetched"),
        }
        inner.flights().running.end();
        Some(())
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn age(&self, now: Instant) -> std::time::Duration {
        now.saturating_duration_since(self.fetched_at)
    }
}

fn has_passed(since: Option<Instant>, interval: std::time::Duration, now: Instant) -> bool {
    since.is_none_or(|since| now.saturating_duration_since(since) >= interval)
}
