use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method, Request};
use memchr::memmem;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::shape;
use super::{Client, ClientToken};
use crate::azure::client_secret::PREFIX;
use crate::azure::media_type::MediaType;
use crate::headers::query_parameters;

/// Number of ephemeral keys that are remembered, unless it is told.
pub(crate) const EPHEMERAL_KEYS: usize = 10_000;
/// Time for which one is remembered at most, whatever its answer says: as long as the API lets one live.
pub(crate) const EPHEMERAL_KEY_LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);

/// The ephemeral keys (`ek_…`) of realtime sessions that backends issued through the gateway, of which only SHA-256 digests are
/// kept: whose each is, which backend issued it, and until when. Clones share one set.
///
/// Sticky sessions learn them from answers, and credential termination admits who presents one. In a full set the client that
/// holds the most places loses the key that ends first, so that a flood of keys costs whoever makes it.
///
/// A client is admitted as it was when its key was issued: whoever changes what clients may do starts with a new set.
///
/// ```
/// use std::time::Duration;
/// use tower_azure_openai::context::{Client, EphemeralKeys};
///
/// let keys = EphemeralKeys::default();
/// keys.remember("ek_1", Some(Client::new("team-a")), "eastus", Duration::from_secs(600));
/// assert_eq!(keys.find(b"ek_1").map(|key| key.backend().to_string()).as_deref(), Some("eastus"));
/// assert!(keys.find(b"ek_2").is_none());
/// ```
///
/// A key takes about 150 bytes beside its [`Client`]. A restart forgets all, and another replica knows none of them.
#[derive(Clone)]
pub struct EphemeralKeys(Arc<Inner>);

struct Inner {
    capacity: usize,
    issued: Mutex<HashMap<[u8; 32], Issued>>,
}

struct Issued {
    client: Option<Client>,
    backend: Arc<str>,
    expires: Instant,
}

impl Issued {
    fn client_id(&self) -> Option<&str> {
        self.client.as_ref().map(Client::id)
    }
}

impl EphemeralKeys {
    /// A set of at most `capacity` keys, of one at least.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Inner { capacity: capacity.max(1), issued: Mutex::default() }))
    }

    /// Remembers a key that a backend issued to a client, for `lifetime` from now and two hours at most.
    pub fn remember(&self, key: &str, client: Option<Client>, backend: impl Into<Arc<str>>, lifetime: Duration) {
        let now = Instant::now();
        let expires = now + lifetime.min(EPHEMERAL_KEY_LIFETIME);
        if expires == now {
            return;
        }
        let (mut issued, digest) = (self.issued(), digest(key.as_bytes()));
        if !issued.contains_key(&digest) {
            make_room(&mut issued, self.0.capacity, now);
        }
        issued.insert(digest, Issued { client: client.map(Client::without_token), backend: backend.into(), expires });
    }

    /// Returns what is known of a key that has not ended. How long it takes says nothing of the keys that are known.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<EphemeralKey> {
        let token = ClientToken::new(key).ok()?;
        let issued = self.issued();
        let known = issued.get(&digest(key)).filter(|known| known.expires > Instant::now())?;
        // A backend that wants the client's own token is content with a key that it issued itself.
        let client = known.client.clone().map(|client| client.with_token(token.clone()));
        Some(EphemeralKey { token, client, backend: known.backend.clone() })
    }

    /// Number of keys that are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.issued().len()
    }

    /// Tells whether no key is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.issued().is_empty()
    }

    fn issued(&self) -> MutexGuard<'_, HashMap<[u8; 32], Issued>> {
        self.0.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 10,000 at most.
impl Default for EphemeralKeys {
    fn default() -> Self {
        Self::new(EPHEMERAL_KEYS)
    }
}

impl fmt::Debug for EphemeralKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EphemeralKeys").field("len", &self.len()).field("capacity", &self.0.capacity).finish()
    }
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn make_room(issued: &mut HashMap<[u8; 32], Issued>, capacity: usize, now: Instant) {
    if issued.len() < capacity {
        return;
    }
    issued.retain(|_, known| known.expires > now);
    if issued.len() < capacity {
        return;
    }
    let mut held: HashMap<Option<&str>, usize> = HashMap::new();
    for known in issued.values() {
        *held.entry(known.client_id()).or_default() += 1;
    }
    let most = held.into_iter().max_by_key(|(_, held)| *held).map(|(client, _)| client);
    let of_most = issued.iter().filter(|(_, known)| Some(known.client_id()) == most);
    if let Some(first) = of_most.min_by_key(|(_, known)| known.expires).map(|(digest, _)| *digest) {
        issued.remove(&first);
    }
}

/// On a request: the ephemeral key that it presented, which [its backend](Self::backend) alone may see. `Debug` does not show it.
#[derive(Clone)]
pub struct EphemeralKey {
    token: ClientToken,
    client: Option<Client>,
    backend: Arc<str>,
}

impl EphemeralKey {
    /// To whom it was issued.
    #[must_use]
    pub const fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// The name of the backend that issued it.
    #[must_use]
    pub const fn backend(&self) -> &Arc<str> {
        &self.backend
    }

    /// The value of `Authorization`.
    pub(crate) const fn token(&self) -> &ClientToken {
        &self.token
    }
}

impl fmt::Debug for EphemeralKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EphemeralKey").field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// Tells whether a credential looks like an ephemeral key.
pub(crate) fn is_ephemeral(secret: &[u8]) -> bool {
    secret.starts_with(PREFIX.as_bytes())
}

/// Tells whether a request opens a realtime session, the one thing that an ephemeral key is for.
pub(crate) fn opens_session<B>(request: &Request<B>) -> bool {
    // What is one in another shape has the word too, and hardly any request does.
    if memmem::find(request.uri().path().as_bytes(), b"realtime").is_none() {
        return false;
    }
    let normal = shape::normal(request.uri());
    match (request.method(), normal.as_ref().unwrap_or_else(|| request.uri()).path()) {
        (&Method::GET, path) => matches!(path, "/openai/realtime" | "/openai/v1/realtime"),
        (&Method::POST, path) => path == "/openai/v1/realtime/calls",
        _ => false,
    }
}

/// Tells whether a request opens the session that its ephemeral key was issued for, of which the model was allowed then: nothing in
/// it could name another one.
pub(crate) fn opens_own_session<B>(request: &Request<B>) -> bool {
    let mut parameters = query_parameters(request.uri().query().unwrap_or_default());
    request.extensions().get::<EphemeralKey>().is_some()
        && opens_session(request)
        && (request.method() == Method::GET || is_sdp(request.headers()))
        && !parameters.any(|(name, ..)| ["model", "deployment"].iter().any(|key| name.eq_ignore_ascii_case(key)))
}

/// Tells whether a body is the offer of a WebRTC session, in which nothing but media is described.
pub(crate) fn is_sdp(headers: &HeaderMap) -> bool {
    MediaType::of(headers).is_some_and(|kind| kind.is("application/sdp"))
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn issue(keys: &EphemeralKeys, key: &str, client: &str, lifetime: Duration) {
        keys.remember(key, Some(Client::new(client)), "b0", lifetime);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_known_until_it_ends() {
        let keys = EphemeralKeys::default();
        issue(&keys, "ek_1", "a", MINUTE);
        issue(&keys, "ek_over", "a", Duration::ZERO);
        issue(&keys, "ek_long", "a", Duration::MAX);
        let known = keys.find(b"ek_1").unwrap();
        assert_eq!((known.client().map(Client::id), &**known.backend()), (Some("a"), "b0"));
        assert_eq!(known.token().as_header(), "Bearer ek_1");
        assert!(keys.find(b"ek_").is_none() && keys.find(b"ek_11").is_none() && keys.find(b"ek_over").is_none());
        assert!(keys.find(b"ek_1\n").is_none());
        tokio::time::advance(MINUTE).await;
        assert!(keys.find(b"ek_1").is_none() && keys.find(b"ek_long").is_some());
        tokio::time::advance(EPHEMERAL_KEY_LIFETIME).await;
        assert!(keys.find(b"ek_long").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_costs_whoever_makes_it() {
        let keys = EphemeralKeys::new(100);
        issue(&keys, "ek_quiet", "quiet", MINUTE);
        for i in 0..1_000 {
            issue(&keys, &format!("ek_{i}"), "loud", 2 * MINUTE);
            assert!(keys.len() <= 100);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(keys.find(b"ek_quiet").is_some() && keys.find(b"ek_999").is_some() && keys.find(b"ek_0").is_none());
        tokio::time::advance(3 * MINUTE).await;
        issue(&keys, "ek_late", "loud", MINUTE);
        assert_eq!(keys.len(), 1, "what has ended makes room first");
    }

    #[tokio::test(start_paused = true)]
    async fn the_token_of_the_client_is_not_kept() {
        let (keys, token) = (EphemeralKeys::default(), |text: &str| ClientToken::new(text).unwrap());
        keys.remember("ek_1", Some(Client::new("a").with_token(token("token-of-a"))), "b0", MINUTE);
        assert_eq!(keys.find(b"ek_1").unwrap().client(), Some(&Client::new("a").with_token(token("ek_1"))));
    }

    #[tokio::test(start_paused = true)]
    async fn debug_shows_no_key() {
        let keys = EphemeralKeys::new(5);
        issue(&keys, "ek_1", "a", MINUTE);
        assert_eq!(format!("{keys:?}"), "EphemeralKeys { len: 1, capacity: 5 }");
        assert_eq!(format!("{:?}", keys.find(b"ek_1").unwrap()), r#"EphemeralKey { backend: "b0", .. }"#);
    }

    #[test]
    fn only_the_session_of_the_key_is_opened() {
        let own = |method: &str, uri: &str, content_type: &'static str| {
            let keys = EphemeralKeys::default();
            keys.remember("ek_1", None, "b0", MINUTE);
            let request = Request::builder().method(method).uri(uri).header(CONTENT_TYPE, content_type);
            opens_own_session(&request.extension(keys.find(b"ek_1").unwrap()).body(()).unwrap())
        };
        let calls = "/openai/v1/realtime/calls";
        assert!(own("POST", calls, "application/sdp") && own("POST", calls, "Application/SDP; charset=utf-8"));
        assert!(own("POST", &format!("{calls}?webrtcfilter=on"), "application/sdp"));
        assert!(own("GET", "/openai/v1/realtime", "") && own("GET", "/openai/realtime?api-version=1", ""));
        for (method, uri, content_type) in [
            ("POST", calls, "multipart/form-data; boundary=b"),
            ("POST", calls, "application/json"),
            ("POST", "/openai/v1/realtime/calls?Model=o3", "application/sdp"),
            ("POST", "/openai/v1/realtime/calls?m%6fdel=o3", "application/sdp"),
            ("GET", "/openai/v1/realtime?model=o3", ""),
            ("GET", "/openai/realtime?deployment=o3", ""),
            ("POST", "/openai/v1/realtime/client_secrets", "application/sdp"),
            ("POST", "/openai/v1/realtime/calls/rtc_1/hangup", "application/sdp"),
            ("GET", "/openai/v1/realtime/calls", ""),
            ("POST", "/openai/v1/chat/completions", "application/sdp"),
        ] {
            assert!(!own(method, uri, content_type), "{method} {uri} {content_type}");
        }
    }
}
