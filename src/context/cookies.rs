use std::fmt;
use std::sync::Arc;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// The cookies that a client sent, kept for the gateway's own layers when their header is removed. Nothing of it is passed on.
#[derive(Clone)]
pub struct Cookies(Arc<[HeaderValue]>);

impl Cookies {
    /// Reads the cookies of the headers; `None` without any.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(COOKIE).iter().cloned().peekable();
        values.peek()?;
        Some(Self(values.collect()))
    }

    /// The values of the headers.
    #[must_use]
    pub fn values(&self) -> &[HeaderValue] {
        &self.0
    }
}

/// Shows their number, never their content.
impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies").field("len", &self.0.len()).finish()
    }
}
