//! The key of one realtime session, as the answer that issues it tells.
//!
//! Sources: <https://platform.openai.com/docs/api-reference/realtime-sessions/create-realtime-client-secret>.

use std::fmt;

use serde::Deserialize;

/// Prefix of every such key.
pub(crate) const PREFIX: &str = "ek_";

/// A key that a client hands on, to a browser for instance, to open one realtime session with. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub(crate) struct ClientSecret {
    /// The key.
    pub(crate) value: String,
    /// Time at which it ends, in seconds since 1970.
    pub(crate) expires_at: u64,
}

impl ClientSecret {
    /// Reads the answer of `realtime/client_secrets`, or of the older `realtime/sessions`, which has the same inside
    /// `client_secret`. `None` if there is no such key in it.
    #[must_use]
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let Answer { client_secret, value, expires_at } = serde_json::from_slice(body).ok()?;
        let secret = match client_secret {
            Some(secret) => secret,
            None => Self { value: value?, expires_at: expires_at? },
        };
        Some(secret).filter(|secret| secret.value.starts_with(PREFIX))
    }
}

#[derive(Deserialize)]
struct Answer {
    client_secret: Option<ClientSecret>,
    value: Option<String>,
    expires_at: Option<u64>,
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSecret").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<(String, u64)> {
        ClientSecret::read(body.as_bytes()).map(|secret| (secret.value, secret.expires_at))
    }

    #[test]
    fn both_answers_tell_their_key() {
        let expected = Some(("ek_1".to_owned(), 7));
        assert_eq!(read(r#"{"value":"ek_1","expires_at":7,"session":{"type":"realtime","model":"m"}}"#), expected);
        let older = r#"{"id":"sess_1","expires_at":0,"client_secret":{"value":"ek_1","expires_at":7}}"#;
        assert_eq!(read(older), expected);
    }

    #[test]
    fn nothing_else_does() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"value":"ek_1"}"#,
            r#"{"value":"sk-1","expires_at":7}"#,
            r#"{"value":"ek_1","expires_at":-7}"#,
            r#"{"session":{"value":"ek_1","expires_at":7}}"#,
            r#"{"value":"ek_1","expires_at":7"#,
        ] {
            assert_eq!(read(body), None, "{body}");
        }
    }

    #[test]
    fn debug_hides_it() {
        let secret = ClientSecret { value: "ek_1".to_owned(), expires_at: 7 };
        assert_eq!(format!("{secret:?}"), "ClientSecret { expires_at: 7, .. }");
    }
}
