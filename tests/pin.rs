//! Where a pin leads, in the pool and through failover, selection and circuits.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::pool::{
    Backend, Constraints, Deployment, NoTarget, NoTargetReason, Pin, Pool, Query, TargetSet,
};
use tower_azure_openai::testkit::Fault;

use support::{CHAT, Fleet, chat, error, post, send, waits};

/// Three backends: `b0` and `b1` serve `a`, `b2` serves `b`.
fn pool() -> Pool {
    let backend = |name: &str, alias: &str| {
        Backend::new(name, format!("https://{name}.example")).add_deployment(Deployment::new(alias))
    };
    let us = backend("b2", "b").geography("us");
    Pool::builder().add_backend(backend("b0", "a")).add_backend(backend("b1", "a")).add_backend(us).build().unwrap()
}

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| (*name).into()).collect()
}

/// The backends that the policy may choose among, or why there is none.
fn offered(pool: &Pool, query: &Query<'_>) -> Result<Vec<String>, NoTarget> {
    let mut offered = Vec::new();
    let _permit = pool.acquire(query, |eligible| {
        offered = eligible.iter().map(|target| target.backend().to_owned()).collect();
        0
    })?;
    Ok(offered)
}

fn fail(pool: &Pool, backend: &str, outcome: Outcome) {
    let on = Pin::required(backend);
    while let Ok(mut permit) = pool.acquire(&Query::new(Some("a")).pinned(Some(&on)), |_| 0) {
        permit.record(&outcome);
    }
}

fn throttle(pool: &Pool, backend: &str) {
    fail(pool, backend, Outcome::Throttled { hint: Some(Duration::from_secs(7)) });
}

mod required {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn names_one_backend() {
        let (pool, pin) = (pool(), Pin::required("b1"));
        assert_eq!(offered(&pool, &Query::new(Some("a")).pinned(Some(&pin))).unwrap(), ["b1"]);
        assert_eq!(offered(&pool, &Query::new(None).pinned(Some(&pin))).unwrap(), ["b1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn reaches_a_drained_backend() {
        let (pool, pin) = (pool(), Pin::required("b1"));
        pool.drain("b1").unwrap();
        assert_eq!(offered(&pool, &Query::new(Some("a")).pinned(Some(&pin))).unwrap(), ["b1"]);
        assert_eq!(offered(&pool, &Query::new(Some("a"))).unwrap(), ["b0"], "and nobody else does");
    }

    #[tokio::test(start_paused = true)]
    async fn relaxes_nothing_else() {
        let (pool, pin) = (pool(), Pin::required("b1"));
        let strict = Constraints::default().geography("us");
        let elsewhere = Query::new(None).constraints(&strict).pinned(Some(&pin));
        assert_eq!(offered(&pool, &elsewhere).unwrap_err().reason, NoTargetReason::NotServedThere);

        let query = Query::new(Some("a")).pinned(Some(&pin));
        throttle(&pool, "b1");
        let none = offered(&pool, &query).unwrap_err();
        assert_eq!((none.reason, none.retry_after), (NoTargetReason::Throttled, Some(Duration::from_secs(7))));
        assert!(!pool.has_eligible(&query));
        assert_eq!(pool.outlook(&query), none);
    }

    #[tokio::test(start_paused = true)]
    async fn tells_that_its_backend_is_down_or_does_not_serve_the_alias() {
        let (pool, pin) = (pool(), Pin::required("b1"));
        fail(&pool, "b1", Outcome::Unreachable);
        let reason = |alias| offered(&pool, &Query::new(Some(alias)).pinned(Some(&pin))).unwrap_err().reason;
        assert_eq!(reason("a"), NoTargetReason::Pinned);
        assert_eq!(reason("b"), NoTargetReason::NotServedThere);
        assert_eq!(reason("nobody's"), NoTargetReason::NotServed);
        let gone = Pin::required("b9");
        let query = Query::new(None).pinned(Some(&gone));
        assert_eq!(offered(&pool, &query).unwrap_err().reason, NoTargetReason::NotServedThere);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_each_target_of_its_backend_once() {
        let backend = Backend::new("b0", "https://b0.example");
        let two = backend
            .add_deployment(Deployment::new("x").alias("a"))
            .add_deployment(Deployment::new("y").alias("a").priority(1));
        let pool = Pool::builder().add_backend(two).build().unwrap();
        let (pin, mut tried) = (Pin::required("b0"), TargetSet::default());
        for deployment in ["x", "y"] {
            let permit = pool.acquire(&Query::new(Some("a")).pinned(Some(&pin)).tried(&tried), |_| 0).unwrap();
            assert_eq!(permit.target().deployment(), Some(deployment));
            tried.insert(permit.target());
        }
        assert!(!pool.has_eligible(&Query::new(Some("a")).pinned(Some(&pin)).tried(&tried)));
    }
}

mod preferred {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn goes_to_the_first_that_is_neither_down_nor_drained() {
        let (pool, pin) = (pool(), Pin::preferred(names(&["b1", "b0"])));
        let query = Query::new(Some("a")).pinned(Some(&pin));
        assert_eq!(offered(&pool, &query).unwrap(), ["b1"]);
        fail(&pool, "b1", Outcome::Unreachable);
        assert_eq!(offered(&pool, &query).unwrap(), ["b0"]);

        pool.drain("b0").unwrap();
        assert_eq!(offered(&pool, &query).unwrap_err().reason, NoTargetReason::Down);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_one_that_is_throttled() {
        let (pool, pin) = (pool(), Pin::preferred(names(&["b1", "b0"])));
        let query = Query::new(Some("a")).pinned(Some(&pin));
        throttle(&pool, "b1");
        let none = offered(&pool, &query).unwrap_err();
        assert_eq!((none.reason, none.retry_after), (NoTargetReason::Throttled, Some(Duration::from_secs(7))));
        assert!(!pool.has_eligible(&query));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_outside_of_it_is_waited_for() {
        let backend =
            |name: &str| Backend::new(name, format!("https://{name}.example")).add_deployment(Deployment::new("a"));
        let pool = ["b0", "b1", "b2"].into_iter().fold(Pool::builder(), |pool, name| pool.add_backend(backend(name)));
        let (pool, pin) = (pool.build().unwrap(), Pin::preferred(names(&["b1", "b0"])));
        fail(&pool, "b0", Outcome::Unreachable);
        fail(&pool, "b1", Outcome::Unreachable);
        let query = Query::new(Some("a")).pinned(Some(&pin));
        let none = offered(&pool, &query).unwrap_err();
        assert_eq!(none.reason, NoTargetReason::Down);
        assert!(none.retry_after > Some(Duration::ZERO), "b2 admits, and is none of them");
        throttle(&pool, "b2");
        assert_eq!(offered(&pool, &query).unwrap_err().reason, NoTargetReason::Down);
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_one_is_not_replaced() {
        let (pool, pin) = (pool(), Pin::preferred(names(&["b1"])));
        fail(&pool, "b1", Outcome::Unreachable);
        let none = offered(&pool, &Query::new(Some("a")).pinned(Some(&pin))).unwrap_err();
        assert_eq!(none.reason, NoTargetReason::Pinned);
    }
}

#[tokio::test(start_paused = true)]
async fn a_movable_pin_goes_on_to_anybody() {
    let (pool, pin) = (pool(), Pin::movable(names(&["b1"])));
    let query = Query::new(Some("a")).pinned(Some(&pin));
    assert_eq!(offered(&pool, &query).unwrap(), ["b1"]);
    throttle(&pool, "b1");
    assert_eq!(offered(&pool, &query).unwrap(), ["b0"]);
    throttle(&pool, "b0");
    assert_eq!(offered(&pool, &query).unwrap_err().reason, NoTargetReason::Throttled);
}

mod through_the_stack {
    use super::*;

    fn pinned(pin: Pin) -> Request<Body> {
        let mut request = chat();
        request.extensions_mut().insert(pin);
        request
    }

    #[tokio::test(start_paused = true)]
    async fn a_required_pin_is_never_served_elsewhere() {
        type Break = fn(&Fleet);
        let breaks: [(Break, u16, &str); 3] = [
            (|fleet| fleet.always(1, Fault::throttled()), 429, "429"),
            (|fleet| fleet.fail(1, Outcome::Unreachable), 429, "no_target_available"),
            (|fleet| fleet.always(1, Fault::status(500)), 500, "500"),
        ];
        for (break_it, status, code) in breaks {
            let fleet = Fleet::new(3);
            break_it(&fleet);
            let answer = send(&fleet.gateway(), pinned(Pin::required("b1"))).await;
            if status == 429 {
                assert!(waits(&answer).0.is_some(), "{code} tells how long to wait");
            }
            assert_eq!(answer.status(), status);
            if code != "500" {
                assert_eq!(error(answer).await.1, code);
            }
            assert_eq!(fleet.counts(), [0, 1, 0], "nobody else is asked");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_alias_that_the_pinned_backend_does_not_serve_is_not_found() {
        let fleet = Fleet::new(2);
        let answer = send(&fleet.gateway(), pinned(Pin::required("b9"))).await;
        assert_eq!(error(answer).await, (404, "DeploymentNotFound".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_home_that_refuses_the_connection_is_passed_over() {
        let fleet = Fleet::new(3);
        fleet.fail(2, Outcome::Unreachable);
        let mut request = post(CHAT, support::HELLO);
        request.extensions_mut().insert(Pin::preferred(names(&["b2", "b1", "b0"])));
        assert_eq!(send(&fleet.gateway(), request).await.status(), 200);
        assert_eq!(fleet.counts(), [0, 1, 1]);
    }
}
