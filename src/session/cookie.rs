//! The signed cookie.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cookie::{Cookie, SameSite};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::{Digest, Sha256};

/// Name of a cookie unless it is told.
pub const COOKIE_NAME: &str = "aoai-session";
/// Time for which a cookie is good. It is set anew when half of that is over.
pub(crate) const COOKIE_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest key, in bytes.
pub(crate) const MIN_KEY: usize = 32;

const VERSION: u8 = 1;
const KEY_ID: usize = 4;
const TOKEN: usize = 16;
const SIGNED: usize = 1 + KEY_ID + TOKEN + 8;
const MAC: usize = 32;

/// A cookie that names a backend to nobody but the gateway.
///
/// Its value holds a version, the id of the key, a token that stands for the backend, and the time at which it expires; all of
/// this and the cookie's name are signed with HMAC-SHA-256. It is `HttpOnly` and `SameSite=Lax`.
#[derive(Clone)]
#[must_use]
pub struct SessionCookie {
    name: Arc<str>,
    path: Arc<str>,
    secure: Secure,
    /// The first signs, all are accepted.
    keys: Vec<Arc<Key>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Secure {
    Always,
    /// Secure when whoever stands before the gateway says that the client came over https.
    Forwarded,
    /// Secure when the request itself says so.
    Scheme,
}

/// A key is shorter than 32 bytes, or the system has no randomness to make one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key of a session cookie must have {MIN_KEY} bytes or more")]
#[non_exhaustive]
pub struct InvalidKey;

impl SessionCookie {
    /// A cookie called [`COOKIE_NAME`] for the path `/`, signed with this key.
    ///
    /// # Errors
    /// The key is too short.
    pub fn new(key: &[u8]) -> Result<Self, InvalidKey> {
        Ok(Self { name: COOKIE_NAME.into(), path: "/".into(), secure: Secure::Scheme, keys: vec![Key::new(key)?] })
    }

    /// A cookie with a key of its own: a restart makes it worthless, and so does another replica.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn with_random_key() -> Result<Self, InvalidKey> {
        let mut key = [0; MIN_KEY];
        getrandom::fill(&mut key).map_err(|_| InvalidKey)?;
        Self::new(&key)
    }

    /// Accepts cookies of an older key too.
    ///
    /// # Errors
    /// The key is too short.
    pub fn accept(mut self, key: &[u8]) -> Result<Self, InvalidKey> {
        self.keys.push(Key::new(key)?);
        Ok(self)
    }

    /// Another name.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// The path of URLs that it is sent with.
    pub fn path(mut self, path: impl Into<Arc<str>>) -> Self {
        self.path = path.into();
        self
    }

    /// Every client comes over https: `Secure` always. Without this, only when the request's own URI says `https`.
    pub const fn secure(mut self) -> Self {
        self.secure = Secure::Always;
        self
    }

    /// Believes `X-Forwarded-Proto`. Only behind a front end that sets it: anybody can send a header.
    pub const fn trust_forwarded_proto(mut self) -> Self {
        self.secure = Secure::Forwarded;
        self
    }

    /// A `Cookie` header without ours, and `None` when nothing else is in it.
    pub(crate) fn removed_from(&self, header: &HeaderValue) -> Option<HeaderValue> {
        let Ok(text) = header.to_str() else { return Some(header.clone()) };
        let ours = |pair: &&str| pair.split('=').next().is_some_and(|name| name.trim() == &*self.name);
        let others: Vec<_> = text.split(';').map(str::trim).filter(|pair| !pair.is_empty() && !ours(pair)).collect();
        HeaderValue::try_from(others.join("; ")).ok().filter(|value| !value.is_empty())
    }

    /// The backend that the one cookie of ours names, and for how much longer.
    pub(crate) fn read<'a>(
        &self,
        headers: impl IntoIterator<Item = &'a HeaderValue>,
        backends: &[Arc<str>],
        now: SystemTime,
    ) -> Option<(Arc<str>, Duration)> {
        let texts = headers.into_iter().filter_map(|header| header.to_str().ok());
        let mut values = texts.flat_map(|text| self.values(text));
        let value = values.next().filter(|_| values.next().is_none())?;
        self.open(&value, backends, now)
    }

    /// A `Set-Cookie` for a backend.
    pub(crate) fn write(&self, backend: &str, https: bool, now: SystemTime) -> Option<HeaderValue> {
        let expires = now.duration_since(UNIX_EPOCH).ok()? + COOKIE_LIFETIME;
        let value = self.seal(self.keys.first()?, backend, expires.as_secs());
        let cookie = Cookie::build((&*self.name, value))
            .path(&*self.path)
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(https)
            .build();
        let max_age = COOKIE_LIFETIME.as_secs();
        HeaderValue::try_from(format!("{cookie}; Max-Age={max_age}")).ok()
    }

    /// Tells whether the client of a request came over https, as far as it can be told.
    pub(super) fn is_https<B>(&self, request: &http::Request<B>) -> bool {
        let forwarded = || {
            let mut protocols = request.headers().get_all("x-forwarded-proto").iter();
            let first = protocols.next().and_then(|value| value.to_str().ok()?.split(',').next());
            first.is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("https"))
        };
        match self.secure {
            Secure::Always => true,
            Secure::Forwarded => forwarded(),
            Secure::Scheme => request.uri().scheme_str() == Some("https"),
        }
    }

    fn values<'a>(&'a self, header: &'a str) -> impl Iterator<Item = String> + 'a {
        let cookies = Cookie::split_parse(header).filter_map(Result::ok);
        cookies.filter(|cookie| cookie.name() == &*self.name).map(|cookie| cookie.value().to_owned())
    }

    fn seal(&self, key: &Key, backend: &str, expires: u64) -> String {
        let mut value = Vec::with_capacity(SIGNED + MAC);
        value.push(VERSION);
        value.extend(key.id);
        value.extend(key.token(backend));
        value.extend(expires.to_be_bytes());
        let mac = key.mac(&self.name, &value).finalize().into_bytes();
        value.extend(mac);
        URL_SAFE_NO_PAD.encode(value)
    }

    fn open(&self, value: &str, backends: &[Arc<str>], now: SystemTime) -> Option<(Arc<str>, Duration)> {
        const LENGTH: usize = (SIGNED + MAC).div_ceil(3) * 4;
        let value = Some(value).filter(|value| value.len() <= LENGTH)?;
        let value: [u8; SIGNED + MAC] = URL_SAFE_NO_PAD.decode(value).ok()?.try_into().ok()?;
        let (signed, mac) = value.split_at(SIGNED);
        let (version, rest) = signed.split_first()?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID>()?;
        let (token, expires) = rest.split_first_chunk::<TOKEN>()?;
        let key = self.keys.iter().find(|key| key.id == *id).filter(|_| *version == VERSION)?;
        key.mac(&self.name, signed).verify_slice(mac).ok()?;
        let expires = UNIX_EPOCH + Duration::from_secs(u64::from_be_bytes(expires.try_into().ok()?));
        let left = expires.duration_since(now).ok().filter(|left| !left.is_zero())?;
        Some((key.backend_of(token, backends)?, left))
    }
}

/// Nothing of the keys.
impl fmt::Debug for SessionCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCookie")
            .field("name", &self.name)
            .field("path", &self.path)
            .field("secure", &self.secure)
            .finish_non_exhaustive()
    }
}

struct Key {
    id: [u8; KEY_ID],
    mac: Hmac<Sha256>,
    /// Backends that the tokens stand for.
    known: Mutex<HashMap<[u8; TOKEN], Arc<str>>>,
}

impl Key {
    fn new(key: &[u8]) -> Result<Arc<Self>, InvalidKey> {
        let mac = Hmac::new_from_slice(key).ok().filter(|_| key.len() >= MIN_KEY).ok_or(InvalidKey)?;
        let digest = Sha256::new().chain_update(b"session cookie key id").chain_update(key).finalize();
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&digest[..KEY_ID]);
        Ok(Arc::new(Self { id, mac, known: Mutex::default() }))
    }

    fn mac(&self, name: &str, signed: &[u8]) -> Hmac<Sha256> {
        self.mac.clone().chain_update(b"cookie\0").chain_update(name).chain_update(b"\0").chain_update(signed)
    }

    fn token(&self, backend: &str) -> [u8; TOKEN] {
        let mac = self.mac.clone().chain_update(b"backend\0").chain_update(backend).finalize().into_bytes();
        let mut token = [0; TOKEN];
        token.copy_from_slice(&mac[..TOKEN]);
        token
    }

    /// Only asked for tokens that this key has signed.
    fn backend_of(&self, token: &[u8; TOKEN], backends: &[Arc<str>]) -> Option<Arc<str>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(token) {
            *known = backends.iter().map(|backend| (self.token(backend), backend.clone())).collect();
        }
        known.get(token).filter(|backend| backends.contains(backend)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
    const OTHER: &[u8] = b"fedcba9876543210fedcba9876543210";
    const NOW: SystemTime = UNIX_EPOCH;

    fn backends() -> Vec<Arc<str>> {
        ["east", "west"].map(Arc::from).into()
    }

    fn cookie() -> SessionCookie {
        SessionCookie::new(KEY).unwrap()
    }

    fn value(cookie: &SessionCookie, backend: &str) -> String {
        cookie.seal(&cookie.keys[0], backend, COOKIE_LIFETIME.as_secs())
    }

    fn read(cookie: &SessionCookie, header: &str) -> Option<String> {
        let header = HeaderValue::try_from(header).unwrap();
        cookie.read([&header], &backends(), NOW).map(|(backend, _)| backend.to_string())
    }

    #[test]
    fn comes_back_as_it_was_set() {
        let set = cookie().write("west", true, NOW).unwrap();
        let set = set.to_str().unwrap();
        let (pair, attributes) = set.split_once("; ").unwrap();
        assert_eq!(attributes, "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=86400");
        assert!(!set.contains("west"), "{set}");
        assert_eq!(read(&cookie(), &format!("a=b; {pair}; c=d")), Some("west".to_owned()));
        let plain = cookie().path("/openai").write("west", false, NOW).unwrap();
        assert!(!plain.to_str().unwrap().contains("Secure"));
        assert!(plain.to_str().unwrap().contains("Path=/openai"));
    }

    #[test]
    fn is_ignored_when_anything_is_wrong_with_it() {
        let good = value(&cookie(), "west");
        let foreign = value(&SessionCookie::new(OTHER).unwrap(), "west");
        let renamed = value(&cookie().name("other"), "west");
        let gone = value(&cookie(), "south");
        for header in [
            String::new(),
            COOKIE_NAME.to_owned(),
            format!("{COOKIE_NAME}="),
            format!("{COOKIE_NAME}={foreign}"),
            format!("{COOKIE_NAME}={renamed}"),
            format!("{COOKIE_NAME}={gone}"),
            format!("{COOKIE_NAME}={good}A"),
            format!("{COOKIE_NAME}={}", "A".repeat(100_000)),
            format!("{COOKIE_NAME}={good}; {COOKIE_NAME}={good}"),
        ] {
            assert_eq!(read(&cookie(), &header), None, "{header:.100}");
        }
        let twice = HeaderValue::try_from(format!("{COOKIE_NAME}={good}")).unwrap();
        assert!(cookie().read([&twice, &twice], &backends(), NOW).is_none(), "two headers are no better than one");
    }

    #[test]
    fn expires() {
        let header = HeaderValue::try_from(format!("{COOKIE_NAME}={}", value(&cookie(), "west"))).unwrap();
        let read = |now| cookie().read([&header], &backends(), now).map(|(_, left)| left);
        assert_eq!(read(NOW), Some(COOKIE_LIFETIME));
        assert_eq!(read(NOW + COOKIE_LIFETIME - Duration::from_secs(1)), Some(Duration::from_secs(1)));
        assert_eq!(read(NOW + COOKIE_LIFETIME), None);
    }

    #[test]
    fn keys_are_rotated() {
        let old = format!("{COOKIE_NAME}={}", value(&cookie(), "west"));
        let rotated = SessionCookie::new(OTHER).unwrap().accept(KEY).unwrap();
        assert_eq!(read(&rotated, &old), Some("west".to_owned()));
        let new = format!("{COOKIE_NAME}={}", value(&rotated, "west"));
        assert_eq!((read(&cookie(), &new), read(&rotated, &new)), (None, Some("west".to_owned())));
    }

    #[test]
    fn a_backend_that_comes_later_is_known() {
        let header = HeaderValue::try_from(format!("{COOKIE_NAME}={}", value(&cookie(), "west"))).unwrap();
        let cookie = cookie();
        let read = |backends: &[Arc<str>]| cookie.read([&header], backends, NOW).is_some();
        assert!(!read(&["east".into()]));
        assert!(read(&backends()));
        assert!(!read(&["east".into()]), "and gone again");
    }

    #[test]
    fn only_our_own_is_removed() {
        let removed = |header| cookie().removed_from(&HeaderValue::from_static(header));
        assert_eq!(removed("a=b; aoai-session=x; c=d").unwrap(), "a=b; c=d");
        assert_eq!(removed("aoai-session=x"), None);
        assert_eq!(removed("my-aoai-session=x").unwrap(), "my-aoai-session=x");
    }

    #[test]
    fn keys_are_long_and_secret() {
        assert_eq!(SessionCookie::new(&KEY[1..]).unwrap_err(), InvalidKey);
        let debug = format!("{:?}", cookie());
        assert!(!debug.contains("0123"), "{debug}");
    }

    proptest! {
        #[test]
        fn no_single_bit_can_be_changed(bit in 0..(SIGNED + MAC) * 8) {
            let mut raw = URL_SAFE_NO_PAD.decode(value(&cookie(), "west")).unwrap();
            raw[bit / 8] ^= 1 << (bit % 8);
            let header = format!("{COOKIE_NAME}={}", URL_SAFE_NO_PAD.encode(raw));
            prop_assert_eq!(read(&cookie(), &header), None);
        }

        #[test]
        fn no_header_makes_it_panic(header in "[ -~]{0,200}") {
            let header = HeaderValue::try_from(header).unwrap();
            let _ = cookie().read([&header], &backends(), NOW);
            let _ = cookie().removed_from(&header);
        }
    }
}
