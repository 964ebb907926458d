//! HTTP of the SDK: through our client, and never where a secret could be read on the way.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body as SdkBody, HttpClient, Request, StatusCode, Url};
use http_body_util::{BodyExt, Limited};
use tower::ServiceExt;

use super::failure::Failure;
use crate::body::Body;
use crate::client;
use crate::pool::is_loopback;

/// Time that the name, TCP and TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time that the answer may take. All of it has to fit into 10 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// A token with a thousand group claims is below a tenth of this.
const LARGEST_ANSWER: usize = 1 << 20;

/// The SDK's transport over [`client::HttpClient`]: no redirects, no repeats, no proxy but [`through`](Self::through) one, answers of at most 1 MiB.
#[derive(Clone, Debug)]
pub struct Transport(client::HttpClient);

impl Transport {
    /// A client of its own, which gives up within 10 s.
    ///
    /// # Errors
    /// TLS could not be set up.
    pub fn new() -> Result<Self, client::BuildError> {
        Self::builder().build().map(Self)
    }

    /// The same through a proxy, which does not lead to the machine's own identity endpoints.
    ///
    /// # Errors
    /// TLS could not be set up.
    pub fn through(proxy: client::Proxy) -> Result<Self, client::BuildError> {
        Self::builder().proxy(proxy).build().map(Self)
    }

    fn builder() -> client::HttpClientBuilder {
        client::HttpClient::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .answer_timeout(ANSWER_TIMEOUT)
            .idle_timeout(ANSWER_TIMEOUT)
    }

    /// Over a client that knows more, as a CA or the address of an authority.
    #[must_use]
    pub const fn with_client(client: client::HttpClient) -> Self {
        Self(client)
    }

    async fn send(&self, request: http::Request<Body>) -> Result<AsyncRawResponse, Failure> {
        let answer = self.0.clone().oneshot(request).await.map_err(|failed| Failure::of_attempt(&failed))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|_| Failure::UNREADABLE)?;
        let mut headers = Headers::new();
        for (name, value) in &head.headers {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(AsyncRawResponse::from_bytes(StatusCode::from(head.status.as_u16()), headers, body.to_bytes()))
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let request = translate(request).ok_or(Failure::UNSENDABLE).map_err(Failure::into_sdk)?;
        self.send(request).await.map_err(Failure::into_sdk)
    }
}

/// `None` for what an `http::Request` cannot express, and for a streamed body, which no credential sends.
fn translate(request: &Request) -> Option<http::Request<Body>> {
    let SdkBody::Bytes(body) = request.body() else { return None };
    let mut translated = http::Request::builder().method(request.method().as_str()).uri(request.url().as_str());
    for (name, value) in request.headers().iter() {
        translated = translated.header(name.as_str(), value.as_str());
    }
    translated.body(Body::from(body.clone())).ok()
}

/// Stands before any transport: decides where secrets may go, and turns every answer but a success into a [`Failure`].
#[derive(Debug)]
pub(super) struct Guarded(pub(super) Arc<dyn HttpClient>);

#[async_trait]
impl HttpClient for Guarded {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        if !may_carry_secrets(request.url()) {
            return Err(Failure::PLAIN.into_sdk());
        }
        let answer = self.0.execute_request(request).await.map_err(|error| Failure::of(&error).into_sdk())?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.into_body().collect().await.unwrap_or_default();
        Err(Failure::answered(status, &body).into_sdk())
    }
}

/// Plain http is fine where it does not leave this machine or its own link, which no router forwards (RFC 3927 §7): there
/// are the instance metadata service, at 169.254.169.254, and the identity endpoint of App Service on Linux.
pub(super) fn may_carry_secrets(url: &Url) -> bool {
    let is_link_local = |host: &str| host.parse().is_ok_and(|address: Ipv4Addr| address.is_link_local());
    let is_local = || url.host_str().is_some_and(|host| is_loopback(host) || is_link_local(host));
    url.scheme() == "https" || url.scheme() == "http" && is_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_https_or_stay_on_the_machine() {
        for (url, expected) in [
            ("https://login.microsoftonline.com", true),
            ("http://169.254.169.254/metadata/identity/oauth2/token", true),
            ("http://169.254.129.3:8081/msi/token", true),
            ("http://127.0.0.1:41741/msi/token", true),
            ("http://[::1]:41741/msi/token", true),
            ("http://localhost:42356/msi/token", true),
            ("http://login.microsoftonline.com", false),
            ("http://10.0.0.4/msi/token", false),
            ("http://169.254.169.254.example/", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(may_carry_secrets(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
