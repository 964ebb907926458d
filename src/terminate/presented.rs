use std::fmt;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use crate::error::{Error, ErrorKind};
use crate::headers::{API_KEY, PROTOCOL_KEY, SUBSCRIPTION_KEY, parameters, protocols};

/// How a client can present a credential, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Form {
    /// The `api-key` header.
    ApiKey,
    /// `Authorization: Bearer`, which may hold a key or a token.
    Bearer,
    /// The `Ocp-Apim-Subscription-Key` header.
    SubscriptionKey,
    /// The query parameter `api-key`.
    QueryApiKey,
    /// The query parameter `subscription-key`.
    QuerySubscriptionKey,
    /// The WebSocket subprotocol by which browsers present a key.
    WebSocketProtocol,
}

impl Form {
    const fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "the header api-key",
            Self::Bearer => "the header authorization",
            Self::SubscriptionKey => "the header ocp-apim-subscription-key",
            Self::QueryApiKey => "the query parameter api-key",
            Self::QuerySubscriptionKey => "the query parameter subscription-key",
            Self::WebSocketProtocol => "the WebSocket subprotocols",
        }
    }
}

/// A credential as a client presented it. `Debug` shows the form only.
#[derive(Clone, PartialEq, Eq)]
pub struct Presented {
    form: Form,
    secret: Bytes,
}

impl Presented {
    /// How it was presented.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// The key or token.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").field("form", &self.form).finish_non_exhaustive()
    }
}

/// Every credential of a request, in the order of [`Form`].
pub(super) fn find<B>(request: &Request<B>) -> Result<Vec<Presented>, Error> {
    let mut found = Found(Vec::new());
    let headers = request.headers();
    found.add_all(Form::ApiKey, values(headers, &API_KEY).map(bytes))?;
    found.add_all(Form::Bearer, values(headers, &AUTHORIZATION).filter_map(bearer))?;
    found.add_all(Form::SubscriptionKey, values(headers, &SUBSCRIPTION_KEY).map(bytes))?;
    let query = request.uri().query().unwrap_or_default();
    for (form, key) in [(Form::QueryApiKey, "api-key"), (Form::QuerySubscriptionKey, "subscription-key")] {
        let named = parameters(query).filter(|(name, _)| name.eq_ignore_ascii_case(key));
        found.add_all(form, named.map(|(_, value)| Bytes::from(value.into_owned())))?;
    }
    let offered = protocols(headers).filter_map(|protocol| protocol.strip_prefix(PROTOCOL_KEY));
    found.add_all(Form::WebSocketProtocol, offered.map(|key| Bytes::copy_from_slice(key.as_bytes())))?;
    Ok(found.0)
}

struct Found(Vec<Presented>);

impl Found {
    fn add_all(&mut self, form: Form, mut secrets: impl Iterator<Item = Bytes>) -> Result<(), Error> {
        let Some(secret) = secrets.next() else { return Ok(()) };
        if secrets.any(|other| other != secret) {
            let message = format!("Two different credentials in {}. Send one.", form.name());
            return Err(Error::new(ErrorKind::AmbiguousRequest, message));
        }
        if !secret.is_empty() {
            self.0.push(Presented { form, secret });
        }
        Ok(())
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a HeaderValue> {
    headers.get_all(name).into_iter()
}

fn bytes(value: &HeaderValue) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

/// What stands behind `Bearer`; the scheme's name is case-insensitive (RFC 9110 §11.1).
fn bearer(value: &HeaderValue) -> Option<Bytes> {
    let (scheme, secret) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| Bytes::copy_from_slice(secret.trim_ascii()))
}
