//! Secrets: where they come from, and that they are never shown.

use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Sources;

/// A non-empty secret. Nothing shows it but [`expose`](Self::expose).
#[derive(Clone, Eq, Hash, PartialEq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// A key that travels in a header.
    pub(super) fn into_key(self) -> Result<Self, String> {
        if self.0.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(self)
        } else {
            Err("must hold visible ASCII characters only, without spaces or line breaks".to_owned())
        }
    }

    /// A key of somebody who calls: long enough not to be guessed.
    pub(super) fn into_client_key(self) -> Result<Self, String> {
        let key = self.into_key()?;
        key.weakness().map_or(Ok(key), Err)
    }

    /// Returns why it is too short for a key of somebody who calls.
    pub(super) fn weakness(&self) -> Option<String> {
        (self.0.len() < SHORTEST_KEY).then(|| format!("must be {SHORTEST_KEY} characters or more"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Length of a key: whoever may ask often, or has the digest, finds a shorter one by trying.
const SHORTEST_KEY: usize = 16;

/// The SHA-256 digest of a client's key.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub(crate) struct KeyDigest(pub(crate) [u8; 32]);

impl KeyDigest {
    pub(super) fn of(key: &Secret) -> Self {
        Self(Sha256::digest(key.expose()).into())
    }

    pub(super) fn from_hex(text: &str) -> Result<Self, String> {
        decode(text).map(Self).ok_or_else(|| "must be 64 hexadecimal digits".to_owned())
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest")
    }
}

fn decode(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}

/// Form in which a secret is given: `KEY`, `KEY_env` or `KEY_file`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    Plain,
    Env,
    File,
}

impl Form {
    pub(super) fn of(key: &str) -> Self {
        if key.ends_with("_env") {
            Self::Env
        } else if key.ends_with("_file") {
            Self::File
        } else {
            Self::Plain
        }
    }
}

pub(super) fn resolve(form: Form, value: &str, sources: &Sources<'_>) -> Result<Secret, String> {
    let (secret, empty) = match form {
        Form::Plain => (value.to_owned(), "is empty".to_owned()),
        Form::Env => (read_env(value, sources)?, format!("environment variable {value} is empty")),
        Form::File => (read_file(value, sources)?, format!("file {value:?} is empty")),
    };
    if secret.is_empty() { Err(empty) } else { Ok(Secret(secret)) }
}

fn read_env(name: &str, sources: &Sources<'_>) -> Result<String, String> {
    // What does not look like a name is not repeated: it may be the secret itself, in the wrong place.
    let plausible = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !plausible || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("must be the name of an environment variable".to_owned());
    }
    (sources.env)(name).ok_or_else(|| format!("environment variable {name} is not set"))
}

fn read_file(path: &str, sources: &Sources<'_>) -> Result<String, String> {
    let bytes = (sources.file)(Path::new(path)).map_err(|e| format!("cannot read {path:?}: {e}"))?;
    without_last_newline(bytes).ok_or_else(|| format!("file {path:?} is not UTF-8"))
}

fn without_last_newline(bytes: Vec<u8>) -> Option<String> {
    let mut text = String::from_utf8(bytes).ok()?;
    if text.ends_with('\n') {
        text.truncate(text.len() - if text.ends_with("\r\n") { 2 } else { 1 });
    }
    Some(text)
}

/// Returns what `key_sha256` takes for the key in this input, whose last newline does not belong to it.
pub(crate) fn hash(input: Vec<u8>) -> Result<String, String> {
    let key = Secret(without_last_newline(input).ok_or("is not UTF-8")?).into_client_key()?;
    Ok(KeyDigest::of(&key).0.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &'static [u8]) -> Result<String, String> {
        let sources = Sources { env: &|_| None, file: &|_| Ok(content.to_vec()) };
        resolve(Form::File, "f", &sources).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn a_file_is_read_without_its_last_newline() {
        assert_eq!(file(b"abc").as_deref(), Ok("abc"));
        assert_eq!(file(b"abc\n").as_deref(), Ok("abc"));
        assert_eq!(file(b"abc\r\n").as_deref(), Ok("abc"));
        assert_eq!(file(b"abc\n\n").as_deref(), Ok("abc\n"));
        assert_eq!(file(b"\n"), Err("file \"f\" is empty".to_owned()));
        assert_eq!(file(b"\xff"), Err("file \"f\" is not UTF-8".to_owned()));
    }

    #[test]
    fn a_key_is_hashed_as_the_file_takes_it() {
        let expected = "9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f";
        for input in ["0123456789abcdef", "0123456789abcdef\n", "0123456789abcdef\r\n"] {
            let digest = hash(input.into()).unwrap();
            assert_eq!(digest, expected);
            assert_eq!(KeyDigest::from_hex(&digest), Ok(KeyDigest::of(&Secret("0123456789abcdef".to_owned()))));
        }
        for wrong in [
            &b""[..],
            b"\n",
            b"0123456789abcde\n",
            b"0123456789abcdef\n\n",
            b"0123456789 abcdef",
            b"0123456789abcde\xff",
        ] {
            let error = hash(wrong.into()).unwrap_err();
            assert!(!error.contains("0123"), "{error}");
        }
    }

    #[test]
    fn nothing_is_shown() {
        let secret = Secret("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {:?}", KeyDigest::of(&secret)), "Secret KeyDigest");
    }

    #[test]
    fn a_digest_is_that_of_the_key() {
        let hex = "BA7816BF8F01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(KeyDigest::from_hex(hex), Ok(KeyDigest::of(&Secret("abc".to_owned()))));
        for wrong in ["", "ba", &hex[1..], &format!("{hex}00"), &hex.replace('f', "g"), &"é".repeat(32)] {
            assert!(KeyDigest::from_hex(wrong).is_err(), "{wrong}");
        }
    }
}
