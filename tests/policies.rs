//! Policies from outside, over a pool, its permits and a paused clock: what each promises, for any run of events.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use proptest::prelude::*;
use tokio::time::{Instant, advance};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::azure::{Outcome, Phase};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Route;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::pool::load::{DEFAULT_LATENCY, FAILURE_PENALTY, SIGNAL_LIFETIME};
use tower_azure_openai::pool::{
    Backend, Constraints, Deployment, NoTarget, Permit, Pool, PoolBuilder, Processing, Query, RouteKind, Target,
    TargetSet,
};
use tower_azure_openai::select::{
    BUSY, Choice, LeastLoad, LowestLatency, Policy, PromptCache, RoundRobin, SelectBackendLayer, SlowStart, Weighted,
    from_fn,
};

#[path = "support/policies.rs"]
mod every;

const ALIAS: &str = "gpt-4o";

fn serving(name: &str) -> Backend {
    Backend::new(name, format!("https://{name}.example")).add_deployment(Deployment::new(ALIAS))
}

fn pool(backends: impl IntoIterator<Item = Backend>) -> Pool {
    backends.into_iter().fold(Pool::builder(), PoolBuilder::add_backend).build().unwrap()
}

fn three() -> Pool {
    pool(["x", "y", "z"].map(serving))
}

fn route() -> Route {
    let uri = Uri::from_static("/openai/deployments/gpt-4o/chat/completions");
    Route::parse(&Method::POST, &uri).unwrap()
}

fn streamed() -> Route {
    route().with_streaming(true)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Sends one request where the policy wants it.
fn send(pool: &Pool, policy: &impl Policy, route: &Route) -> Result<Permit, NoTarget> {
    let mut permit = pool.acquire(&Query::new(Some(ALIAS)), |eligible| policy.choose(&Choice::new(route, eligible)))?;
    permit.sent(route.kind());
    Ok(permit)
}

fn send_to(pool: &Pool, backend: &str, kind: RouteKind) -> Permit {
    let target = pool.targets(ALIAS).into_iter().find(|target| target.backend() == backend).unwrap();
    let mut permit = pool.acquire_target(&target).unwrap();
    permit.sent(kind);
    permit
}

/// One request whose answer takes so long.
async fn answer(mut permit: Permit, takes: Duration) {
    advance(takes).await;
    permit.commit();
    permit.record(&Outcome::Success);
}

/// Gives a backend a latency that is not distorted by what was before.
async fn takes(pool: &Pool, backend: &str, kind: RouteKind, latency: Duration) {
    answer(send_to(pool, backend, kind), latency).await;
}

fn target(pool: &Pool, backend: &str) -> Target {
    pool.targets(ALIAS).into_iter().find(|target| target.backend() == backend).unwrap()
}

fn choice(pool: &Pool, policy: &impl Policy, route: &Route) -> String {
    send(pool, policy, route).unwrap().target().backend().to_owned()
}

fn counts(chosen: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    chosen.into_iter().fold(BTreeMap::new(), |mut counts, name| {
        *counts.entry(name).or_default() += 1;
        counts
    })
}

/// How often each backend is chosen by so many requests that each end before the next begins.
fn shares(pool: &Pool, policy: &impl Policy, route: &Route, requests: usize) -> BTreeMap<String, usize> {
    counts((0..requests).map(|_| choice(pool, policy, route)))
}

fn break_down(pool: &Pool, backend: &str) {
    let mut permits: Vec<_> = (0..5).map(|_| send_to(pool, backend, RouteKind::Whole)).collect();
    permits.iter_mut().for_each(|permit| permit.record(&Outcome::Unreachable));
}

/// Down after failures, and back with one answer when the circuit lets a probe through.
async fn recover(pool: &Pool, backend: &str) {
    break_down(pool, backend);
    advance(Duration::from_secs(10)).await;
    let mut probe = send_to(pool, backend, RouteKind::Whole);
    probe.commit();
    probe.record(&Outcome::Success);
    assert_eq!(pool.status().backends.iter().find(|b| b.name == backend).unwrap().deployments[0].circuit, "closed");
}

mod figures {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn latency_is_the_time_to_the_commit_by_kind() {
        let pool = pool([serving("x")]);
        let x = target(&pool, "x");
        assert_eq!((x.latency(RouteKind::Whole), x.latency(RouteKind::Streamed)), (None, None));
        assert_eq!(x.latency_at(RouteKind::Whole, Instant::now()), DEFAULT_LATENCY);
        let mut permit = send_to(&pool, "x", RouteKind::Streamed);
        advance(ms(1_500)).await;
        permit.commit();
        advance(ms(60_000)).await;
        permit.record(&Outcome::Success);
        assert_eq!((x.latency(RouteKind::Whole), x.latency(RouteKind::Streamed)), (None, Some(ms(1_500))));
        assert!(x.latency_at(RouteKind::Streamed, Instant::now()) < ms(5), "unused for a minute");
        assert!(x.latency_at(RouteKind::Streamed, Instant::now() - Duration::from_secs(3_600 * 24)) > Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_slow_refusals_of_quota_are_nothing() {
        let failures = [
            Outcome::Unreachable,
            Outcome::Reset,
            Outcome::Unknown,
            Outcome::TimedOut(Phase::FirstByte),
            Outcome::ServerFailed { status: http::StatusCode::BAD_GATEWAY, hint: None },
        ];
        for failure in failures {
            let pool = pool([serving("x")]);
            takes(&pool, "x", RouteKind::Whole, ms(100)).await;
            let mut permit = send_to(&pool, "x", RouteKind::Whole);
            permit.record(&failure);
            for kind in [RouteKind::Whole, RouteKind::Streamed] {
                assert_eq!(target(&pool, "x").latency(kind), Some(FAILURE_PENALTY), "{failure:?}");
            }
        }
        let busy = Outcome::ServerFailed { status: http::StatusCode::SERVICE_UNAVAILABLE, hint: Some(ms(9_000)) };
        let pool = pool([serving("x")]);
        send_to(&pool, "x", RouteKind::Whole).record(&busy);
        assert_eq!(target(&pool, "x").latency(RouteKind::Whole), Some(ms(9_000)));
        for neutral in [
            Outcome::Abandoned,
            Outcome::ClientFault,
            Outcome::CredentialUnavailable,
            Outcome::Throttled { hint: Some(ms(30_000)) },
        ] {
            let pool = self::pool([serving("x")]);
            takes(&pool, "x", RouteKind::Whole, ms(1_100)).await;
            send_to(&pool, "x", RouteKind::Whole).record(&neutral);
            assert_eq!(target(&pool, "x").latency(RouteKind::Whole), Some(ms(1_100)), "{neutral:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_believed_for_a_while() {
        let pool = pool([serving("x")]);
        let header = |value| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static("azure-openai-deployment-utilization"),
                HeaderValue::from_static(value),
            )])
        };
        let permit = send_to(&pool, "x", RouteKind::Whole);
        assert_eq!(permit.target().room(Instant::now()), None);
        permit.observe(&header("75%"));
        assert_eq!(permit.target().room(Instant::now()), Some(0.25));
        permit.observe(&header("-1%"));
        assert_eq!(permit.target().room(Instant::now()), Some(0.25));
        advance(SIGNAL_LIFETIME).await;
        assert_eq!(permit.target().room(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn azures_own_spill_over_is_counted_and_says_nothing_of_the_target() {
        let pool = pool([serving("x")]);
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-spillover-from-deployment", HeaderValue::from_static("gpt-4o"));
        headers.insert("x-ratelimit-remaining-tokens", HeaderValue::from_static("0"));
        let permit = send_to(&pool, "x", RouteKind::Whole);
        permit.observe(&headers);
        assert_eq!(permit.target().room(Instant::now()), None);
        assert_eq!(pool.status().backends[0].deployments[0].spilled_over_by_azure, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn figures_outlive_a_change_of_the_pool() {
        let pool = three();
        takes(&pool, "y", RouteKind::Whole, ms(300)).await;
        pool.set_weight("x", 5).unwrap();
        assert_eq!(target(&pool, "y").latency(RouteKind::Whole), Some(ms(300)));
    }
}

mod least_load {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_fewest_in_flight_of_equals() {
        let pool = pool(["x", "y"].map(serving));
        let policy = LeastLoad::with_seed(1);
        let held: Vec<_> = (0..10).map(|_| send(&pool, &policy, &route()).unwrap()).collect();
        let counts = counts(held.iter().map(|permit| permit.target().backend().to_owned()));
        assert_eq!(counts.values().copied().collect::<Vec<_>>(), [5, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn weights_say_how_much_each_carries() {
        let pool = pool([serving("x").weight(6), serving("y").weight(3), serving("z").weight(1)]);
        let policy = LeastLoad::with_seed(2);
        let held: Vec<_> = (0..1_000).map(|_| send(&pool, &policy, &route()).unwrap()).collect();
        let counts = counts(held.iter().map(|permit| permit.target().backend().to_owned()));
        let off = counts.values().zip([600_usize, 300, 100]).map(|(count, share)| count.abs_diff(share)).max().unwrap();
        assert!(off <= 20, "{counts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_gets_less_and_never_nothing() {
        let pool = pool(["fast", "slow"].map(serving));
        takes(&pool, "slow", RouteKind::Whole, ms(4_000)).await;
        takes(&pool, "fast", RouteKind::Whole, ms(1_000)).await;
        let policy = LeastLoad::with_seed(3);
        let held: Vec<_> = (0..50).map(|_| send(&pool, &policy, &route()).unwrap()).collect();
        let counts = counts(held.iter().map(|permit| permit.target().backend().to_owned()));
        assert!((38..=42).contains(&counts["fast"]), "in flight in proportion to speed: {counts:?}");
        drop(held);
        assert_eq!(shares(&pool, &policy, &streamed(), 100).len(), 2, "streams are another matter");
    }

    #[tokio::test(start_paused = true)]
    async fn who_refuses_quickly_does_not_draw_the_traffic() {
        for refusal in [
            Outcome::Unreachable,
            Outcome::ServerFailed { status: http::StatusCode::INTERNAL_SERVER_ERROR, hint: None },
        ] {
            let pool = pool(["good", "bad"].map(serving));
            takes(&pool, "good", RouteKind::Whole, ms(900)).await;
            send_to(&pool, "bad", RouteKind::Whole).record(&refusal);
            assert_eq!(shares(&pool, &LeastLoad::with_seed(4), &route(), 100)["good"], 100, "{refusal:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn room_decides_among_equals() {
        let pool = pool(["full", "empty"].map(serving));
        for (backend, used) in [("full", "99%"), ("empty", "10%")] {
            let permit = send_to(&pool, backend, RouteKind::Whole);
            let used = HeaderValue::from_static(used);
            permit.observe(&HeaderMap::from_iter([("azure-openai-deployment-utilization".parse().unwrap(), used)]));
        }
        let policy = LeastLoad::with_seed(5);
        assert_eq!(shares(&pool, &policy, &route(), 50)["empty"], 50);
        let busy: Vec<_> = (0..9).map(|_| send_to(&pool, "empty", RouteKind::Whole)).collect();
        assert_eq!(
            shares(&pool, &policy, &route(), 50)["full"],
            50,
            "who is busier is no equal, and nobody is refused"
        );
        drop(busy);
        advance(SIGNAL_LIFETIME).await;
        assert_eq!(shares(&pool, &policy, &route(), 50).len(), 2, "old reports count for nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_draws_the_same() {
        let run = || {
            let (pool, policy) = (three(), LeastLoad::with_seed(6));
            (0..100).map(|_| choice(&pool, &policy, &route())).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }
}

mod lowest_latency {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_fastest_of_the_kind() {
        let pool = pool(["x", "y"].map(serving));
        for (backend, kind, latency) in [
            ("x", RouteKind::Streamed, 200),
            ("y", RouteKind::Streamed, 400),
            ("y", RouteKind::Whole, 5_000),
            ("x", RouteKind::Whole, 9_000),
        ] {
            takes(&pool, backend, kind, ms(latency)).await;
        }
        let policy = LowestLatency::with_seed(11);
        assert_eq!(shares(&pool, &policy, &streamed(), 15), [("x".to_owned(), 15)].into());
        assert_eq!(shares(&pool, &policy, &route(), 15), [("y".to_owned(), 15)].into());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_slow_is_found_to_be_fast_again_by_one_request_at_a_time() {
        let pool = pool(["x", "y"].map(serving));
        takes(&pool, "x", RouteKind::Whole, ms(20_000)).await;
        takes(&pool, "y", RouteKind::Whole, ms(500)).await;
        let policy = LowestLatency::with_seed(11);
        let mut on_x = 0;
        for _ in 0..2_000 {
            let permit = send(&pool, &policy, &route()).unwrap();
            let to_x = permit.target().backend() == "x";
            on_x += usize::from(to_x);
            answer(permit, ms(if to_x { 100 } else { 500 })).await;
        }
        assert!(on_x > 1_500, "{on_x}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_does_not_follow_the_one_that_tries() {
        let pool = pool(["slow", "fast"].map(serving));
        takes(&pool, "slow", RouteKind::Whole, ms(10_000)).await;
        takes(&pool, "fast", RouteKind::Whole, ms(500)).await;
        advance(Duration::from_secs(60)).await;
        let policy = LowestLatency::with_seed(11);
        let held: Vec<_> = (0..160).map(|_| send(&pool, &policy, &route()).unwrap()).collect();
        let counts = counts(held.iter().map(|permit| permit.target().backend().to_owned()));
        assert!(counts.get("slow").is_none_or(|slow| *slow <= 1), "{counts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_never_measured_is_tried_first_and_by_one_request() {
        let pool = three();
        takes(&pool, "x", RouteKind::Whole, ms(20_000)).await;
        let policy = LowestLatency::with_seed(11);
        let held: Vec<_> = (0..12).map(|_| send(&pool, &policy, &route()).unwrap()).collect();
        let counts = counts(held.iter().map(|permit| permit.target().backend().to_owned()));
        assert_eq!((counts["y"], counts["z"], counts["x"]), (1, 1, 10), "the others do not wait for what is found out");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_first_before_anything_is_known() {
        let pool = three();
        let policy = LowestLatency::with_seed(11);
        let held: Vec<_> = (0..9).map(|_| send(&pool, &policy, &route()).unwrap()).collect();
        let counts = counts(held.iter().map(|permit| permit.target().backend().to_owned()));
        assert_eq!(counts.values().copied().collect::<Vec<_>>(), [3, 3, 3]);
    }
}

mod prompt_cache {
    use super::*;

    fn homes(pool: &Pool, keys: u64) -> Vec<String> {
        let policy = PromptCache::default();
        (0..keys).map(|key| choice(pool, &policy, &route().with_affinity(key.wrapping_mul(0x9e37_79b9)))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_prompt_has_one_home_and_homes_are_shared_by_weight() {
        let pool = pool([serving("x").weight(6), serving("y").weight(3), serving("z").weight(1)]);
        let homes = homes(&pool, 10_000);
        assert_eq!(homes, self::homes(&pool, 10_000), "in another policy too");
        let counts = counts(homes);
        // Four standard deviations of the largest share.
        let off = counts.values().zip([6_000_usize, 3_000, 1_000]).map(|(n, share)| n.abs_diff(share)).max().unwrap();
        assert!(off < 200, "{counts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_order_of_configuration_changes_nothing() {
        let forth = pool(["x", "y", "z"].map(serving));
        let back = pool(["z", "y", "x"].map(serving));
        assert_eq!(homes(&forth, 1_000), homes(&back, 1_000));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_share_of_what_changed_moves() {
        let pool = three();
        let before = homes(&pool, 3_000);
        pool.drain("y").unwrap();
        let without = homes(&pool, 3_000);
        for (was, is) in before.iter().zip(&without) {
            assert!(was == is || was == "y", "{was} moved to {is}");
        }
        pool.undrain("y").unwrap();
        pool.set_weight("y", 3).unwrap();
        let heavier = homes(&pool, 3_000);
        for (was, is) in before.iter().zip(&heavier) {
            assert!(was == is || is == "y", "{was} moved to {is}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hot_prompt_spills_over_and_comes_back() {
        let pool = three();
        let (policy, hot) = (PromptCache::default(), route().with_affinity(1));
        let home = choice(&pool, &policy, &hot);
        let mut held: Vec<_> = (0..BUSY).map(|_| send(&pool, &policy, &hot).unwrap()).collect();
        assert!(held.iter().all(|permit| permit.target().backend() == home));
        held.extend((0..100).map(|_| send(&pool, &policy, &hot).unwrap()));
        let counts = counts(held.iter().map(|permit| permit.target().backend().to_owned()));
        let limit = (1.5 * (100.0 + f64::from(BUSY)) / 3.0).ceil() as usize;
        assert!(counts.len() >= 2 && counts.values().all(|count| *count <= limit), "{counts:?}");
        drop(held);
        assert_eq!(choice(&pool, &policy, &hot), home);
    }

    #[tokio::test(start_paused = true)]
    async fn without_affinity_another_policy_chooses() {
        let (pool, policy) = (three(), PromptCache::or_else(from_fn(|_| 2)));
        assert_eq!(shares(&pool, &policy, &route(), 10)["z"], 10);
    }
}

mod slow_start {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn the_share_grows_from_a_tenth_to_all_of_it() {
        let pool = pool(["x", "y"].map(serving));
        let policy = SlowStart::new(RoundRobin::default(), WINDOW).seed(1);
        assert_eq!(shares(&pool, &policy, &route(), 1_000)["x"], 500);
        recover(&pool, "x").await;
        // As if its weight were 0.1, 0.3, 0.6 and 1 of that of the other.
        for (share, least, most) in [(91, 60, 120), (231, 190, 270), (375, 335, 415), (500, 500, 500)] {
            let x = shares(&pool, &policy, &route(), 1_000)["x"];
            assert!((least..=most).contains(&x), "{x} of 1,000 instead of about {share}");
            advance(if share == 375 { ms(4_000) } else { ms(3_000) }).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_wait_that_was_asked_for_a_target_is_used_at_once() {
        for hint in [ms(300), Duration::from_secs(86_400)] {
            let pool = pool(["x", "y"].map(serving));
            let policy = SlowStart::new(RoundRobin::default(), WINDOW).seed(2);
            send_to(&pool, "x", RouteKind::Whole).record(&Outcome::Throttled { hint: Some(hint) });
            advance(hint.min(Duration::from_secs(60))).await;
            let mut probe = send_to(&pool, "x", RouteKind::Whole);
            probe.record(&Outcome::Success);
            drop(probe);
            assert_eq!(shares(&pool, &policy, &route(), 100)["x"], 50);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_target_that_is_alone_or_among_its_like() {
        let pool = pool(["x", "y"].map(serving));
        let policy = SlowStart::new(RoundRobin::default(), WINDOW).seed(3);
        break_down(&pool, "y");
        recover(&pool, "x").await;
        let held: Vec<_> = (0..10).map(|_| send(&pool, &policy, &route()).unwrap()).collect();
        assert!(held.iter().any(|permit| permit.target().backend() == "x"), "y lets probes through only");
        drop(held);
        send_to(&pool, "y", RouteKind::Whole).record(&Outcome::Success);
        let chosen = shares(&pool, &policy, &route(), 1_000);
        assert_eq!(chosen.len(), 2, "{chosen:?}");
        assert!((350..650).contains(&chosen["x"]), "both recover, so each is as good as the other: {chosen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn any_policy_can_be_inside() {
        let pool = pool(["x", "y", "z"].map(serving));
        recover(&pool, "x").await;
        let boxed: Box<dyn Policy> = Box::new(Weighted::default());
        let first = from_fn(|_| 0);
        let last = from_fn(|choice| choice.candidates().len() - 1);
        assert!(shares(&pool, &SlowStart::new(boxed, WINDOW).seed(4), &route(), 300)["x"] < 30);
        assert!(shares(&pool, &SlowStart::new(first, WINDOW).seed(5), &route(), 300)["x"] < 60);
        assert_eq!(shares(&pool, &SlowStart::new(last, WINDOW).seed(6), &route(), 300)["z"], 300);
        assert_eq!(shares(&pool, &SlowStart::new(first, Duration::ZERO), &route(), 300)["x"], 300);
    }
}

mod through_the_layers {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_circuit_breaker_feeds_the_figures() {
        let pool = pool([serving("x")]);
        let backend = service_fn(async |request: Request<Body>| {
            tokio::time::sleep(ms(if request.uri().query() == Some("slow") { 2_000 } else { 800 })).await;
            let answer = Response::builder().header("azure-openai-deployment-utilization", "40%");
            answer.body(Body::empty()).map_err(BoxError::from)
        });
        let service = ServiceBuilder::new()
            .layer(SelectBackendLayer::new(pool.clone()).with_policy(LeastLoad::default()))
            .layer(ForwardLayer::new())
            .service(backend);
        for (query, route) in [("?slow", route()), ("", streamed())] {
            let uri = format!("/openai/deployments/gpt-4o/chat/completions{query}");
            let mut request = Request::post(uri).body(Body::empty()).unwrap();
            request.extensions_mut().insert(route);
            service.clone().oneshot(request).await.unwrap();
        }
        let x = target(&pool, "x");
        assert_eq!(x.latency(RouteKind::Whole), Some(ms(2_000)));
        assert_eq!(x.latency(RouteKind::Streamed), Some(ms(800)));
        assert_eq!(x.room(Instant::now()), Some(0.6));
    }
}

mod streams {
    use futures_util::{StreamExt, stream};
    use http::header::CONTENT_TYPE;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use tower_azure_openai::stream_commit::StreamCommitLayer;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_latency_of_a_stream_is_that_of_its_first_content() {
        let pool = pool([serving("x")]);
        let backend = service_fn(async |_: Request<Body>| {
            let events = [
                (100, r#"data: {"choices":[],"prompt_filter_results":[]}"#),
                (700, r#"data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}"#),
                (9_000, "data: [DONE]"),
            ];
            let body = stream::iter(events).then(async |(pause, event)| {
                tokio::time::sleep(ms(pause)).await;
                Ok::<_, BoxError>(Frame::data(bytes::Bytes::from(format!("{event}\n\n"))))
            });
            let answer = Response::builder().header(CONTENT_TYPE, "text/event-stream");
            answer.body(Body::new(StreamBody::new(body))).map_err(BoxError::from)
        });
        let service = ServiceBuilder::new()
            .layer(SelectBackendLayer::new(pool.clone()))
            .layer(StreamCommitLayer::new())
            .layer(ForwardLayer::new())
            .service(backend);
        let mut request = Request::post("/openai/deployments/gpt-4o/chat/completions").body(Body::empty()).unwrap();
        request.extensions_mut().insert(streamed());
        let answer = service.oneshot(request).await.unwrap();
        answer.into_body().collect().await.unwrap();
        assert_eq!(target(&pool, "x").latency(RouteKind::Streamed), Some(ms(800)));
        assert_eq!(target(&pool, "x").latency(RouteKind::Whole), None);
    }
}

mod prompts {
    use super::*;

    async fn served_by<P: Policy>(policy: P, bodies: impl IntoIterator<Item = String>) -> Vec<String> {
        let backend = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
        let service = ServiceBuilder::new()
            .layer(SelectBackendLayer::new(three()).with_policy(policy))
            .layer(ForwardLayer::new())
            .service(backend);
        let mut chosen = Vec::new();
        for body in bodies {
            let request = Request::post("/openai/deployments/gpt-4o/chat/completions").body(Body::from(body)).unwrap();
            let answer = service.clone().oneshot(request).await.unwrap();
            chosen.push(answer.extensions().get::<Target>().unwrap().backend().to_owned());
        }
        chosen
    }

    fn with_key(key: impl std::fmt::Display) -> String {
        format!(r#"{{"messages":[],"prompt_cache_key":"{key}"}}"#)
    }

    #[tokio::test(start_paused = true)]
    async fn the_layer_reads_the_key_for_the_policy_that_wants_it() {
        let wrapped = || SlowStart::new(Box::new(PromptCache::default()) as Box<dyn Policy>, Duration::from_secs(10));
        let same = served_by(wrapped(), (0..20).map(|_| with_key("a"))).await;
        assert_eq!(counts(same).len(), 1);
        let different = served_by(wrapped(), (0..60).map(with_key)).await;
        assert_eq!(counts(different).len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_else_has_the_body_read() {
        let unread = from_fn(|choice| {
            assert_eq!(choice.route().affinity(), None);
            0
        });
        served_by(unread, [with_key("a")]).await;
    }
}

mod residency {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::{Arc, Mutex};

    use tower_azure_openai::context::Client;
    use tower_azure_openai::failover::FailoverLayer;
    use tower_azure_openai::inspect::InspectLayer;
    use tower_azure_openai::respond::RespondLayer;

    use super::*;

    fn request(n: usize) -> Request<Body> {
        let (uri, body) = [
            ("/openai/deployments/gpt-4o/chat/completions?api-version=1", r#"{"messages":[],"user":"u"}"#),
            ("/openai/deployments/gpt-4o/embeddings", r#"{"input":"Hi"}"#),
            ("/openai/v1/chat/completions", r#"{"model":"gpt-4o","stream":true,"messages":[]}"#),
            ("/openai/v1/responses", r#"{"model":"gpt-4o","input":"Hi","prompt_cache_key":"k"}"#),
            ("/openai/v1/files", "{}"),
        ][n % 5];
        Request::post(uri).header("content-type", "application/json").body(Body::from(body)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn with_every_compliant_backend_down_no_other_sees_a_byte() {
        for make in 0..any_run_of_events::policies().len() {
            let (name, policy) = any_run_of_events::policies().swap_remove(make);
            let at = |name: &str, geography: &str| serving(name).geography(geography);
            let pool = pool([at("eu-a", "eu"), at("us", "us"), at("eu-b", "eu").priority(1), serving("unknown")]);
            let (asked, turn) = (Arc::new(Mutex::new(BTreeMap::<String, usize>::new())), Arc::new(AtomicUsize::new(0)));
            let backend = {
                let asked = asked.clone();
                service_fn(move |request: Request<Body>| {
                    let host = request.uri().host().unwrap().to_owned();
                    let status =
                        if host.starts_with("eu") { [429, 500, 503][turn.fetch_add(1, Relaxed) % 3] } else { 200 };
                    *asked.lock().unwrap().entry(host).or_default() += 1;
                    let answer = Response::builder().status(status).header("retry-after-ms", "40");
                    async move { answer.body(Body::empty()).map_err(BoxError::from) }
                })
            };
            let service = ServiceBuilder::new()
                .layer(RespondLayer::new())
                .layer(InspectLayer::new())
                .layer(FailoverLayer::new())
                .layer(SelectBackendLayer::new(pool).with_policy(policy))
                .layer(ForwardLayer::new())
                .service(backend);
            for n in 0..500 {
                let (geography, expected) = if n % 7 == 0 { ("ap", &[404][..]) } else { ("eu", &[429, 500, 503][..]) };
                let mut request = request(n);
                request.extensions_mut().insert(Client::new("c").geography(geography));
                let status = service.clone().oneshot(request).await.unwrap().status().as_u16();
                assert!(expected.contains(&status), "{name}: {status} for {geography}");
                advance(ms(n as u64 % 60)).await;
            }
            let asked = asked.lock().unwrap();
            assert!(asked.len() == 2 && asked.keys().all(|host| host.starts_with("eu")), "{name}: {asked:?}");
            assert!(asked.values().sum::<usize>() > 100, "{name}: {asked:?}");
        }
    }
}

mod any_run_of_events {
    use super::*;

    const NAMES: [&str; 4] = ["us-a", "us-b", "eu-a", "eu-b"];
    /// How many requests a backend may have in flight; every other one has no limit.
    fn places(name: &str) -> u32 {
        if name.ends_with('a') { 3 } else { 0 }
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Advance(u64),
        End { which: usize, outcome: Ending },
        SetWeight { backend: usize, weight: u32 },
        Send { affinity: u64, us_only: bool, narrowed: Option<&'static str>, tried: Option<usize> },
    }

    #[derive(Clone, Copy, Debug)]
    enum Ending {
        Answer,
        Drop,
        Fail,
        Throttle(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let ending = prop_oneof![
            3 => Just(Ending::Answer),
            1 => Just(Ending::Drop),
            2 => Just(Ending::Fail),
            1 => (0..90_000_u64).prop_map(Ending::Throttle),
        ];
        prop_oneof![
            2 => (0..15_000_u64).prop_map(Event::Advance),
            4 => (any::<usize>(), ending).prop_map(|(which, outcome)| Event::End { which, outcome }),
            1 => (0..4_usize, 0..3_u32).prop_map(|(backend, weight)| Event::SetWeight { backend, weight }),
            6 => (0..8_u64, any::<bool>(), prop_oneof![2 => Just(None), 1 => Just(Some("us")), 1 => Just(Some("eu"))], proptest::option::of(0..4_usize))
                .prop_map(|(affinity, us_only, narrowed, tried)| Event::Send { affinity, us_only, narrowed, tried }),
        ]
    }

    pub(crate) fn policies() -> Vec<(&'static str, Box<dyn Policy>)> {
        let last: Box<dyn Policy> = Box::new(from_fn(|choice| choice.candidates().len() - 1));
        every::policies().into_iter().chain([("a closure", last)]).collect()
    }

    struct World {
        pool: Pool,
        held: Vec<Permit>,
        weights: [u32; 4],
        /// Until when nobody may be sent there.
        waits: [Option<Instant>; 4],
    }

    impl World {
        fn new() -> Self {
            let geography = |name: &str| name.split_once('-').unwrap().0.to_owned();
            let pool = pool(NAMES.map(|name| serving(name).geography(geography(name)).max_in_flight(places(name))));
            Self { pool, held: Vec::new(), weights: [1; 4], waits: [None; 4] }
        }

        fn in_flight(&self, backend: &str) -> usize {
            self.held.iter().filter(|permit| permit.target().backend() == backend).count()
        }

        async fn step(&mut self, event: Event, policy: &impl Policy) {
            match event {
                Event::Advance(by) => advance(ms(by)).await,
                Event::SetWeight { backend, weight } => {
                    self.pool.set_weight(NAMES[backend], weight).unwrap();
                    self.weights[backend] = weight;
                }
                Event::End { which, outcome } if !self.held.is_empty() => {
                    let permit = self.held.swap_remove(which % self.held.len());
                    self.end(permit, outcome);
                }
                Event::End { .. } => {}
                Event::Send { affinity, us_only, narrowed, tried } => {
                    self.send(affinity, us_only, narrowed, tried, policy)
                }
            }
        }

        fn end(&mut self, mut permit: Permit, outcome: Ending) {
            let backend = NAMES.iter().position(|name| *name == permit.target().backend()).unwrap();
            match outcome {
                Ending::Answer => {
                    permit.commit();
                    permit.record(&Outcome::Success);
                }
                Ending::Drop => {}
                Ending::Fail => permit.record(&Outcome::Reset),
                Ending::Throttle(hint) => {
                    permit.record(&Outcome::Throttled { hint: Some(ms(hint)) });
                    // A hint is obeyed up to `max_open`; then a probe finds out.
                    let until = Instant::now() + ms(hint.min(60_000));
                    self.waits[backend] = self.waits[backend].max(Some(until));
                }
            }
        }

        fn send(
            &mut self,
            affinity: u64,
            us_only: bool,
            narrowed: Option<&str>,
            tried: Option<usize>,
            policy: &impl Policy,
        ) {
            let us = Constraints::default().geography("us").processing([Processing::Regional]);
            let mut used_up = TargetSet::default();
            if let Some(tried) = tried {
                used_up.insert(&target(&self.pool, NAMES[tried]));
            }
            let narrower = narrowed.map(|geography| Constraints::default().geography(geography));
            let mut query = Query::new(Some(ALIAS)).tried(&used_up).narrowed(narrower.as_ref());
            if us_only {
                query = query.constraints(&us);
            }
            let route = route().with_affinity(affinity);
            let Ok(mut permit) = self.pool.acquire(&query, |eligible| policy.choose(&Choice::new(&route, eligible)))
            else {
                return;
            };
            permit.sent(route.kind());
            let name = permit.target().backend().to_owned();
            let chosen = NAMES.iter().position(|known| *known == name).unwrap();
            assert!(!us_only || name.starts_with("us"), "{name} does not comply");
            assert!(narrowed.is_none_or(|geography| name.starts_with(geography)), "{name} does not comply");
            assert_ne!(Some(chosen), tried, "{name} was tried");
            assert_ne!(self.weights[chosen], 0, "{name} is drained");
            assert!(self.waits[chosen].is_none_or(|until| until <= Instant::now()), "{name} asked to wait");
            let places = places(&name) as usize;
            assert!(places == 0 || self.in_flight(&name) < places, "{name} is full");
            self.held.push(permit);
        }
    }

    fn under_a_paused_clock(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(test);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_pick_is_eligible_and_complies(events in proptest::collection::vec(event(), 0..120)) {
            for (_, policy) in policies() {
                under_a_paused_clock(async {
                    let mut world = World::new();
                    for event in &events {
                        world.step(*event, &policy).await;
                    }
                    world.held.clear();
                    assert!(world.pool.targets(ALIAS).iter().all(|target| target.in_flight() == 0));
                });
            }
        }

        #[test]
        fn smooth_weighting_starves_nobody(
            weights in proptest::collection::vec(1_u32..20, 2..6),
            absences in proptest::collection::vec(any::<u8>(), 1..400),
        ) {
            let names: Vec<_> = (0..weights.len()).map(|i| format!("b{i}")).collect();
            let pool = pool(names.iter().zip(&weights).map(|(name, weight)| serving(name).weight(*weight)));
            let (policy, targets) = (Weighted::default(), pool.targets(ALIAS));
            let mut waited = 0;
            let patience = weights.iter().sum::<u32>() * weights.len() as u32 / weights[0] + 1;
            for absent in absences {
                let eligible: Vec<_> =
                    targets.iter().enumerate().filter(|(i, _)| *i == 0 || absent >> i & 1 == 0).map(|(_, t)| t).collect();
                let chosen = policy.choose(&Choice::new(&route(), &eligible));
                waited = if chosen == 0 { 0 } else { waited + 1 };
                prop_assert!(waited <= patience, "the first of {weights:?} waits, whoever else comes and goes");
            }
        }

        #[test]
        fn rendezvous_moves_only_what_changed(
            keys in proptest::collection::vec(any::<u64>(), 1..200),
            weights in proptest::collection::vec(1_u32..9, 2..7),
            changed in any::<prop::sample::Index>(),
            weight in 0_u32..9,
        ) {
            let names: Vec<_> = (0..weights.len()).map(|i| format!("b{i}")).collect();
            let pool = pool(names.iter().zip(&weights).map(|(name, weight)| serving(name).weight(*weight)));
            let changed = changed.index(weights.len());
            let policy = PromptCache::default();
            let homes = || keys.iter().map(|key| choice(&pool, &policy, &route().with_affinity(*key))).collect::<Vec<_>>();
            let before = homes();
            pool.set_weight(&names[changed], weight).unwrap();
            for (was, is) in before.iter().zip(homes()) {
                let mover = if weight > weights[changed] { &is } else { was };
                prop_assert!(*was == is || *mover == names[changed], "{was} moved to {is}");
            }
        }
    }
}
