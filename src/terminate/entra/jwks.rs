//! A document of signing keys (RFC 7517 §5).

use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// RSA keys for signatures, by their ids.
#[derive(Default)]
pub(super) struct Keys(HashMap<Box<str>, Arc<DecodingKey>>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Rsa(Rsa),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct Rsa {
    kty: String,
    kid: String,
    n: String,
    e: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
}

impl Keys {
    /// Keys of another kind or for another use are left out: a symmetric one would make everybody who can read the document
    /// a signer. So are those that cannot be read.
    pub(super) fn read(document: &[u8]) -> Result<Self, &'static str> {
        let document: Document = serde_json::from_slice(document).map_err(|_| "the answer is no set of keys")?;
        let mut keys = Self::default();
        for entry in document.keys {
            let Entry::Rsa(rsa) = entry else { continue };
            if let Some(key) = rsa.key() {
                keys.0.entry(rsa.kid.into()).or_insert(Arc::new(key));
            }
        }
        if keys.0.is_empty() { Err("the answer holds no RSA key for signatures") } else { Ok(keys) }
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<DecodingKey>> {
        self.0.get(id).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Rsa {
    fn key(&self) -> Option<DecodingKey> {
        let is_for_us = self.kty == "RSA"
            && self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.alg.as_deref().is_none_or(|algorithm| algorithm == "RS256");
        is_for_us.then(|| DecodingKey::from_rsa_components(&self.n, &self.e).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(document: &str) -> Result<Vec<String>, &'static str> {
        let mut ids: Vec<_> = Keys::read(document.as_bytes())?.0.into_keys().map(String::from).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    #[test]
    fn only_rsa_keys_for_signatures_are_taken() {
        let document = r#"{"keys":[
            {"kty":"RSA","kid":"plain","n":"AQAB","e":"AQAB"},
            {"kty":"RSA","kid":"full","n":"AQAB","e":"AQAB","use":"sig","alg":"RS256","x5c":["x"],"issuer":"i"},
            {"kty":"RSA","kid":"encrypts","n":"AQAB","e":"AQAB","use":"enc"},
            {"kty":"RSA","kid":"other","n":"AQAB","e":"AQAB","alg":"RS512"},
            {"kty":"RSA","n":"AQAB","e":"AQAB"},
            {"kty":"RSA","kid":"broken","n":"??","e":"AQAB"},
            {"kty":"oct","kid":"secret","k":"AQAB"},
            {"kty":"oct","kid":"disguised","k":"AQAB","n":"AQAB","e":"AQAB"},
            {"kty":"EC","kid":"curve","crv":"P-256","x":"AQAB","y":"AQAB"},
            {"kty":1}, [], null, "RSA"
        ]}"#;
        assert_eq!(ids(document), Ok(vec!["full".to_owned(), "plain".to_owned()]));
    }

    #[test]
    fn a_document_without_one_is_no_set() {
        for document in
            ["", "<html>", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","kid":"a"}]}"#]
        {
            assert!(ids(document).is_err(), "{document}");
        }
    }
}
