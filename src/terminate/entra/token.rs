//! One token: its shape, its signature, its claims.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::{LEEWAY, MAX_TOKEN};
use crate::context::{Client, ClientToken};
use crate::terminate::{Form, Presented};

/// The longest id of a key; those of Entra have 27 characters.
const MAX_KEY_ID: usize = 256;

/// Token whose shape could be accepted. Nothing in it is to be believed yet.
pub(super) struct Token {
    text: Vec<u8>,
    key_id: String,
}

impl Token {
    pub(super) fn read(presented: &Presented) -> Option<Self> {
        let text = presented.secret();
        if presented.form() != Form::Bearer || text.len() > MAX_TOKEN {
            return None;
        }
        let header = decode_header(text).ok()?;
        let key_id = header.kid.filter(|id| !id.is_empty() && id.len() <= MAX_KEY_ID)?;
        // An extension that has to be understood and is not (RFC 7515 §4.1.11).
        let is_plain = header.alg == Algorithm::RS256 && header.crit.is_none();
        is_plain.then(|| Self { text: text.to_vec(), key_id })
    }

    /// The client that it names, for backends that take its own token.
    pub(super) fn go_with(&self, client: Client) -> Client {
        match ClientToken::new(&self.text) {
            Ok(token) => client.with_token(token),
            Err(_) => client,
        }
    }

    pub(super) fn key_id(&self) -> &str {
        &self.key_id
    }
}

/// Caller that a token names. Arrays where a text belongs are refused with the whole token.
#[derive(Deserialize)]
pub(super) struct Claims {
    /// Checked as a claim of the standard; here so that it must be one text.
    #[serde(rename = "iss")]
    _issuer: String,
    tid: String,
    azp: Option<String>,
    appid: Option<String>,
    pub(super) oid: Option<String>,
    #[serde(default)]
    pub(super) roles: Vec<String>,
}

impl Claims {
    pub(super) fn app_id(&self) -> Option<&str> {
        self.azp.as_deref().or(self.appid.as_deref())
    }
}

/// Rules that a token must keep.
pub(super) struct Rules {
    tenant_id: String,
    validation: Validation,
}

impl Rules {
    pub(super) fn new(tenant_id: &str, issuer: &str, audiences: &[String]) -> Self {
        // Whoever else uses the library may have chosen another provider already; without any it panics.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["aud", "exp", "iss", "nbf"]);
        validation.set_audience(audiences);
        validation.set_issuer(&[issuer, &format!("https://sts.windows.net/{tenant_id}/")]);
        Self { tenant_id: tenant_id.to_owned(), validation }
    }

    /// The claims of a token that is right in every respect; otherwise what is wrong, in a word.
    pub(super) fn check(&self, token: &Token, key: &DecodingKey) -> Result<Claims, &'static str> {
        let claims = decode::<Claims>(&token.text, key, &self.validation).map_err(|error| why(error.kind()))?.claims;
        if claims.tid.eq_ignore_ascii_case(&self.tenant_id) { Ok(claims) } else { Err("tenant") }
    }
}

/// The errors themselves can quote the token.
const fn why(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::InvalidSignature => "signature",
        ErrorKind::ExpiredSignature => "expired",
        ErrorKind::ImmatureSignature => "not valid yet",
        ErrorKind::InvalidIssuer => "issuer",
        ErrorKind::InvalidAudience => "audience",
        ErrorKind::MissingRequiredClaim(_) => "a claim is missing",
        _ => "malformed",
    }
}
