use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tower::BoxError;

use crate::context::Limits;

/// Keeps the accounts of clients: what each has left of its [`Limits`].
///
/// The suite in [`conformance`](super::conformance) (feature `testkit`) checks an implementation against what stands here.
pub trait LimitStore: fmt::Debug + Send + Sync {
    /// Admits a request if each of the limits has at least one left, and then takes one request and `tokens` tokens from them,
    /// into debt if need be. Looking and taking are one step, so that a crowd cannot share the last one. Nothing is taken from a
    /// request that is refused.
    ///
    /// `tokens` is `None` for a request that uses none: limits of tokens do not concern it.
    fn reserve(&self, account: &Arc<str>, limits: Limits, tokens: Option<u64>) -> LimitFuture<'_, Decision>;

    /// Corrects what was taken for a request that was admitted: `reserved` tokens, of which `used` were used. With `used` at
    /// `None` nothing was processed, and the request is given back too.
    ///
    /// Called once for each admitted request, also when its client has left.
    fn settle(
        &self,
        account: &Arc<str>,
        limits: Limits,
        reserved: Reservation,
        used: Option<u64>,
    ) -> LimitFuture<'_, Balance>;

    /// Takes `tokens` more for a request that was settled and goes on, such as a session of many answers.
    fn charge(&self, account: &Arc<str>, limits: Limits, tokens: u64) -> LimitFuture<'_, Balance> {
        self.settle(account, limits, Reservation::new(Some(0), 0), Some(tokens))
    }

    /// Reads what is left, without taking anything.
    fn balance(&self, account: &Arc<str>, limits: Limits) -> LimitFuture<'_, Balance>;
}

impl<S: LimitStore + ?Sized> LimitStore for Arc<S> {
    fn reserve(&self, account: &Arc<str>, limits: Limits, tokens: Option<u64>) -> LimitFuture<'_, Decision> {
        (**self).reserve(account, limits, tokens)
    }

    fn settle(
        &self,
        account: &Arc<str>,
        limits: Limits,
        reserved: Reservation,
        used: Option<u64>,
    ) -> LimitFuture<'_, Balance> {
        (**self).settle(account, limits, reserved, used)
    }

    fn charge(&self, account: &Arc<str>, limits: Limits, tokens: u64) -> LimitFuture<'_, Balance> {
        (**self).charge(account, limits, tokens)
    }

    fn balance(&self, account: &Arc<str>, limits: Limits) -> LimitFuture<'_, Balance> {
        (**self).balance(account, limits)
    }
}

/// The future of a [`LimitStore`].
pub type LimitFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// Answer of a store to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It may go on.
    Admitted {
        /// Amounts that were taken.
        reservation: Reservation,
        /// Amounts that are left after that.
        balance: Balance,
    },
    /// It may not.
    Refused {
        /// Limit that has nothing left; of several, the one that takes longest.
        limit: Limit,
        /// Time until one is left.
        wait: Duration,
        /// Balance that is left.
        balance: Balance,
    },
}

/// Amounts that were taken for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reservation {
    /// Tokens; `None` when the request uses none.
    pub tokens: Option<u64>,
    /// The day of which they were taken, in days since 1970.
    pub day: u64,
    /// For the store's own use: what it needs to know again when the reservation is settled.
    pub mark: u32,
}

impl Reservation {
    /// Tokens that were taken of a day.
    #[must_use]
    pub const fn new(tokens: Option<u64>, day: u64) -> Self {
        Self { tokens, day, mark: 0 }
    }

    /// The same, marked by its store.
    #[must_use]
    pub const fn marked(mut self, mark: u32) -> Self {
        self.mark = mark;
        self
    }
}

/// A limit, by its name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// `requests_per_minute`
    RequestsPerMinute,
    /// `tokens_per_day`
    TokensPerDay,
    /// `tokens_per_minute`
    TokensPerMinute,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 3] = [Self::RequestsPerMinute, Self::TokensPerDay, Self::TokensPerMinute];

    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerDay => "tokens_per_day",
            Self::TokensPerMinute => "tokens_per_minute",
        }
    }
}

/// Remainders of the limits that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Balance {
    /// Requests of the minute.
    pub requests: Option<Left>,
    /// Tokens of the minute.
    pub tokens: Option<Left>,
    /// Tokens of the day.
    pub tokens_today: Option<Left>,
}

/// Remainder of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Left {
    /// Number that is left; none in debt.
    pub count: u64,
    /// Time until nothing is missing.
    pub until_full: Duration,
}

impl Left {
    /// So many, and so long.
    #[must_use]
    pub const fn new(count: u64, until_full: Duration) -> Self {
        Self { count, until_full }
    }
}
