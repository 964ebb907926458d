use std::fmt;
use std::future::{Ready, ready};
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use tower::BoxError;

use super::{Authenticate, Presented};
use crate::context::Client;
use crate::problems::Problems;

/// Clients by their API keys, of which only SHA-256 digests are kept. Clones share one set, which can be replaced at run time.
///
/// A client may have several keys, so that they can be rotated.
///
/// ```
/// use tower_azure_openai::{context::Client, terminate::ClientRegistry};
///
/// let team = Client::new("team-a");
/// let registry = ClientRegistry::builder().add_key(team.clone(), "old-key").add_key(team, "new-key").build()?;
/// assert_eq!(format!("{registry:?}"), "ClientRegistry { keys: 2 }");
///
/// registry.replace(&ClientRegistry::builder().add_key(Client::new("team-a"), "new-key").build()?);
/// assert!(registry.find(b"old-key").is_none());
/// # Ok::<_, tower_azure_openai::terminate::RegistryError>(())
/// ```
#[derive(Clone)]
pub struct ClientRegistry(Arc<ArcSwap<Table>>);

impl ClientRegistry {
    /// An empty description.
    pub fn builder() -> ClientRegistryBuilder {
        ClientRegistryBuilder::default()
    }

    /// Takes over the keys of another registry, for all clones at once.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// Returns whose key it is.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<Client> {
        self.0.load().find(&KeyDigest::of(key)).cloned()
    }
}

impl Authenticate for ClientRegistry {
    type Future = Ready<Result<Option<Client>, BoxError>>;

    fn authenticate(&self, presented: &Presented) -> Self::Future {
        ready(Ok(self.find(presented.secret())))
    }

    fn at_once(&self, presented: &Presented) -> Option<Option<Client>> {
        Some(self.find(presented.secret()))
    }
}

impl fmt::Debug for ClientRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRegistry").field("keys", &self.0.load().0.len()).finish()
    }
}

/// Sorted by digest, each once.
struct Table(Box<[Entry]>);

struct Entry {
    digest: KeyDigest,
    client: Client,
}

impl Table {
    /// The search looks at the first bytes only, which tell nothing of a key; whole digests are compared in constant time.
    fn find(&self, digest: &KeyDigest) -> Option<&Client> {
        let start = self.0.partition_point(|entry| entry.digest.prefix() < digest.prefix());
        let alike = self.0.iter().skip(start).take_while(|entry| entry.digest.prefix() == digest.prefix());
        alike.into_iter().find(|entry| entry.digest.matches(digest)).map(|entry| &entry.client)
    }
}

/// The SHA-256 digest of a key. `Debug` does not show it.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of this key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    const fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl From<[u8; 32]> for KeyDigest {
    fn from(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

/// Reads 64 hexadecimal digits, such as `sha256sum` prints.
impl FromStr for KeyDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(ParseDigestError);
        }
        let mut digest = [0; 32];
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = hex(*high)? << 4 | hex(*low)?;
        }
        Ok(Self(digest))
    }
}

fn hex(digit: u8) -> Result<u8, ParseDigestError> {
    let value = char::from(digit).to_digit(16).ok_or(ParseDigestError)?;
    u8::try_from(value).map_err(|_| ParseDigestError)
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyDigest").finish_non_exhaustive()
    }
}

/// A text that is not a SHA-256 digest. The message does not repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a SHA-256 digest is 64 hexadecimal digits")]
#[non_exhaustive]
pub struct ParseDigestError;

/// Describes a [`ClientRegistry`].
#[derive(Clone, Default)]
#[must_use]
pub struct ClientRegistryBuilder(Vec<(KeyDigest, Client)>);

impl ClientRegistryBuilder {
    /// Adds a key of a client; call it again for each further key.
    pub fn add_key(self, client: Client, key: impl AsRef<[u8]>) -> Self {
        self.add_key_sha256(client, KeyDigest::of(key.as_ref()))
    }

    /// Adds a key of a client by its digest.
    pub fn add_key_sha256(mut self, client: Client, digest: impl Into<KeyDigest>) -> Self {
        self.0.push((digest.into(), client));
        self
    }

    /// Checks the description and makes the registry.
    ///
    /// # Errors
    /// A key that is empty, or that stands for two clients: every problem at once, naming the clients, never a key.
    pub fn build(mut self) -> Result<ClientRegistry, RegistryError> {
        self.empty_keys().chain(self.shared_keys()).collect::<Problems>().check().map_err(RegistryError)?;
        self.0.sort_by_key(|(digest, _)| digest.0);
        self.0.dedup_by_key(|(digest, _)| digest.0);
        let entries = self.0.into_iter().map(|(digest, client)| Entry { digest, client }).collect();
        Ok(ClientRegistry(Arc::new(ArcSwap::from_pointee(Table(entries)))))
    }

    fn empty_keys(&self) -> impl Iterator<Item = String> {
        let empty = KeyDigest::of(b"");
        let with_empty = self.0.iter().filter(move |(digest, _)| digest.matches(&empty));
        with_empty.map(|(_, client)| format!("client `{}` has an empty key", client.id()))
    }

    fn shared_keys(&self) -> impl Iterator<Item = String> {
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort_by_key(|(digest, _)| digest.0);
        let shared = |pair: &[&(KeyDigest, Client)]| match pair {
            [(a, first), (b, second)] if a.0 == b.0 && first != second => {
                Some(format!("clients `{}` and `{}` have the same key", first.id(), second.id()))
            }
            _ => None,
        };
        sorted.windows(2).filter_map(shared).collect::<Vec<_>>().into_iter()
    }
}

impl fmt::Debug for ClientRegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRegistryBuilder").field("keys", &self.0.len()).finish()
    }
}

/// Problems of the description of a registry, all of them. No key appears in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct RegistryError(Problems);

impl RegistryError {
    /// One sentence for each problem.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(builder: ClientRegistryBuilder) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn finds_each_key_and_no_other() {
        let keys: Vec<_> = (0..1_000).map(|i| format!("key-{i}")).collect();
        let builder =
            keys.iter().fold(ClientRegistry::builder(), |builder, key| builder.add_key(Client::new(key.as_str()), key));
        let registry = builder.build().unwrap();
        for key in &keys {
            assert_eq!(registry.find(key.as_bytes()).unwrap().id(), key);
            assert!(registry.find(format!("{key}x").as_bytes()).is_none());
        }
    }

    #[test]
    fn digests_that_begin_alike_are_told_apart() {
        let [mut a, mut b] = [[7; 32]; 2];
        (a[31], b[31]) = (1, 2);
        let table = ClientRegistry::builder()
            .add_key_sha256(Client::new("a"), a)
            .add_key_sha256(Client::new("b"), b)
            .build()
            .unwrap();
        let table = table.0.load();
        assert_eq!(table.find(&b.into()).unwrap().id(), "b");
        assert_eq!(table.find(&a.into()).unwrap().id(), "a");
        assert!(table.find(&[7; 32].into()).is_none());
    }

    #[test]
    fn reads_what_sha256sum_prints() {
        let hex = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";
        for hex in [hex.to_owned(), hex.to_uppercase()] {
            assert!(hex.parse::<KeyDigest>().unwrap().matches(&KeyDigest::of(b"key")));
        }
        for wrong in ["", &hex[1..], &hex[2..], &format!("{hex}00"), &hex.replace('2', "g"), &"+1".repeat(32)] {
            assert_eq!(wrong.parse::<KeyDigest>().unwrap_err(), ParseDigestError, "{wrong}");
        }
    }

    #[test]
    fn names_every_problem_and_no_key() {
        let (a, b) = (Client::new("a"), Client::new("b"));
        let builder = ClientRegistry::builder().add_key(a.clone(), "sesame").add_key(b.clone(), "sesame");
        assert_eq!(error(builder), "clients `a` and `b` have the same key");
        let builder = ClientRegistry::builder().add_key(a.clone(), "").add_key_sha256(b, KeyDigest::of(b""));
        assert_eq!(
            error(builder),
            "client `a` has an empty key; client `b` has an empty key; clients `a` and `b` have the same key"
        );
        let twice = ClientRegistry::builder().add_key(a.clone(), "sesame").add_key(a, "sesame").build().unwrap();
        assert_eq!(format!("{twice:?}"), "ClientRegistry { keys: 1 }");
    }
}
