//! Checks of everything that a [`LimitStore`] must do.
//!
//! ```
//! use tower_azure_openai::limit::{MemoryLimits, conformance};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! conformance::check(&MemoryLimits::new(), tokio::time::advance).await;
//! # });
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::store::{Decision, Limit, LimitStore, Reservation};
use crate::context::Limits;

/// Checks a store in which no account is known that begins with `conformance-`. `pass` lets a time go by, in the store's view:
/// by advancing a paused clock, or by waiting. About a second of it.
///
/// # Panics
/// The store does not do what the trait says.
pub async fn check<F: Future<Output = ()>>(store: &dyn LimitStore, pass: impl Fn(Duration) -> F) {
    admits_while_one_is_left(store, &pass).await;
    settles_up_and_down(store, &pass).await;
    gives_everything_back(store).await;
    charges_what_goes_on(store).await;
    keeps_accounts_apart(store).await;
    counts_the_day(store).await;
    concerns_only_what_is_limited(store).await;
}

fn account(name: &str) -> Arc<str> {
    Arc::from(format!("conformance-{name}"))
}

async fn reserve(store: &dyn LimitStore, name: &str, limits: Limits, tokens: Option<u64>) -> Decision {
    store.reserve(&account(name), limits, tokens).await.expect("the store can be reached")
}

async fn admitted(store: &dyn LimitStore, name: &str, limits: Limits, tokens: u64) -> Reservation {
    match reserve(store, name, limits, Some(tokens)).await {
        Decision::Admitted { reservation, .. } => reservation,
        refused @ Decision::Refused { .. } => panic!("must be admitted: {refused:?}"),
    }
}

async fn refused(store: &dyn LimitStore, name: &str, limits: Limits) -> (Limit, Duration) {
    match reserve(store, name, limits, Some(1)).await {
        Decision::Refused { limit, wait, .. } => (limit, wait),
        admitted @ Decision::Admitted { .. } => panic!("must be refused: {admitted:?}"),
    }
}

async fn tokens_left(store: &dyn LimitStore, name: &str, limits: Limits) -> u64 {
    let balance = store.balance(&account(name), limits).await.expect("the store can be reached");
    balance.tokens.expect("tokens are limited").count
}

/// A tenth of a second brings one of each.
const BRISK: Limits = Limits::new().tokens_per_minute(600).requests_per_minute(600);

async fn admits_while_one_is_left<F: Future<Output = ()>>(store: &dyn LimitStore, pass: impl Fn(Duration) -> F) {
    admitted(store, "one", BRISK, 599).await;
    admitted(store, "one", BRISK, 20).await;
    let (limit, wait) = refused(store, "one", BRISK).await;
    assert_eq!(limit, Limit::TokensPerMinute);
    assert!(wait > Duration::from_millis(1_500) && wait <= Duration::from_secs(2), "19 of debt and one more: {wait:?}");
    pass(Duration::from_millis(100)).await;
    let (_, later) = refused(store, "one", BRISK).await;
    assert!(later < wait, "debt is paid back by what flows in");

    let few = Limits::new().requests_per_minute(2);
    for _ in 0..2 {
        admitted(store, "few", few, 1_000_000).await;
    }
    let (limit, wait) = refused(store, "few", few).await;
    assert_eq!(limit, Limit::RequestsPerMinute);
    assert!(wait > Duration::from_secs(28) && wait <= Duration::from_secs(30), "two a minute: {wait:?}");
}

async fn settles_up_and_down<F: Future<Output = ()>>(store: &dyn LimitStore, pass: impl Fn(Duration) -> F) {
    let settle = async |reservation, used| {
        store.settle(&account("settle"), BRISK, reservation, Some(used)).await.expect("the store can be reached");
    };
    let reservation = admitted(store, "settle", BRISK, 500).await;
    settle(reservation, 100).await;
    assert!(tokens_left(store, "settle", BRISK).await >= 500, "what was not used is back");
    let reservation = admitted(store, "settle", BRISK, 100).await;
    settle(reservation, 700).await;
    let (_, wait) = refused(store, "settle", BRISK).await;
    assert!(wait > Duration::from_secs(15), "what was used beyond the reservation is owed: {wait:?}");
    pass(Duration::from_millis(500)).await;
    assert_eq!(tokens_left(store, "settle", BRISK).await, 0, "there is no less than none");
}

async fn gives_everything_back(store: &dyn LimitStore) {
    let few = Limits::new().tokens_per_minute(10).requests_per_minute(1).tokens_per_day(10);
    for _ in 0..3 {
        let reservation = admitted(store, "back", few, 10).await;
        store.settle(&account("back"), few, reservation, None).await.expect("the store can be reached");
    }
    let balance = store.balance(&account("back"), few).await.expect("the store can be reached");
    let left =
        [balance.requests, balance.tokens, balance.tokens_today].map(|left| left.expect("all are limited").count);
    assert_eq!(left, [1, 10, 10], "as if nothing had happened, and no more than that");
}

async fn charges_what_goes_on(store: &dyn LimitStore) {
    let limits = Limits::new().tokens_per_minute(100).requests_per_minute(5).tokens_per_day(1_000);
    let reservation = admitted(store, "session", limits, 10).await;
    store.settle(&account("session"), limits, reservation, Some(30)).await.expect("the store can be reached");
    store.charge(&account("session"), limits, 50).await.expect("the store can be reached");
    let balance = store.balance(&account("session"), limits).await.expect("the store can be reached");
    let left = [balance.requests, balance.tokens_today].map(|left| left.expect("both are limited").count);
    assert_eq!(left, [4, 920], "one request, and what all of it used");
    store.charge(&account("session"), limits, 70).await.expect("the store can be reached");
    let (limit, wait) = refused(store, "session", limits).await;
    assert_eq!(limit, Limit::TokensPerMinute);
    assert!(wait > Duration::from_secs(25), "a session may get into debt: {wait:?}");
}

async fn keeps_accounts_apart(store: &dyn LimitStore) {
    let one = Limits::new().requests_per_minute(1);
    admitted(store, "apart-1", one, 1).await;
    admitted(store, "apart-2", one, 1).await;
    refused(store, "apart-1", one).await;
}

async fn counts_the_day(store: &dyn LimitStore) {
    let daily = Limits::new().tokens_per_day(100);
    let reservation = admitted(store, "day", daily, 99).await;
    admitted(store, "day", daily, 5).await;
    let (limit, wait) = refused(store, "day", daily).await;
    assert_eq!(limit, Limit::TokensPerDay);
    assert!(wait <= Duration::from_secs(24 * 60 * 60), "until midnight at most: {wait:?}");
    store.settle(&account("day"), daily, reservation, Some(9)).await.expect("the store can be reached");
    admitted(store, "day", daily, 1).await;
}

async fn concerns_only_what_is_limited(store: &dyn LimitStore) {
    let tokens = Limits::new().tokens_per_minute(1).tokens_per_day(1);
    admitted(store, "reading", tokens, 5).await;
    refused(store, "reading", tokens).await;
    let read = reserve(store, "reading", tokens, None).await;
    assert!(matches!(read, Decision::Admitted { .. }), "whoever uses no tokens needs none: {read:?}");
}
