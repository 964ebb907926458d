//! Asking the backends who holds an object.

mod rates;
mod reply;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use quick_cache::sync::Cache;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::rates::Rates;
use self::reply::Reply;
use super::learning::{Note, Notebook};
use super::store::{ObjectKey, SessionStore};
use crate::azure::object_id::ObjectId;
use crate::below::Below;
use crate::body::Body;
use crate::pool::Pin;
use crate::single_flight::{Landing, SingleFlight};

/// Number of unknown ids of one request that are asked for.
pub(crate) const MAX_UNKNOWN: usize = 4;
/// Number of calls that may be made in a second to find objects, unless it is told; one client makes at most half of them.
pub const DISCOVERY_RATE: u32 = 300;
/// Time for which it is remembered that nobody has an id.
pub(crate) const UNKNOWN_TIME: Duration = Duration::from_secs(5);
/// Time that backends may take to say whether they have an id.
pub(crate) const DISCOVERY_TIME: Duration = Duration::from_secs(10);

/// Number of ids that are known to be nobody's.
const UNKNOWN_IDS: usize = 10_000;

/// The headers without which the API does not answer as it does to the client.
static REQUIRED_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("aoai-evals"), HeaderName::from_static("openai-beta")];

/// Result of a search among the backends for an id.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Finding {
    /// This one has it.
    At(Arc<str>),
    /// The call means nothing to any of them, or some find fault with it: what it is about, the client hears from one of them.
    Misdirected,
    /// All of them that know the call say that they do not have it.
    Nowhere,
    /// Nobody has it who answered, and not everybody did.
    Unanswered { throttled: bool, wait: Duration },
    /// There was no room for another search.
    Unasked { wait: Duration },
}

/// Nobody has said anything in time.
const LATE: Finding = Finding::Unanswered { throttled: false, wait: Duration::from_secs(1) };

/// Question after one id, and on whose account.
pub(crate) struct Question<'a> {
    pub(crate) id: &'a ObjectId,
    pub(crate) read: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) backends: &'a [Arc<str>],
    /// Client on whose account it is; empty for all that nobody knows.
    pub(crate) client: &'a Arc<str>,
}

pub(crate) struct Discovery {
    flights: Mutex<HashMap<ObjectKey, SingleFlight<Finding>>>,
    /// Ids that nobody has, and until when that is believed.
    nowhere: Cache<ObjectKey, Instant>,
    rates: Mutex<Rates>,
}

/// Finding, now or later.
pub(crate) enum Search {
    Known(Finding),
    Running(Landing<Finding>),
}

impl Search {
    pub(crate) async fn finding(self) -> Finding {
        match self {
            Self::Known(finding) => finding,
            Self::Running(landing) => landing.landed().await.unwrap_or(LATE),
        }
    }
}

impl Discovery {
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            flights: Mutex::default(),
            nowhere: Cache::new(UNKNOWN_IDS),
            rates: Mutex::new(Rates::new(f64::from(rate.max(1)), Instant::now())),
        }
    }

    /// Joins the search for an id that is running, or starts one. A search goes on when nobody waits for it any more, so that
    /// a client who leaves does not make the next one ask again.
    pub(crate) fn search<S: Below>(
        self: &Arc<Self>,
        question: &Question<'_>,
        service: &S,
        store: &Arc<dyn SessionStore>,
    ) -> Search {
        let key = question.key();
        let mut flights = self.flights();
        if let Some(landing) = flights.get(&key).and_then(SingleFlight::flying) {
            return Search::Running(landing);
        }
        if self.nowhere.get(&key).is_some_and(|until| until > Instant::now()) {
            return Search::Known(Finding::Nowhere);
        }
        if let Err(wait) = self.take(question.client, question.backends.len()) {
            return Search::Known(Finding::Unasked { wait });
        }
        let discovery = self.clone();
        let asked = ask(question, service);
        let (store, id, client) = (store.clone(), question.id.clone(), question.client.clone());
        let search = async move {
            let flight = Flight { discovery, key };
            let finding = asked.await;
            tracing::debug!(family = ?id.family(), ?finding, "looked for an object");
            match &finding {
                Finding::At(backend) => {
                    let notebook = Notebook { store, backend: backend.clone(), owner: None, client, alias: None };
                    notebook.remember(vec![Note::mentioned(&id)]).await;
                }
                Finding::Nowhere => flight.discovery.nowhere.insert(key, Instant::now() + UNKNOWN_TIME),
                Finding::Misdirected | Finding::Unanswered { .. } | Finding::Unasked { .. } => {}
            }
            drop(flight);
            Some(finding)
        };
        let mut flight = SingleFlight::default();
        let Some(landing) = flight.start(search) else { return Search::Known(LATE) };
        flights.insert(key, flight);
        Search::Running(landing)
    }

    fn take(&self, client: &Arc<str>, calls: usize) -> Result<(), Duration> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).take(client, calls as f64, Instant::now())
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<ObjectKey, SingleFlight<Finding>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("running", &self.flights().len()).finish_non_exhaustive()
    }
}

/// A search that is entered as running.
struct Flight {
    discovery: Arc<Discovery>,
    key: ObjectKey,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.discovery.flights().remove(&self.key);
    }
}

impl Question<'_> {
    /// The same for whoever asks the same backends in the same way: all that can change an answer is in it.
    fn key(&self) -> ObjectKey {
        let read = self.read.to_string();
        let headers: Vec<_> =
            self.headers().map(|(name, value)| (name, String::from_utf8_lossy(value.as_bytes()))).collect();
        let headers = headers.iter().flat_map(|(name, value)| [name.as_str(), value]);
        let backends = self.backends.iter().map(|name| &**name);
        let parts: Vec<_> = [read.as_str()].into_iter().chain(headers).chain([""]).chain(backends).collect();
        ObjectKey::of_parts(&parts)
    }

    fn headers(&self) -> impl Iterator<Item = (&'static HeaderName, &HeaderValue)> {
        REQUIRED_HEADERS.iter().flat_map(|name| self.headers.get_all(name).iter().map(move |value| (name, value)))
    }

    fn request(&self, backend: &Arc<str>) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.read.clone();
        for (name, value) in self.headers() {
            request.headers_mut().append(name, value.clone());
        }
        request.extensions_mut().insert(Pin::required(backend.clone()));
        request
    }
}

/// Asks all backends at once; the first that has it ends the search.
fn ask<S: Below>(question: &Question<'_>, service: &S) -> impl Future<Output = Finding> + Send + use<S> {
    let requests: Vec<_> = question.backends.iter().map(|name| (name.clone(), question.request(name))).collect();
    let (service, id) = (service.clone(), question.id.clone());
    async move {
        let mut asked = JoinSet::new();
        for (backend, request) in requests {
            let (service, id) = (service.clone(), id.clone());
            asked.spawn(async move {
                let answer = match service.send_once(DISCOVERY_TIME, request).await {
                    Ok(answer) => Reply::of_answer(answer, &id).await,
                    Err(error) => Reply::of_error(&error),
                };
                (backend, answer)
            });
        }
        timeout(DISCOVERY_TIME, conclude(asked)).await.unwrap_or(LATE)
    }
}

/// Concludes from the replies.
async fn conclude(mut asked: JoinSet<(Arc<str>, Reply)>) -> Finding {
    let (mut understood, mut refused, mut missing) = (false, false, None);
    while let Some(reply) = asked.join_next().await {
        match reply {
            Ok((backend, Reply::Here)) => return Finding::At(backend),
            Ok((_, Reply::Absent)) => understood = true,
            Ok((_, Reply::NoSuchCall)) => {}
            Ok((_, Reply::Refused)) => refused = true,
            Ok((_, Reply::Unable { throttled, wait })) => {
                let (before, longest) = missing.unwrap_or((false, Duration::ZERO));
                missing = Some((before || throttled, longest.max(wait)));
            }
            Err(_) => missing = missing.or(Some((false, Duration::from_secs(1)))),
        }
    }
    match missing {
        Some((throttled, wait)) => Finding::Unanswered { throttled, wait },
        None if understood && !refused => Finding::Nowhere,
        None => Finding::Misdirected,
    }
}
