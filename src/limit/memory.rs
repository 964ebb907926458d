use std::collections::HashMap;
use std::fmt;
use std::future::ready;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::bucket::Bucket;
use super::day::{Day, TimeOfDay};
use super::store::{Balance, Decision, Left, Limit, LimitFuture, LimitStore, Reservation};
use crate::context::{Client, Limits};
use crate::sync::{Mutex, MutexGuard, RwLock};

/// Number of accounts that there may be before those are given up that have their whole allowance, like new ones: 10,000.
const TIDY_AT: usize = if cfg!(loom) { 1 } else { 10_000 };

/// Accounts in the memory of this process. Clones share them.
///
/// What a minute has left is exact however many requests come at once: each account has a lock of its own. What a day has left is
/// forgotten when the process ends.
#[derive(Clone)]
pub struct MemoryLimits(Arc<Inner>);

struct Inner {
    accounts: RwLock<HashMap<Arc<str>, Arc<Mutex<Account>>>>,
    /// One moment by both clocks. Days go by with the clock that does not jump.
    start: (Instant, Duration),
}

#[derive(Debug)]
struct Account {
    requests: Bucket,
    tokens: Bucket,
    today: Day,
}

impl MemoryLimits {
    /// No accounts yet: each begins with its whole allowance.
    #[must_use]
    pub fn new() -> Self {
        Self::since(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }

    /// Accounts whose days begin as if it were so long after 1970 now, for tests of midnight.
    #[must_use]
    pub fn since(since_1970: Duration) -> Self {
        Self(Arc::new(Inner { accounts: RwLock::default(), start: (Instant::now(), since_1970) }))
    }

    /// Reads what a client has left of its limits.
    #[must_use]
    pub fn left(&self, client: &Client) -> Balance {
        let limits = client.limited_to();
        self.left_of(&client.shared_id(), limits)
    }

    pub(crate) fn left_of(&self, account: &Arc<str>, limits: Limits) -> Balance {
        self.with(account, limits, |account, time| account.balance(limits, time))
    }

    /// Goes on from what another store says is left.
    #[cfg(feature = "redis")]
    pub(crate) fn resume(&self, account: &Arc<str>, limits: Limits, left: Balance) {
        let now = Instant::now();
        self.with(account, limits, |account, time| {
            let resume = |bucket: &mut Bucket, limit, left: Option<Left>| {
                if let Some(left) = left {
                    *bucket = Bucket::full_after(limit, left.until_full, now);
                }
            };
            resume(&mut account.requests, limits.requests_per_minute, left.requests);
            resume(&mut account.tokens, limits.tokens_per_minute, left.tokens);
            if let Some(left) = left.tokens_today {
                account.today = Day::spent_on(time, limits.tokens_per_day.saturating_sub(left.count));
            }
        });
    }

    fn with<T>(&self, account: &Arc<str>, limits: Limits, act: impl FnOnce(&mut Account, TimeOfDay) -> T) -> T {
        let now = Instant::now();
        let (start, since_1970) = self.0.start;
        let time = TimeOfDay::at(since_1970.saturating_add(now.saturating_duration_since(start)));
        let account = self.account(account, limits, now);
        let mut account = lock(&account);
        account.requests.refill(limits.requests_per_minute, now);
        account.tokens.refill(limits.tokens_per_minute, now);
        account.today.turn_to(time);
        act(&mut account, time)
    }

    fn account(&self, name: &Arc<str>, limits: Limits, now: Instant) -> Arc<Mutex<Account>> {
        let known = self.0.accounts.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        known.unwrap_or_else(|| {
            let mut accounts = self.0.accounts.write().unwrap_or_else(PoisonError::into_inner);
            if accounts.len() >= TIDY_AT {
                accounts.retain(|_, account| Arc::strong_count(account) > 1 || !lock(account).is_untouched(now));
            }
            accounts.entry(name.clone()).or_insert_with(|| Arc::new(Mutex::new(Account::new(limits, now)))).clone()
        })
    }
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self::new()
    }
}

impl LimitStore for MemoryLimits {
    fn reserve(&self, account: &Arc<str>, limits: Limits, tokens: Option<u64>) -> LimitFuture<'_, Decision> {
        let decision = self.with(account, limits, |account, time| account.reserve(limits, tokens, time));
        Box::pin(ready(Ok(decision)))
    }

    fn settle(
        &self,
        account: &Arc<str>,
        limits: Limits,
        reserved: Reservation,
        used: Option<u64>,
    ) -> LimitFuture<'_, Balance> {
        let balance = self.with(account, limits, |account, time| {
            account.settle(reserved, used);
            account.balance(limits, time)
        });
        Box::pin(ready(Ok(balance)))
    }

    fn charge(&self, account: &Arc<str>, limits: Limits, tokens: u64) -> LimitFuture<'_, Balance> {
        let balance = self.with(account, limits, |account, time| {
            account.tokens.settle(0, tokens);
            account.today.spend(tokens);
            account.balance(limits, time)
        });
        Box::pin(ready(Ok(balance)))
    }

    fn balance(&self, account: &Arc<str>, limits: Limits) -> LimitFuture<'_, Balance> {
        let balance = self.with(account, limits, |account, time| account.balance(limits, time));
        Box::pin(ready(Ok(balance)))
    }
}

impl fmt::Debug for MemoryLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLimits").finish_non_exhaustive()
    }
}

// ===== impl Account =====

impl Account {
    fn new(limits: Limits, now: Instant) -> Self {
        Self {
            requests: Bucket::full(limits.requests_per_minute, now),
            tokens: Bucket::full(limits.tokens_per_minute, now),
            today: Day::default(),
        }
    }

    fn reserve(&mut self, limits: Limits, tokens: Option<u64>, time: TimeOfDay) -> Decision {
        let obstacle = self.obstacles(limits, tokens.is_some(), time).max_by_key(|(_, wait)| *wait);
        if let Some((limit, wait)) = obstacle {
            return Decision::Refused { limit, wait, balance: self.balance(limits, time) };
        }
        self.requests.reserve(1);
        let taken = tokens.unwrap_or_default();
        self.tokens.reserve(taken);
        self.today.spend(taken);
        Decision::Admitted { reservation: Reservation::new(tokens, time.day), balance: self.balance(limits, time) }
    }

    fn settle(&mut self, reserved: Reservation, used: Option<u64>) {
        let taken = reserved.tokens.unwrap_or_default();
        let spent = used.unwrap_or_default();
        self.requests.settle(1, u64::from(used.is_some()));
        self.tokens.settle(taken, spent);
        self.today.take_back(taken.saturating_sub(spent), reserved.day);
        self.today.spend(spent.saturating_sub(taken));
    }

    /// The limits that have nothing left for such a request, and for how long.
    fn obstacles(&self, limits: Limits, uses_tokens: bool, time: TimeOfDay) -> impl Iterator<Item = (Limit, Duration)> {
        let by_minute = [
            (Limit::RequestsPerMinute, limits.requests_per_minute, &self.requests, true),
            (Limit::TokensPerMinute, limits.tokens_per_minute, &self.tokens, uses_tokens),
        ];
        let by_minute = by_minute
            .map(|(limit, most, left, counts)| (counts && most > 0 && !left.admits()).then(|| (limit, left.wait())));
        let is_spent = uses_tokens && limits.tokens_per_day > 0 && self.today.spent() >= limits.tokens_per_day;
        by_minute.into_iter().flatten().chain(is_spent.then_some((Limit::TokensPerDay, time.until_midnight)))
    }

    fn balance(&self, limits: Limits, time: TimeOfDay) -> Balance {
        let left = |limit: u64, bucket: &Bucket| (limit > 0).then(|| Left::new(bucket.left(), bucket.until_full()));
        let today = limits.tokens_per_day.saturating_sub(self.today.spent());
        Balance {
            requests: left(limits.requests_per_minute, &self.requests),
            tokens: left(limits.tokens_per_minute, &self.tokens),
            tokens_today: (limits.tokens_per_day > 0).then(|| Left::new(today, time.until_midnight)),
        }
    }

    /// Tells whether a new account would be the same.
    fn is_untouched(&mut self, now: Instant) -> bool {
        self.requests.refill_as_it_is(now);
        self.tokens.refill_as_it_is(now);
        self.today.spent() == 0 && self.requests.until_full().is_zero() && self.tokens.until_full().is_zero()
    }
}

fn lock(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}
