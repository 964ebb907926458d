use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tower::retry::budget::Budget;

use crate::context::Client;

/// The span over which retries are counted.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);
/// Retries that any 10 s has room for, however few requests there are.
pub(crate) const RESERVE: u64 = 100;
/// Retries for each request, on top.
pub(crate) const DEFAULT_RATIO: f64 = 0.2;

/// Share of the budget that one client can use.
pub(crate) const SHARE_OF_ONE: f64 = 0.5;

const BUCKET: Duration = Duration::from_secs(1);

/// Budget from which retries after unknown outcomes are taken.
///
/// Every [`Budget`] of tower's is one, without regard to who asks.
pub trait ClientBudget: Send + Sync {
    /// Counts a request. Called once for each.
    fn deposit(&self);

    /// Takes a retry out for a client, as far as it is known, if there is one. Called right before it is sent.
    fn withdraw(&self, client: Option<&Client>) -> bool;
}

impl<B: Budget + Send + Sync> ClientBudget for B {
    fn deposit(&self) {
        Budget::deposit(self);
    }

    fn withdraw(&self, _: Option<&Client>) -> bool {
        Budget::withdraw(self)
    }
}

/// Retries after failures in any 10 s: at most 100 + ratio × requests in those 10 s, and at most half of these for one
/// client, so that nobody's requests that fail wherever they are sent leave others without.
///
/// Counts in buckets of a second. To keep the promise for *any* ten seconds it looks back eleven buckets for retries, which
/// cover at least ten seconds, and ten for requests, which cover at most ten.
#[derive(Debug)]
pub struct RetryBudget {
    ratio: f64,
    buckets: Mutex<VecDeque<Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    start: Instant,
    requests: u64,
    retries: u64,
    /// Of these, those of clients that are known; no more of them than retries were granted.
    by_client: HashMap<Arc<str>, u64>,
}

impl RetryBudget {
    /// A budget of `ratio` retries for each request; a ratio that is negative or not a number counts as zero.
    #[must_use]
    pub fn new(ratio: f64) -> Self {
        Self { ratio: ratio.max(0.0), buckets: Mutex::default() }
    }

    fn with_newest<T>(&self, then: impl FnOnce(&mut VecDeque<Bucket>, Instant) -> T) -> T {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        while buckets.front().is_some_and(|oldest| now >= oldest.start + WINDOW + BUCKET) {
            buckets.pop_front();
        }
        if buckets.back().is_none_or(|newest| now >= newest.start + BUCKET) {
            buckets.push_back(Bucket { start: now, requests: 0, retries: 0, by_client: HashMap::new() });
        }
        then(&mut buckets, now)
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(DEFAULT_RATIO)
    }
}

impl ClientBudget for RetryBudget {
    fn deposit(&self) {
        self.with_newest(|buckets, _| {
            if let Some(newest) = buckets.back_mut() {
                newest.requests += 1;
            }
        });
    }

    fn withdraw(&self, client: Option<&Client>) -> bool {
        self.with_newest(|buckets, now| {
            let recent = |bucket: &&Bucket| now < bucket.start + WINDOW;
            let requests: u64 = buckets.iter().filter(recent).map(|bucket| bucket.requests).sum();
            let retries: u64 = buckets.iter().map(|bucket| bucket.retries).sum();
            let allowed = RESERVE as f64 + self.ratio * requests as f64;
            let has_share = client.is_none_or(|client| {
                let own: u64 = buckets.iter().filter_map(|bucket| bucket.by_client.get(client.id())).sum();
                ((own + 1) as f64) <= allowed * SHARE_OF_ONE
            });
            let granted = has_share && ((retries + 1) as f64) <= allowed;
            if granted && let Some(newest) = buckets.back_mut() {
                newest.retries += 1;
                if let Some(client) = client {
                    *newest.by_client.entry(client.shared_id()).or_default() += 1;
                }
            }
            granted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_ten_seconds_hold_more_than_the_budget() {
        let budget = RetryBudget::new(0.2);
        let (mut requests, mut retries) = (Vec::new(), Vec::new());
        for _ in 0..4_000 {
            tokio::time::advance(Duration::from_millis(7)).await;
            let now = Instant::now();
            budget.deposit();
            requests.push(now);
            (0..2).filter(|_| budget.withdraw(None)).for_each(|_| retries.push(now));
        }
        for (i, end) in retries.iter().enumerate() {
            let within = |at: &&Instant| **at + WINDOW > *end && *at <= end;
            let spent = retries[..=i].iter().filter(within).count() as f64;
            let asked = requests.iter().filter(within).count() as f64;
            assert!(spent <= RESERVE as f64 + 0.2 * asked, "{spent} retries for {asked} requests");
        }
        assert!(retries.len() > 500, "the budget grows with traffic: {}", retries.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_ratio_of_zero_leaves_the_reserve() {
        let budget = RetryBudget::new(0.0);
        (0..1_000).for_each(|_| budget.deposit());
        assert_eq!((0..1_000).filter(|_| budget.withdraw(None)).count(), 100);
        tokio::time::advance(WINDOW + BUCKET).await;
        assert!(budget.withdraw(None));
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_has_half_and_the_others_the_rest() {
        let budget = RetryBudget::new(0.1);
        let [greedy, other, third] = ["greedy", "other", "third"].map(Client::new);
        let spent = |client: &Client| (0..1_000).filter(|_| budget.withdraw(Some(client))).count();
        (0..1_000).for_each(|_| budget.deposit());
        assert_eq!((spent(&greedy), spent(&other), spent(&third)), (100, 100, 0));
        tokio::time::advance(WINDOW / 2).await;
        assert_eq!(spent(&greedy), 0, "its share does not come back before the budget does");
        tokio::time::advance(WINDOW / 2 + BUCKET).await;
        assert_eq!((spent(&greedy), spent(&greedy.clone().geography("us")), spent(&other)), (50, 0, 50));
    }
}
