//! Scenarios in virtual time: the numbers that routing must reach, and the simulator that measures them.

#[path = "support/weather.rs"]
mod weather;

use std::panic::catch_unwind;
use std::thread;
use std::time::Duration;

use http::StatusCode;
use tower::ServiceBuilder;
use tower_azure_openai::context::Route;
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::pool::Target;
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::{LeastLoad, LowestLatency, RoundRobin, SelectBackendLayer};
use tower_azure_openai::testkit::scenario::{
    Backend, Baseline, Deployment, Latency, Report, Scenario, Sdk, Tokens, Traffic, Weather,
};

/// Long enough for every scenario to have its weather, short enough for a debug build.
const SHORT: Duration = Duration::from_secs(80);

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn default(scenario: &Scenario) -> Report {
    scenario.run(RoundRobin::default())
}

// ===== what routing must reach =====

fn holds_its_own(scenario: &Scenario) {
    for seed in 1..=2 {
        default(&scenario.clone().seed(seed)).assert_share_of_all_knowing_at_least(0.99).assert_hints_obeyed();
    }
}

/// In two halves, which run side by side.
fn weather(half: usize) -> impl Iterator<Item = Scenario> {
    weather::all(SHORT).into_iter().skip(half).step_by(2)
}

#[test]
fn the_default_holds_its_own_in_any_weather() {
    weather(0).for_each(|scenario| holds_its_own(&scenario));
}

#[test]
fn the_default_holds_its_own_in_any_other_weather() {
    weather(1).for_each(|scenario| holds_its_own(&scenario));
}

#[test]
fn a_saturated_ptu_is_used_whatever_its_answers_take() {
    for answer in [1, 5, 20] {
        let report = default(&weather::saturated_ptu(s(answer), s(240)));
        let ptu = report.target("ptu");
        assert!(ptu.throttled > 100, "it is saturated\n{report}");
        assert!(ptu.utilization >= Some(0.98), "{report}");
        assert!(ptu.idle < 0.01, "{report}");
        assert_eq!(ptu.after_hint.most_requests, 1, "back with the first request after its hint\n{report}");
        report.assert_goodput_at_least(1.0).assert_hints_obeyed();
    }
}

#[test]
fn the_same_seed_gives_the_same_report_to_the_byte_in_every_thread() {
    let all = |seed: u64| {
        let scenario = weather::all(s(20)).swap_remove(2).seed(seed);
        let reports = [
            scenario.run(LeastLoad::with_seed(seed)),
            scenario.run(LowestLatency::with_seed(seed)),
            scenario.run_baseline(Baseline::CoolDown),
        ];
        let written =
            |report: &Report| format!("{report}{}{}", serde_json::to_string(report).unwrap(), report.to_svg());
        reports.iter().map(written).collect::<Vec<_>>()
    };
    let threads: Vec<_> = (0..2).map(|_| thread::spawn(move || all(7))).collect();
    let first = all(7);
    for thread in threads {
        assert!(thread.join().unwrap() == first);
    }
    assert!(all(8) != first);
}

#[test]
fn what_people_run_today_does_worse() {
    let day = weather::all(SHORT).swap_remove(0);
    let ours = default(&day);
    for baseline in [Baseline::CoolDown, Baseline::NoGateway, Baseline::RoundRobin] {
        let theirs = day.run_baseline(baseline);
        let worse = theirs.goodput() < ours.goodput() || theirs.target("ptu").idle > 2.0 * ours.target("ptu").idle;
        assert!(worse, "{ours}\n{theirs}");
    }
}

// ===== what the simulator measures =====

fn two(length: Duration) -> Scenario {
    Scenario::new("two backends")
        .lasting(length)
        .backend(Backend::unlimited("a"))
        .backend(Backend::unlimited("b"))
        .traffic(Traffic::steady(5.0))
}

#[test]
fn a_policy_may_be_a_closure_and_its_choices_are_seen() {
    let report = two(s(20)).run(|_: &Route, eligible: &[&Target]| eligible.len() - 1);
    assert_eq!((report.target("a").attempts, report.target("b").served), (0, 99), "{report}");
    assert_eq!(report.requests.offered, 99);
    assert_eq!(report.attempts.per_request, 1.0);
}

#[test]
fn a_failed_assertion_shows_the_report() {
    let panic = catch_unwind(|| {
        two(s(20))
            .weather("a", Weather::refusing())
            .weather("b", Weather::lost())
            .run(RoundRobin::default())
            .assert_goodput_at_least(0.5);
    });
    let message = panic.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.starts_with("goodput is 0.0000, not at least 0.5\ntwo backends under RoundRobin, seed 0"),
        "{message}"
    );
    assert!(message.contains("a/gpt-4o"), "{message}");
}

#[test]
fn a_stack_that_ignores_hints_is_caught() {
    let report = Scenario::new("no circuit")
        .lasting(s(60))
        .backend(Backend::standard("small", 20_000))
        .backend(Backend::unlimited("large").priority(1))
        .traffic(Traffic::steady(2.0))
        .run_stack("without a circuit breaker", |pool, azure| {
            ServiceBuilder::new()
                .layer(RespondLayer::new())
                .layer(FailoverLayer::new())
                .layer(SelectBackendLayer::new(pool))
                .service(azure)
        });
    assert!(report.during_hint() > 20, "{report}");
    assert_eq!(report.strategy, "without a circuit breaker");
    catch_unwind(|| report.assert_hints_obeyed()).unwrap_err();
}

#[test]
fn what_was_spent_twice_is_counted() {
    let cut = Weather::lost().from(s(10)).lasting(s(10));
    let report = two(s(20)).weather("a", cut).run(RoundRobin::default());
    report.assert_goodput_at_least(1.0);
    assert!(report.tokens_spent_twice > 0, "answers broke off and were made again\n{report}");
    assert!(report.target("b").served > report.target("a").served, "{report}");
}

#[test]
fn a_stream_that_has_begun_cannot_be_made_again() {
    let streams = |weather| {
        let scenario = Scenario::new("streams").lasting(s(30)).backend(Backend::unlimited("a").weather(weather));
        let scenario = scenario.backend(Backend::unlimited("b")).traffic(Traffic::steady(5.0).streamed(1.0));
        default(&scenario)
    };
    let report = streams(Weather::stream_errors(0.5));
    assert!(report.requests.broken > 0 && report.requests.refused == 0, "{report}");
    let before_content = report.attempts.total - report.requests.offered;
    assert!(before_content > 0, "an error before the first content goes on to the next\n{report}");
    assert!(streams(Weather::refusing().from(s(15))).requests.broken > 0);
}

#[test]
fn clients_that_go_away_count_neither_way() {
    let slow = Latency::fixed(s(10));
    let report = Scenario::new("impatient")
        .lasting(s(30))
        .backend(Backend::unlimited("a").latency(slow))
        .traffic(Traffic::steady(2.0).leaving(0.5, s(3)))
        .run(RoundRobin::default());
    let requests = report.requests;
    assert!(requests.abandoned > 10 && requests.served + requests.abandoned == requests.offered, "{report}");
    report.assert_goodput_at_least(1.0);
    assert_eq!(report.first_content_ms.max, 10_000);
}

#[test]
fn libraries_repeat_as_they_do() {
    let served = |sdk| {
        let outage = Weather::failing(StatusCode::SERVICE_UNAVAILABLE, 0.5);
        let scenario = Scenario::new("repeats").lasting(s(60)).backend(Backend::unlimited("a").weather(outage));
        scenario.traffic(Traffic::steady(5.0).sdk(sdk)).run_baseline(Baseline::NoGateway).goodput()
    };
    let (none, python, dotnet) = (served(Sdk::none()), served(Sdk::python()), served(Sdk::dotnet()));
    assert!((0.4..0.6).contains(&none) && (0.8..0.93).contains(&python) && dotnet > python, "{none} {python} {dotnet}");
}

#[test]
fn a_backend_that_never_answers_is_given_up_in_time() {
    let report = Scenario::new("hanging")
        .lasting(s(10))
        .backend(Backend::unlimited("a").weather(Weather::hanging()))
        .backend(Backend::unlimited("b").priority(1))
        .traffic(Traffic::steady(1.0).streamed(1.0))
        .run(RoundRobin::default());
    report.assert_goodput_at_least(1.0);
    assert!(report.first_content_ms.p50 > 60_000, "{report}");
}

#[test]
fn every_deployment_has_a_quota_of_its_own() {
    let scenario = Scenario::new("quotas")
        .lasting(s(60))
        .backend(
            Backend::new("a")
                .deployment(Deployment::standard(10_000).alias("hot"))
                .deployment(Deployment::unlimited().requests_per_minute(60).alias("cold")),
        )
        .traffic(Traffic::steady(5.0).alias("hot").sdk(Sdk::none()))
        .traffic(Traffic::bursts(s(20), 20).alias("cold").prompt(Tokens::long_tailed(100)).sdk(Sdk::none()));
    let report = default(&scenario);
    let [hot, cold] = &report.targets[..] else { panic!("two targets\n{report}") };
    assert!((10..50).contains(&hot.served), "10,000 tokens in each of at most two minutes\n{report}");
    assert!((30..=60).contains(&cold.served), "ten in ten seconds of each burst\n{report}");
    assert!(report.share_of_all_knowing() > 0.99, "{report}");
}

#[test]
fn a_recovered_backend_is_noticed() {
    let report = default(&two(s(60)).weather("a", Weather::refusing().from(s(10)).lasting(s(5))));
    let back = report.target("a").after_outage;
    assert!(back.times == 1 && back.longest_ms < 11_000, "within the time that its circuit is open\n{report}");
    assert!(report.timeline.iter().any(|moment| moment.circuits[0].failing > 0.0 && moment.circuits[0].able > 0.0));
}

#[test]
fn pictures_are_whole() {
    let svg = default(&two(s(20))).to_svg();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"));
    assert!(default(&Scenario::new("empty").backend(Backend::unlimited("a"))).to_svg().ends_with("</svg>\n"));
}
