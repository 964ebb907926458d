//! `[entra]`: which tokens of Microsoft Entra ID are accepted, and `[[clients]].entra`: for whom they stand.

use http::Uri;

use super::endpoint;
use super::reader::Section;
use super::value::name;

#[derive(Debug)]
pub(crate) struct Entra {
    pub(crate) tenant_id: String,
    /// At least one.
    pub(crate) audience: Vec<String>,
    pub(crate) issuer: String,
    /// https, or http on this machine.
    pub(crate) jwks_url: String,
}

/// Client that a token names.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Caller {
    AppId(String),
    ObjectId(String),
    Role(String),
}

const AUTHORITY: &str = "https://login.microsoftonline.com/{tenant_id}";

impl Entra {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        if s.require("audience") && s.is_empty("audience") {
            s.problem("audience", "must not be empty");
        }
        s.require("tenant_id");
        let tenant_id = s.parsed("tenant_id", tenant).unwrap_or_default();
        let filled = |text: &str| text.replace("{tenant_id}", &tenant_id);
        Self {
            audience: s.names("audience"),
            issuer: filled(&s.name("issuer").unwrap_or_else(|| format!("{AUTHORITY}/v2.0"))),
            jwks_url: s
                .parsed("jwks_url", |text| keys_url(&filled(text)))
                .unwrap_or_else(|| filled(&format!("{AUTHORITY}/discovery/v2.0/keys"))),
            tenant_id,
        }
    }
}

/// It becomes part of URLs.
fn tenant(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    if is_plain && !text.is_empty() {
        Ok(text.to_owned())
    } else {
        Err("must be the id of a tenant, a GUID".to_owned())
    }
}

/// A tenant is sent nothing secret, but what comes back decides who gets in.
fn keys_url(text: &str) -> Result<String, String> {
    let uri: Option<Uri> = text.parse().ok();
    let uri = uri.filter(|uri| uri.authority().is_some_and(|authority| !authority.as_str().contains('@')));
    match uri {
        Some(uri) if endpoint::is_https(&uri) => Ok(text.to_owned()),
        Some(uri) if uri.scheme_str() == Some("http") && endpoint::is_loopback(&uri) => Ok(text.to_owned()),
        _ => Err("must be an https URL without credentials; plain http is for loopback only".to_owned()),
    }
}

impl Caller {
    pub(super) fn read(s: &mut Section<'_>) -> Option<Self> {
        let kind = s.one_of(&["app_id", "object_id", "role"])?;
        let value = s.parsed(kind, name)?;
        Some(match kind {
            "app_id" => Self::AppId(value.to_ascii_lowercase()),
            "object_id" => Self::ObjectId(value.to_ascii_lowercase()),
            _ => Self::Role(value),
        })
    }
}
