use std::borrow::Cow;

/// Reason why an attempt failed, in words that name no host: resolvers, certificates and connectors put names into their errors,
/// so none of those is kept.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Reason {
    text: Cow<'static, str>,
    is_exhaustion: bool,
}

#[cfg_attr(not(feature = "client"), expect(dead_code, reason = "of the crate's own client"))]
impl Reason {
    pub(crate) const CONNECT_TIMEOUT: Self = Self::fixed("no connection in time");
    pub(crate) const UNRESOLVED: Self = Self::fixed("the name could not be resolved");
    /// This process, and not its peer.
    pub(crate) const EXHAUSTED: Self =
        Self { text: Cow::Borrowed("no descriptor, port or memory is left"), is_exhaustion: true };

    pub(crate) const fn fixed(text: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), is_exhaustion: false }
    }

    pub(crate) const fn new(text: String) -> Self {
        Self { text: Cow::Owned(text), is_exhaustion: false }
    }
}

impl Reason {
    pub(crate) const fn is_exhaustion(&self) -> bool {
        self.is_exhaustion
    }
}
