//! Several versions behind one alias: who gets which, who keeps it, and that no request crosses from one to another.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, Route};
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{
    Backend, Constraints, Credential, Deployment, MAX_WEIGHT, NoTargetReason, Obstacle, Pin, Pool, PoolBuilder, Query,
    Release, Target,
};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::session::{SessionCookie, StickySessionLayer};

const ALIAS: &str = "gpt-4o";
const OLD: &str = "2024-08-06";
const NEW: &str = "2024-11-20";
const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions";

/// A backend `old…` or `new…` with a deployment of that version.
fn serving(name: &str) -> Backend {
    let version = if name.starts_with("old") { OLD } else { NEW };
    let deployment = Deployment::new("d").alias(ALIAS).model(ALIAS).version(version);
    Backend::new(name, format!("https://{name}.example")).add_deployment(deployment)
}

fn described(backends: &[&str]) -> PoolBuilder {
    backends.iter().fold(Pool::builder(), |pool, name| pool.add_backend(serving(name)))
}

fn release(version: &str, share: u32) -> Release {
    Release::new(ALIAS, ALIAS, version).share(share)
}

fn pool(backends: &[&str], old: u32, new: u32) -> Pool {
    described(backends).add_release(release(OLD, old)).add_release(release(NEW, new)).build().unwrap()
}

fn set(pool: &Pool, old: u32, new: u32) {
    // In this order neither is without a share in between.
    if old > 0 {
        pool.set_share(ALIAS, ALIAS, OLD, old).unwrap();
    }
    pool.set_share(ALIAS, ALIAS, NEW, new).unwrap();
    pool.set_share(ALIAS, ALIAS, OLD, old).unwrap();
}

fn is_new(pool: &Pool, client: &str) -> bool {
    let permit = pool.acquire(&Query::new(Some(ALIAS)).client(client), |_| 0).unwrap();
    permit.target().backend().starts_with("new")
}

fn route() -> Route {
    Route::parse(&Method::POST, &Uri::from_static(CHAT)).unwrap()
}

mod shares {
    use super::*;

    const CLIENTS: usize = 5_000;

    fn assigned(pool: &Pool) -> Vec<bool> {
        (0..CLIENTS).map(|client| is_new(pool, &format!("client-{client}"))).collect()
    }

    fn share(assigned: &[bool]) -> f64 {
        assigned.iter().filter(|new| **new).count() as f64 / assigned.len() as f64
    }

    #[test]
    fn clients_move_only_as_the_shares_do_and_all_the_way_back() {
        let pool = pool(&["old-a", "new-a"], 90, 10);
        let mut before = assigned(&pool);
        assert!((share(&before) - 0.1).abs() < 0.02, "{}", share(&before));
        let began = before.clone();
        for (old, new) in [(50, 50), (0, 100), (50, 50), (90, 10)] {
            set(&pool, old, new);
            let now = assigned(&pool);
            let wanted = f64::from(new) / 100.0;
            assert!((share(&now) - wanted).abs() < 0.03, "{} instead of {wanted}", share(&now));
            let gained = before.iter().zip(&now).filter(|(was, is)| !**was && **is).count();
            let lost = before.iter().zip(&now).filter(|(was, is)| **was && !**is).count();
            assert!(gained == 0 || lost == 0, "nobody moves against the shares: {gained} there, {lost} back");
            before = now;
        }
        assert_eq!(before, began, "the same shares, the same clients");
    }

    #[test]
    fn only_what_was_named_moves_among_three() {
        let third = Deployment::new("t").alias(ALIAS).model(ALIAS).version("3");
        let described = described(&["old-a", "new-a"])
            .add_backend(Backend::new("third", "https://third.example").add_deployment(third));
        let pool = described
            .add_release(release(OLD, 1))
            .add_release(release(NEW, 1))
            .add_release(release("3", 1))
            .build()
            .unwrap();
        let assigned = || {
            let on = |client: usize| {
                let id = client.to_string();
                let permit = pool.acquire(&Query::new(Some(ALIAS)).client(&id), |_| 0).unwrap();
                permit.target().backend().to_owned()
            };
            (0..1_000).map(on).collect::<Vec<_>>()
        };
        let before = assigned();
        pool.set_share(ALIAS, ALIAS, "3", 4).unwrap();
        let moved = before.iter().zip(assigned()).filter(|(was, is)| *was != is);
        assert!(moved.map(|(_, is)| is).all(|is| is == "third"));
    }

    #[test]
    fn requests_of_nobody_are_drawn_one_by_one() {
        let pool = pool(&["old-a", "new-a"], 75, 25);
        let query = Query::new(Some(ALIAS));
        let on_new = (0..2_000).filter(|_| pool.acquire(&query, |_| 0).unwrap().target().backend() == "new-a");
        let on_new = on_new.count();
        assert!((400..600).contains(&on_new), "{on_new} of 2,000");
    }

    /// An alias with a release for each share, called by its place, on a backend of that name.
    fn many(shares: &[u32]) -> PoolBuilder {
        shares.iter().enumerate().fold(Pool::builder(), |pool, (at, share)| {
            let version = at.to_string();
            let deployment = Deployment::new("d").alias(ALIAS).model(ALIAS).version(&version);
            let backend = Backend::new(&version, "https://one.example").add_deployment(deployment);
            pool.add_backend(backend).add_release(release(&version, *share))
        })
    }

    /// Which release each of so many clients has.
    fn of_clients(pool: &Pool) -> Vec<usize> {
        let of = |client: usize| {
            let id = format!("client-{client}");
            let targets = pool.compliant(&Query::new(Some(ALIAS)).client(&id));
            assert_eq!(targets.len(), 1);
            targets[0].backend().parse().unwrap()
        };
        (0..400).map(of).collect()
    }

    /// The share of the clients that no way of assigning them could leave where they are.
    fn must_move(before: &[u32], after: &[u32]) -> f64 {
        let share = |shares: &[u32], at: usize| f64::from(shares[at]) / f64::from(shares.iter().sum::<u32>());
        (0..before.len()).map(|at| (share(after, at) - share(before, at)).max(0.0)).sum()
    }

    /// What chance may add to so large a share of `clients` independent draws: five standard deviations and one.
    fn counting_error(share: f64, clients: usize) -> f64 {
        5.0 * (share * (1.0 - share).max(0.0) * clients as f64).sqrt() + 1.0
    }

    fn some_share(shares: &[u32]) -> bool {
        shares.iter().any(|share| *share > 0)
    }

    fn shares() -> impl Strategy<Value = u32> {
        prop_oneof![1 => Just(0_u32), 4 => 1..20_u32, 1 => Just(MAX_WEIGHT)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_more_clients_move_than_a_share_requires(
            mut shares in vec(shares(), 2..6).prop_filter("a share", |shares| some_share(shares)),
            changes in vec((any::<prop::sample::Index>(), shares()), 1..6),
        ) {
            let pool = many(&shares).build().unwrap();
            let mut before = of_clients(&pool);
            for (at, share) in changes {
                let (at, was) = (at.index(shares.len()), shares.clone());
                shares[at] = share;
                if !some_share(&shares) {
                    shares = was;
                    continue;
                }
                pool.set_share(ALIAS, ALIAS, &at.to_string(), share).unwrap();
                let now = of_clients(&pool);
                let moved: Vec<_> = before.iter().zip(&now).filter(|(was, is)| was != is).collect();
                let gains = share > was[at];
                prop_assert!(moved.iter().all(|(from, to)| if gains { **to == at } else { **from == at }), "{moved:?}");
                let required = must_move(&was, &shares);
                let most = required * now.len() as f64 + counting_error(required, now.len());
                prop_assert!(moved.len() as f64 <= most, "{} moved, not {most} at most: {was:?} {shares:?}", moved.len());
                prop_assert!(now.iter().all(|release| shares[*release] > 0), "a share of 0 is none");
                before = now;
            }
        }

        #[test]
        fn nobody_moves_against_the_shares_when_all_of_them_change_at_once(
            (was, is) in (2..6_usize)
                .prop_flat_map(|releases| (vec(shares(), releases), vec(shares(), releases)))
                .prop_filter("a share", |(was, is)| some_share(was) && some_share(is)),
        ) {
            let pool = many(&was).build().unwrap();
            let before = of_clients(&pool);
            pool.replace(many(&is)).unwrap();
            for (from, to) in before.into_iter().zip(of_clients(&pool)).filter(|(from, to)| from != to) {
                let grew = u64::from(is[to]) * u64::from(was[from]) > u64::from(was[to]) * u64::from(is[from]);
                prop_assert!(grew, "from {from} to {to}: {was:?} {is:?}");
            }
        }

        #[test]
        fn a_client_has_a_release_whenever_one_with_a_share_may_serve_it(
            releases in vec((shares(), vec(any::<bool>(), 1..4)), 2..5)
                .prop_filter("a share", |releases| releases.iter().any(|(share, _)| *share > 0)),
            client in ".{0,20}",
        ) {
            let geography = |eu: bool| if eu { "eu" } else { "us" };
            let described = releases.iter().enumerate().fold(Pool::builder(), |pool, (at, (share, places))| {
                let version = at.to_string();
                let pool = pool.add_release(release(&version, *share));
                places.iter().enumerate().fold(pool, |pool, (place, eu)| {
                    let deployment = Deployment::new("d").alias(ALIAS).model(ALIAS).version(&version);
                    let backend = Backend::new(format!("{at}-{place}"), "https://one.example");
                    pool.add_backend(backend.geography(geography(*eu)).add_deployment(deployment))
                })
            });
            let pool = described.build().unwrap();
            for eu in [false, true] {
                let constraints = Constraints::default().geography(geography(eu));
                let query = Query::new(Some(ALIAS)).constraints(&constraints);
                let able = releases.iter().any(|(share, places)| *share > 0 && places.contains(&eu));
                for query in [query, query.client(&client)] {
                    match pool.acquire(&query, |_| 0) {
                        Ok(permit) => {
                            let (at, place) = permit.target().backend().split_once('-').unwrap();
                            let (share, places) = &releases[at.parse::<usize>().unwrap()];
                            prop_assert!(*share > 0 && places[place.parse::<usize>().unwrap()] == eu);
                        }
                        Err(none) => prop_assert!(!able && none.reason == NoTargetReason::NotServed, "{none:?}"),
                    }
                    prop_assert_eq!(pool.has_eligible(&query), able);
                    prop_assert_eq!(!pool.compliant(&query).is_empty(), able);
                }
            }
        }

        #[test]
        fn a_client_keeps_its_release_while_nothing_changes(client in ".{0,20}", old in 0..5_u32, new in 1..5_u32) {
            let one = pool(&["old-a", "new-a", "new-b"], old, new);
            let other = pool(&["new-b", "old-a", "new-a"], old, new);
            prop_assert_eq!(is_new(&one, &client), is_new(&other, &client), "on every replica");
            one.drain("new-b").unwrap();
            prop_assert_eq!(is_new(&one, &client), is_new(&other, &client), "whatever becomes of the targets");
        }
    }
}

mod crossing {
    use super::*;

    type Seen = Arc<Mutex<Vec<String>>>;

    /// Sends a chat through failover; `answer` is asked for the status of each attempt.
    async fn send(
        pool: &Pool,
        client: Option<&str>,
        answer: impl Fn(&Pool) -> u16 + Clone + Send + Sync + 'static,
    ) -> (StatusCode, Vec<String>) {
        let seen = Seen::default();
        let backend = {
            let (seen, pool) = (seen.clone(), pool.clone());
            service_fn(move |request: Request<Body>| {
                seen.lock().unwrap().push(request.uri().host().unwrap().to_owned());
                let answer = Response::builder().status(answer(&pool)).header("retry-after-ms", "500");
                async { answer.body(Body::empty()).map_err(BoxError::from) }
            })
        };
        let service = ServiceBuilder::new()
            .layer(RespondLayer::new())
            .layer(FailoverLayer::new())
            .layer(SelectBackendLayer::new(pool.clone()))
            .layer(ForwardLayer::new())
            .service(backend);
        let mut request = Request::post(CHAT).body(Body::from("{}")).unwrap();
        client.map(|id| request.extensions_mut().insert(Client::new(id)));
        let status = service.oneshot(request).await.unwrap().status();
        (status, std::mem::take(&mut *seen.lock().unwrap()))
    }

    fn four() -> Pool {
        pool(&["old-a", "new-a", "old-b", "new-b"], 1, 1)
    }

    fn releases(seen: &[String]) -> BTreeMap<&str, usize> {
        seen.iter().fold(BTreeMap::new(), |mut counts, host| {
            *counts.entry(&host[..3]).or_default() += 1;
            counts
        })
    }

    #[tokio::test(start_paused = true)]
    async fn failover_stays_in_the_release() {
        for client in (0..50).map(|client| (client % 2 == 0).then(|| client.to_string())) {
            let pool = four();
            let (status, seen) = send(&pool, client.as_deref(), |_| 429).await;
            assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
            assert!(seen.len() == 2 && releases(&seen).len() == 1, "both of one release: {seen:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_that_changes_between_two_attempts_moves_no_request() {
        for client in ["a", "b", "c", "d", "e", "f"] {
            let pool = four();
            let to_new = is_new(&pool, client);
            let change = move |pool: &Pool| {
                if to_new {
                    set(pool, 1, 0)
                } else {
                    set(pool, 0, 1)
                }
                429
            };
            let (_, seen) = send(&pool, Some(client), change).await;
            assert!(seen.len() == 2 && releases(&seen).len() == 1, "{seen:?}");
            assert_ne!(is_new(&pool, client), to_new, "the next one moves");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_release_down_does_not_send_its_clients_to_the_other() {
        let pool = pool(&["old-a", "new-a"], 1, 1);
        let old = pool.targets(ALIAS).into_iter().find(|target| target.backend() == "old-a").unwrap();
        pool.acquire_target(&old).unwrap().record(&Outcome::Throttled { hint: Some(Duration::from_secs(5)) });
        let ids: Vec<_> = (0..40).map(|client| client.to_string()).collect();
        let (mut served, mut refused) = (0, 0);
        for id in &ids {
            match pool.acquire(&Query::new(Some(ALIAS)).client(id), |_| 0) {
                Ok(permit) => {
                    assert_eq!(permit.target().backend(), "new-a");
                    served += 1;
                }
                Err(none) => {
                    assert_eq!(
                        (none.reason, none.retry_after),
                        (NoTargetReason::Throttled, Some(Duration::from_secs(5)))
                    );
                    assert_eq!(pool.outlook(&Query::new(Some(ALIAS)).client(id)), none);
                    refused += 1;
                }
            }
        }
        assert!(served > 5 && refused > 5, "{served} served, {refused} refused");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_of_a_release_is_not_opened_by_one_poisonous_prompt() {
        let pool = four();
        let target = |name: &str| pool.targets(ALIAS).into_iter().find(|target| target.backend() == name).unwrap();
        let failed = Outcome::ServerFailed { status: StatusCode::INTERNAL_SERVER_ERROR, hint: None };
        for name in ["old-a", "old-b"] {
            for _ in 0..20 {
                if let Some(mut permit) = pool.acquire_target(&target(name)) {
                    permit.record(&failed);
                }
            }
        }
        assert!(pool.acquire_target(&target("old-a")).is_none());
        assert!(pool.acquire_target(&target("old-b")).is_some(), "targets of another release are no help");
    }

    #[test]
    fn a_client_is_given_a_release_that_can_serve_it() {
        let at = |name: &str, version: &str, geography: &str| {
            let deployment = Deployment::new("d").alias(ALIAS).model(ALIAS).version(version);
            Backend::new(name, format!("https://{name}.example")).geography(geography).add_deployment(deployment)
        };
        let described = Pool::builder().add_backend(at("old-a", OLD, "eu")).add_backend(at("new-a", NEW, "us"));
        let pool = described.add_release(release(OLD, 1)).add_release(release(NEW, 99)).build().unwrap();
        for client in (0..50).map(|client| Client::new(client.to_string()).geography("eu")) {
            let explanation = pool.explain(&route(), Some(&client));
            let candidates: Vec<_> = explanation.candidates().map(|target| target.backend().to_owned()).collect();
            assert_eq!(candidates, ["old-a"], "{explanation}");
            assert_eq!(explanation.targets()[1].obstacles(), [Obstacle::OtherRelease]);
        }
    }
}

/// The state that a request refers to outranks the release of its client, and nothing else does.
mod state {
    use super::*;

    fn on(pool: &Pool, client: &str, pin: &Pin) -> Result<String, NoTargetReason> {
        let permit = pool.acquire(&Query::new(Some(ALIAS)).client(client).pinned(Some(pin)), |_| 0);
        let name = |target: &Target| format!("{}/{}", target.backend(), target.deployment().unwrap());
        permit.map(|permit| name(permit.target())).map_err(|none| none.reason)
    }

    /// Backend `both` with both versions, backends `old` and `new` with one.
    fn pool(old: u32, new: u32) -> Pool {
        let deployment = |name, version| Deployment::new(name).alias(ALIAS).model(ALIAS).version(version);
        let both = Backend::new("both", "https://both.example");
        let both = both.add_deployment(deployment("old", OLD)).add_deployment(deployment("new", NEW));
        let described = described(&["old", "new"]).add_backend(both);
        described.add_release(release(OLD, old)).add_release(release(NEW, new)).build().unwrap()
    }

    fn clients() -> impl Iterator<Item = String> {
        (0..40).map(|client| client.to_string())
    }

    #[test]
    fn a_backend_with_several_releases_serves_the_clients_own() {
        let pool = pool(1, 1);
        for client in clients() {
            let own = if is_new(&pool, &client) { "new" } else { "old" };
            for pin in [Pin::required("both"), Pin::preferred(["both".into()]), Pin::movable(["both".into()])] {
                for _ in 0..3 {
                    assert_eq!(on(&pool, &client, &pin), Ok(format!("both/{own}")));
                }
            }
        }
    }

    #[test]
    fn where_the_state_is_another_release_serves_it_even_without_a_share() {
        let pool = pool(1, 0);
        for client in clients() {
            assert_eq!(on(&pool, &client, &Pin::required("new")), Ok("new/d".to_owned()));
            assert_eq!(on(&pool, &client, &Pin::required("both")), Ok("both/old".to_owned()));
            assert_eq!(on(&pool, &client, &Pin::preferred(["new".into()])), Err(NoTargetReason::NotServedThere));
            assert_eq!(on(&pool, &client, &Pin::movable(["new".into()])), Ok("old/d".to_owned()));
        }
        assert_eq!(on(&pool, "a", &Pin::required("elsewhere")), Err(NoTargetReason::NotServedThere));
    }

    #[test]
    fn a_request_of_nobody_is_served_where_its_state_is() {
        let pool = pool(1, 0);
        let pin = Pin::required("new");
        let query = Query::new(Some(ALIAS)).pinned(Some(&pin));
        assert!(pool.has_eligible(&query));
        assert_eq!(pool.acquire(&query, |_| 0).unwrap().target().backend(), "new");
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_without_a_share_promises_nothing() {
        let pool = pool(1, 0);
        let hint = Some(Duration::from_secs(5));
        for target in pool.compliant(&Query::new(Some(ALIAS)).client("anybody")) {
            pool.acquire_target(&target).unwrap().record(&Outcome::Throttled { hint });
        }
        let query = Query::new(Some(ALIAS));
        assert!(!pool.has_eligible(&query));
        assert_eq!(pool.outlook(&query).retry_after, Some(Duration::from_secs(5)));
    }
}

/// With sticky sessions above.
mod sessions {
    use super::*;

    const ASSISTANTS: &str = "/openai/assistants?api-version=2024-10-21";

    /// Sessions, failover and selection, and the cookie that each client was given.
    struct Stack {
        pool: Pool,
        layer: StickySessionLayer,
        cookies: BTreeMap<String, HeaderValue>,
    }

    impl Stack {
        fn new(pool: &Pool) -> Self {
            let layer = StickySessionLayer::new(pool.clone()).cookie(SessionCookie::with_random_key().unwrap());
            Self { pool: pool.clone(), layer, cookies: BTreeMap::new() }
        }

        /// Which backend answers.
        async fn served(&mut self, uri: &str, client: Option<&str>, session: Option<&str>) -> String {
            let azure = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from("{}"))));
            let service = ServiceBuilder::new()
                .layer(RespondLayer::new())
                .layer(InspectLayer::new())
                .layer(self.layer.clone())
                .layer(FailoverLayer::new())
                .layer(SelectBackendLayer::new(self.pool.clone()))
                .layer(ForwardLayer::new())
                .service(azure);
            let body = Body::from(format!(r#"{{"model":"{ALIAS}"}}"#));
            let mut request = Request::post(uri).header("content-type", "application/json").body(body).unwrap();
            let who = client.unwrap_or_default().to_owned();
            client.map(|id| request.extensions_mut().insert(Client::new(id)));
            session.map(|name| request.headers_mut().insert("x-session-affinity", name.parse().unwrap()));
            if let Some(cookie) = self.cookies.get(&who) {
                request.headers_mut().insert("cookie", cookie.clone());
            }
            let answer = service.oneshot(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            if let Some(cookie) = answer.headers().get("set-cookie") {
                self.cookies.insert(who, cookie.clone());
            }
            answer.extensions().get::<Target>().unwrap().backend().to_owned()
        }
    }

    fn names() -> impl Iterator<Item = String> {
        (0..40).map(|name| format!("name-{name}"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_of_nobody_keeps_its_release_while_shares_move() {
        let pool = pool(&["old-a", "new-a", "old-b", "new-b"], 9, 1);
        let mut stack = Stack::new(&pool);
        let mut before = vec![false; 40];
        for (old, new) in [(9, 1), (1, 1), (0, 1)] {
            set(&pool, old, new);
            let mut now = Vec::new();
            for name in names() {
                let backend = stack.served(CHAT, None, Some(&name)).await;
                assert_eq!(stack.served(CHAT, None, Some(&name)).await, backend, "one backend of one release");
                now.push(backend.starts_with("new"));
            }
            assert!(before.iter().zip(&now).all(|(was, is)| !was || *is), "nobody moves back");
            before = now;
        }
        assert!(before.iter().all(|new| *new));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_on_one_release_whatever_it_calls_its_sessions() {
        let pool = pool(&["old-a", "new-a", "old-b", "new-b"], 1, 1);
        let mut stack = Stack::new(&pool);
        let mut used = BTreeMap::<String, usize>::new();
        for client in names().take(10) {
            let own = is_new(&pool, &client);
            for session in names() {
                let backend = stack.served(CHAT, Some(&client), Some(&session)).await;
                assert_eq!(backend.starts_with("new"), own);
                *used.entry(backend).or_default() += 1;
            }
        }
        assert!(used.len() == 4 && used.values().all(|times| *times > 20), "sessions still spread: {used:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_cookie_pins_moves_with_the_release_of_its_client() {
        let pool = pool(&["old-a", "new-a"], 1, 0);
        let mut stack = Stack::new(&pool);
        for (old, new, backend) in [(1, 0, "old-a"), (0, 1, "new-a"), (1, 0, "old-a")] {
            set(&pool, old, new);
            for client in [Some("one"), Some("other"), None] {
                for uri in [ASSISTANTS, ASSISTANTS, CHAT] {
                    assert_eq!(stack.served(uri, client, None).await, backend);
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cookie_of_nobody_leads_to_its_backend_and_the_release_there() {
        let pool = pool(&["old-a", "new-a"], 1, 1);
        let mut stack = Stack::new(&pool);
        let first = stack.served(ASSISTANTS, None, None).await;
        for _ in 0..20 {
            assert_eq!(stack.served(ASSISTANTS, None, None).await, first);
        }
    }
}

mod describing {
    use super::*;

    fn problems(description: PoolBuilder) -> Vec<String> {
        description.build().unwrap_err().problems().map(str::to_owned).collect()
    }

    #[test]
    fn releases_and_targets_must_fit_each_other() {
        let two = || described(&["old-a", "new-a"]);
        for (description, problem) in [
            (
                two(),
                "alias `gpt-4o` is gpt-4o 2024-08-06 on old-a/d and gpt-4o 2024-11-20 on new-a/d: all its targets must agree",
            ),
            (
                two().add_release(release(OLD, 1)),
                "alias `gpt-4o` is gpt-4o 2024-11-20 on new-a/d, which is none of its releases",
            ),
            (
                two().add_release(release(OLD, 1)).add_release(release(NEW, 0)).add_release(release("3", 1)),
                "release gpt-4o 3 of alias `gpt-4o` has no target",
            ),
            (
                two().add_release(release(OLD, 1)).add_release(release(NEW, 0)).add_release(release(NEW, 0)),
                "release gpt-4o 2024-11-20 of alias `gpt-4o` is there twice",
            ),
            (
                two().add_release(release(OLD, 0)).add_release(release(NEW, 0)),
                "alias `gpt-4o` has no release with a share",
            ),
            (
                two().add_release(release(OLD, MAX_WEIGHT + 1)).add_release(release(NEW, 0)),
                "share of release gpt-4o 2024-08-06 of alias `gpt-4o` is above 1000000",
            ),
        ] {
            assert_eq!(problems(description), [problem]);
        }
    }

    #[test]
    fn a_share_that_cannot_be_is_refused_and_changes_nothing() {
        let pool = pool(&["old-a", "new-a"], 1, 0);
        assert!(pool.set_share(ALIAS, ALIAS, "3", 1).unwrap_err().to_string().contains("is not in the pool"));
        assert!(pool.set_share(ALIAS, ALIAS, OLD, 0).unwrap_err().to_string().contains("no release with a share"));
        assert!(!is_new(&pool, "anybody"));
    }

    #[test]
    fn none_stands_behind_another() {
        let described = Pool::builder().add_backend(serving("old")).add_backend(serving("new").priority(1));
        let pool = described.add_release(release(OLD, 9)).add_release(release(NEW, 1)).build().unwrap();
        assert_eq!(pool.explain(&route(), None).candidates().count(), 2);
        assert!(pool.status().backends.iter().all(|backend| backend.deployments[0].obstacles.is_empty()));
        set(&pool, 1, 0);
        assert_eq!(pool.status().backends[1].deployments[0].obstacles, ["is of another release"]);
    }

    #[test]
    fn who_has_no_token_gets_a_release_that_asks_for_none() {
        let shown = serving("old").credential(Credential::pass_through());
        let described = Pool::builder().add_backend(shown).add_backend(serving("new"));
        let pool = described.add_release(release(OLD, 9)).add_release(release(NEW, 1)).build().unwrap();
        assert!((0..50).all(|n| is_new(&pool, &format!("client-{n}"))));
        set(&pool, 1, 0);
        let nobody = pool.acquire(&Query::new(Some(ALIAS)).client("c"), |_| 0).unwrap_err();
        assert_eq!(nobody.reason, NoTargetReason::TokenMissing);
    }

    #[test]
    fn the_status_shows_them_where_there_are_any() {
        let status = serde_json::to_value(pool(&["old-a", "new-a"], 9, 1).status()).unwrap();
        let shown = json!([
            { "alias": ALIAS, "model": ALIAS, "version": OLD, "share": 9 },
            { "alias": ALIAS, "model": ALIAS, "version": NEW, "share": 1 }
        ]);
        assert_eq!(status["releases"], shown);
        let plain = serde_json::to_value(described(&["old-a"]).build().unwrap().status()).unwrap();
        assert!(plain.get("releases").is_none());
    }
}
