//! Tokens as Entra ID signs them, and the documents of keys that it publishes.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(unreachable_pub, reason = "tests have no outside")]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData, SigningKey};
use serde_json::{Value, json};

pub const TENANT: &str = "6f1b3a0e-9c43-4f0c-8d6b-0d2f1c3b5a77";
pub const AUDIENCE: &str = "api://contoso-gateway";
pub const APP: &str = "2c0f7e0a-55c1-4a43-8f39-3a0c4be1d1f2";
pub const OBJECT: &str = "9a1e6f7c-3b52-4d0e-a8f4-7c1d2e3f4a5b";

/// A key of the tenant, by its id.
pub struct Signer {
    key: KeyPair,
    pub id: String,
}

impl Signer {
    pub fn new(id: &str) -> Self {
        Self { key: KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(), id: id.to_owned() }
    }

    /// The modulus, out of `SEQUENCE { INTEGER n, INTEGER 65537 }` with an `n` of 2,048 bits.
    fn modulus(&self) -> &[u8] {
        let der = self.key.der_bytes();
        assert_eq!((der.len(), &der[265..]), (270, &[2, 3, 1, 0, 1][..]));
        &der[9..265]
    }

    /// What anybody can read of the key, which must not do for a signature.
    pub fn public(&self) -> &[u8] {
        self.key.der_bytes()
    }

    pub fn jwk(&self) -> Value {
        json!({ "kty": "RSA", "use": "sig", "kid": self.id, "n": encoded(self.modulus()), "e": "AQAB" })
    }

    /// A token with this header and these claims, whatever they say.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        format!("{message}.{}", encoded(self.key.sign(message.as_bytes()).unwrap()))
    }

    pub fn token(&self, claims: &Value) -> String {
        self.sign(&json!({ "typ": "JWT", "alg": "RS256", "kid": self.id }), claims)
    }
}

pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is signed.
pub fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()))
}

pub fn jwks<'a>(signers: impl IntoIterator<Item = &'a Signer>) -> Value {
    json!({ "keys": signers.into_iter().map(Signer::jwk).collect::<Vec<_>>() })
}

/// The time, this many seconds from now.
pub fn at(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

/// Claims of a valid version 2 token of [`APP`].
pub fn claims() -> Value {
    json!({
        "aud": AUDIENCE,
        "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
        "iat": at(-10), "nbf": at(-10), "exp": at(3_600),
        "azp": APP, "oid": OBJECT, "sub": "s", "tid": TENANT, "ver": "2.0",
    })
}

/// The same with one claim changed, or removed by `null`.
pub fn claims_with(name: &str, value: impl Into<Value>) -> Value {
    let (mut claims, value) = (claims(), value.into());
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}
