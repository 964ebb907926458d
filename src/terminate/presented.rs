use std::{fmt, iter, option, vec};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::context::{EphemeralKey, EphemeralKeys, is_ephemeral};
use crate::error::{Error, ErrorKind};
use crate::headers::{API_KEY, PROTOCOL_KEY, QUERY_KEYS, SUBSCRIPTION_KEY, may_carry_key, protocols, query_parameters};

/// Place in which a client put its credential, in the order in which they are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// The header `api-key`.
    ApiKey,
    /// `Authorization: Bearer …`: a key, or an Entra token.
    Bearer,
    /// The header `Ocp-Apim-Subscription-Key`.
    SubscriptionKey,
    /// The query parameter `api-key`.
    QueryApiKey,
    /// The query parameter `subscription-key`.
    QuerySubscriptionKey,
    /// The subprotocol `openai-insecure-api-key.…`, which browsers offer for a WebSocket.
    WebSocketProtocol,
}

impl Form {
    const ALL: [Self; 6] = [
        Self::ApiKey,
        Self::Bearer,
        Self::SubscriptionKey,
        Self::QueryApiKey,
        Self::QuerySubscriptionKey,
        Self::WebSocketProtocol,
    ];

    /// As a client would write it, without a value.
    const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "the header `api-key`",
            Self::Bearer => "the header `Authorization`",
            Self::SubscriptionKey => "the header `Ocp-Apim-Subscription-Key`",
            Self::QueryApiKey => "the query parameter `api-key`",
            Self::QuerySubscriptionKey => "the query parameter `subscription-key`",
            Self::WebSocketProtocol => "the header `Sec-WebSocket-Protocol`",
        }
    }
}

/// One credential as a client presented it. `Debug` shows its form only.
pub struct Presented {
    form: Form,
    secret: Secret,
}

enum Secret {
    /// The end of a header's value, from this byte on; shares the memory of the request's head.
    Header(HeaderValue, usize),
    Text(String),
}

impl Presented {
    /// Returns where it was found.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// Returns what is known of it, if it is an ephemeral key in a place of one.
    pub(super) fn ephemeral(&self, keys: &EphemeralKeys) -> Option<EphemeralKey> {
        let is_one = matches!(self.form, Form::Bearer | Form::WebSocketProtocol) && is_ephemeral(self.secret());
        if is_one { keys.find(self.secret()) } else { None }
    }

    fn is_bearer_token(&self) -> bool {
        matches!(self.secret, Secret::Header(_, start) if start > 0)
    }

    /// The key or token itself. Never empty.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        match &self.secret {
            Secret::Header(value, start) => value.as_bytes().get(*start..).unwrap_or_default(),
            Secret::Text(text) => text.as_bytes(),
        }
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").field("form", &self.form).finish_non_exhaustive()
    }
}

/// The credentials of one request, each form at most once, in order. Hardly any request has more than one.
pub(super) type Credentials = iter::Chain<option::IntoIter<Presented>, vec::IntoIter<Presented>>;

/// Reads every form.
///
/// # Errors
/// One form with two values: another parser could take the other one.
pub(super) fn read(headers: &HeaderMap, uri: &Uri) -> Result<Credentials, Error> {
    let read = |form| match form {
        Form::ApiKey => only(form, in_header(headers, &API_KEY)),
        Form::Bearer => Ok(only(form, authorization(headers))?.filter(Presented::is_bearer_token)),
        Form::SubscriptionKey => only(form, in_header(headers, &SUBSCRIPTION_KEY)),
        Form::QueryApiKey => only(form, in_query(uri, QUERY_KEYS[0])),
        Form::QuerySubscriptionKey => only(form, in_query(uri, QUERY_KEYS[1])),
        Form::WebSocketProtocol => only(form, in_protocols(headers)),
    };
    let mut found = Form::ALL.into_iter().filter_map(|form| read(form).transpose());
    let (first, others) = (found.next().transpose()?, found.collect::<Result<Vec<_>, _>>()?);
    Ok(first.into_iter().chain(others))
}

fn only(form: Form, secrets: impl Iterator<Item = Secret>) -> Result<Option<Presented>, Error> {
    let mut presented = secrets.map(|secret| Presented { form, secret }).filter(|one| !one.secret().is_empty());
    let first = presented.next();
    // Some client libraries add the same header again when they retry.
    if presented.any(|other| first.as_ref().is_some_and(|first| first.secret() != other.secret())) {
        let message = format!("The request carries two different keys in {}. Send one.", form.as_str());
        return Err(Error::new(ErrorKind::AmbiguousRequest, message));
    }
    Ok(first)
}

fn in_header(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = Secret> {
    headers.get_all(name).iter().map(|value| Secret::Header(value.clone(), 0))
}

/// The token of each value, or the whole of one with another scheme: that identifies nobody, but two readers could take
/// different ones.
fn authorization(headers: &HeaderMap) -> impl Iterator<Item = Secret> {
    headers.get_all(AUTHORIZATION).iter().map(|value| {
        let token = value.as_bytes().split_at_checked(b"Bearer".len()).and_then(|(scheme, rest)| {
            let token = rest.trim_ascii_start();
            (scheme.eq_ignore_ascii_case(b"Bearer") && token.len() < rest.len()).then_some(token)
        });
        Secret::Header(value.clone(), token.map_or(0, |token| value.len() - token.len()))
    })
}

fn in_query<'a>(uri: &'a Uri, key: &'a str) -> impl Iterator<Item = Secret> {
    let query = uri.query().filter(|query| may_carry_key(query)).unwrap_or_default();
    let found = query_parameters(query).filter(move |(name, ..)| name.eq_ignore_ascii_case(key));
    found.map(|(_, value, _)| Secret::Text(value.into_owned()))
}

fn in_protocols(headers: &HeaderMap) -> impl Iterator<Item = Secret> {
    protocols(headers)
        .filter_map(|protocol| protocol.strip_prefix(PROTOCOL_KEY))
        .map(|key| Secret::Text(key.to_owned()))
}
