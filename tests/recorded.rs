//! A recording that is run again comes to what happened, and says what else would have been.
#![cfg(feature = "testkit")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use tower_azure_openai::gateway;
use tower_azure_openai::observe::ObserveLayer;
use tower_azure_openai::recorder::{FlightRecorder, Recording};
use tower_azure_openai::select::{RoundRobin, SelectBackendLayer};
use tower_azure_openai::terminate::TerminateCredentialsLayer;
use tower_azure_openai::testkit::scenario::{Backend, Happened, Report, Scenario, Sdk, Traffic, Weather};

/// Runs a scenario in a gateway that records.
fn record(scenario: &Scenario) -> (Recording, Report) {
    let kept = Arc::new(Mutex::new(None));
    let keeps = kept.clone();
    let report = scenario.run_stack("RoundRobin", move |pool, azure| {
        let recorder = FlightRecorder::new(64 << 20, &pool);
        *keeps.lock().unwrap() = Some(recorder.clone());
        gateway::builder(pool.clone(), TerminateCredentialsLayer::without_clients())
            .observe(ObserveLayer::new().add_recorder(recorder))
            .select(SelectBackendLayer::new(pool).with_policy(RoundRobin::default()))
            .build(azure)
    });
    let recorder = kept.lock().unwrap().take().unwrap();
    (Recording::read(&recorder.dump()).unwrap(), report)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A PTU with pay-as-you-go behind it, in all kinds of weather.
fn weathers() -> Vec<Scenario> {
    let fair = |name: &str| {
        Scenario::new(name)
            .lasting(seconds(150))
            .backend(Backend::provisioned("ptu", 80_000))
            .backend(Backend::standard("paygo", 100_000).priority(1))
            .backend(Backend::standard("reserve", 200_000).priority(2))
    };
    let busy = || Traffic::poisson(4.0).streamed(0.5);
    vec![
        fair("fair").traffic(Traffic::poisson(0.8)),
        fair("busy").traffic(busy()),
        fair("refused").traffic(busy().sdk(Sdk::none())).traffic(Traffic::poisson(8.0)),
        fair("outage").traffic(busy()).weather("ptu", Weather::refusing().from(seconds(40)).lasting(seconds(60))),
        fair("failing").traffic(busy()).weather("paygo", Weather::failing(StatusCode::INTERNAL_SERVER_ERROR, 0.2)),
        fair("high demand").traffic(busy()).weather("ptu", Weather::capacity_errors(0.3)),
        fair("stream errors").traffic(busy()).weather("ptu", Weather::stream_errors(0.1)),
        fair("hanging").traffic(busy()).weather("ptu", Weather::hanging().from(seconds(20)).lasting(seconds(40))),
        fair("leaving").traffic(busy().leaving(0.3, seconds(2))),
    ]
}

#[test]
fn a_recording_that_is_run_again_comes_to_what_happened() {
    for scenario in weathers() {
        let (recording, _) = record(&scenario);
        let happened = Happened::of(&recording);
        let replayed = Scenario::recorded(&recording);
        let (again, report) = record(&replayed);
        let name = scenario.name();
        println!("{name}: error {:.4}, {happened:?}\n{report}", happened.error(&report));
        assert_eq!(report.requests.offered, happened.requests.offered, "{name}\n{report}");
        let refused = happened.requests.refused.abs_diff(report.requests.refused);
        assert!(refused * 50 <= happened.requests.offered, "{name}: {refused} refused otherwise\n{report}");
        assert!(happened.error(&report) <= 0.02, "{name}: {}\n{happened:?}\n{report}", happened.error(&report));
        let openings = Happened::of(&again).openings;
        assert!(openings.abs_diff(happened.openings) <= 1, "{name}: {openings}, not {}", happened.openings);
        assert_eq!(record(&replayed).1, report, "{name}: the same to the byte");
    }
}

#[test]
fn a_deployment_more_is_foreseen() {
    let two = || {
        Scenario::new("two")
            .lasting(seconds(180))
            .backend(Backend::standard("a", 40_000))
            .backend(Backend::standard("b", 60_000).priority(1))
            .traffic(Traffic::poisson(4.0).sdk(Sdk::none()))
    };
    let third = || Backend::standard("c", 30_000).priority(2);
    let (recording, before) = record(&two());
    let foreseen = Scenario::recorded(&recording).backend(third()).run(RoundRobin::default());
    let (_, truth) = record(&two().backend(third()));
    assert!(before.goodput() + 0.05 < truth.goodput(), "it makes a difference\n{before}\n{truth}");
    let off = (foreseen.goodput() - truth.goodput()).abs();
    assert!(off <= 0.03, "goodput is {off} off\n{foreseen}\n{truth}");
    let share = |report: &Report| report.target("c").served as f64 / report.requests.offered as f64;
    assert!((share(&foreseen) - share(&truth)).abs() <= 0.03, "{foreseen}\n{truth}");

    let without = Scenario::recorded(&recording).without("b").run(RoundRobin::default());
    let alone = Scenario::new("one")
        .lasting(seconds(180))
        .backend(Backend::standard("a", 40_000))
        .traffic(Traffic::poisson(4.0).sdk(Sdk::none()));
    let (_, truth) = record(&alone);
    assert!((without.goodput() - truth.goodput()).abs() <= 0.03, "{without}\n{truth}");
}
