use std::collections::HashMap;
use std::fmt;
use std::future::{Ready, ready};
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Authenticate, Presented};
use crate::context::Client;

/// The SHA-256 digest of a key: all that is kept of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of a key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }
}

impl From<[u8; 32]> for KeyDigest {
    fn from(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

/// Reads 64 hexadecimal digits.
impl FromStr for KeyDigest {
    type Err = RegistryError;

    fn from_str(hex: &str) -> Result<Self, RegistryError> {
        let mut digest = [0; 32];
        let pairs = hex.as_bytes().chunks(2);
        if hex.len() != 64 {
            return Err(RegistryError("a SHA-256 digest has 64 hexadecimal digits".to_owned()));
        }
        for (byte, pair) in digest.iter_mut().zip(pairs) {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|c| c.is_ascii_hexdigit()));
            let value = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
            *byte = value.ok_or_else(|| RegistryError("a SHA-256 digest has hexadecimal digits only".to_owned()))?;
        }
        Ok(Self(digest))
    }
}

/// Lowercase hexadecimal digits.
impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest")
    }
}

/// Clients by their keys. Cheap to clone; all clones see a [`replace`](Self::replace).
///
/// Keys are compared by SHA-256 digest, so how long a look-up takes says nothing of how much of a key matched.
#[derive(Clone)]
pub struct ClientRegistry(Arc<ArcSwap<Keys>>);

/// Found by a part of the digest, then compared whole in constant time.
type Keys = HashMap<[u8; 8], Vec<(KeyDigest, Client)>>;

impl ClientRegistry {
    /// Starts with no key.
    pub fn builder() -> ClientRegistryBuilder {
        ClientRegistryBuilder::default()
    }

    /// Takes the keys of another registry from now on. Requests that were admitted go on.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// The client that a key belongs to.
    #[must_use]
    pub fn client(&self, key: &[u8]) -> Option<Client> {
        let digest = KeyDigest::of(key);
        let keys = self.0.load();
        let alike = keys.get(&prefix(&digest))?;
        alike.iter().find(|(known, _)| bool::from(known.0.ct_eq(&digest.0))).map(|(_, client)| client.clone())
    }
}

fn prefix(digest: &KeyDigest) -> [u8; 8] {
    std::array::from_fn(|i| digest.0[i])
}

impl Authenticate for ClientRegistry {
    type Future = Ready<Option<Client>>;

    fn authenticate(&self, presented: &Presented) -> Self::Future {
        ready(self.client(presented.secret()))
    }
}

impl fmt::Debug for ClientRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: usize = self.0.load().values().map(Vec::len).sum();
        f.debug_struct("ClientRegistry").field("keys", &keys).finish()
    }
}

/// Collects keys; made by [`ClientRegistry::builder`].
#[derive(Debug, Default)]
#[must_use]
pub struct ClientRegistryBuilder {
    keys: Vec<(KeyDigest, Client)>,
}

impl ClientRegistryBuilder {
    /// A key of a client. A client may have several, so that keys can be changed without a pause.
    pub fn add_key(self, client: Client, key: impl AsRef<[u8]>) -> Self {
        self.add_digest(client, KeyDigest::of(key.as_ref()))
    }

    /// A key of a client, by its digest.
    pub fn add_digest(mut self, client: Client, digest: KeyDigest) -> Self {
        self.keys.push((digest, client));
        self
    }

    /// Makes the registry.
    ///
    /// # Errors
    /// A key is empty, or belongs to two clients.
    pub fn build(self) -> Result<ClientRegistry, RegistryError> {
        let empty = KeyDigest::of(b"");
        let mut keys = Keys::new();
        for (digest, client) in self.keys {
            if digest == empty {
                return Err(RegistryError(format!("a key of client `{}` is empty", client.id())));
            }
            let alike = keys.entry(prefix(&digest)).or_default();
            match alike.iter().find(|(known, _)| *known == digest) {
                Some((_, other)) if other.id() != client.id() => {
                    return Err(RegistryError(format!(
                        "clients `{}` and `{}` have the same key",
                        other.id(),
                        client.id()
                    )));
                }
                Some(_) => {}
                None => alike.push((digest, client)),
            }
        }
        Ok(ClientRegistry(Arc::new(ArcSwap::from_pointee(keys))))
    }
}

/// Why keys cannot be registered. Never holds a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegistryError(String);
