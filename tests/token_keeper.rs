//! The token keeper in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::{Instant, advance, sleep};
use tower::BoxError;
use tower_azure_openai::pool::{BearerTokens, BoxFuture};
use tower_azure_openai::reissue::{Token, TokenKeeper, TokenSource};

/// What the next fetch does, after a pause of a tenth of a second; the last one is repeated.
#[derive(Clone, Copy)]
enum Step {
    Fails,
    Hangs,
    Lives(u64),
}

#[derive(Clone)]
struct Fake(Arc<State>);

struct State {
    steps: Mutex<VecDeque<Step>>,
    fetches: AtomicU32,
    forced: AtomicU32,
    dropped: AtomicBool,
}

impl Fake {
    fn new(steps: impl IntoIterator<Item = Step>) -> (Self, Arc<TokenKeeper>) {
        let fake = Self(Arc::new(State {
            steps: Mutex::new(steps.into_iter().collect()),
            fetches: AtomicU32::new(0),
            forced: AtomicU32::new(0),
            dropped: AtomicBool::new(false),
        }));
        let keeper = Arc::new(TokenKeeper::new(fake.clone()));
        (fake, keeper)
    }

    fn fetches(&self) -> u32 {
        self.0.fetches.load(SeqCst)
    }

    fn forced(&self) -> u32 {
        self.0.forced.load(SeqCst)
    }
}

struct OnDrop(Arc<State>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.dropped.store(true, SeqCst);
    }
}

impl TokenSource for Fake {
    fn fetch(&self, forced: bool) -> BoxFuture<Result<Token, BoxError>> {
        let state = Arc::clone(&self.0);
        let number = state.fetches.fetch_add(1, SeqCst) + 1;
        state.forced.fetch_add(u32::from(forced), SeqCst);
        let step = {
            let mut steps = state.steps.lock().unwrap();
            if steps.len() > 1 { steps.pop_front().unwrap() } else { steps[0] }
        };
        Box::pin(async move {
            let _guard = OnDrop(state);
            sleep(Duration::from_millis(100)).await;
            match step {
                Step::Fails => Err("the identity endpoint answered 500".into()),
                Step::Hangs => std::future::pending().await,
                Step::Lives(life) => Ok(Token::new(format!("t{number}"), Instant::now() + Duration::from_secs(life))),
            }
        })
    }
}

fn bearer(number: u32) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer t{number}")).unwrap()
}

async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_cold_callers_share_one_fetch() {
    let (fake, keeper) = Fake::new([Step::Lives(3_600)]);
    assert!(keeper.current().is_none());
    let callers: Vec<_> = (0..1_000).map(|_| tokio::spawn(keeper.wait())).collect();
    for caller in callers {
        let token = caller.await.unwrap().unwrap();
        assert_eq!(token, bearer(1));
        assert!(token.is_sensitive());
    }
    assert_eq!(fake.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_cold_callers_share_one_failure_and_the_back_off() {
    let (fake, keeper) = Fake::new([Step::Fails, Step::Lives(3_600)]);
    let callers: Vec<_> = (0..1_000).map(|_| tokio::spawn(keeper.wait())).collect();
    for caller in callers {
        assert!(caller.await.unwrap().unwrap_err().to_string().contains("answered 500"));
    }
    let start = Instant::now();
    assert!(keeper.wait().await.is_err());
    assert_eq!((fake.fetches(), start.elapsed()), (1, Duration::ZERO), "the failure is shared at once");
    assert_eq!(keeper.problem().unwrap(), "No token could be fetched: the identity endpoint answered 500.");
    seconds(1).await;
    assert_eq!(keeper.wait().await.unwrap(), bearer(2));
    assert_eq!(keeper.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_starts_five_minutes_early_and_nobody_waits() {
    let (fake, keeper) = Fake::new([Step::Lives(3_600)]);
    keeper.wait().await.unwrap();
    seconds(3_290).await;
    assert_eq!((keeper.current(), fake.fetches()), (Some(bearer(1)), 1));
    seconds(25).await;
    assert_eq!(keeper.current(), Some(bearer(1)), "the old token, while the new one is fetched");
    seconds(1).await;
    assert_eq!((keeper.current(), fake.fetches()), (Some(bearer(2)), 2));
}

#[tokio::test(start_paused = true)]
async fn a_valid_token_is_served_to_its_end_whatever_becomes_of_refreshes() {
    for step in [Step::Fails, Step::Hangs] {
        let (fake, keeper) = Fake::new([Step::Lives(3_600), step]);
        keeper.wait().await.unwrap();
        advance(Duration::from_secs(3_320)).await;
        for _ in 0..249 {
            assert_eq!(keeper.current(), Some(bearer(1)));
            assert_eq!(keeper.problem(), None);
            seconds(1).await;
        }
        let fetches = fake.fetches();
        assert!((10..=40).contains(&fetches), "{fetches} fetches in four minutes");
        seconds(1).await;
        assert_eq!(keeper.current(), None, "the margin begins");
        assert!(keeper.problem().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn back_off_grows_to_its_bound() {
    let (fake, keeper) = Fake::new([Step::Fails]);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        drop(keeper.wait().await);
        let (before, failed_at) = (fake.fetches(), Instant::now());
        while fake.fetches() == before {
            sleep(Duration::from_millis(10)).await;
            // Polled once: a new fetch starts, or the failure is shared.
            drop(tokio_test::task::spawn(keeper.wait()).poll());
        }
        pauses.push(failed_at.elapsed());
    }
    for (pause, full) in pauses.iter().zip([1, 2, 4, 8, 15, 15, 15, 15]) {
        let full = Duration::from_secs(full);
        assert!(*pause >= full.mul_f64(0.79) && *pause <= full + Duration::from_millis(20), "{pauses:?}");
        assert!(*pause <= Duration::from_millis(15_020));
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_token_is_refreshed_at_half_its_life() {
    let (fake, keeper) = Fake::new([Step::Lives(60)]);
    keeper.wait().await.unwrap();
    seconds(29).await;
    assert_eq!((keeper.current(), fake.fetches()), (Some(bearer(1)), 1));
    seconds(3).await;
    assert_eq!(keeper.current(), Some(bearer(1)));
    seconds(1).await;
    assert_eq!((keeper.current(), fake.fetches()), (Some(bearer(2)), 2));
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_forces_one_fetch_in_thirty_seconds() {
    let (fake, keeper) = Fake::new([Step::Lives(3_600)]);
    let first = keeper.wait().await.unwrap();
    let refused: Vec<_> = (0..100).map(|_| tokio::spawn(keeper.rejected(&first))).collect();
    for refused in refused {
        assert!(refused.await.unwrap());
    }
    assert_eq!((fake.fetches(), fake.forced()), (2, 1));
    assert!(keeper.rejected(&first).await, "another token is in hand");
    assert!(!keeper.rejected(&bearer(2)).await, "too soon for another fetch");
    assert_eq!(fake.forced(), 1);
    seconds(30).await;
    assert!(keeper.rejected(&bearer(2)).await);
    assert_eq!(fake.forced(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_forced_fetch_that_fails_is_no_reason_to_repeat() {
    for step in [Step::Fails, Step::Hangs] {
        let (fake, keeper) = Fake::new([Step::Lives(3_600), step]);
        let first = keeper.wait().await.unwrap();
        assert!(!keeper.rejected(&first).await);
        assert_eq!((fake.forced(), keeper.current()), (1, Some(first)), "it may still do elsewhere");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_ends_with_its_keeper() {
    let (fake, keeper) = Fake::new([Step::Lives(3_600), Step::Hangs]);
    keeper.wait().await.unwrap();
    seconds(3_400).await;
    keeper.current().unwrap();
    seconds(1).await;
    fake.0.dropped.store(false, SeqCst);
    drop(keeper);
    tokio::task::yield_now().await;
    assert!(fake.0.dropped.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_used_is_a_failure() {
    let (_, keeper) = Fake::new([Step::Lives(0)]);
    assert!(keeper.wait().await.unwrap_err().to_string().contains("ended already"));
}

#[tokio::test(start_paused = true)]
async fn debug_shows_no_token() {
    let (_, keeper) = Fake::new([Step::Lives(3_600)]);
    let token = keeper.wait().await.unwrap();
    let shown = format!("{keeper:?} {token:?} {:?}", Token::new("t1", Instant::now()));
    assert!(!shown.contains("t1"), "{shown}");
}
