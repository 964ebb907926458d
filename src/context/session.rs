use std::fmt;
use std::sync::Arc;

/// The name that a caller gave its session. Of a request without a [`Client`](super::Client) it decides the
/// [release](crate::pool::Release).
#[derive(Clone, PartialEq, Eq)]
pub struct Session(Arc<str>);

impl Session {
    /// A session by its name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// Nothing of the name, which came in a header.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
