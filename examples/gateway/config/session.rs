//! State that lives on one backend.

use http::HeaderName;

use super::reader::Section;
use super::secret::{Form, Secret, resolve};

const KEYS: &[&str] = &["key", "key_env", "key_file"];
const KEY_LENGTH: usize = 32;

#[derive(Debug)]
pub(crate) struct Session {
    /// `None` when none is set.
    pub(crate) cookie: Option<String>,
    /// At least 32 bytes; `None`: one is made at start.
    pub(crate) key: Option<Secret>,
    /// `None` when no header is read.
    pub(crate) header: Option<HeaderName>,
    pub(crate) when_unavailable: WhenUnavailable,
    pub(crate) discover: bool,
    /// At least one.
    pub(crate) remember: u32,
    pub(crate) ownership: Ownership,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WhenUnavailable {
    Move,
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ownership {
    Enforce,
    Off,
}

impl Session {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        let when = [("refuse", WhenUnavailable::Refuse), ("move", WhenUnavailable::Move)];
        let ownership = s.choice("ownership", &[("off", Ownership::Off), ("enforce", Ownership::Enforce)]);
        Self {
            cookie: s.parsed("cookie", cookie).unwrap_or_else(|| Some("aoai-session".to_owned())),
            key: key(s),
            header: s.parsed("header", header).unwrap_or_else(|| Some(HeaderName::from_static("x-session-affinity"))),
            when_unavailable: s.choice("when_unavailable", &when).unwrap_or(WhenUnavailable::Refuse),
            discover: s.flag("discover", true),
            remember: s.integer("remember", 1..=u32::MAX).unwrap_or(100_000),
            ownership: ownership.unwrap_or(Ownership::Off),
        }
    }
}

fn cookie(text: &str) -> Result<Option<String>, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.bytes().all(is_token) {
        Ok(Some(text.to_owned()).filter(|name| !name.is_empty()))
    } else {
        Err("must be the name of a cookie, or \"\" for none".to_owned())
    }
}

fn header(text: &str) -> Result<Option<HeaderName>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| "must be the name of a header, or \"\" for none".to_owned())
}

fn key(s: &mut Section<'_>) -> Option<Secret> {
    if !KEYS.iter().any(|key| s.has(key)) {
        return None;
    }
    let (key, sources) = (s.one_of(KEYS)?, s.findings.sources);
    s.parsed(key, |text| {
        let secret = resolve(Form::of(key), text, sources)?;
        if secret.expose().len() < KEY_LENGTH { Err(format!("must be {KEY_LENGTH} bytes or more")) } else { Ok(secret) }
    })
}
