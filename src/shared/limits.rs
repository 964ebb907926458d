use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Script;

use super::link::{Away, Call, Lazy, Link};
use crate::context::{Client, Limits};
use crate::limit::{Balance, Decision, Left, Limit, LimitFuture, LimitStore, MemoryLimits, Reservation};

/// Marks what was taken of this replica's own share.
const OF_OWN_SHARE: u32 = 1;

static ACCOUNT: Lazy = Lazy::new(|| Script::new(include_str!("limit.lua")));

/// Treatment of limited clients while Redis is out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnFailure {
    /// Each replica holds them to its share: their limits, divided by the replicas there were, from what was left.
    #[default]
    Local,
    /// The store says that it is out of reach, so that a
    /// [`ClientLimitLayer`](crate::limit::ClientLimitLayer) that [refuses](crate::limit::Unavailable::Refuse) then answers 503.
    Refuse,
}

/// Accounts of clients that all replicas share. Made by [`Shared::limits`](super::Shared::limits).
///
/// Looking and taking are one step in Redis, by the clock of its server.
#[derive(Clone)]
pub struct SharedLimits {
    link: Link,
    own: MemoryLimits,
    on_failure: OnFailure,
}

/// Answer of the script: admitted, the limit in the way, the wait; of each limit what is left and until when; the day.
type Said = (u8, u8, u64, (u64, u64), (u64, u64), (u64, u64), u64);

impl SharedLimits {
    pub(super) fn new(link: Link, on_failure: OnFailure) -> Self {
        Self { link, own: MemoryLimits::new(), on_failure }
    }

    /// Returns what a client has left of its limits, as far as this replica knows.
    #[must_use]
    pub fn left(&self, client: &Client) -> Balance {
        let (limits, replicas) = (client.limited_to(), u64::from(self.link.replicas()));
        let all = |left: Option<Left>, limit: u64| {
            left.map(|left| Left::new(left.count.saturating_mul(replicas).min(limit), left.until_full))
        };
        let own = self.own.left_of(&client.shared_id(), self.share(limits));
        Balance {
            requests: all(own.requests, limits.requests_per_minute),
            tokens: all(own.tokens, limits.tokens_per_minute),
            tokens_today: all(own.tokens_today, limits.tokens_per_day),
        }
    }

    /// Returns the share that this replica may give away alone; at least one, for a client is not to be locked out by the number
    /// of replicas.
    fn share(&self, limits: Limits) -> Limits {
        let replicas = u64::from(self.link.replicas());
        let share = |limit: u64| if limit == 0 { 0 } else { (limit / replicas).max(1) };
        Limits::new()
            .requests_per_minute(share(limits.requests_per_minute))
            .tokens_per_minute(share(limits.tokens_per_minute))
            .tokens_per_day(share(limits.tokens_per_day))
    }

    fn call(account: &Arc<str>, limits: Limits, kind: &str, tokens: Option<u64>) -> Call {
        Call::new(&ACCOUNT, format!("aoai:limit:{account}"))
            .arg(kind)
            .arg(limits.requests_per_minute)
            .arg(limits.tokens_per_minute)
            .arg(limits.tokens_per_day)
            .arg(signed(tokens))
    }

    /// Notes what is left, so that this replica could go on from there.
    fn note(&self, account: &Arc<str>, limits: Limits, said: &Said) -> Balance {
        let balance = balance(limits, said);
        let (share, replicas) = (self.share(limits), u64::from(self.link.replicas()));
        let today = balance.tokens_today.map(|left| Left::new(left.count / replicas, left.until_full));
        self.own.resume(account, share, Balance { tokens_today: today, ..balance });
        balance
    }

    fn is_strict(&self) -> bool {
        self.on_failure == OnFailure::Refuse
    }
}

impl LimitStore for SharedLimits {
    fn reserve(&self, account: &Arc<str>, limits: Limits, tokens: Option<u64>) -> LimitFuture<'_, Decision> {
        let account = account.clone();
        Box::pin(async move {
            match self.link.ask::<Said>(&Self::call(&account, limits, "reserve", tokens)).await {
                Ok(said) => {
                    let balance = self.note(&account, limits, &said);
                    Ok(decision(&said, tokens, balance))
                }
                Err(Away) if self.is_strict() => Err(Away.into()),
                Err(Away) => {
                    let decision = self.own.reserve(&account, self.share(limits), tokens).await?;
                    Ok(match decision {
                        Decision::Admitted { reservation, balance } => {
                            Decision::Admitted { reservation: reservation.marked(OF_OWN_SHARE), balance }
                        }
                        refused @ Decision::Refused { .. } => refused,
                    })
                }
            }
        })
    }

    fn settle(
        &self,
        account: &Arc<str>,
        limits: Limits,
        reserved: Reservation,
        used: Option<u64>,
    ) -> LimitFuture<'_, Balance> {
        let account = account.clone();
        Box::pin(async move {
            let share = self.share(limits);
            if reserved.mark == OF_OWN_SHARE {
                return self.own.settle(&account, share, reserved, used).await;
            }
            let call = Self::call(&account, limits, "settle", reserved.tokens).arg(signed(used)).arg(reserved.day);
            Ok(match self.link.tell::<Said>(call).await {
                Some(said) => self.note(&account, limits, &said),
                None => self.own.left_of(&account, share),
            })
        })
    }

    fn charge(&self, account: &Arc<str>, limits: Limits, tokens: u64) -> LimitFuture<'_, Balance> {
        let account = account.clone();
        Box::pin(async move {
            Ok(match self.link.tell::<Said>(Self::call(&account, limits, "charge", Some(tokens))).await {
                Some(said) => self.note(&account, limits, &said),
                None => self.own.charge(&account, self.share(limits), tokens).await?,
            })
        })
    }

    fn balance(&self, account: &Arc<str>, limits: Limits) -> LimitFuture<'_, Balance> {
        let account = account.clone();
        Box::pin(async move {
            match self.link.ask::<Said>(&Self::call(&account, limits, "balance", None)).await {
                Ok(said) => Ok(balance(limits, &said)),
                Err(Away) if self.is_strict() => Err(Away.into()),
                Err(Away) => Ok(self.own.left_of(&account, self.share(limits))),
            }
        })
    }
}

impl fmt::Debug for SharedLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLimits").field("link", &self.link).field("on_failure", &self.on_failure).finish()
    }
}

fn signed(tokens: Option<u64>) -> i64 {
    tokens.map_or(-1, |tokens| i64::try_from(tokens).unwrap_or(i64::MAX))
}

fn decision(said: &Said, tokens: Option<u64>, balance: Balance) -> Decision {
    let (admitted, obstacle, wait, .., day) = *said;
    if admitted == 1 {
        return Decision::Admitted { reservation: Reservation::new(tokens, day), balance };
    }
    let limit = match obstacle {
        1 => Limit::RequestsPerMinute,
        2 => Limit::TokensPerMinute,
        _ => Limit::TokensPerDay,
    };
    Decision::Refused { limit, wait: Duration::from_micros(wait), balance }
}

fn balance(limits: Limits, said: &Said) -> Balance {
    let (_, _, _, requests, tokens, today, _) = *said;
    let left =
        |limit: u64, (count, until_full)| (limit > 0).then(|| Left::new(count, Duration::from_micros(until_full)));
    Balance {
        requests: left(limits.requests_per_minute, requests),
        tokens: left(limits.tokens_per_minute, tokens),
        tokens_today: left(limits.tokens_per_day, today),
    }
}
