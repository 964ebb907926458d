//! What stands between a query and a target is said alike by selection, by the reason of a refusal, and by `explain`.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use tower::BoxError;
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::pool::{
    Backend, BearerTokens, BoxFuture, Constraints, Credential, Deployment, Explanation, NoTargetReason, Obstacle, Pin,
    Pool, Priority, Processing, Query, Release, Target, TargetSet, Thresholds,
};

const ALIAS: &str = "a";
const BESIDE: &str = "b";
const VERSIONS: [&str; 2] = ["1", "2"];
const NAMES: [&str; 4] = ["w", "x", "y", "z"];

/// Never at hand.
#[derive(Debug)]
struct NoTokens;

impl BearerTokens for NoTokens {
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
        None
    }
}

#[derive(Clone, Debug)]
struct Described {
    geography: usize,
    is_global: bool,
    priority: u32,
    weight: u32,
    max_in_flight: u32,
    credential: usize,
    versions: Vec<usize>,
    serves_beside: bool,
    is_near: bool,
}

fn described() -> impl Strategy<Value = Described> {
    let place = (0..3_usize, prop::bool::weighted(0.2));
    let rank = (0..2_u32, prop::sample::select(vec![0_u32, 1, 1, 2]), prop::sample::select(vec![0_u32, 0, 1, 3]));
    let rest = (prop::sample::select(vec![0_usize, 0, 0, 1, 2]), vec(0..2_usize, 0..3), any::<bool>(), any::<bool>());
    (place, rank, rest).prop_map(|((geography, is_global), (priority, weight, max_in_flight), rest)| {
        let (credential, versions, serves_beside, is_near) = rest;
        Described {
            geography,
            is_global,
            priority,
            weight,
            max_in_flight,
            credential,
            versions,
            serves_beside,
            is_near,
        }
    })
}

impl Described {
    fn backend(&self, name: &str) -> Backend {
        let mut backend = Backend::new(name, format!("https://{name}.example"))
            .priority(self.priority)
            .weight(self.weight)
            .max_in_flight(self.max_in_flight)
            .region(if self.is_near { "near" } else { "far" })
            .credential(match self.credential {
                0 => Credential::api_key("key").unwrap(),
                1 => Credential::pass_through(),
                _ => Credential::bearer(Arc::new(NoTokens)),
            });
        if let Some(geography) = ["eu", "us"].get(self.geography) {
            backend = backend.geography(*geography);
        }
        if self.is_global {
            backend = backend.processing(Processing::Global);
        }
        for (at, version) in self.versions.iter().enumerate() {
            let deployment = Deployment::new(format!("d{at}")).alias(ALIAS).version(VERSIONS[*version]);
            backend = backend.add_deployment(deployment);
        }
        let other = if self.serves_beside { BESIDE } else { "c" };
        backend.add_deployment(Deployment::new("other").alias(other))
    }
}

/// `None` where the description is none, such as one in which nobody serves a release.
fn pool(described: &[Described]) -> Option<Pool> {
    let backends = NAMES.iter().zip(described).map(|(name, described)| described.backend(name));
    let builder = backends.fold(Pool::builder(), |builder, backend| builder.add_backend(backend)).region("near");
    let mut builder = builder.thresholds(Thresholds::OFF.normal(0.9).low(0.5));
    let served: BTreeSet<_> = described.iter().flat_map(|described| &described.versions).collect();
    if served.len() > 1 {
        for version in VERSIONS {
            builder = builder.add_release(Release::new(ALIAS, ALIAS, version).share(1));
        }
    }
    builder.build().ok()
}

#[derive(Clone, Debug)]
struct Asked {
    has_alias: bool,
    geography: Option<&'static str>,
    is_regional: bool,
    narrowed: Option<&'static str>,
    has_token: bool,
    has_beside: bool,
    client: u8,
    tried: Vec<prop::sample::Index>,
    priority: Priority,
    pin: Option<(u8, Vec<usize>)>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let place = prop::option::weighted(0.3, prop::sample::select(vec!["eu", "us"]));
    let who =
        (prop::bool::weighted(0.8), place.clone(), any::<bool>(), place, any::<bool>(), prop::bool::weighted(0.3));
    let pin = prop::option::of((0..3_u8, vec(0..4_usize, 1..4)));
    (who, any::<u8>(), vec(any::<prop::sample::Index>(), 0..2), prop::sample::select(&Priority::ALL[..]), pin).prop_map(
        |(who, client, tried, priority, pin)| {
            let (has_alias, geography, is_regional, narrowed, has_token, has_beside) = who;
            Asked { has_alias, geography, is_regional, narrowed, has_token, has_beside, client, tried, priority, pin }
        },
    )
}

fn pinned((strength, backends): &(u8, Vec<usize>)) -> Pin {
    let names = || backends.iter().map(|backend| Arc::from(NAMES[*backend]));
    match strength {
        0 => Pin::required(NAMES[backends[0]]),
        1 => Pin::preferred(names()),
        _ => Pin::movable(names()),
    }
}

fn is_lasting(obstacle: &Obstacle) -> bool {
    use Obstacle::{Geography, Narrowed, NotBeside, NotServed, OtherRelease, PinnedElsewhere, Processing};
    matches!(
        obstacle,
        Geography { .. } | Processing { .. } | Narrowed | NotBeside | NotServed | OtherRelease | PinnedElsewhere
    )
}

/// The reason as somebody would give it who knows nothing but the explanation.
fn reason(explanation: &Explanation, pin: Option<&Pin>) -> NoTargetReason {
    let all = explanation.targets().iter().map(|explained| explained.obstacles());
    let compliant: Vec<_> = all.filter(|obstacles| !obstacles.iter().any(is_lasting)).collect();
    let is_bound = pin.is_some_and(|pin| *pin != Pin::movable(pin.backends().iter().cloned()));
    let is_bound_to_one = is_bound && pin.is_some_and(|pin| pin.backends().len() == 1);
    if compliant.is_empty() {
        return if is_bound { NoTargetReason::NotServedThere } else { NoTargetReason::NotServed };
    }
    let shown: Vec<_> =
        compliant.into_iter().filter(|obstacles| !obstacles.contains(&Obstacle::TokenMissing)).collect();
    if shown.is_empty() {
        return NoTargetReason::TokenMissing;
    }
    let is_waited_for = |obstacle: &Obstacle| {
        matches!(obstacle, Obstacle::Open { throttled: true, .. } | Obstacle::Full { .. } | Obstacle::Reserved { .. })
    };
    let able = |obstacles: &&&[Obstacle]| !obstacles.contains(&Obstacle::Drained);
    match shown.iter().filter(able).any(|obstacles| obstacles.iter().any(is_waited_for)) {
        true => NoTargetReason::Throttled,
        false if is_bound_to_one => NoTargetReason::Pinned,
        false => NoTargetReason::Down,
    }
}

/// What a provisioned deployment says of itself.
fn utilization(used: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("azure-openai-deployment-utilization"),
        HeaderValue::from_static(used),
    )])
}

fn obstacles<'a>(explanation: &'a Explanation, target: &Target) -> &'a [Obstacle] {
    explanation.targets().iter().find(|explained| explained.target() == target).unwrap().obstacles()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn selection_refusals_and_explanations_agree(
        described in vec(described(), 1..=4),
        events in vec((any::<prop::sample::Index>(), 0..9_u8), 0..16),
        asked in asked(),
        index in any::<prop::sample::Index>(),
    ) {
        let Some(pool) = pool(&described) else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _entered = runtime.enter();
        let everybody = pool.explain_query(&Query::new(None));
        let aliased = pool.explain_query(&Query::new(Some(ALIAS)));
        let targets: Vec<_> =
            everybody.targets().iter().chain(aliased.targets()).map(|explained| explained.target().clone()).collect();
        let mut held = Vec::new();
        for (at, event) in events {
            let target = &targets[at.index(targets.len())];
            if event == 0 {
                target.refuse_token();
            } else if let Some(mut permit) = pool.acquire_target(target) {
                match event {
                    1 => held.push(permit),
                    2 => permit.record(&Outcome::Throttled { hint: Some(Duration::from_secs(7)) }),
                    3 => permit.record(&Outcome::Success),
                    7 => permit.observe(&utilization("60%")),
                    8 => permit.observe(&utilization("97.5")),
                    _ => {
                        permit.record(&Outcome::Unreachable);
                        while let Some(mut permit) = pool.acquire_target(target) {
                            permit.record(&Outcome::Unreachable);
                        }
                    }
                }
            }
        }
        let mut tried = TargetSet::default();
        for at in &asked.tried {
            tried.insert(&targets[at.index(targets.len())]);
        }
        let mut constraints = Constraints::default();
        if let Some(geography) = asked.geography {
            constraints = constraints.geography(geography);
        }
        if asked.is_regional {
            constraints = constraints.processing([Processing::Regional]);
        }
        let narrowed = asked.narrowed.map(|geography| Constraints::default().geography(geography));
        let (client, pin) = (asked.client.to_string(), asked.pin.as_ref().map(pinned));
        let beside: Vec<Box<str>> = if asked.has_beside { vec![BESIDE.into()] } else { Vec::new() };
        let query = Query::new(asked.has_alias.then_some(ALIAS))
            .constraints(&constraints)
            .narrowed(narrowed.as_ref())
            .has_token(asked.has_token)
            .client(&client)
            .beside(&beside)
            .tried(&tried)
            .priority(asked.priority)
            .pinned(pin.as_ref());

        let explanation = pool.explain_query(&query);
        let (outlook, has_eligible) = (pool.outlook(&query), pool.has_eligible(&query));
        let candidates: Vec<_> = explanation.candidates().cloned().collect();
        let mut offered: Vec<Target> = Vec::new();
        let taken = pool.acquire(&query, |eligible| {
            offered = eligible.iter().map(|target| (*target).clone()).collect();
            index.index(eligible.len())
        });
        match &taken {
            Ok(permit) if !candidates.is_empty() => {
                prop_assert!(candidates.contains(permit.target()), "{:?} of {}", permit.target(), explanation);
                prop_assert!(candidates.iter().all(|target| offered.contains(target)), "{:?} of {}", offered, explanation);
                let goes_last = |target: &Target| *obstacles(&explanation, target) == [Obstacle::NoIdentity];
                let is_known = offered.iter().all(|target| candidates.contains(target) || goes_last(target));
                prop_assert!(is_known, "{:?} of {}", offered, explanation);
                prop_assert!(has_eligible);
            }
            // The last resort, or a probe before its time.
            Ok(permit) => {
                let obstacles = obstacles(&explanation, permit.target());
                let has_failed = |obstacle: &Obstacle| {
                    matches!(obstacle, Obstacle::Open { throttled: false, .. } | Obstacle::Probing { .. })
                };
                prop_assert!(obstacles.iter().any(has_failed) != has_eligible, "{}", explanation);
                let is_explained = |obstacle: &Obstacle| has_failed(obstacle) || *obstacle == Obstacle::NoIdentity;
                prop_assert!(obstacles.iter().all(is_explained), "{}", explanation);
            }
            Err(none) => {
                prop_assert!(candidates.is_empty() && !has_eligible, "{}", explanation);
                // Each refusal spreads its clients anew.
                prop_assert_eq!((none.reason, none.retry_after), (outlook.reason, outlook.retry_after));
                let is_elsewhere = |obstacles: &[Obstacle]| {
                    obstacles.contains(&Obstacle::NotServed) || obstacles.contains(&Obstacle::OtherRelease)
                };
                // Where nobody of any release complies, there is none to look at.
                let is_served = explanation.targets().iter().any(|explained| !is_elsewhere(explained.obstacles()));
                let expected = reason(&explanation, pin.as_ref());
                prop_assert_eq!(none.reason, if is_served { expected } else { NoTargetReason::NotServed }, "{}", explanation);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_busy_target_is_for_higher_priorities() {
    let backend = |name: &str| Backend::new(name, format!("https://{name}.example"));
    let pool = Pool::builder()
        .add_backend(backend("ptu").add_deployment(Deployment::new(ALIAS)))
        .add_backend(backend("paygo").priority(1).max_in_flight(10).add_deployment(Deployment::new(ALIAS)))
        .thresholds(Thresholds::OFF.normal(0.95).low(0.7))
        .build()
        .unwrap();
    let take = |priority| pool.acquire(&Query::new(Some(ALIAS)).priority(priority), |_| 0);
    let chosen = |priority| take(priority).unwrap().target().backend().to_owned();
    assert!(Priority::ALL.iter().all(|priority| chosen(*priority) == "ptu"), "nothing is known of it");
    for (used, expected) in [
        ("69.9%", ["ptu", "ptu", "ptu"]),
        ("70%", ["paygo", "ptu", "ptu"]),
        ("95", ["paygo", "paygo", "ptu"]),
        ("140%", ["paygo", "paygo", "ptu"]),
    ] {
        take(Priority::High).unwrap().observe(&utilization(used));
        assert_eq!(Priority::ALL.map(chosen), expected, "{used}");
    }
    let mut held = Vec::new();
    for (priority, places) in [(Priority::Low, 7), (Priority::Normal, 3)] {
        held.extend((0..places).map(|_| take(priority).unwrap()));
        let none = take(priority).unwrap_err();
        assert_eq!(none.reason, NoTargetReason::Throttled);
        assert_eq!(none.retry_after, Some(Duration::from_secs(1)));
    }
    assert_eq!(chosen(Priority::High), "ptu");
    let low = pool.explain_query(&Query::new(Some(ALIAS)).priority(Priority::Low)).to_string();
    assert!(low.contains("ptu/a    priority 0  no: 100 % used, and the rest is left to higher priorities"), "{low}");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(chosen(Priority::Low), "ptu", "an old report refuses nobody");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_at_once_share_the_places_of_their_class() {
    let backend = Backend::new("w", "https://w.example").max_in_flight(50).add_deployment(Deployment::new(ALIAS));
    let pool = Pool::builder().add_backend(backend).thresholds(Thresholds::OFF.low(0.7)).build().unwrap();
    let ask = |_| {
        let pool = pool.clone();
        std::thread::spawn(move || pool.acquire(&Query::new(Some(ALIAS)).priority(Priority::Low), |_| 0).ok())
    };
    let threads: Vec<_> = (0..100).map(ask).collect();
    let held: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(held.len(), 35);
}
