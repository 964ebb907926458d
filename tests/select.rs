//! Selection from outside: who is chosen, what a request looks like then, what is answered when nobody is left.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::collections::BTreeMap;
use std::error::Error as _;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use tokio::sync::Barrier;
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::limit::ConcurrencyLimit;
use tower::util::{BoxCloneSyncService, MapRequest};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Attempt, AttemptFailed, Client, Route, Tried};
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::pool::{
    Backend, Constraints, Deployment, Permit, Pool, PoolBuilder, Processing, Query, Target, TargetSet,
};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::{Choice, Policy, RoundRobin, SelectBackendLayer, Weighted, from_fn};
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment};
use tower_azure_openai::{Error, ErrorKind};
use tower_test::mock;

type Gateway = BoxCloneSyncService<Request<Body>, Response<Body>, std::convert::Infallible>;

fn serving<const N: usize>(name: &str, deployments: [&str; N]) -> Backend {
    let backend = Backend::new(name, format!("https://{name}.example"));
    deployments.into_iter().fold(backend, |backend, name| backend.add_deployment(Deployment::new(name)))
}

fn pool(backends: impl IntoIterator<Item = Backend>) -> Pool {
    backends.into_iter().fold(Pool::builder(), PoolBuilder::add_backend).build().unwrap()
}

fn chat(alias: &str) -> Request<Body> {
    Request::post(format!("/openai/deployments/{alias}/chat/completions?api-version=1")).body(Body::from("{}")).unwrap()
}

/// Answers at once, without a body.
fn served<P: Policy>(layer: SelectBackendLayer<P>) -> Gateway {
    let service = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
    Gateway::new(
        ServiceBuilder::new().layer(RespondLayer::new()).layer(layer).layer(ForwardLayer::new()).service(service),
    )
}

async fn answer(gateway: &Gateway, request: Request<Body>) -> Response<Body> {
    gateway.clone().oneshot(request).await.unwrap()
}

fn at<B>(answer: &Response<B>) -> String {
    answer.extensions().get::<Target>().unwrap().backend().to_owned()
}

async fn choice(gateway: &Gateway, alias: &str) -> String {
    at(&answer(gateway, chat(alias)).await)
}

async fn choices(gateway: &Gateway, alias: &str, n: usize) -> Vec<String> {
    let mut chosen = Vec::new();
    for _ in 0..n {
        chosen.push(choice(gateway, alias).await);
    }
    chosen
}

fn counts(chosen: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    chosen.into_iter().fold(BTreeMap::new(), |mut counts, name| {
        *counts.entry(name).or_default() += 1;
        counts
    })
}

fn in_flight(pool: &Pool) -> u32 {
    pool.status().backends.iter().map(|b| b.in_flight + b.deployments.iter().map(|d| d.in_flight).sum::<u32>()).sum()
}

fn permit(pool: &Pool, alias: &str, backend: &str) -> Permit {
    let target = pool.targets(alias).into_iter().find(|target| target.backend() == backend).unwrap();
    pool.acquire_target(&target).unwrap()
}

fn throttle(pool: &Pool, alias: &str, backend: &str, ms: u64) {
    permit(pool, alias, backend).record(&Outcome::Throttled { hint: Some(Duration::from_millis(ms)) });
}

fn break_down(pool: &Pool, alias: &str, backend: &str) {
    let mut permits: Vec<_> = (0..5).map(|_| permit(pool, alias, backend)).collect();
    permits.iter_mut().for_each(|permit| permit.record(&Outcome::Unreachable));
}

mod choosing {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_next_group_serves_only_while_this_one_cannot() {
        let pool =
            pool([serving("paygo", ["a"]).priority(1), serving("ptu", ["a"]), serving("last", ["a"]).priority(2)]);
        let gateway = served(SelectBackendLayer::new(pool.clone()));
        assert_eq!(choices(&gateway, "a", 3).await, ["ptu"; 3]);
        throttle(&pool, "a", "ptu", 300);
        assert_eq!(choices(&gateway, "a", 3).await, ["paygo"; 3]);
        throttle(&pool, "a", "paygo", 900);
        assert_eq!(choice(&gateway, "a").await, "last");
        advance(Duration::from_millis(300)).await;
        assert_eq!(choice(&gateway, "a").await, "ptu", "back with the first request after the hint");
    }

    #[tokio::test]
    async fn a_clients_alias_may_stand_for_another_one() {
        let pool = pool([serving("common", ["a"]), serving("own", ["a-team"])]);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let backend = {
            let seen = seen.clone();
            service_fn(move |request: Request<Body>| {
                seen.lock().unwrap().push(request.uri().to_string());
                async { Ok::<_, BoxError>(Response::new(Body::empty())) }
            })
        };
        let gateway = Gateway::new(
            ServiceBuilder::new()
                .layer(RespondLayer::new())
                .layer(FailoverLayer::new())
                .layer(SelectBackendLayer::new(pool))
                .layer(ForwardLayer::new())
                .service(backend),
        );
        let client = Client::new("team").route("a", "a-team").route("a-team", "nothing");
        for (alias, client) in [("a", Some(client.clone())), ("a", None), ("a-team", Some(client))] {
            let mut request = chat(alias);
            client.map(|client| request.extensions_mut().insert(client));
            let answer = answer(&gateway, request).await;
            seen.lock().unwrap().push(answer.status().as_u16().to_string());
        }
        let at = |name, deployment| {
            format!("https://{name}.example/openai/deployments/{deployment}/chat/completions?api-version=1")
        };
        let expected = [&at("own", "a-team"), "200", &at("common", "a"), "200", "404"];
        assert_eq!(*seen.lock().unwrap(), expected, "renamed once, and for nobody else");
    }

    #[tokio::test(start_paused = true)]
    async fn the_own_region_comes_first_inside_its_priority() {
        let backends = [
            serving("far", ["a"]).region("westus"),
            serving("near", ["a"]).region("eastus"),
            serving("nowhere", ["a"]),
            serving("near-later", ["a"]).region("eastus").priority(1),
        ];
        let described = backends.into_iter().fold(Pool::builder(), PoolBuilder::add_backend);
        let pool = described.region("eastus").build().unwrap();
        let gateway = served(SelectBackendLayer::new(pool.clone()));
        assert_eq!(choices(&gateway, "a", 3).await, ["near"; 3]);
        throttle(&pool, "a", "near", 300);
        assert_eq!(choices(&gateway, "a", 2).await, ["far", "nowhere"], "the priority goes before the region");
        pool.drain("far").unwrap();
        pool.drain("nowhere").unwrap();
        assert_eq!(choices(&gateway, "a", 2).await, ["near-later"; 2]);
        advance(Duration::from_millis(300)).await;
        assert_eq!(choice(&gateway, "a").await, "near");
    }

    #[tokio::test]
    async fn a_deployment_may_have_a_priority_of_its_own() {
        let east = Backend::new("east", "https://east.example").add_deployment(Deployment::new("a").priority(5));
        let gateway = served(SelectBackendLayer::new(pool([east, serving("west", ["a"]).priority(1)])));
        assert_eq!(choices(&gateway, "a", 3).await, ["west"; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rotation_is_exact_also_when_one_drops_out_and_returns() {
        let pool = pool([serving("x", ["a"]), serving("y", ["a"]), serving("z", ["a"])]);
        let gateway = served(SelectBackendLayer::new(pool.clone()));
        assert_eq!(choices(&gateway, "a", 6).await, ["x", "y", "z", "x", "y", "z"]);
        throttle(&pool, "a", "y", 300);
        assert_eq!(choices(&gateway, "a", 4).await, ["x", "z", "x", "z"], "nobody inherits the share of another");
        advance(Duration::from_millis(300)).await;
        assert_eq!(choices(&gateway, "a", 6).await, ["y", "x", "z", "y", "x", "z"]);
    }

    #[tokio::test]
    async fn aliases_rotate_independently() {
        let pool = pool([serving("x", ["a", "b"]), serving("y", ["a", "b"])]);
        let gateway = served(SelectBackendLayer::new(pool));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            a.push(choice(&gateway, "a").await);
            b.push(choice(&gateway, "b").await);
        }
        assert_eq!(
            (a, b),
            (["x", "y", "x", "y"].map(String::from).into(), ["x", "y", "x", "y"].map(String::from).into())
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_rotation_is_unbiased_under_concurrency() {
        let pool = pool(["u", "v", "w", "x", "y"].map(|name| serving(name, ["a"])));
        let layer = SelectBackendLayer::new(pool.clone());
        let barrier = Arc::new(Barrier::new(64));
        let tasks = (0..64).map(|_| {
            let (gateway, barrier) = (served(layer.clone()), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                choices(&gateway, "a", 17).await
            })
        });
        let chosen: Vec<_> = join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();
        let counts = counts(chosen);
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(counts.len() == 5 && most - least <= 1, "{counts:?}");
        assert_eq!(in_flight(&pool), 0);
    }

    #[tokio::test]
    async fn weights_are_spread_smoothly() {
        let pool = pool([serving("a", ["m"]).weight(5), serving("b", ["m"]), serving("c", ["m"])]);
        let gateway = served(SelectBackendLayer::new(pool).with_policy(Weighted::default()));
        assert_eq!(choices(&gateway, "m", 14).await.concat(), "aabacaaaabacaa");
    }

    #[tokio::test(start_paused = true)]
    async fn weights_hold_among_those_that_are_left() {
        let pool = pool([serving("a", ["m"]).weight(6), serving("b", ["m"]).weight(2), serving("c", ["m"])]);
        let gateway = served(SelectBackendLayer::new(pool.clone()).with_policy(Weighted::default()));
        choices(&gateway, "m", 9).await;
        throttle(&pool, "m", "a", 300);
        assert_eq!(counts(choices(&gateway, "m", 300).await).values().copied().collect::<Vec<_>>(), [200, 100]);
        pool.set_weight("b", 1).unwrap();
        let even = counts(choices(&gateway, "m", 300).await);
        assert!(even["b"].abs_diff(150) <= 1, "{even:?}");
    }

    #[tokio::test]
    async fn a_closure_decides() {
        let pool = pool([serving("x", ["a"]), serving("y", ["a"]), serving("z", ["a"]).priority(1)]);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let policy = {
            let seen = seen.clone();
            from_fn(move |choice| {
                let names: Vec<_> = choice.candidates().iter().map(|target| target.backend().to_owned()).collect();
                seen.lock().unwrap().push((choice.route().alias().map(str::to_owned), names));
                1
            })
        };
        let gateway = served(SelectBackendLayer::new(pool).with_policy(policy));
        assert_eq!(choice(&gateway, "a").await, "y");
        let expected = (Some("a".to_owned()), vec!["x".to_owned(), "y".to_owned()]);
        assert_eq!(*seen.lock().unwrap(), [expected], "asked once, about the first group only");
    }

    #[tokio::test]
    #[cfg_attr(debug_assertions, should_panic(expected = "the policy chose index 2 among 2 candidates"))]
    async fn an_index_out_of_range_is_a_defect_and_stands_for_the_last() {
        let pool = pool([serving("x", ["a"]), serving("y", ["a"])]);
        let boxed: Box<dyn Policy> = Box::new(from_fn(|choice| choice.candidates().len()));
        let gateway = served(SelectBackendLayer::new(pool).with_policy(boxed));
        assert_eq!(choices(&gateway, "a", 2).await, ["y", "y"]);
    }

    #[tokio::test]
    async fn a_policy_is_told_who_asks() {
        fn first_for_team_a(choice: &Choice<'_>) -> usize {
            usize::from(choice.client().map(Client::id) != Some("team-a"))
        }
        let pool = pool([serving("x", ["a"]), serving("y", ["a"])]);
        let gateway = served(SelectBackendLayer::new(pool).with_policy(first_for_team_a));
        for (client, backend) in [(Some("team-a"), "x"), (Some("team-b"), "y"), (None, "y")] {
            let mut request = chat("a");
            client.map(|id| request.extensions_mut().insert(Client::new(id)));
            let answer = answer(&gateway, request).await;
            assert_eq!(answer.extensions().get::<Target>().map(Target::backend), Some(backend), "for {client:?}");
        }
    }

    #[tokio::test]
    async fn what_was_tried_is_not_chosen_again_except_when_it_is_asked_for() {
        let pool = pool([serving("x", ["a"]), serving("y", ["a"])]);
        let gateway = served(SelectBackendLayer::new(pool.clone()));
        let mut tried = Tried::new();
        let send = async |tried: &mut Tried| {
            let mut request = chat("a");
            request.extensions_mut().insert(tried.clone());
            let answer = answer(&gateway, request).await;
            Attempt::of(&answer).target.iter().for_each(|target| tried.sent_to(target));
            answer
        };
        let first = send(&mut tried).await;
        assert_eq!((at(&first), at(&send(&mut tried).await)), ("x".into(), "y".into()));
        tried.repeat_on(first.extensions().get::<Target>().unwrap().clone());
        let again = send(&mut tried).await;
        assert_eq!((at(&again), Attempt::of(&again).number), ("x".into(), 3));
        assert_eq!((tried.sent(), tried.targets().len()), (3, 2));
        assert_eq!(send(&mut tried).await.status(), StatusCode::SERVICE_UNAVAILABLE, "a local refusal");
        assert_eq!(tried.sent(), 3, "is no attempt");
    }

    #[test]
    fn constraints_hold_among_any_number_of_places() {
        let scopes = [Processing::Regional, Processing::DataZone, Processing::Global];
        let at = |place: usize| {
            let backend = serving(&format!("b{place}"), ["a"]).geography(format!("g{}", place / 3));
            let limited = if place.is_multiple_of(2) { backend } else { backend.max_in_flight(9) };
            limited.processing(scopes[place % 3])
        };
        for backends in [1, 63, 64, 65, 66, 150] {
            let pool = pool((0..backends).map(at).collect::<Vec<_>>());
            for place in 0..backends {
                let constraints = Constraints::default().geography(format!("g{}", place / 3));
                let narrowed = Constraints::default().processing([scopes[place % 3]]);
                let query = Query::new(Some("a")).constraints(&constraints).narrowed(Some(&narrowed));
                let permit = pool.acquire(&query, |eligible| eligible.len() - 1).unwrap();
                assert_eq!(permit.target().backend(), format!("b{place}"), "of {backends}");
                let mut tried = TargetSet::default();
                tried.insert(permit.target());
                assert!(!pool.has_eligible(&query.tried(&tried)), "of {backends}");
            }
        }
    }

    #[tokio::test]
    async fn a_repeat_that_is_asked_for_complies_too() {
        let pool = pool([serving("us", ["a"]).geography("us"), serving("eu", ["a"]).geography("eu")]);
        let gateway = served(SelectBackendLayer::new(pool.clone()));
        let mut tried = Tried::new();
        tried.repeat_on(pool.targets("a")[0].clone());
        let mut request = chat("a");
        request.extensions_mut().insert(tried);
        request.extensions_mut().insert(Client::new("eu").geography("eu"));
        assert_eq!(at(&answer(&gateway, request).await), "eu");
    }

    #[tokio::test]
    async fn constraints_are_never_relaxed() {
        let pool = pool([
            serving("us", ["a"]).geography("us"),
            serving("eu", ["a"]).geography("eu").priority(1),
            serving("eu-global", ["a"]).geography("eu").processing(Processing::Global),
            serving("unknown", ["a"]),
        ]);
        let gateway = served(SelectBackendLayer::new(pool.clone()));
        let send = async |client: Client| {
            let mut request = chat("a");
            request.extensions_mut().insert(client);
            answer(&gateway, request).await
        };
        let eu = || Client::new("team").geography("eu").processing([Processing::Regional, Processing::DataZone]);
        for _ in 0..4 {
            assert_eq!(at(&send(eu()).await), "eu");
        }
        pool.drain("eu").unwrap();
        assert_eq!(send(eu()).await.status(), StatusCode::SERVICE_UNAVAILABLE, "there is one, but not now");
        let nobody = send(Client::new("team").geography("ch")).await;
        assert_eq!(nobody.status(), StatusCode::NOT_FOUND);
        assert_eq!(at(&send(Client::new("team").geography("eu")).await), "eu-global");
    }

    #[tokio::test]
    async fn one_free_place_is_given_to_one_of_a_hundred() {
        let pool =
            pool([serving("small", ["a"]).max_in_flight(1), serving("large", ["a"]).max_in_flight(60).priority(1)]);
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let stack = ServiceBuilder::new()
            .layer(RespondLayer::new())
            .layer(SelectBackendLayer::new(pool.clone()))
            .layer(ForwardLayer::new());
        let gateway = stack.service(service);
        let mut requests: Vec<_> = (0..100).map(|_| task::spawn(gateway.clone().oneshot(chat("a")))).collect();
        let answered = requests.iter_mut().filter_map(|request| match request.poll() {
            Poll::Ready(answer) => Some(answer.unwrap()),
            Poll::Pending => None,
        });
        let answered: Vec<_> = answered.collect();
        assert_eq!(answered.len(), 39);
        for refused in &answered {
            assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(
                (&refused.headers()["retry-after"], &refused.headers()["retry-after-ms"]),
                (&"1".parse().unwrap(), &"1000".parse().unwrap())
            );
        }
        let mut reached = Vec::new();
        while let Poll::Ready(Some((request, _))) = handle.poll_request() {
            reached.push(request.extensions().get::<Target>().unwrap().backend().to_owned());
        }
        assert_eq!(counts(reached), BTreeMap::from([("small".into(), 1), ("large".into(), 60)]));
        drop(requests);
        assert_eq!(in_flight(&pool), 0);
    }

    #[tokio::test]
    async fn a_place_is_counted_for_the_whole_backend() {
        let pool = pool([serving("east", ["a", "b"]).max_in_flight(1)]);
        let _held = permit(&pool, "b", "east");
        let gateway = served(SelectBackendLayer::new(pool));
        assert_eq!(answer(&gateway, chat("a")).await.status(), StatusCode::TOO_MANY_REQUESTS);
    }
}

proptest! {
    #[test]
    fn any_weights_converge(
        weights in proptest::collection::vec(1_u32..50, 1..8),
        rounds in 1_u32..4,
        ended in proptest::collection::vec(proptest::option::of(any::<prop::sample::Index>()), 1..50),
    ) {
        let names: Vec<_> = (0..weights.len()).map(|i| format!("b{i}")).collect();
        let pool = pool(weights.iter().zip(&names).map(|(weight, name)| serving(name, ["m"]).weight(*weight)));
        let (policy, total) = (Weighted::default(), weights.iter().sum::<u32>());
        let (route, mut chosen) = (route(), vec![0_u32; weights.len()]);
        let (mut held, mut ended) = (Vec::new(), ended.iter().cycle());
        let behind = (2..=weights.len()).map(|k| 1.0 / k as f64).sum::<f64>() + 1e-9;
        for n in 1..=total * rounds {
            let permit = pool.acquire(&Query::new(Some("m")), |eligible| policy.choose(&Choice::new(&route, eligible))).unwrap();
            chosen[names.iter().position(|name| name == permit.target().backend()).unwrap()] += 1;
            for (count, weight) in chosen.iter().zip(&weights) {
                let share = f64::from(n) * f64::from(*weight) / f64::from(total);
                let ahead = f64::from(*count) - share;
                prop_assert!(ahead < 1.0 && ahead >= -behind, "{chosen:?} after {n} of {weights:?}");
            }
            held.push(permit);
            if let Some(index) = ended.next().copied().flatten() {
                drop(held.swap_remove(index.index(held.len())));
            }
            if n % total == 0 {
                prop_assert!(chosen.iter().zip(&weights).all(|(count, weight)| *count == weight * (n / total)));
            }
        }
    }

    #[test]
    fn the_rotation_passes_nobody_over(absent in proptest::collection::vec(0_usize..4, 0..60)) {
        let names = ["w", "x", "y", "z"];
        let pool = pool(names.map(|name| serving(name, ["m"])));
        let (policy, route, targets) = (RoundRobin::default(), route(), pool.targets("m"));
        let mut waited = [0_u32; 4];
        for absent in absent {
            let eligible: Vec<_> = targets.iter().enumerate().filter(|(i, _)| *i != absent).collect();
            let candidates: Vec<_> = eligible.iter().map(|(_, target)| *target).collect();
            let index = policy.choose(&Choice::new(&route, &candidates));
            let chosen = eligible[index].0;
            eligible.iter().for_each(|(i, _)| waited[*i] += 1);
            prop_assert!(waited.iter().all(|waited| *waited <= 4), "nobody waits longer than one round: {waited:?}");
            waited[chosen] = 0;
        }
    }
}

fn route() -> Route {
    Route::parse(&http::Method::POST, &Uri::from_static("/openai/deployments/m/chat/completions")).unwrap()
}

mod pointing {
    use super::*;

    /// What a target with this endpoint and deployment sees of a request for the alias `chat`, `gpt-4o` or none.
    async fn seen(endpoint: &str, deployment: &str, request: Request<Body>) -> (Uri, HeaderMap, Version) {
        let alias = ["chat", "gpt 4o", "gpt-4o"].into_iter().find(|alias| {
            let path = request.uri().path().replace("%20", " ");
            path.contains(&format!("/deployments/{alias}/"))
        });
        let deployment = Deployment::new(deployment).alias(alias.unwrap_or("gpt-4o"));
        let pool = pool([Backend::new("east", endpoint).add_deployment(deployment)]);
        let echo = service_fn(async |request: Request<Body>| {
            let mut answer = Response::new(Body::empty());
            let (parts, _) = request.into_parts();
            answer.extensions_mut().insert((parts.uri, parts.headers, parts.version));
            Ok::<_, BoxError>(answer)
        });
        let service =
            ServiceBuilder::new().layer(SelectBackendLayer::new(pool)).layer(ForwardLayer::new()).service(echo);
        service.oneshot(request).await.unwrap().extensions().get::<(Uri, HeaderMap, Version)>().unwrap().clone()
    }

    fn get(uri: &str) -> Request<Body> {
        Request::get(uri).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn the_deployment_stands_where_the_alias_stood() {
        const TAIL: &str = "chat/completions?api-version=2024-10-21&x=/deployments/chat/";
        for (alias, deployment, segment) in [
            ("gpt-4o", "ptu-east", "ptu-east"),
            ("chat", "gpt", "gpt"),
            ("gpt-4o", "chat", "chat"),
            ("chat", "chat", "chat"),
            ("gpt%204o", "with space", "with%20space"),
            ("gpt-4o", "50%/ä", "50%25%2F%C3%A4"),
            ("gpt-4o", "a.b_c~d-e", "a.b_c~d-e"),
        ] {
            let (uri, ..) =
                seen("https://east.example", deployment, get(&format!("/openai/deployments/{alias}/{TAIL}"))).await;
            assert_eq!(uri.to_string(), format!("https://east.example/openai/deployments/{segment}/{TAIL}"));
        }
    }

    #[tokio::test]
    async fn scheme_authority_prefix_and_query_are_those_of_the_target() {
        for (endpoint, path, expected) in [
            (
                "https://east.example",
                "/openai/models?api-version=1",
                "https://east.example/openai/models?api-version=1",
            ),
            ("http://127.0.0.1:8080/", "/openai/models", "http://127.0.0.1:8080/openai/models"),
            ("https://apim.example/east/", "/openai/models?", "https://apim.example/east/openai/models?"),
            (
                "https://apim.example/a/b",
                "https://gateway.example/openai/deployments/gpt-4o/embeddings?a=%2F&b",
                "https://apim.example/a/b/openai/deployments/d/embeddings?a=%2F&b",
            ),
            ("https://[::1]:8443", "/openai/files/file-%41?x", "https://[::1]:8443/openai/files/file-%41?x"),
        ] {
            assert_eq!(seen(endpoint, "d", get(path)).await.0.to_string(), expected);
        }
    }

    #[tokio::test]
    async fn host_is_replaced_and_http_1_1_is_spoken() {
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            let mut request = get("/openai/models?api-version=1");
            *request.version_mut() = version;
            for host in ["gateway.example", "other.example"] {
                request.headers_mut().append("host", host.parse().unwrap());
            }
            request.headers_mut().insert("x-ms-client-request-id", "mine".parse().unwrap());
            let (_, headers, version) = seen("https://east.example:8443/p", "d", request).await;
            assert_eq!(headers.get_all("host").iter().collect::<Vec<_>>(), ["east.example:8443"]);
            assert_eq!((&headers["x-ms-client-request-id"], version), (&"mine".parse().unwrap(), Version::HTTP_11));
        }
    }

    #[tokio::test]
    async fn a_resource_that_refuses_foreign_hosts_answers() {
        let backend = SimulatedBackend::builder("east")
            .host("east.example")
            .deployment(SimulatedDeployment::standard("chat"))
            .build();
        let pool =
            pool(
                [Backend::new("east", "https://east.example").add_deployment(Deployment::new("chat").alias("gpt-4o"))],
            );
        let service = ServiceBuilder::new()
            .layer(SelectBackendLayer::new(pool))
            .layer(ForwardLayer::new())
            .service(backend.clone());
        let mut request = chat("gpt-4o");
        *request.body_mut() = Body::from(r#"{"messages":[{"role":"user","content":"Hi"}]}"#);
        request.headers_mut().insert("host", "gateway.example".parse().unwrap());
        assert_eq!(service.oneshot(request).await.unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn paths_that_are_none_are_refused() {
        let gateway = served(SelectBackendLayer::new(pool([serving("east", ["a"])])));
        for (path, status) in [
            ("/", StatusCode::NOT_FOUND),
            ("/health", StatusCode::NOT_FOUND),
            ("/openai/deployments/a%2Fb/embeddings", StatusCode::BAD_REQUEST),
            ("/openai/../models", StatusCode::BAD_REQUEST),
            ("/openai//models", StatusCode::BAD_REQUEST),
            ("/openai/deployments/%zz/embeddings", StatusCode::BAD_REQUEST),
        ] {
            assert_eq!(answer(&gateway, get(path)).await.status(), status, "{path}");
        }
        assert_eq!(answer(&gateway, get("*")).await.status(), StatusCode::NOT_FOUND);
    }
}

mod refusing {
    use super::*;

    async fn refusal(pool: &Pool, alias: &str) -> (u16, String, Option<(String, String)>) {
        let gateway = served(SelectBackendLayer::new(pool.clone()));
        let answer = answer(&gateway, chat(alias)).await;
        let header =
            |name| answer.headers().get(name).map(|value: &http::HeaderValue| value.to_str().unwrap().to_owned());
        let waits = header("retry-after").zip(header("retry-after-ms"));
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let code = serde_json::from_slice::<serde_json::Value>(&body).unwrap()["error"]["code"].clone();
        (status, code.as_str().unwrap().to_owned(), waits)
    }

    fn refused(status: u16, s: &str, ms: &str) -> (u16, String, Option<(String, String)>) {
        (status, "no_target_available".to_owned(), Some((s.to_owned(), ms.to_owned())))
    }

    fn two() -> Pool {
        pool([serving("east", ["a"]), serving("west", ["a"])])
    }

    #[tokio::test]
    async fn an_alias_that_nobody_serves_is_404() {
        assert_eq!(refusal(&two(), "b").await, (404, "DeploymentNotFound".to_owned(), None));
    }

    #[tokio::test(start_paused = true)]
    async fn everything_throttled_is_429_with_the_soonest_opening() {
        let pool = two();
        throttle(&pool, "a", "east", 1_700);
        throttle(&pool, "a", "west", 1_300);
        assert_eq!(refusal(&pool, "a").await, refused(429, "2", "1300"));
        advance(Duration::from_millis(400)).await;
        assert_eq!(refusal(&pool, "a").await, refused(429, "1", "900"));
    }

    #[tokio::test(start_paused = true)]
    async fn everything_down_is_503() {
        let pool = two();
        break_down(&pool, "a", "east");
        break_down(&pool, "a", "west");
        let (status, code, waits) = refusal(&pool, "a").await;
        assert_eq!((status, code.as_str()), (503, "no_target_available"));
        assert_eq!(waits.unwrap().1, "1618", "one of them is probed before its time");
    }

    #[tokio::test(start_paused = true)]
    async fn some_throttled_and_the_others_down_is_429() {
        let pool = two();
        throttle(&pool, "a", "east", 20_000);
        break_down(&pool, "a", "west");
        assert_eq!(refusal(&pool, "a").await, refused(429, "10", "10000"), "the soonest of all");
    }

    #[tokio::test(start_paused = true)]
    async fn waits_are_at_most_59_seconds() {
        let pool = pool([serving("east", ["a"])]);
        throttle(&pool, "a", "east", 86_400_000);
        assert_eq!(refusal(&pool, "a").await, refused(429, "59", "59000"));
    }

    #[tokio::test]
    async fn everything_drained_is_503_with_a_wait() {
        let pool = two();
        pool.drain("east").unwrap();
        pool.drain("west").unwrap();
        let (status, code, waits) = refusal(&pool, "a").await;
        assert_eq!((status, &*code), (503, "no_target_available"));
        assert_eq!(waits, Some(("59".into(), "59000".into())), "nobody knows when it will end");
    }

    #[tokio::test(start_paused = true)]
    async fn is_a_typed_cause_without_the_respond_layer() {
        let pool = two();
        throttle(&pool, "a", "east", 300);
        break_down(&pool, "a", "west");
        let service = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
        let service =
            ServiceBuilder::new().layer(SelectBackendLayer::new(pool)).layer(ForwardLayer::new()).service(service);
        let error = service.oneshot(chat("a")).await.unwrap_err();
        let cause = error.downcast_ref::<Error>().unwrap();
        assert_eq!(
            (cause.kind(), cause.retry_after()),
            (ErrorKind::NoTargetThrottled, Some(Duration::from_millis(300)))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_that_passes_tells_the_truth_of_the_pool() {
        let pool = two();
        throttle(&pool, "a", "west", 700);
        let backend = SimulatedBackend::builder("east").deployment(SimulatedDeployment::standard("a")).build();
        backend.faults().always(Fault::throttled_for(Duration::from_secs(86_400)));
        let stack = ServiceBuilder::new()
            .layer(SelectBackendLayer::new(pool.clone()))
            .layer(ForwardLayer::new())
            .service(backend);
        let answer = stack.oneshot(chat("a")).await.unwrap();
        assert_eq!((at(&answer), answer.status()), ("east".into(), StatusCode::TOO_MANY_REQUESTS));
        for (name, value) in [("retry-after-ms", "700"), ("retry-after", "1")] {
            assert_eq!(answer.headers().get_all(name).iter().collect::<Vec<_>>(), [value]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_of_the_only_target_tells_its_own_wait() {
        let backend = SimulatedBackend::builder("east").deployment(SimulatedDeployment::standard("a")).build();
        backend.faults().always(Fault::throttled_for(Duration::from_secs(20)));
        let pool = pool([serving("east", ["a"])]);
        let service =
            ServiceBuilder::new().layer(SelectBackendLayer::new(pool)).layer(ForwardLayer::new()).service(backend);
        let answer = service.oneshot(chat("a")).await.unwrap();
        assert_eq!(answer.headers()["retry-after-ms"], "20000", "as the pool has learned it");
    }
}

mod holding {
    use super::*;

    type Sender = tokio::sync::mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

    /// Answers with a body that the test feeds.
    async fn streaming(pool: &Pool) -> (Response<Body>, Sender) {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let receiver = Arc::new(Mutex::new(Some(receiver)));
        let service = service_fn(move |_: Request<Body>| {
            let mut receiver = receiver.lock().unwrap().take().unwrap();
            let frames = stream::poll_fn(move |cx| receiver.poll_recv(cx));
            async { Ok::<_, BoxError>(Response::new(Body::new(StreamBody::new(frames)))) }
        });
        let service = ServiceBuilder::new()
            .layer(SelectBackendLayer::new(pool.clone()))
            .layer(ForwardLayer::new())
            .service(service);
        (service.oneshot(chat("a")).await.unwrap().map(Body::new), sender)
    }

    fn one() -> Pool {
        pool([serving("east", ["a"])])
    }

    #[tokio::test]
    async fn the_place_is_held_until_the_body_has_ended() {
        let pool = one();
        let (answer, sender) = streaming(&pool).await;
        let mut body = answer.into_body();
        sender.send(Ok(Frame::data(Bytes::from("part")))).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
        assert_eq!(in_flight(&pool), 2, "of the target and of its backend");
        drop(sender);
        assert!(body.frame().await.is_none());
        assert_eq!(in_flight(&pool), 0, "though the body is still there");
    }

    #[tokio::test]
    async fn the_place_is_free_when_the_body_is_dropped() {
        let pool = one();
        let (answer, _sender) = streaming(&pool).await;
        assert_eq!(in_flight(&pool), 2);
        drop(answer);
        assert_eq!(in_flight(&pool), 0);
    }

    #[tokio::test]
    async fn the_place_is_free_when_the_body_fails() {
        let pool = one();
        let (answer, sender) = streaming(&pool).await;
        let mut body = answer.into_body();
        sender.send(Err("cut".into())).await.unwrap();
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(in_flight(&pool), 0);
    }

    #[tokio::test]
    async fn the_place_is_free_with_an_answer_that_has_no_body() {
        let pool = one();
        let answer = answer(&served(SelectBackendLayer::new(pool.clone())), chat("a")).await;
        assert_eq!(in_flight(&pool), 0);
        drop(answer);
    }

    #[tokio::test]
    async fn the_place_is_free_when_the_future_is_dropped_early() {
        let pool = one();
        let never = service_fn(async |_: Request<Body>| pending::<Result<Response<Body>, BoxError>>().await);
        let stack = ServiceBuilder::new().layer(SelectBackendLayer::new(pool.clone()));
        let mut request = task::spawn(stack.layer(ForwardLayer::new()).service(never).oneshot(chat("a")));
        assert_pending!(request.poll());
        assert_eq!(in_flight(&pool), 2);
        drop(request);
        assert_eq!(in_flight(&pool), 0);
    }

    #[tokio::test]
    async fn the_place_is_free_when_a_request_was_kept_by_somebody() {
        let pool = one();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeper = {
            let kept = kept.clone();
            service_fn(move |request: Request<Body>| {
                kept.lock().unwrap().push(request);
                pending::<Result<Response<Body>, BoxError>>()
            })
        };
        let service = ServiceBuilder::new()
            .layer(SelectBackendLayer::new(pool.clone()))
            .layer(ForwardLayer::new())
            .service(keeper);
        let mut request = task::spawn(service.oneshot(chat("a")));
        assert_pending!(request.poll());
        drop(request);
        assert_eq!(in_flight(&pool), 0);
        assert_eq!(kept.lock().unwrap().len(), 1, "the request is still there");
    }

    #[tokio::test]
    async fn the_place_is_free_after_an_error() {
        let pool = one();
        let broken = service_fn(async |_: Request<Body>| Err::<Response<Body>, BoxError>("broken".into()));
        let service = ServiceBuilder::new()
            .layer(SelectBackendLayer::new(pool.clone()))
            .layer(ForwardLayer::new())
            .service(broken);
        let error = service.oneshot(chat("a")).await.unwrap_err();
        let failed = error.downcast_ref::<AttemptFailed>().unwrap();
        assert_eq!(failed.source().unwrap().to_string(), "broken");
        assert_eq!(failed.attempt().target.as_ref().map(Target::backend), Some("east"));
        assert_eq!(in_flight(&pool), 0);
    }
}

type Same = fn(Request<Body>) -> Request<Body>;

/// Fixes what requests carry, which the layer leaves open.
fn with_bodies<S>(service: S) -> MapRequest<S, Same> {
    MapRequest::new(service, |request| request)
}

#[tokio::test]
async fn calls_only_what_is_ready_and_a_clone_has_no_share_in_it() {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let layer = SelectBackendLayer::new(pool([serving("east", ["a"])]));
    let mut service =
        mock::Spawn::new(with_bodies(layer.layer(ForwardLayer::new().layer(ConcurrencyLimit::new(service, 1)))));
    handle.allow(0);
    assert_pending!(service.poll_ready());
    handle.allow(9);
    assert_ready_ok!(service.poll_ready());
    let mut clone = service.clone();
    assert_pending!(clone.poll_ready(), "the one place belongs to the other");
    let mut request = task::spawn(service.call(chat("a")));
    assert_pending!(request.poll());
    let Poll::Ready(Some((_, reply))) = handle.poll_request() else { panic!("the request was sent") };
    reply.send_response(Response::new(Body::empty()));
    assert_eq!(at(&assert_ready_ok!(request.poll())), "east");
    drop(request);
    assert_ready_ok!(clone.poll_ready());
}

#[tokio::test]
async fn an_error_of_readiness_passes() {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let layer = SelectBackendLayer::new(pool([serving("east", ["a"])]));
    let mut service = mock::Spawn::new(with_bodies(layer.layer(ForwardLayer::new().layer(service))));
    handle.send_error("gone");
    assert_eq!(tokio_test::assert_ready_err!(service.poll_ready()).to_string(), "gone");
}

#[test]
fn debug_shows_no_hostname() {
    let layer = SelectBackendLayer::new(pool([serving("east", ["a"])]));
    let shown = format!("{layer:?} {:?}", layer.layer("inner"));
    assert!(shown.contains("east") && shown.contains("inner") && !shown.contains(".example"), "{shown}");
}
