//! The pool from outside: what its builder refuses, what a change at run time keeps, what its status says.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;
use serde_json::json;
use tokio::time::advance;
use tower::BoxError;
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::pool::{
    Backend, BackendStatus, BearerTokens, BoxFuture, BuildError, CircuitConfig, Constraints, Credential, Deployment,
    MAX_PRIORITY, MAX_WEIGHT, NoTarget, NoTargetReason, Permit, Pool, PoolBuilder, Processing, Query, RouteKind,
    Target, TargetSet,
};

const HOST: &str = "contoso-secret-host.example";
const KEY: &str = "k3y-of-contoso";

fn backend(name: &str) -> Backend {
    Backend::new(name, format!("https://{name}.{HOST}")).credential(Credential::api_key(KEY).unwrap())
}

fn serving(name: &str, alias: &str) -> Backend {
    backend(name).add_deployment(Deployment::new(alias))
}

fn described(backends: impl IntoIterator<Item = Backend>) -> PoolBuilder {
    backends.into_iter().fold(Pool::builder(), PoolBuilder::add_backend)
}

fn pool(backends: impl IntoIterator<Item = Backend>) -> Pool {
    described(backends).build().unwrap()
}

fn problems(description: PoolBuilder) -> Vec<String> {
    description.build().unwrap_err().problems().map(str::to_owned).collect()
}

fn take(pool: &Pool, alias: &str) -> Result<Permit, NoTarget> {
    pool.acquire(&Query::new(Some(alias)), |_| 0)
}

fn take_on(pool: &Pool, backend: &str, deployment: Option<&str>) -> Permit {
    pool.acquire_target(&target(pool, backend, deployment)).unwrap()
}

/// Finds a target by asking for a permit of every target of its alias, or of every backend.
fn target(pool: &Pool, backend: &str, deployment: Option<&str>) -> Target {
    let mut found = None;
    let aliases: Vec<_> = pool.aliases().into_iter().flat_map(|alias| pool.targets(&alias)).collect();
    match deployment {
        Some(_) => found = aliases.into_iter().find(|t| t.backend() == backend && t.deployment() == deployment),
        None => {
            let _ = pool.acquire(&Query::new(None), |eligible| {
                found = eligible.iter().find(|t| t.backend() == backend).map(|t| (*t).clone());
                0
            });
        }
    }
    found.unwrap()
}

fn fail(pool: &Pool, backend: &str, deployment: Option<&str>, outcome: Outcome, times: usize) {
    for _ in 0..times {
        take_on(pool, backend, deployment).record(&outcome);
    }
}

const fn throttled(ms: u64) -> Outcome {
    Outcome::Throttled { hint: Some(Duration::from_millis(ms)) }
}

const fn failed(status: StatusCode) -> Outcome {
    Outcome::ServerFailed { status, hint: None }
}

fn state(pool: &Pool, backend: &str, deployment: &str) -> &'static str {
    let status = pool.status();
    let backend = status.backends.iter().find(|b| b.name == backend).unwrap();
    backend.deployments.iter().find(|d| d.name == deployment).unwrap().circuit
}

/// Tokens of which the test says whether they are there.
#[derive(Default)]
struct Tokens(Option<&'static str>);

impl BearerTokens for Tokens {
    fn current(&self) -> Option<HeaderValue> {
        None
    }

    fn wait(&self) -> BoxFuture<Result<HeaderValue, BoxError>> {
        Box::pin(async { Err("no token".into()) })
    }

    fn rejected(&self, _: &HeaderValue) -> BoxFuture<bool> {
        Box::pin(async { false })
    }

    fn problem(&self) -> Option<String> {
        self.0.map(str::to_owned)
    }
}

mod building {
    use super::*;

    fn one(backend: Backend) -> String {
        let all = problems(described([backend]));
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().unwrap()
    }

    fn at(endpoint: &str) -> Backend {
        Backend::new("east", endpoint).add_deployment(Deployment::new("gpt-4o"))
    }

    #[test]
    fn refuses_names_that_are_there_twice() {
        let all = problems(described([serving("east", "a"), serving("east", "b")]));
        assert_eq!(all, ["backend `east` is there twice"]);
        let all = problems(described([serving("east", "a").add_deployment(Deployment::new("a"))]));
        assert_eq!(all, ["deployment `a` of backend `east` is there twice for one alias"]);
        let shared = pool([serving("east", "a"), serving("west", "a")]);
        assert_eq!(shared.targets("a").len(), 2, "two backends may each have a deployment of one name");
    }

    #[test]
    fn refuses_endpoints_that_are_none() {
        for (endpoint, why) in [
            ("ftp://contoso-secret-host.example", "http:// or https://"),
            ("contoso-secret-host.example", "http:// or https://"),
            ("/just/a/path", "http:// or https://"),
            ("https://user:k3y-of-contoso@contoso-secret-host.example", "credentials"),
            ("https://k3y-of-contoso@contoso-secret-host.example", "credentials"),
            ("https://contoso-secret-host.example?api-key=k3y-of-contoso", "query"),
            ("https://contoso-secret-host.example/?", "query"),
            ("https://contoso-secret-host.example#east", "fragment"),
            ("https://contoso-secret-host.example:70000", "port"),
            ("https://contoso-secret-host.example:", "port"),
            ("https://", "URL"),
            ("https://:443", "host"),
            ("", "URL"),
            ("https://contoso secret host", "URL"),
            ("https://contoso-secret-host.example/openai/v1/", "before /openai"),
            ("https://contoso-secret-host.example/api/projects/east", "project"),
            ("https://contoso-secret-host.openai.azure.com/openai", "no path"),
        ] {
            let problem = one(at(endpoint));
            assert!(problem.starts_with("endpoint of backend `east` "), "{endpoint}: {problem}");
            assert!(problem.contains(why), "{endpoint}: {problem}");
            assert!(!problem.contains(HOST) && !problem.contains(KEY), "{problem}");
        }
    }

    #[test]
    fn refuses_what_serves_nothing() {
        assert_eq!(problems(Pool::builder()), ["the pool has no backend"]);
        assert_eq!(one(backend("east")), "backend `east` has no deployment");
        assert!(
            one(serving("east", "a").add_deployment(Deployment::new("b").alias(""))).contains("empty name or alias")
        );
        assert!(problems(described([serving("", "a")])).contains(&"a backend has an empty name".to_owned()));
    }

    #[test]
    fn refuses_aliases_whose_targets_differ() {
        let with = |name: &str, deployment: Deployment| backend(name).add_deployment(deployment.alias("chat"));
        let gpt = || Deployment::new("d").model("gpt-4o");
        for (other, differs) in [
            (gpt().version("2024-08-06"), false),
            (gpt().version("2024-11-20"), true),
            (gpt(), true),
            (Deployment::new("d").model("gpt-4o-mini").version("2024-08-06"), true),
            (Deployment::new("d").version("2024-08-06"), true),
        ] {
            let built = described([with("east", gpt().version("2024-08-06")), with("west", other)]).build();
            assert_eq!(built.is_err(), differs);
            if let Err(error) = built {
                let problem = error.to_string();
                assert!(problem.starts_with("alias `chat` is gpt-4o 2024-08-06 on east/d and "), "{problem}");
                assert!(problem.contains("on west/d"), "{problem}");
            }
        }
        let unstated = described([with("east", gpt()), with("west", gpt())]).build();
        assert!(unstated.is_ok(), "nobody states a version: they agree");
    }

    #[test]
    fn refuses_weights_and_priorities_out_of_range() {
        assert_eq!(
            one(serving("east", "a").weight(MAX_WEIGHT + 1)),
            format!("weight of backend `east` is above {MAX_WEIGHT}")
        );
        assert_eq!(
            one(serving("east", "a").priority(MAX_PRIORITY + 1)),
            format!("priority of backend `east` is above {MAX_PRIORITY}")
        );
        let deployment = Deployment::new("a").weight(u32::MAX).priority(u32::MAX);
        let all = problems(described([backend("east").add_deployment(deployment)]));
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all.iter().all(|problem| problem.contains("of deployment `a` of backend `east`")), "{all:?}");
        assert!(described([serving("east", "a").weight(MAX_WEIGHT).priority(MAX_PRIORITY)]).build().is_ok());
    }

    #[test]
    fn refuses_tokens_in_the_clear() {
        let tokens = || Credential::bearer(Arc::new(Tokens::default()));
        for (endpoint, refused) in [
            ("http://contoso-secret-host.example", true),
            ("http://10.0.0.1", true),
            ("http://127.0.0.1.contoso-secret-host.example", true),
            ("http://localhost:8080", false),
            ("http://127.0.0.1:8080", false),
            ("http://[::1]:8080", false),
            ("https://contoso-secret-host.example", false),
        ] {
            let built = described([at(endpoint).credential(tokens())]).build();
            assert_eq!(built.is_err(), refused, "{endpoint}");
            if let Err(error) = built {
                assert!(error.to_string().starts_with("endpoint of backend `east` must be https"), "{error}");
            }
            assert!(described([at(endpoint).credential(Credential::api_key(KEY).unwrap())]).build().is_ok());
        }
    }

    #[test]
    fn refuses_circuits_that_contradict_themselves() {
        let with = |change: fn(&mut CircuitConfig)| {
            let mut config = CircuitConfig::default();
            change(&mut config);
            described([serving("east", "a")]).circuit(config)
        };
        assert!(with(|c| c.min_open = Duration::from_secs(61)).build().unwrap_err().to_string().contains("min_open"));
        assert!(with(|c| c.default_open = Duration::ZERO).build().unwrap_err().to_string().contains("default_open"));
        assert!(with(|c| c.failure_ratio = f64::NAN).build().unwrap_err().to_string().contains("failure_ratio"));
    }

    #[test]
    fn names_all_problems_at_once() {
        let all = problems(
            described([
                at("ftp://contoso-secret-host.example").weight(u32::MAX),
                backend("west"),
                serving("east", "gpt-4o").add_deployment(Deployment::new("x").alias("gpt-4o").version("1")),
                Backend::new("tokens", "http://contoso-secret-host.example")
                    .credential(Credential::bearer(Arc::new(Tokens::default())))
                    .add_deployment(Deployment::new("y").priority(u32::MAX)),
            ])
            .circuit({
                let mut config = CircuitConfig::default();
                config.window = Duration::ZERO;
                config
            }),
        );
        for part in [
            "endpoint of backend `east`",
            "weight of backend `east`",
            "backend `west` has no deployment",
            "backend `east` is there twice",
            "alias `gpt-4o`",
            "endpoint of backend `tokens`",
            "priority of deployment `y` of backend `tokens`",
            "circuit.window",
        ] {
            assert!(all.iter().any(|problem| problem.contains(part)), "{part} in {all:#?}");
        }
        assert!(all.len() >= 8);
    }

    #[test]
    fn says_in_one_line_what_it_says_one_by_one() {
        let error: BuildError = described([backend("east"), backend("west")]).build().unwrap_err();
        assert_eq!(error.to_string(), error.problems().collect::<Vec<_>>().join("; "));
    }
}

#[test]
fn debug_shows_no_key_and_no_hostname() {
    let backends = || [serving("east", "a"), Backend::new("odd", format!("https://{KEY}@{HOST}"))];
    let pool = pool([serving("east", "a")]);
    let permit = take(&pool, "a").unwrap();
    let target = permit.target().clone();
    let shown = [
        format!("{:?}", backends()),
        format!("{:?}", described(backends())),
        format!("{:?}", described(backends()).build()),
        format!("{pool:?} {target:?} {permit:?}"),
        format!("{:?} {:?}", target.endpoint(), target.credential()),
        format!("{:?}", pool.status()),
        serde_json::to_string(&pool.status()).unwrap(),
    ];
    for shown in shown {
        assert!(!shown.contains(HOST) && !shown.contains(KEY), "{shown}");
    }
}

mod several_aliases_of_one_deployment {
    use super::*;

    fn shared() -> PoolBuilder {
        let d = || Deployment::new("d");
        let east = backend("east").add_deployment(d().alias("gpt-4o")).add_deployment(d().alias("gpt-4o-2024-08-06"));
        described([east, serving("west", "gpt-4o")])
    }

    #[test]
    fn each_finds_it() {
        let pool = shared().build().unwrap();
        assert_eq!(take(&pool, "gpt-4o-2024-08-06").unwrap().target().deployment(), Some("d"));
        assert_eq!(pool.targets("gpt-4o").len(), 2);
        assert_eq!(pool.target_at("east", "gpt-4o").unwrap().alias(), Some("gpt-4o"));
    }

    #[tokio::test(start_paused = true)]
    async fn all_wait_when_one_was_throttled() {
        let pool = shared().build().unwrap();
        let mut permit = take_on(&pool, "east", Some("d"));
        permit.record(&Outcome::Throttled { hint: Some(Duration::from_secs(7)) });
        let error = take(&pool, "gpt-4o-2024-08-06").unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(take(&pool, "gpt-4o").unwrap().target().backend(), "west");
        let circuits: Vec<_> = pool.status().backends[0].deployments.iter().map(|d| d.circuit).collect();
        assert_eq!(circuits, ["open", "open"]);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_under_one_do_not_close_it_for_another_that_has_nobody_else() {
        let pool = shared().build().unwrap();
        let east = pool.target_at("east", "gpt-4o").unwrap();
        for _ in 0..20 {
            pool.acquire_target(&east)
                .unwrap()
                .record(&Outcome::ServerFailed { status: StatusCode::BAD_GATEWAY, hint: None });
        }
        assert_eq!(take(&pool, "gpt-4o-2024-08-06").unwrap().target().backend(), "east");
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_cannot_be_reached_fails_once_for_all() {
        let mut config = CircuitConfig::default();
        config.consecutive_failures = 2;
        let east = serving("east", "other").add_deployment(Deployment::new("d").alias("a"));
        let pool = described([east.add_deployment(Deployment::new("d").alias("b"))]).circuit(config).build().unwrap();
        let other = pool.target_at("east", "other").unwrap();
        pool.acquire_target(&other).unwrap().record(&Outcome::Unreachable);
        assert!(take(&pool, "a").is_ok() && take(&pool, "b").is_ok(), "one failure is one, under however many names");
        pool.acquire_target(&other).unwrap().record(&Outcome::Unreachable);
        assert!(take(&pool, "a").is_err() && take(&pool, "b").is_err());
    }

    #[test]
    fn what_is_done_counts_once_and_is_kept() {
        let pool = shared().build().unwrap();
        let permit = take(&pool, "gpt-4o-2024-08-06").unwrap();
        assert_eq!(pool.target_at("east", "gpt-4o").unwrap().in_flight(), 1);
        assert_eq!(pool.status().backends[0].in_flight, 1);
        pool.replace(shared()).unwrap();
        for served in &pool.status().backends[0].deployments {
            assert_eq!((served.in_flight, served.requests), (1, 1), "{}", served.alias);
        }
        drop(permit);
        assert_eq!(pool.target_at("east", "gpt-4o-2024-08-06").unwrap().in_flight(), 0);
    }

    #[test]
    fn the_status_says_of_each_alias_what_stands_before_it() {
        let east = backend("east").add_deployment(Deployment::new("d").alias("a"));
        let east = east.add_deployment(Deployment::new("d").alias("b").priority(1));
        let status = described([east, serving("west", "b")]).build().unwrap().status();
        let obstacles: Vec<_> = status.backends[0].deployments.iter().map(|d| d.obstacles.len()).collect();
        assert_eq!(obstacles, [0, 1], "west comes first for b alone: {status:?}");
    }
}

mod changing {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_target_that_stays_keeps_its_state() {
        let pool = pool([serving("east", "a"), serving("west", "a")]);
        let before = target(&pool, "east", Some("a"));
        let held = take_on(&pool, "east", Some("a"));
        fail(&pool, "east", Some("a"), throttled(5_000), 1);

        pool.replace(described([serving("north", "a"), serving("east", "a").weight(3).priority(1)])).unwrap();
        let after = target(&pool, "east", Some("a"));
        assert_eq!((after.slot(), after.weight(), after.priority()), (before.slot(), 3, 1));
        assert_eq!(after, before, "the same target under another description");
        let status = pool.status();
        assert_eq!(status.backends.iter().map(|b| &*b.name).collect::<Vec<_>>(), ["north", "east"]);
        let east = &status.backends[1];
        assert_eq!((east.in_flight, east.deployments[0].in_flight), (1, 1));
        assert_eq!((east.deployments[0].requests, east.deployments[0].throttled), (2, 1));
        assert_eq!((east.deployments[0].circuit, east.deployments[0].reopens_in_ms), ("open", Some(5_000)));

        drop(held);
        assert_eq!(pool.status().backends[1].in_flight, 0, "given back to the target that stayed");
        advance(Duration::from_secs(5)).await;
        assert_eq!(state(&pool, "east", "a"), "closed");
    }

    #[tokio::test(start_paused = true)]
    async fn another_endpoint_is_another_target() {
        let pool = pool([serving("east", "a"), serving("west", "a")]);
        let old = take_on(&pool, "east", Some("a"));
        let mut doomed: Vec<_> = (0..5).map(|_| take_on(&pool, "east", Some("a"))).collect();
        fail(&pool, "east", Some("a"), throttled(5_000), 1);
        let moved = || Backend::new("east", "https://elsewhere.example").add_deployment(Deployment::new("a"));
        pool.replace(described([moved(), serving("west", "a")])).unwrap();

        let status = pool.status();
        assert_eq!((status.backends[0].in_flight, status.backends[0].deployments[0].circuit), (0, "closed"));
        assert_ne!(target(&pool, "east", Some("a")), *old.target());
        doomed.iter_mut().for_each(|permit| permit.record(&Outcome::Unreachable));
        assert_eq!(state(&pool, "east", "a"), "closed", "what cannot be reached is the place that was left");
        drop((old, doomed));
        assert_eq!(pool.status().backends[0].in_flight, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_target_finishes_what_it_runs() {
        let pool = pool([serving("east", "a"), serving("west", "a")]);
        let mut running = take_on(&pool, "east", Some("a"));
        let target = running.target().clone();
        pool.replace(described([serving("west", "a")])).unwrap();

        assert_eq!(pool.targets("a").len(), 1);
        assert_eq!(target.in_flight(), 1);
        running.commit();
        running.record(&Outcome::Success);
        drop(running);
        assert_eq!(target.in_flight(), 0);
        assert!(pool.status().backends.iter().all(|b| b.name == "west" && b.deployments[0].requests == 0));
    }

    #[test]
    fn an_invalid_description_changes_nothing() {
        let pool = pool([serving("east", "a").weight(7)]);
        let held = take(&pool, "a").unwrap();
        let before = pool.status();
        assert!(pool.replace(described([serving("west", "a"), backend("north")])).is_err());
        assert!(pool.replace(Pool::builder()).is_err());
        let error = pool.set_weight("west", 1).unwrap_err();
        assert_eq!(error.to_string(), "backend `west` is not in the pool");
        assert_eq!(
            pool.set_weight("east", MAX_WEIGHT + 1).unwrap_err().to_string(),
            format!("weight of backend `east` is above {MAX_WEIGHT}")
        );
        assert!(pool.drain("west").is_err());
        assert_eq!(pool.status(), before);
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drained_backend_gets_nothing_new_until_that_is_taken_back() {
        let pool = pool([serving("east", "a"), serving("west", "a").priority(1)]);
        let held = take(&pool, "a").unwrap();
        assert_eq!(held.target().backend(), "east");
        pool.drain("east").unwrap();
        let status = pool.status();
        assert!(status.backends[0].drained && status.backends[0].in_flight == 1);
        assert_eq!(take(&pool, "a").unwrap().target().backend(), "west");

        pool.drain("west").unwrap();
        let none = take(&pool, "a").unwrap_err();
        assert_eq!((none.reason, none.retry_after), (NoTargetReason::Down, None));
        pool.set_weight("east", 5).unwrap();
        assert!(take(&pool, "a").is_err(), "a weight is no reason to send something to what was drained");
        pool.undrain("east").unwrap();
        assert_eq!(take(&pool, "a").unwrap().target().weight(), 5);
        drop(held);
        assert!(pool.status().backends.iter().all(|b| b.in_flight == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_beside_a_description_outlives_it() {
        let both = || described([serving("east", "a").weight(3), serving("west", "a").priority(1)]);
        let pool = both().build().unwrap();
        pool.set_weight("east", 7).unwrap();
        pool.drain("west").unwrap();
        let told = |pool: &Pool| {
            let of = |b: &BackendStatus| (b.name.clone(), b.weight, b.weight_override, b.configured_weight, b.drained);
            pool.status().backends.iter().map(of).collect::<Vec<_>>()
        };
        let is = [("east".into(), 7, Some(7), 3, false), ("west".into(), 1, None, 1, true)];
        assert_eq!(told(&pool), is);
        pool.replace(both()).unwrap();
        assert_eq!(told(&pool), is);
        let next = pool.successor(described([serving("east", "a")])).unwrap();
        assert_eq!(told(&next), [("east".into(), 7, Some(7), 1, false)]);
        let next = next.successor(both()).unwrap();
        assert_eq!(told(&next), is, "also of what was away for a while");

        next.reset_weight("east").unwrap();
        next.undrain("west").unwrap();
        let is = [("east".into(), 3, None, 3, false), ("west".into(), 1, None, 1, false)];
        assert_eq!(told(&next), is);
        next.set_weight("east", 0).unwrap();
        next.undrain("east").unwrap();
        assert_eq!(told(&next)[0], ("east".into(), 0, Some(0), 3, true), "without weight it still gets nothing");
        for result in [next.undrain("north"), next.reset_weight("north"), next.set_weight("north", 1)] {
            assert_eq!(result.unwrap_err().to_string(), "backend `north` is not in the pool");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn draining_holds_for_deployments_with_a_weight_of_their_own() {
        let pool = pool([backend("east").add_deployment(Deployment::new("a").weight(9))]);
        pool.drain("east").unwrap();
        assert_eq!(take(&pool, "a").unwrap_err().reason, NoTargetReason::Down);
        assert_eq!(pool.acquire(&Query::new(None), |_| 0).unwrap_err().reason, NoTargetReason::Down);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_shrinks_lets_run_what_runs() {
        let pool = pool([serving("east", "a")]);
        let held: Vec<_> = (0..3).map(|_| take(&pool, "a").unwrap()).collect();
        pool.replace(described([serving("east", "a").max_in_flight(2)])).unwrap();
        assert_eq!(take(&pool, "a").unwrap_err().reason, NoTargetReason::Throttled);
        drop(held);
        let held = (take(&pool, "a").unwrap(), take(&pool, "a").unwrap());
        assert_eq!(take(&pool, "a").unwrap_err().reason, NoTargetReason::Throttled);
        drop(held);
        assert_eq!(pool.status().backends[0].in_flight, 0);
    }
}

mod successor {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shares_what_stays_and_nothing_else() {
        let before = pool([serving("east", "a"), serving("west", "b")]);
        let mut held = take(&before, "a").unwrap();
        let after = before.successor(described([serving("east", "a").weight(3), serving("north", "c")])).unwrap();

        assert_eq!((before.targets("b").len(), before.targets("c").len()), (1, 0));
        assert_eq!((after.targets("b").len(), after.targets("c").len()), (0, 1));
        assert_eq!(after.targets("a"), before.targets("a"));
        assert_eq!(after.status().backends[0].in_flight, 1);
        held.record(&throttled(5_000));
        drop(held);
        for pool in [&before, &after] {
            assert_eq!((state(pool, "east", "a"), pool.status().backends[0].in_flight), ("open", 0));
        }
        assert_eq!(take(&before, "b").unwrap().target().backend(), "west", "what began before finishes as it began");

        before.drain("east").unwrap();
        assert!(!after.status().backends[0].drained, "a change of one is none of the other");
    }

    #[test]
    fn of_an_invalid_description_there_is_none() {
        let pool = pool([serving("east", "a")]);
        let before = pool.status();
        assert!(pool.successor(described([backend("north")])).is_err());
        assert_eq!(pool.status(), before);
    }
}

mod status {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_the_json_of_the_status_page() {
        let pool = pool([
            backend("ptu-eastus")
                .region("eastus")
                .geography("us")
                .add_deployment(Deployment::new("gpt-4o-ptu").alias("gpt-4o").model("gpt-4o").version("2024-08-06")),
            Backend::new("paygo", "http://127.0.0.1:9")
                .credential(Credential::bearer(Arc::new(Tokens::default())))
                .priority(1)
                .weight(4)
                .add_deployment(Deployment::new("gpt-4o").version("2024-08-06")),
        ]);
        let held = [(); 3].map(|()| take_on(&pool, "ptu-eastus", Some("gpt-4o-ptu")));
        fail(&pool, "ptu-eastus", Some("gpt-4o-ptu"), failed(StatusCode::BAD_GATEWAY), 2);
        fail(&pool, "ptu-eastus", Some("gpt-4o-ptu"), throttled(300), 1);
        advance(Duration::from_millis(20)).await;
        pool.drain("paygo").unwrap();

        assert_eq!(
            serde_json::to_value(pool.status()).unwrap(),
            json!({
                "ready": true,
                "backends": [
                    {
                        "name": "ptu-eastus", "region": "eastus", "geography": "us", "priority": 0, "weight": 1,
                        "override": null, "configured_weight": 1, "drained": false, "in_flight": 3, "identity": "key", "last_error": null, "last_error_since_ms": null,
                        "deployments": [{
                            "name": "gpt-4o-ptu", "alias": "gpt-4o", "model": "gpt-4o", "version": "2024-08-06",
                            "priority": 0, "weight": 1, "circuit": "open", "reopens_in_ms": 280, "in_flight": 3,
                            "max_in_flight": null, "utilization": null, "first_content_ms": { "p50": null, "p95": null },
                            "requests": 6, "throttled": 1, "failures": 2, "spilled_over_by_azure": 0,
                            "obstacles": ["asked to wait, 280 ms left"]
                        }]
                    },
                    {
                        "name": "paygo", "region": null, "geography": null, "priority": 1, "weight": 4,
                        "override": null, "configured_weight": 4, "drained": true, "in_flight": 0, "identity": "ok", "last_error": null, "last_error_since_ms": null,
                        "deployments": [{
                            "name": "gpt-4o", "alias": "gpt-4o", "model": "gpt-4o", "version": "2024-08-06",
                            "priority": 1, "weight": 4, "circuit": "closed", "reopens_in_ms": null, "in_flight": 0,
                            "max_in_flight": null, "utilization": null, "first_content_ms": { "p50": null, "p95": null },
                            "requests": 0, "throttled": 0, "failures": 0, "spilled_over_by_azure": 0,
                            "obstacles": ["drained", "has no identity, and goes last"]
                        }]
                    }
                ]
            })
        );
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn tells_how_long_answers_take_to_begin_and_how_much_is_used() {
        let pool = pool([serving("east", "a").max_in_flight(4)]);
        let deployment = || pool.status().backends[0].deployments[0].clone();
        for seconds in 1..=20 {
            let mut permit = take(&pool, "a").unwrap();
            permit.sent(RouteKind::Streamed);
            advance(Duration::from_secs(seconds)).await;
            permit.commit();
            assert_eq!((deployment().utilization, deployment().max_in_flight), (Some(0.25), Some(4)));
        }
        let figures = deployment().first_content_ms;
        assert_eq!((figures.p50, figures.p95), (Some(10_000), Some(19_000)));
        advance(Duration::from_secs(601)).await;
        assert_eq!((deployment().first_content_ms.p50, deployment().utilization), (None, Some(0.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_circuit_is_closed_by_hand_whatever_opened_it() {
        let pool = pool([serving("east", "a"), serving("west", "b")]);
        let mut stale = take_on(&pool, "east", Some("a"));
        for (outcome, times) in [(throttled(60_000), 1), (Outcome::Unreachable, 5)] {
            fail(&pool, "east", Some("a"), outcome, times);
            assert_eq!(state(&pool, "east", "a"), "open");
            pool.close_circuit("east", "a").unwrap();
            assert_eq!(state(&pool, "east", "a"), "closed");
            assert!(take(&pool, "a").is_ok());
        }
        fail(&pool, "east", Some("a"), Outcome::Unreachable, 4);
        pool.close_circuit("east", "a").unwrap();
        stale.record(&Outcome::Unreachable);
        fail(&pool, "east", Some("a"), Outcome::Unreachable, 4);
        assert_eq!(state(&pool, "east", "a"), "closed", "what was sent before is forgotten");
        fail(&pool, "east", Some("a"), Outcome::Unreachable, 1);
        assert_eq!(state(&pool, "east", "a"), "open", "it opens again like any other");

        let error = pool.close_circuit("east", "b").unwrap_err();
        assert_eq!(error.to_string(), "backend `east` has no deployment `b` in the pool");
        assert_eq!(pool.close_circuit("north", "a").unwrap_err().to_string(), "backend `north` is not in the pool");
    }

    #[tokio::test(start_paused = true)]
    async fn names_every_state_of_a_circuit() {
        let pool = pool([serving("east", "a")]);
        assert_eq!(state(&pool, "east", "a"), "closed");
        fail(&pool, "east", Some("a"), Outcome::Unreachable, 5);
        assert_eq!(state(&pool, "east", "a"), "open");
        advance(Duration::from_secs(10)).await;
        assert_eq!(state(&pool, "east", "a"), "half-open");
        let status = serde_json::to_value(pool.status()).unwrap();
        assert_eq!(status["backends"][0]["deployments"][0]["reopens_in_ms"], json!(null));
        assert_eq!(status["backends"][0]["deployments"][0]["failures"], json!(5));
    }

    #[tokio::test(start_paused = true)]
    async fn is_ready_while_any_backend_could_serve() {
        let pool = pool([serving("east", "a"), serving("west", "a")]);
        fail(&pool, "east", Some("a"), throttled(5_000), 1);
        fail(&pool, "west", Some("a"), throttled(5_000), 1);
        assert!(pool.is_ready(), "throttled is able");

        pool.drain("east").unwrap();
        assert!(pool.is_ready());
        pool.drain("west").unwrap();
        assert!(!pool.is_ready() && !pool.status().ready, "drained is unable");

        pool.undrain("west").unwrap();
        advance(Duration::from_secs(5)).await;
        fail(&pool, "west", Some("a"), Outcome::Unreachable, 5);
        assert!(!pool.is_ready(), "down is unable");
        advance(Duration::from_secs(10)).await;
        assert!(pool.is_ready(), "a probe may pass");
    }

    #[tokio::test(start_paused = true)]
    async fn is_not_ready_without_an_identity() {
        let with = |problem| serving("east", "a").credential(Credential::bearer(Arc::new(Tokens(problem))));
        assert!(pool([with(None)]).is_ready(), "the first token may be on its way");
        let without = pool([with(Some("The identity endpoint cannot be reached."))]);
        assert!(!without.is_ready());
        assert_eq!(without.status().backends[0].identity, "The identity endpoint cannot be reached.");
        let mixed = pool([with(Some("No.")), serving("west", "a")]);
        assert!(mixed.is_ready());
    }
}

mod choosing {
    use super::*;

    #[test]
    fn only_what_complies_and_was_not_tried_is_offered() {
        let pool = pool([
            serving("us", "a").geography("us"),
            serving("eu", "a").geography("eu").processing(Processing::Global),
            serving("unknown", "a"),
        ]);
        let offered = |query: &Query<'_>| {
            let mut names = Vec::new();
            let result = pool.acquire(query, |eligible| {
                names = eligible.iter().map(|t| t.backend().to_owned()).collect();
                0
            });
            result.map(|_| names).map_err(|none| none.reason)
        };
        let (eu, regional) = (Constraints::default().geography("eu"), [Processing::Regional]);
        assert_eq!(offered(&Query::new(Some("a"))).unwrap(), ["us", "eu", "unknown"]);
        assert_eq!(offered(&Query::new(Some("a")).constraints(&eu)).unwrap(), ["eu"]);
        let strict = eu.clone().processing(regional);
        assert_eq!(offered(&Query::new(Some("a")).constraints(&strict)), Err(NoTargetReason::NotServed));

        let mut tried = TargetSet::default();
        assert!(tried.insert(&target(&pool, "us", Some("a"))));
        assert!(!tried.insert(&target(&pool, "us", Some("a"))));
        assert_eq!(tried.len(), 1);
        assert_eq!(offered(&Query::new(Some("a")).tried(&tried)).unwrap(), ["eu", "unknown"]);
        assert_eq!(offered(&Query::new(Some("b"))), Err(NoTargetReason::NotServed));
        assert_eq!(offered(&Query::new(None)).unwrap(), ["us", "eu", "unknown"], "backends for calls without a model");
    }

    #[tokio::test(start_paused = true)]
    async fn the_outlook_is_the_soonest_of_those_that_may_serve() {
        let pool = pool([serving("us", "a").geography("us"), serving("eu", "a").geography("eu"), serving("off", "a")]);
        pool.drain("off").unwrap();
        fail(&pool, "us", Some("a"), throttled(300), 1);
        fail(&pool, "eu", Some("a"), throttled(800), 1);
        let ms = |query: &Query<'_>| pool.outlook(query).retry_after.map(|wait| wait.as_millis());
        let eu = Constraints::default().geography("eu");
        assert_eq!(ms(&Query::new(Some("a"))), Some(300));
        assert_eq!(ms(&Query::new(Some("a")).constraints(&eu)), Some(800), "constraints are never relaxed");
        assert_eq!(ms(&Query::new(Some("b"))), None);
    }

    #[test]
    fn many_threads_get_each_place_once() {
        let pool = pool([serving("east", "a").max_in_flight(5)]);
        let admitted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let held: Vec<_> = (0..8).filter_map(|_| take(&pool, "a").ok()).collect();
                        admitted.fetch_add(held.len(), SeqCst);
                        held
                    })
                })
                .collect();
            let held: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            assert_eq!((admitted.load(SeqCst), held.len()), (5, 5));
            assert_eq!(pool.status().backends[0].in_flight, 5);
        });
        assert_eq!(pool.status().backends[0].in_flight, 0);
    }
}

proptest! {
    #[test]
    fn in_flight_counts_return_to_zero(steps in proptest::collection::vec((0..6_u8, any::<prop::sample::Index>()), 0..80)) {
        let full = || [serving("east", "a").max_in_flight(4), serving("west", "a"), serving("north", "a").priority(1)];
        let pool = pool(full());
        let (mut held, mut targets) = (Vec::new(), BTreeMap::new());
        for (step, index) in steps {
            match step {
                0..3 => held.extend(pool.acquire(&Query::new(Some("a")), |eligible| index.index(eligible.len())).ok()),
                3 if !held.is_empty() => drop(held.swap_remove(index.index(held.len()))),
                4 if !held.is_empty() => {
                    let outcomes = [Outcome::Success, throttled(1), Outcome::Unreachable, Outcome::Abandoned];
                    let at = index.index(held.len());
                    held[at].record(&outcomes[at % outcomes.len()]);
                }
                5 if index.index(2) == 0 => pool.replace(described([serving("west", "a")])).unwrap(),
                5 => pool.replace(described(full())).unwrap(),
                _ => {}
            }
            targets.extend(held.iter().map(|permit| (permit.target().slot(), permit.target().clone())));
            prop_assert_eq!(targets.values().map(|t| t.in_flight() as usize).sum::<usize>(), held.len());
        }
        drop(held);
        prop_assert!(targets.values().all(|target| target.in_flight() == 0));
        prop_assert!(pool.status().backends.iter().all(|backend| backend.in_flight == 0));
    }
}

mod explaining {
    use tower_azure_openai::context::{Client, Route};
    use tower_azure_openai::pool::{Explanation, Obstacle};

    use super::*;

    fn route(path: &'static str) -> Route {
        Route::parse(&http::Method::POST, &http::Uri::from_static(path)).unwrap()
    }

    fn chat() -> Route {
        route("/openai/deployments/a/chat/completions")
    }

    fn obstacles(explanation: &Explanation, backend: &str) -> Vec<Obstacle> {
        let found = explanation.targets().iter().find(|explained| explained.target().backend() == backend);
        found.unwrap().obstacles().to_vec()
    }

    fn names(explanation: &Explanation) -> Vec<&str> {
        explanation.candidates().map(Target::backend).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn every_obstacle_has_its_name() {
        let pool = pool([
            serving("throttled", "a"),
            serving("down", "a"),
            serving("full", "a").max_in_flight(1),
            serving("abroad", "a").geography("eu").processing(Processing::Global).weight(0),
            serving("other", "b"),
            serving("fine", "a").priority(1),
            serving("last", "a").priority(2),
        ]);
        fail(&pool, "throttled", Some("a"), throttled(300), 1);
        fail(&pool, "down", Some("a"), Outcome::Unreachable, 5);
        let _held = take_on(&pool, "full", Some("a"));
        let client = Client::new("c").processing([Processing::Regional]);
        let explanation = pool.explain(&chat(), Some(&client));
        let wait = Duration::from_millis(300);
        assert_eq!(obstacles(&explanation, "throttled"), [Obstacle::Open { throttled: true, wait }]);
        let wait = Duration::from_secs(10);
        assert_eq!(obstacles(&explanation, "down"), [Obstacle::Open { throttled: false, wait }]);
        assert_eq!(obstacles(&explanation, "full"), [Obstacle::Full { max_in_flight: 1 }]);
        assert_eq!(
            obstacles(&explanation, "abroad"),
            [Obstacle::Processing { is: Processing::Global }, Obstacle::Drained]
        );
        assert_eq!(obstacles(&explanation, "other"), [Obstacle::NotServed]);
        assert_eq!(obstacles(&explanation, "last"), [Obstacle::Behind]);
        assert_eq!((explanation.alias(), names(&explanation)), (Some("a"), vec!["fine"]));

        let mut tried = TargetSet::default();
        tried.insert(&target(&pool, "fine", Some("a")));
        let second = pool.explain_query(&Query::new(Some("a")).tried(&tried));
        assert_eq!((obstacles(&second, "fine"), names(&second)), (vec![Obstacle::Tried], vec!["last"]));

        advance(Duration::from_secs(10)).await;
        let probe = take_on(&pool, "down", Some("a"));
        let wait = Duration::from_millis(250);
        assert_eq!(obstacles(&pool.explain(&chat(), None), "down"), [Obstacle::Probing { wait }]);
        drop(probe);
    }

    #[test]
    fn a_call_without_an_alias_is_about_backends() {
        let pool = pool([serving("east", "a"), serving("west", "b")]);
        let explanation = pool.explain(&route("/openai/files"), None);
        assert_eq!((explanation.alias(), explanation.targets().len()), (None, 2));
        assert_eq!(names(&explanation), ["east", "west"]);
    }

    #[test]
    fn tells_no_secret() {
        let pool = pool([serving("east", "a").geography("us")]);
        let explanation = pool.explain(&chat(), Some(&Client::new("c").geography("eu")));
        let told = format!("{explanation} {explanation:?}");
        assert!(told.contains("no: geography is us, not eu") && !told.contains(HOST) && !told.contains(KEY), "{told}");
    }

    proptest! {
        #[test]
        fn agrees_with_selection(
            outcomes in proptest::collection::vec((0_usize..3, 0_u64..3), 0..20), weights in [0_u32..3, 0..3, 0..3],
        ) {
            let names = ["x", "y", "z"];
            let backends = names.iter().zip(weights).map(|(name, weight)| serving(name, "a").weight(weight).priority(weight / 2));
            let pool = pool(backends);
            for (backend, kind) in outcomes {
                if let Some(mut permit) = pool.acquire_target(&target(&pool, names[backend], Some("a"))) {
                    permit.record(&[Outcome::Success, Outcome::Reset, throttled(60_000)][kind as usize]);
                }
            }
            let explanation = pool.explain(&chat(), None);
            let mut eligible = Vec::new();
            let taken = pool.acquire(&Query::new(Some("a")), |targets| {
                eligible = targets.iter().map(|target| (*target).clone()).collect();
                0
            });
            prop_assert_eq!(taken.is_ok(), explanation.candidates().next().is_some());
            prop_assert_eq!(explanation.candidates().cloned().collect::<Vec<_>>(), eligible);
        }
    }
}

#[tokio::test]
async fn further_names_of_an_alias_find_its_targets() {
    let east = Backend::new("east", "https://east.example").add_deployment(Deployment::new("d").alias("gpt-4o"));
    let described = || Pool::builder().add_backend(east.clone());
    let pool = described().add_alias_name("gpt-4o", "gpt-4o-2024").add_alias_name("gpt-4o", "latest").build().unwrap();
    for name in ["gpt-4o", "gpt-4o-2024", "latest"] {
        assert_eq!(pool.targets(name).len(), 1, "{name}");
        assert!(pool.has_eligible(&Query::new(Some(name))), "{name}");
        assert_eq!(
            pool.names_of(name).iter().map(|name| &**name).collect::<Vec<_>>(),
            ["gpt-4o", "gpt-4o-2024", "latest"]
        );
    }
    assert_eq!(pool.aliases().len(), 1);
    assert!(pool.names_of("d").is_empty() && pool.targets("d").is_empty());
    pool.replace(described()).unwrap();
    assert!(pool.targets("latest").is_empty(), "a name goes with its description");

    let wrong = described()
        .add_alias_name("gpt-4o", "x")
        .add_alias_name("gpt-4o", "x")
        .add_alias_name("gpt-4o", "gpt-4o")
        .add_alias_name("o3", "")
        .build()
        .unwrap_err();
    assert_eq!(
        wrong.problems().collect::<Vec<_>>(),
        [
            "name `x` of alias `gpt-4o` is there twice",
            "name `gpt-4o` of alias `gpt-4o` is an alias itself",
            "name `` of alias `o3` is empty",
            "name `` of alias `o3` belongs to no target",
        ]
    );
}

mod outages {
    use tower_azure_openai::azure::Phase;

    use super::*;

    const THREE: [&str; 3] = ["a", "b", "c"];

    fn three() -> Pool {
        pool(THREE.map(|name| serving(name, "x")))
    }

    fn acquire(pool: &Pool) -> Option<Permit> {
        pool.acquire(&Query::new(Some("x")), |_| 0).ok()
    }

    fn permit(pool: &Pool, backend: &str) -> Permit {
        let target = pool.targets("x").into_iter().find(|target| target.backend() == backend).unwrap();
        pool.acquire_target(&target).unwrap()
    }

    fn fail(pool: &Pool, backend: &str, outcome: Outcome) {
        (0..5).for_each(|_| permit(pool, backend).record(&outcome));
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_failed_longest_ago_is_probed_first_and_one_in_each_interval() {
        let pool = three();
        for name in ["b", "c", "a"] {
            fail(&pool, name, Outcome::Unreachable);
            advance(Duration::from_millis(10)).await;
        }
        assert!(acquire(&pool).is_none(), "the last failure was just now");
        let mut probed = Vec::new();
        for _ in 0..3 {
            advance(Duration::from_millis(250)).await;
            let mut probe = acquire(&pool).unwrap();
            assert!(acquire(&pool).is_none(), "one in each interval");
            probed.push(probe.target().backend().to_owned());
            probe.record(&Outcome::Unreachable);
        }
        assert_eq!(probed, ["b", "c", "a"]);
        let none = pool.acquire(&Query::new(Some("x")), |_| 0).unwrap_err();
        assert_eq!((none.reason, none.retry_after), (NoTargetReason::Down, Some(Duration::from_millis(250))));

        advance(Duration::from_millis(250)).await;
        acquire(&pool).unwrap().record(&Outcome::Success);
        assert!(acquire(&pool).is_some(), "it is back for everybody");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_probed_early_while_one_merely_asked_to_wait() {
        let pool = three();
        fail(&pool, "a", Outcome::Unreachable);
        fail(&pool, "b", Outcome::Unreachable);
        permit(&pool, "c").record(&Outcome::Throttled { hint: Some(Duration::from_secs(3)) });
        advance(Duration::from_secs(2)).await;
        let none = pool.acquire(&Query::new(Some("x")), |_| 0).unwrap_err();
        assert_eq!((none.reason, none.retry_after), (NoTargetReason::Throttled, Some(Duration::from_secs(1))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_error_lasts_until_a_request_sent_since_is_answered() {
        let pool = three();
        let told = |name: &str| {
            let backend = pool.status().backends.into_iter().find(|backend| backend.name == name).unwrap();
            backend.last_error.zip(backend.last_error_since_ms)
        };
        let old = permit(&pool, "a");
        advance(Duration::from_millis(1)).await;
        permit(&pool, "a").record(&Outcome::Unreachable);
        advance(Duration::from_millis(40)).await;
        permit(&pool, "a").record(&Outcome::Unreachable);
        assert_eq!((told("a"), told("b")), (Some(("no connection".to_owned(), 40)), None));
        old.observe(&HeaderMap::new());
        assert!(told("a").is_some(), "a connection from before says nothing of new ones");
        permit(&pool, "a").observe(&HeaderMap::new());
        assert_eq!(told("a"), None);
        permit(&pool, "b").record(&Outcome::TimedOut(Phase::Answer));
        assert_eq!(told("b"), None, "there was a connection");
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_prompt_can_bring_about_never_closes_the_shop() {
        let unknown =
            [Outcome::TimedOut(Phase::Answer), Outcome::TimedOut(Phase::Idle), Outcome::Reset, Outcome::Unknown];
        for outcome in unknown {
            let pool = three();
            for _ in 0..100 {
                THREE.iter().for_each(|name| {
                    let target = pool.targets("x").into_iter().find(|target| target.backend() == *name).unwrap();
                    pool.acquire_target(&target).into_iter().for_each(|mut permit| permit.record(&outcome));
                });
            }
            assert!(acquire(&pool).is_some(), "{outcome:?}");
        }
    }
}
