//! Every order in which two or three threads can meet, of those with few changes between them.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loom::model::Builder;
use loom::thread;

use crate::account::Account;
use crate::azure::Outcome;
use crate::context::Limits;
use crate::limit::{Decision, LimitStore, MemoryLimits, Reservation};
use crate::pool::{Backend, CircuitConfig, Deployment, Permit, Pool, Query, Target};

/// Every model, by what holds in it.
pub(crate) const MODELS: [(&str, fn()); 9] = [
    ("an_account_is_never_overdrawn_and_empty_in_the_end", an_account_is_never_overdrawn_and_empty_in_the_end),
    ("bytes_are_paid_for_as_long_as_anybody_has_them", bytes_are_paid_for_as_long_as_anybody_has_them),
    ("a_crowd_does_not_share_the_last_request", a_crowd_does_not_share_the_last_request),
    (
        "what_is_given_back_can_be_taken_and_accounts_that_are_in_use_are_kept",
        what_is_given_back_can_be_taken_and_accounts_that_are_in_use_are_kept,
    ),
    (
        "a_copy_of_the_ring_has_no_gap_and_no_event_twice",
        crate::recorder::a_copy_of_the_ring_has_no_gap_and_no_event_twice,
    ),
    ("no_more_are_in_flight_than_may_be", no_more_are_in_flight_than_may_be),
    ("a_place_that_is_given_back_is_there_for_the_next", a_place_that_is_given_back_is_there_for_the_next),
    ("a_wait_is_obeyed_whatever_else_ends_meanwhile", a_wait_is_obeyed_whatever_else_ends_meanwhile),
    ("one_probe_goes_through_and_gives_its_place_back", one_probe_goes_through_and_gives_its_place_back),
];

/// Few faults need more changes from one thread to another than this.
const CHANGES: usize = 3;

pub(crate) fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut model = Builder::new();
    model.preemption_bound = Some(CHANGES);
    model.max_branches = 100_000;
    model.check(check);
}

// ===== the account of bodies =====

fn an_account_is_never_overdrawn_and_empty_in_the_end() {
    model(|| {
        let account = Account::new(1_000);
        let clients = ["a", "a", "b"].map(|client| {
            let account = account.clone();
            thread::spawn(move || {
                let mut reservation = account.open(Some(client));
                let covered = reservation.cover_ahead(300, 1_000);
                assert!(account.in_use() <= 1_000);
                if covered {
                    // Half of it is the most that one client may have.
                    assert!(reservation.amount() <= 500);
                    reservation.shrink_to(100);
                }
                covered
            })
        });
        let covered = clients.map(|client| client.join().unwrap());
        assert!(covered[0] || covered[1], "one of two has room");
        assert!(covered[2], "another client's half is its own");
        assert_eq!(account.in_use(), 0, "all of it comes back");
        assert!(account.open(Some("a")).cover(500), "and of each client");
    });
}

fn bytes_are_paid_for_as_long_as_anybody_has_them() {
    model(|| {
        let account = Account::new(1_000);
        let mut reservation = account.open(None);
        assert!(reservation.cover(400));
        let bytes = reservation.charge(vec![0; 200].into());
        let other = bytes.clone();
        let dropped = thread::spawn(move || drop(other));
        assert_eq!(account.in_use(), 200);
        drop(bytes);
        dropped.join().unwrap();
        assert_eq!(account.in_use(), 0);
    });
}

// ===== limits =====

/// What a store in memory answers at once.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("a store in memory does not wait"),
    }
}

fn reserve(store: &MemoryLimits, account: &Arc<str>, limits: Limits) -> Option<Reservation> {
    match at_once(store.reserve(account, limits, Some(10))).unwrap() {
        Decision::Admitted { reservation, .. } => Some(reservation),
        _ => None,
    }
}

fn a_crowd_does_not_share_the_last_request() {
    model(|| {
        let store = MemoryLimits::since(Duration::from_secs(1));
        let limits = Limits::new().requests_per_minute(2).tokens_per_day(1_000);
        let account = Arc::<str>::from("a");
        let admitted: usize = [(); 3]
            .map(|()| {
                let (store, account) = (store.clone(), account.clone());
                thread::spawn(move || reserve(&store, &account, limits).is_some())
            })
            .map(|thread| usize::from(thread.join().unwrap()))
            .iter()
            .sum();
        assert_eq!(admitted, 2);
    });
}

fn what_is_given_back_can_be_taken_and_accounts_that_are_in_use_are_kept() {
    model(|| {
        let store = MemoryLimits::since(Duration::from_secs(1));
        let limits = Limits::new().requests_per_minute(1).tokens_per_day(1_000);
        let account = Arc::<str>::from("a");
        let reservation = reserve(&store, &account, limits).unwrap();
        let settling = {
            let (store, account) = (store.clone(), account.clone());
            thread::spawn(move || at_once(store.settle(&account, limits, reservation, None)).map(|_| ()).unwrap())
        };
        // Another account makes the store tidy up.
        let other = {
            let store = store.clone();
            thread::spawn(move || reserve(&store, &"b".into(), limits).is_some())
        };
        let early = reserve(&store, &account, limits);
        settling.join().unwrap();
        assert!(other.join().unwrap());
        let late = reserve(&store, &account, limits);
        assert_eq!(usize::from(early.is_some()) + usize::from(late.is_some()), 1, "one request, once");
    });
}

// ===== permits and circuits =====

fn pool(max_in_flight: u32) -> Pool {
    let backend =
        Backend::new("a", "https://a.example").max_in_flight(max_in_flight).add_deployment(Deployment::new("m"));
    let circuit = CircuitConfig { consecutive_failures: 1, ..CircuitConfig::default() };
    Pool::builder().add_backend(backend).circuit(circuit).build().unwrap()
}

fn acquire(pool: &Pool) -> Option<Permit> {
    pool.acquire(&Query::new(Some("m")), |_| 0).ok()
}

fn no_more_are_in_flight_than_may_be() {
    model(|| {
        let pool = pool(1);
        let target = pool.targets("m").remove(0);
        let taken = {
            let pool = pool.clone();
            thread::spawn(move || acquire(&pool))
        };
        let here = acquire(&pool);
        let there = taken.join().unwrap();
        assert_eq!(usize::from(here.is_some()) + usize::from(there.is_some()), 1, "one place, one permit");
        assert_eq!(target.in_flight(), 1);
        drop((here, there));
        assert_eq!(target.in_flight(), 0);
        assert!(acquire(&pool).is_some(), "the place is free again");
    });
}

fn a_place_that_is_given_back_is_there_for_the_next() {
    model(|| {
        let pool = pool(1);
        let permit = acquire(&pool).unwrap();
        let leaving = thread::spawn(move || drop(permit));
        let here = acquire(&pool);
        leaving.join().unwrap();
        let target: Target = pool.targets("m").remove(0);
        assert_eq!(target.in_flight(), u32::from(here.is_some()));
        assert!(here.is_some() || acquire(&pool).is_some());
    });
}

fn a_wait_is_obeyed_whatever_else_ends_meanwhile() {
    model(|| {
        let pool = pool(0);
        let [throttled, good, failed] = [(); 3].map(|()| acquire(&pool).unwrap());
        let threads = [
            (throttled, Outcome::Throttled { hint: Some(Duration::from_secs(30)) }),
            (good, Outcome::Success),
            (failed, Outcome::Reset),
        ]
        .map(|(mut permit, outcome)| thread::spawn(move || permit.record(&outcome)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(acquire(&pool).is_none(), "it is open");
        assert_eq!(pool.targets("m")[0].in_flight(), 0);
    });
}

fn one_probe_goes_through_and_gives_its_place_back() {
    model(|| {
        // A wait that was cut leaves a circuit half-open at once.
        let soon = Duration::from_nanos(1);
        let circuit = CircuitConfig {
            max_open: soon,
            min_open: soon,
            default_open: soon,
            probe_interval: Duration::from_secs(3_600),
            ..CircuitConfig::default()
        };
        let backend = Backend::new("a", "https://a.example").add_deployment(Deployment::new("m"));
        let pool = Pool::builder().add_backend(backend).circuit(circuit).build().unwrap();
        let mut first = acquire(&pool).unwrap();
        first.record(&Outcome::Throttled { hint: Some(Duration::from_secs(30)) });
        drop(first);
        let there = {
            let pool = pool.clone();
            thread::spawn(move || acquire(&pool))
        };
        let here = acquire(&pool);
        let there = there.join().unwrap();
        assert_eq!(usize::from(here.is_some()) + usize::from(there.is_some()), 1, "one probe at a time");
        drop((here, there));
        let mut next = acquire(&pool).expect("a probe without a verdict gives its place back");
        next.record(&Outcome::Success);
        assert!(acquire(&pool).is_some() && acquire(&pool).is_some(), "it is closed");
    });
}
