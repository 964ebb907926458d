//! Requests that a backend received.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version};
use tokio::time::Instant;

/// A request as a [`SimulatedBackend`](super::SimulatedBackend) received it, credentials included.
///
/// `Debug` shows the names of headers and the size of the body, never a value, and no query: they may hold keys.
#[derive(Clone)]
#[non_exhaustive]
pub struct ReceivedRequest {
    /// The method.
    pub method: Method,
    /// The URI: as it was given to the service, or the path and query that came over HTTP/1.1.
    pub uri: Uri,
    /// The HTTP version.
    pub version: Version,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Time at which the last byte of the body had arrived.
    pub at: Instant,
}

impl ReceivedRequest {
    /// The first value of a header, when it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for ReceivedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedRequest")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("version", &self.version)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_len", &self.body.len())
            .field("at", &self.at)
            .finish()
    }
}
