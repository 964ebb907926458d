/// Limits of a client. 0 is no limit.
///
/// Part of a [`Client`](super::Client); held by [`ClientLimitLayer`](crate::limit::ClientLimitLayer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[must_use]
#[non_exhaustive]
pub struct Limits {
    /// Tokens, of prompts and answers together, in a minute.
    pub tokens_per_minute: u64,
    /// Requests in a minute.
    pub requests_per_minute: u64,
    /// Tokens in a day, by UTC.
    pub tokens_per_day: u64,
}

impl Limits {
    /// No limit at all.
    pub const NONE: Self = Self { tokens_per_minute: 0, requests_per_minute: 0, tokens_per_day: 0 };

    /// No limit until said otherwise.
    pub const fn new() -> Self {
        Self::NONE
    }

    /// Limits the tokens of a minute.
    pub const fn tokens_per_minute(mut self, tokens: u64) -> Self {
        self.tokens_per_minute = tokens;
        self
    }

    /// Limits the requests of a minute.
    pub const fn requests_per_minute(mut self, requests: u64) -> Self {
        self.requests_per_minute = requests;
        self
    }

    /// Limits the tokens of a day.
    pub const fn tokens_per_day(mut self, tokens: u64) -> Self {
        self.tokens_per_day = tokens;
        self
    }

    /// Tells whether nothing is limited.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.tokens_per_minute == 0 && self.requests_per_minute == 0 && self.tokens_per_day == 0
    }

    /// Tells whether tokens are limited.
    #[must_use]
    pub const fn counts_tokens(&self) -> bool {
        self.tokens_per_minute != 0 || self.tokens_per_day != 0
    }
}
