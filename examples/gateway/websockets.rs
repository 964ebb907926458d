//! WebSockets that are open, and by whose key.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, Uri};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

use crate::config::{Authentication, Config};
use crate::patience::Vigil;

/// Prefix of the subprotocol as which browsers offer a key.
const PROTOCOL_KEY: &str = "openai-insecure-api-key.";

/// The connections that were upgraded, so that they end with the key that opened them.
#[derive(Clone, Default)]
pub(crate) struct WebSockets(Arc<Mutex<Vec<Open>>>);

struct Open {
    connection: Weak<Vigil>,
    client: String,
    shown: Shown,
}

/// Digests of all that could be a key in the head of a handshake.
pub(crate) struct Shown(Vec<[u8; 32]>);

impl Shown {
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap) -> Self {
        let names = ["api-key", AUTHORIZATION.as_str(), "ocp-apim-subscription-key", SEC_WEBSOCKET_PROTOCOL.as_str()];
        let values = names.iter().flat_map(|name| headers.get_all(*name)).filter_map(|value| value.to_str().ok());
        let words = values.flat_map(|value| value.split([' ', ',', '\t'])).map(|word| word.trim().to_owned());
        let words = words.map(|word| word.strip_prefix(PROTOCOL_KEY).map_or_else(|| word.clone(), str::to_owned));
        let parameters = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let parameters = parameters.map(|(_, value)| percent_decode_str(value).decode_utf8_lossy().into_owned());
        Self(words.chain(parameters).map(|key| Sha256::digest(key).into()).collect())
    }

    fn has(&self, digest: &[u8; 32]) -> bool {
        self.0.contains(digest)
    }
}

impl WebSockets {
    pub(crate) fn add(&self, connection: &Arc<Vigil>, client: &str, shown: Shown) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|open| open.connection.strong_count() > 0);
        open.push(Open { connection: Arc::downgrade(connection), client: client.to_owned(), shown });
    }

    /// Ends those whose client, or whose key, is not in the configuration any more.
    pub(crate) fn end_unknown(&self, before: &Config, now: &Config) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for open in open.iter().filter(|open| !open.is_known(before, now)) {
            if let Some(connection) = open.connection.upgrade() {
                tracing::info!(client = open.client, "a WebSocket ends: its key is not valid any more");
                connection.cut();
            }
        }
    }
}

impl Open {
    fn is_known(&self, before: &Config, now: &Config) -> bool {
        if now.authentication == Authentication::None {
            return true;
        }
        let keys = |config: &Config| {
            let client = config.clients.iter().find(|client| client.id == self.client);
            client.map(|client| client.keys.iter().any(|key| self.shown.has(&key.0)))
        };
        match (keys(before), keys(now)) {
            (_, None) => false,
            (Some(true), Some(by_key)) => by_key,
            // By a token, which says itself when it ends.
            (_, Some(_)) => true,
        }
    }
}
