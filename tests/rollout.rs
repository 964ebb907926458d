//! A new version of a model behind an alias, from a tenth of the clients to all of them and back, in bad weather: who was sent
//! where, as the backends themselves record it.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, StatusCode};
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::gateway;
use tower_azure_openai::pool::{self, Pool, Query, Release};
use tower_azure_openai::select::RoundRobin;
use tower_azure_openai::terminate::TerminateCredentialsLayer;
use tower_azure_openai::testkit::scenario::{
    ALIAS, Backend, Baseline, Deployment, ReleasePhase, Report, Scenario, Traffic, Weather,
};

const OLD: &str = "2024-08-06";
const NEW: &str = "2024-11-20";
const CLIENTS: u32 = 150;
const PHASE: u64 = 40;
/// Of the new release, as a percentage, in each phase.
const SHARES: [u32; 4] = [10, 50, 100, 0];

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn release(version: &str, share: u32) -> Release {
    Release::new(ALIAS, ALIAS, version).share(share)
}

/// Both releases on two backends of their own and on one that they share, with too little room, and all kinds of weather: what is
/// lost takes seconds to fail, so that shares change between two attempts.
fn rollout() -> Scenario {
    let both = Backend::new("both")
        .deployment(Deployment::standard(60_000).version(OLD))
        .deployment(Deployment::standard(60_000).version(NEW));
    let rollout = Scenario::new("rollout")
        .lasting(s(PHASE * SHARES.len() as u64))
        .backend(Backend::provisioned("old-a", 150_000).version(OLD))
        .backend(Backend::standard("old-b", 300_000).version(OLD).priority(1))
        .backend(Backend::provisioned("new-a", 150_000).version(NEW))
        .backend(Backend::standard("new-b", 300_000).version(NEW).priority(1))
        .backend(both)
        .weather("old-a", Weather::failing(StatusCode::INTERNAL_SERVER_ERROR, 0.1))
        .weather("new-a", Weather::failing(StatusCode::INTERNAL_SERVER_ERROR, 0.1))
        .weather("both", Weather::lost().from(s(PHASE - 3)).lasting(s(10)).every(s(PHASE)))
        .weather("old-b", Weather::capacity_errors(0.2))
        .weather("new-b", Weather::throttled(s(5)).from(s(PHASE - 3)).lasting(s(10)).every(s(PHASE)))
        .traffic(Traffic::poisson(12.0).clients(CLIENTS).streamed(0.5))
        .release(release(OLD, 100 - SHARES[0]))
        .release(release(NEW, SHARES[0]));
    (1..SHARES.len()).fold(rollout, |rollout, phase| {
        // In this order neither is without a share in between.
        let mut changes = [release(NEW, SHARES[phase]), release(OLD, 100 - SHARES[phase])];
        if SHARES[phase] == 0 {
            changes.reverse();
        }
        let at = s(PHASE * phase as u64);
        changes.into_iter().fold(rollout, |rollout, change| rollout.share_at(at, change))
    })
}

/// One request to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call(usize);

/// What a backend saw.
#[derive(Clone, Debug)]
struct Seen {
    call: Call,
    client: String,
    is_new: bool,
    at: Duration,
}

/// Runs a scenario through the usual stack, with backends that write down who reaches them.
fn recorded(scenario: &Scenario) -> (Report, Vec<Seen>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let report = scenario.run_stack("recorded", move |pool, azure| {
        let (calls, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let backends = service_fn(move |request: Request<Body>| {
            let extensions = request.extensions();
            log.lock().unwrap().push(Seen {
                call: *extensions.get().unwrap(),
                client: extensions.get::<Client>().unwrap().id().to_owned(),
                is_new: request.uri().path().contains(NEW),
                at: start.elapsed(),
            });
            azure.clone().oneshot(request)
        });
        let stack = gateway::builder(pool, TerminateCredentialsLayer::without_clients()).build(backends);
        ServiceBuilder::new()
            .map_request(move |mut request: Request<Body>| {
                request.extensions_mut().insert(Call(calls.fetch_add(1, Relaxed)));
                request
            })
            .service(stack)
    });
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (report, seen)
}

/// Those of one request together, in the order in which the requests first reached a backend.
fn by_call(seen: &[Seen]) -> Vec<Vec<Seen>> {
    let (mut order, mut calls) = (Vec::new(), BTreeMap::<Call, Vec<Seen>>::new());
    for attempt in seen {
        let attempts = calls.entry(attempt.call).or_insert_with(|| {
            order.push(attempt.call);
            Vec::new()
        });
        attempts.push(attempt.clone());
    }
    order.iter().map(|call| calls.remove(call).unwrap()).collect()
}

#[test]
fn shares_move_no_more_clients_than_they_must_and_no_request_crosses() {
    for seed in 1..=3 {
        let (report, seen) = recorded(&rollout().seed(seed));
        let calls = by_call(&seen);
        let went_on = |new: bool| calls.iter().filter(|call| call.len() > 1 && call[0].is_new == new).count();
        assert!(went_on(false) > 50 && went_on(true) > 50, "there is much to fail over from\n{report}");
        let throttled: u64 = report.targets.iter().map(|target| target.throttled).sum();
        assert!(throttled > 100 && report.target("both").failed > 0, "{report}");

        for call in &calls {
            assert!(call.iter().all(|attempt| attempt.is_new == call[0].is_new), "crossed: {call:?}");
        }
        no_more_than_they_must(&calls);
        report.assert_releases_kept();
    }
}

/// The clients' releases against the shares alone: in each phase as many clients as it should be, all that moved moved with the
/// shares, and every one at most once in each phase.
fn no_more_than_they_must(calls: &[Vec<Seen>]) {
    let phase_of = |attempt: &Seen| (attempt.at.as_secs() / PHASE).min(SHARES.len() as u64 - 1) as usize;
    let mut ways = BTreeMap::<&str, Vec<(usize, bool)>>::new();
    for first in calls.iter().map(|call| &call[0]) {
        let way = ways.entry(&first.client).or_default();
        if way.last().is_none_or(|(_, is_new)| *is_new != first.is_new) {
            way.push((phase_of(first), first.is_new));
        }
    }
    assert!(ways.len() > 140, "{} clients of {CLIENTS} came", ways.len());
    for (client, way) in &ways {
        let moves: Vec<_> = way[1..].iter().map(|(phase, _)| *phase).collect();
        let wanted = |new: bool| if new { 1..=2 } else { 3..=3 };
        assert!(
            way[1..].iter().all(|(phase, new)| wanted(*new).contains(phase)),
            "{client} moved in {moves:?}: {way:?}"
        );
        assert!(moves.len() <= 2, "once there and once back: {way:?}");
    }
    let mut moved = [0_u32; SHARES.len()];
    ways.values().flat_map(|way| &way[1..]).for_each(|(phase, _)| moved[*phase] += 1);
    for phase in 1..SHARES.len() {
        let required = f64::from(SHARES[phase].abs_diff(SHARES[phase - 1])) / 100.0;
        let clients = ways.len() as f64;
        let most = required * clients + 4.0 * (required * (1.0 - required) * clients).sqrt();
        assert!(f64::from(moved[phase]) <= most, "{moved:?} moved in {SHARES:?}, not {most} at most in {phase}");
    }
}

#[test]
fn the_report_says_what_the_backends_saw() {
    let (report, seen) = recorded(&rollout());
    let releases = report.releases.as_ref().unwrap();
    let phases = |new: usize| &releases.releases[new].phases;
    assert_eq!(phases(1).iter().map(|phase| phase.share).collect::<Vec<_>>(), SHARES, "{report}");
    assert_eq!(
        phases(0).iter().map(|phase| phase.from_ms / 1_000).collect::<Vec<_>>(),
        [0, PHASE, 2 * PHASE, 3 * PHASE]
    );

    let sum = |of: fn(&ReleasePhase) -> u64| releases.releases.iter().flat_map(|release| &release.phases).map(of).sum();
    let sums: [u64; 4] = [sum(|p| p.attempts), sum(|p| p.served), sum(|p| p.tokens), sum(|p| p.came)];
    let tokens: u64 = report.targets.iter().map(|target| target.tokens).sum();
    assert_eq!(sums, [seen.len() as u64, report.requests.served, tokens, releases.moves], "{report}");

    let mut clients = BTreeMap::<&str, bool>::new();
    let calls = by_call(&seen);
    let moves = calls.iter().filter(|call| {
        let before = clients.insert(&call[0].client, call[0].is_new);
        before.is_some_and(|before| before != call[0].is_new)
    });
    assert_eq!(releases.moves, moves.count() as u64);
    let first: BTreeSet<_> = seen.iter().filter(|seen| seen.at < s(PHASE) && seen.is_new).map(|s| &s.client).collect();
    assert_eq!(phases(1)[0].clients, first.len() as u64);
}

#[test]
fn a_router_that_knows_nothing_of_releases_is_seen_to_cross_them() {
    let report = rollout().run_baseline(Baseline::CoolDown);
    let releases = report.releases.as_ref().unwrap();
    assert!(releases.crossed > 10 && releases.needless_moves > 100, "{report}");
    let failed = catch_unwind(|| report.assert_releases_kept()).unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    assert!(
        message.contains("sent to targets of more than one release") && message.contains("rollout under cool-down")
    );
}

#[test]
fn the_same_seed_gives_the_same_report_to_the_byte() {
    let run = || {
        let report = rollout().seed(7).run(RoundRobin::default());
        format!("{report}{}{}", serde_json::to_string(&report).unwrap(), report.to_svg())
    };
    let once = run();
    assert!(once.contains(&format!("gpt-4o = gpt-4o {NEW}   80 s    100")), "{once}");
    assert_eq!(once, run());
}

#[test]
fn without_releases_nothing_is_said_of_them() {
    let plain = Scenario::new("plain").lasting(s(5)).backend(Backend::unlimited("a")).traffic(Traffic::steady(1.0));
    let report = plain.run(RoundRobin::default());
    assert_eq!(report.assert_releases_kept().releases, None);
    assert!(!report.to_string().contains("release") && !serde_json::to_string(&report).unwrap().contains("release"));
}

#[test]
fn the_all_knowing_router_keeps_the_releases_too() {
    let small = Scenario::new("the old version is overloaded, the new one is idle")
        .lasting(s(60))
        .backend(Backend::standard("old", 30_000).version(OLD))
        .backend(Backend::unlimited("new").version(NEW))
        .release(release(OLD, 100))
        .release(release(NEW, 0))
        .traffic(Traffic::poisson(5.0));
    let report = small.run(RoundRobin::default());
    assert!(report.all_knowing.goodput < 0.5, "{report}");
    report.assert_share_of_all_knowing_at_least(0.95).assert_releases_kept();
}

#[test]
fn a_share_that_cannot_be_set_fails_the_test() {
    let wrong = rollout().share_at(s(1), release("never", 1));
    let failed = catch_unwind(AssertUnwindSafe(|| wrong.run(RoundRobin::default()))).unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    assert_eq!(message, "scenario `rollout`: release gpt-4o never of alias `gpt-4o` is not in the pool");
}

/// A pool with the same releases, anywhere, has the same clients in them: what a scenario proves holds for every replica.
#[test]
fn another_process_would_have_sent_them_to_the_same_releases() {
    let described = |name: &str, version: &str| {
        let deployment = pool::Deployment::new(name).alias(ALIAS).version(version);
        pool::Backend::new(name, "https://one.example").add_deployment(deployment)
    };
    let (_, seen) = recorded(&rollout());
    let pool = Pool::builder().add_backend(described("new", NEW)).add_backend(described("old", OLD));
    let pool = pool.add_release(release(NEW, SHARES[0])).add_release(release(OLD, 100 - SHARES[0])).build().unwrap();
    for seen in seen.iter().filter(|seen| seen.at < s(PHASE)) {
        let own = pool.compliant(&Query::new(Some(ALIAS)).client(&seen.client));
        assert_eq!(own[0].backend() == "new", seen.is_new, "{}", seen.client);
    }
}
