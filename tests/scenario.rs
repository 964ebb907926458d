//! Scenarios in virtual time: the numbers that routing must reach, and the simulator that measures them.

#[path = "support/weather.rs"]
mod weather;

use std::panic::catch_unwind;
use std::thread;
use std::time::Duration;

use http::StatusCode;
use tower::ServiceBuilder;
use tower_azure_openai::context::Limits;
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::pool::{CircuitConfig, Priority, Thresholds};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::{
    LeastLoad, LowestLatency, PromptCache, RoundRobin, SelectBackendLayer, SlowStart, from_fn,
};
use tower_azure_openai::testkit::scenario::{
    Backend, Baseline, Deployment, Latency, Report, Scenario, Sdk, Tokens, Traffic, Weather,
};

/// Long enough for every scenario to have its weather, short enough for a debug build.
const SHORT: Duration = s(60);
/// Long enough for the minute's tokens that a PTU holds to be too few.
const DAY: Duration = s(100);

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn default(scenario: &Scenario) -> Report {
    scenario.run(RoundRobin::default())
}

// ===== what routing must reach =====

/// Whatever the seed.
fn holds_its_own(scenario: &Scenario) {
    for seed in 1..=10 {
        let report = default(&scenario.clone().seed(seed));
        report.assert_share_of_all_knowing_at_least(0.99).assert_hints_obeyed();
    }
}

#[test]
fn nobody_gets_more_than_agreed() {
    let report = Scenario::new("four clients, of which one may use less")
        .lasting(Duration::from_secs(60))
        .backend(Backend::unlimited("east"))
        .traffic(Traffic::poisson(4.0).clients(4))
        .limits(Limits::new().tokens_per_minute(1_000_000))
        .limits_of("client-3", Limits::new().requests_per_minute(10))
        .run(RoundRobin::default());
    assert_eq!(report.clients.len(), 4);
    let (free, held) = (report.client("client-0"), report.client("client-3"));
    assert!(free.requests.refused == 0 && free.tokens > 0, "{report}");
    // What is waited for is repeated up to some fifteen seconds after the last request was made.
    assert!((10..=23).contains(&held.requests.served), "a whole allowance, and what flows in: {report}");
    assert!(held.requests.refused > 0 && report.to_string().contains("client-3"), "{report}");

    let few_tokens = Scenario::new("tokens run out")
        .lasting(Duration::from_secs(60))
        .backend(Backend::unlimited("east"))
        .traffic(Traffic::steady(1.0).clients(1).prompt(900).answer(100))
        .limits(Limits::new().tokens_per_minute(5_000))
        .run(RoundRobin::default());
    let held = few_tokens.client("client-0");
    // As long as it is repeated it flows in, and a request more is admitted while one token is left.
    assert!((5_000..=14_000).contains(&held.tokens), "what it really used is held against it: {few_tokens}");
}

#[test]
fn a_ptu_with_spill_over() {
    holds_its_own(&weather::daily_curve(DAY));
}

#[test]
fn a_region_that_is_lost() {
    holds_its_own(&weather::region_lost(SHORT));
}

#[test]
fn a_throttling_storm() {
    holds_its_own(&weather::throttling_storm(SHORT));
}

#[test]
fn flapping_backends() {
    holds_its_own(&weather::flapping_backends(SHORT));
}

#[test]
fn a_hot_alias_beside_a_cold_one() {
    holds_its_own(&weather::hot_alias(SHORT));
}

#[test]
fn a_hint_of_one_day() {
    holds_its_own(&weather::one_day_hint(SHORT));
}

#[test]
fn a_slow_backend() {
    holds_its_own(&weather::slow_backend(SHORT));
}

#[test]
fn bursts_of_long_prompts() {
    holds_its_own(&weather::long_prompts(SHORT));
}

#[test]
fn a_saturated_ptu_is_used_whatever_its_answers_take() {
    for (answer, seed) in [1, 5, 20].into_iter().flat_map(|answer| (1..=10).map(move |seed| (answer, seed))) {
        let report = default(&weather::saturated_ptu(s(answer), SHORT).seed(seed));
        let ptu = report.target("ptu");
        assert!(ptu.throttled > 100, "it is saturated\n{report}");
        assert!(ptu.utilization >= Some(0.98), "{report}");
        assert!(ptu.idle.is_some_and(|idle| idle < 0.01), "{report}");
        report.assert_goodput_at_least(1.0).assert_hints_obeyed();
    }
}

#[test]
fn a_ptu_is_back_with_the_first_request_after_its_hint() {
    // Longer than the time that a circuit is open at least.
    let long_hints = Scenario::new("long prompts on a PTU")
        .lasting(s(120))
        .backend(Backend::new("ptu").deployment(Deployment::provisioned(400_000).holding(s(1))))
        .backend(Backend::unlimited("paygo").priority(1))
        .traffic(Traffic::poisson(17.0).prompt(8_000));
    for seed in 1..=10 {
        let report = default(&long_hints.clone().seed(seed));
        let ptu = report.target("ptu");
        assert!(ptu.after_hint.times > 50 && ptu.after_hint.most_requests == 1, "{report}");
        assert!(ptu.idle.is_some_and(|idle| idle < 0.01) && ptu.overslept < 0.01, "{report}");
        report.assert_hints_obeyed();
    }
}

#[test]
fn the_same_seed_gives_the_same_report_to_the_byte_in_every_thread() {
    let all = |seed: u64| {
        let policies = |scenario: Scenario| {
            let scenario = scenario.seed(seed);
            [
                scenario.run(PromptCache::or_else(LeastLoad::with_seed(seed))),
                scenario.run(SlowStart::new(LowestLatency::with_seed(seed), s(10)).seed(seed)),
                scenario.run_baseline(Baseline::CoolDown),
            ]
        };
        let reports: Vec<_> = weather::all(s(3)).into_iter().flat_map(policies).collect();
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
    let day = weather::daily_curve(DAY);
    let ours = default(&day);
    for baseline in [Baseline::CoolDown, Baseline::NoGateway, Baseline::RoundRobin] {
        let theirs = day.run_baseline(baseline);
        let oversleeps = theirs.target("ptu").overslept > 2.0 * ours.target("ptu").overslept;
        assert!(theirs.goodput() < ours.goodput() || oversleeps, "{ours}\n{theirs}");
    }
}

#[test]
fn what_runs_dry_while_it_is_wanted_is_lost() {
    let saturated = weather::saturated_ptu(s(5), SHORT);
    let report = saturated.run_baseline(Baseline::CoolDown);
    let ptu = report.target("ptu");
    let lost = 1.0 - ptu.utilization.unwrap();
    assert!(lost > 0.05 && (ptu.idle.unwrap() - lost).abs() < 0.02, "there is demand in nearly every second\n{report}");
    assert!(ptu.overslept > 4.0 * lost, "what is left in the bucket is worked off meanwhile\n{report}");
    assert_eq!(report.target("paygo").idle, None);

    let alone = Scenario::new("nobody else").lasting(SHORT).backend(Backend::provisioned("ptu", 400_000));
    let waiting = default(&alone.clone().traffic(Traffic::poisson(17.0).sdk(Sdk::node())));
    assert!(waiting.target("ptu").idle.is_some_and(|idle| idle < 0.01), "who waits is demand\n{waiting}");
    let nobody = default(&alone.traffic(Traffic::poisson(0.5)));
    assert_eq!(nobody.target("ptu").idle, Some(0.0), "without demand nothing is lost\n{nobody}");
    let down = default(&saturated.weather("ptu", Weather::refusing()));
    assert_eq!(down.target("ptu").idle, Some(0.0), "nobody can use a PTU that is down\n{down}");
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
    let report = two(s(20)).run(from_fn(|choice| choice.candidates().len() - 1));
    assert_eq!((report.target("a").attempts, report.target("b").served), (0, 99), "{report}");
    assert_eq!(report.requests.offered, 99);
    assert_eq!(report.attempts.per_request, 1.0);
}

#[test]
fn a_failed_assertion_shows_the_report() {
    let panic = catch_unwind(|| {
        two(s(20))
            .weather("a", Weather::refusing().from(s(2)))
            .weather("b", Weather::lost().from(s(2)))
            .run(RoundRobin::default())
            .assert_goodput_at_least(0.5);
    });
    let message = panic.unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("goodput is 0."), "{message}");
    assert!(message.contains(", not at least 0.5\ntwo backends under RoundRobin, seed 0"), "{message}");
    assert!(message.contains("a/gpt-4o"), "{message}");
}

#[test]
fn a_stack_that_ignores_hints_is_caught() {
    let mut hasty = CircuitConfig::default();
    (hasty.min_open, hasty.max_open, hasty.default_open) =
        (Duration::from_millis(1), Duration::from_millis(1), Duration::from_millis(1));
    let report = Scenario::new("no circuit")
        .lasting(s(60))
        .circuit(hasty)
        .backend(Backend::standard("small", 20_000))
        .backend(Backend::unlimited("large").priority(1))
        .traffic(Traffic::steady(2.0))
        .run_stack("hasty circuits", |pool, azure| {
            ServiceBuilder::new()
                .layer(RespondLayer::new())
                .layer(FailoverLayer::new())
                .layer(SelectBackendLayer::new(pool))
                .layer(ForwardLayer::new())
                .service(azure)
        });
    assert!(report.during_hint() > 20, "{report}");
    assert_eq!(report.strategy, "hasty circuits");
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
fn tokens_are_counted_by_tier() {
    let report = default(&weather::saturated_ptu(s(1), s(30)));
    let [first, second] = &report.tiers[..] else { panic!("two tiers\n{report}") };
    assert_eq!((first.tokens, first.served), (report.target("ptu").tokens, report.target("ptu").served));
    assert_eq!((second.priority, second.served), (1, report.requests.served - first.served));
    assert!(second.tokens > 0 && report.to_string().contains("tier 1 "), "{report}");
}

#[test]
fn a_slow_start_wears_off() {
    let warming = Backend::unlimited("a").latency(Latency::fixed(s(1)));
    let warming = warming.weather(Weather::slow_start(11.0).lasting(s(100)));
    let report = default(&Scenario::new("warming").lasting(s(200)).backend(warming).traffic(Traffic::steady(2.0)));
    let at =
        |second: usize| report.timeline.iter().find(|moment| moment.from_ms >= 1_000 * second as u64).unwrap().p50_ms;
    assert!(at(0) > 10_500 && (5_500..6_500).contains(&at(50)), "{report}");
    assert_eq!(at(110), 1_000, "{report}");
}

#[test]
fn capacity_errors_spare_some_seconds() {
    let short = Backend::unlimited("a").weather(Weather::capacity_errors(0.25));
    let scenario = Scenario::new("high demand").lasting(s(200)).backend(short);
    let report = scenario.traffic(Traffic::steady(5.0).sdk(Sdk::none())).run_baseline(Baseline::NoGateway);
    assert!((0.65..0.85).contains(&report.goodput()), "{report}");
}

#[test]
fn a_recovered_backend_is_noticed() {
    let report = default(&two(s(60)).weather("a", Weather::refusing().from(s(10)).lasting(s(5))));
    let back = report.target("a").after_outage;
    assert!(back.times == 1 && back.longest_ms < 11_000, "within the time that its circuit is open\n{report}");
    assert!(report.timeline.iter().any(|moment| moment.circuits[0].failing > 0.0 && moment.circuits[0].able > 0.0));
}

#[test]
fn a_ptu_is_used_again_within_two_seconds_of_its_outage() {
    for (what, outage) in [("refusing", Weather::refusing()), ("lost", Weather::lost())] {
        for seed in 1..=5 {
            let ptu = Backend::provisioned("ptu", 400_000).weather(outage.from(s(20)).lasting(s(120)));
            let scenario = Scenario::new(what)
                .lasting(s(200))
                .backend(ptu)
                .backend(Backend::standard("paygo", 2_000_000).priority(1))
                .traffic(Traffic::poisson(8.0));
            let report = default(&scenario.seed(seed));
            let back = report.target("ptu").after_outage;
            assert!(back.times == 1 && back.longest_ms <= 2_000, "{what}: {back:?}\n{report}");
            report.assert_goodput_at_least(1.0);
        }
    }
}

#[test]
fn an_outage_of_all_is_the_same_each_time() {
    let run = || {
        let outage = Weather::refusing().from(s(5)).lasting(s(10));
        let scenario = two(s(30)).weather("a", outage).weather("b", outage);
        default(&scenario.traffic(Traffic::poisson(10.0).sdk(Sdk::python()))).to_string()
    };
    assert_eq!(run(), run());
}

// ===== scenarios that cannot lie =====

fn panic_of(run: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = catch_unwind(run).expect_err("it must not pass");
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

#[test]
fn a_scenario_that_proves_nothing_fails_every_assertion() {
    let base = || Scenario::new("nothing").lasting(s(20)).backend(Backend::unlimited("a"));
    let down = Weather::refusing();
    for (scenario, why) in [
        (base(), "nothing was asked"),
        (base().traffic(Traffic::steady(1.0).alias("gpt-4oo")), "asks for `gpt-4oo`, which no backend serves"),
        (
            base().traffic(Traffic::steady(1.0)).traffic(Traffic::steady(1.0).alias("o3")),
            "asks for `o3`, which no backend serves",
        ),
        (base().weather("a", down).traffic(Traffic::steady(1.0).sdk(Sdk::none())), "nothing could be served"),
    ] {
        let report = default(&scenario);
        let assertions: [fn(&Report); 6] = [
            |report| {
                report.assert_goodput_at_least(0.0);
            },
            |report| {
                report.assert_share_of_all_knowing_at_least(0.0);
            },
            |report| {
                report.assert_hints_obeyed();
            },
            |report| {
                report.assert_first_content_p50_at_most(s(1_000));
            },
            |report| {
                report.assert_first_content_p99_at_most(s(1_000));
            },
            |report| {
                report.assert_tokens_spent_twice_at_most(u64::MAX);
            },
        ];
        for assertion in assertions {
            let panic = panic_of(|| assertion(&report));
            assert!(panic.contains(why) && panic.contains("nothing under"), "{why}: {panic}");
        }
        if why != "asks for `o3`, which no backend serves" {
            assert_eq!(report.share_of_all_knowing(), 0.0, "{report}");
        }
    }
}

#[test]
fn time_to_the_first_content_and_tokens_paid_twice_can_be_asserted() {
    let slow = Scenario::new("slow")
        .lasting(s(30))
        .backend(Backend::unlimited("a").latency(Latency::fixed(s(2))))
        .traffic(Traffic::steady(2.0));
    let report = default(&slow);
    report.assert_first_content_p50_at_most(s(2)).assert_first_content_p99_at_most(s(2));
    report.assert_tokens_spent_twice_at_most(0);
    let ms = Duration::from_millis(1_999);
    assert!(
        panic_of(|| {
            report.assert_first_content_p50_at_most(ms);
        })
        .contains("2000 ms (p50)")
    );
    assert!(
        panic_of(|| {
            report.assert_first_content_p99_at_most(ms);
        })
        .contains("2000 ms (p99)")
    );

    let cut = Weather::lost().from(s(10)).lasting(s(1));
    let twice = default(&two(s(20)).weather("a", cut).traffic(Traffic::poisson(20.0).sdk(Sdk::python())));
    let spent = twice.tokens_spent_twice;
    assert!(spent > 0, "{twice}");
    twice.assert_tokens_spent_twice_at_most(spent);
    assert!(
        panic_of(|| {
            twice.assert_tokens_spent_twice_at_most(spent - 1);
        })
        .contains("spent twice")
    );
}

#[test]
fn seeds_are_other_clients_in_the_same_scenario() {
    let reports: Vec<_> =
        two(s(20)).traffic(Traffic::poisson(5.0)).seeds(0..3).map(|scenario| default(&scenario)).collect();
    assert_eq!(reports.iter().map(|report| report.seed).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(reports[0].requests.offered != reports[1].requests.offered || reports[0].timeline != reports[1].timeline);
}

#[test]
fn a_target_that_is_never_used_though_it_had_room_shows_as_idle() {
    let last = || from_fn(|choice| choice.candidates().len() - 1);
    let report = two(s(20)).run(last());
    assert_eq!((report.target("a").idle, report.target("b").idle), (Some(1.0), None), "{report}");
    assert!(report.to_string().contains("100.00 %"), "{report}");

    let outage = Weather::refusing().from(s(0)).lasting(s(10));
    let half = two(s(20)).weather("a", outage).run(last());
    let idle = half.target("a").idle.unwrap();
    assert!((0.4..0.6).contains(&idle), "it had room for half of the time\n{half}");

    let spare = Scenario::new("spare").lasting(s(20)).backend(Backend::unlimited("a"));
    let spare = default(&spare.backend(Backend::unlimited("b").priority(1)).traffic(Traffic::steady(5.0)));
    assert_eq!(spare.target("b").idle, None, "what is not needed is not idle\n{spare}");
}

#[test]
fn pictures_and_tables_name_the_weather() {
    let outage = Weather::refusing().from(s(5)).lasting(s(2)).every(s(5));
    let scenario = two(s(20)).weather("a", outage).weather("b", Weather::throttled(s(3)).from(s(60)));
    let report = default(&scenario.weather("b", Weather::failing(StatusCode::BAD_GATEWAY, 0.25).lasting(s(4))));
    let spells: Vec<_> =
        report.weather.iter().map(|spell| (&*spell.backend, &*spell.weather, spell.from_ms, spell.until_ms)).collect();
    let expected = [("a", "connections refused, 2 s in 5 s", 5_000, 20_000), ("b", "502 for 25 %", 0, 4_000)];
    assert_eq!(spells, expected, "and none that comes after the end");
    for shown in [report.to_svg(), report.to_string()] {
        assert!(shown.contains("connections refused, 2 s in 5 s") && shown.contains("502 for 25 %"), "{shown}");
    }
}

#[tokio::test]
#[should_panic(expected = "run it in a plain `#[test] fn`")]
async fn inside_a_runtime_a_scenario_says_where_it_belongs() {
    let _ = default(&two(s(1)));
}

#[test]
fn pictures_are_whole() {
    let svg = default(&two(s(20))).to_svg();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"));
    assert!(default(&Scenario::new("empty").backend(Backend::unlimited("a"))).to_svg().ends_with("</svg>\n"));
}

// ===== priorities =====

/// A PTU of 250 requests a minute with people before it, at half of what it can do, and a batch behind it at three times that.
fn shared_ptu(with_batch: bool) -> Scenario {
    let request = |rate| Traffic::poisson(rate).prompt(700).answer(100).max_tokens(100);
    let people = Scenario::new("people before a PTU, and a batch")
        .lasting(DAY)
        .backend(Backend::provisioned("ptu", 200_000))
        .thresholds(Thresholds::OFF.normal(0.95).low(0.7))
        .traffic(request(2.0).priority(Priority::High));
    if with_batch { people.traffic(request(12.5).priority(Priority::Low)) } else { people }
}

#[test]
fn a_batch_takes_what_others_leave_and_nothing_of_theirs() {
    let alone = default(&shared_ptu(false)).requests;
    let shared = default(&shared_ptu(true));
    let [high, low] = shared.traffic[..] else { panic!("two kinds of traffic") };
    assert_eq!(alone.offered, high.offered, "the same people");
    assert!(high.served as f64 >= 0.99 * alone.served as f64, "{shared}");
    assert!(shared.target("ptu").utilization >= Some(0.99), "the batch uses the rest\n{shared}");
    assert!(low.served > high.served, "{shared}");
}

#[test]
fn without_thresholds_a_batch_takes_the_places_of_people() {
    let shared = default(&shared_ptu(true).thresholds(Thresholds::OFF));
    let people = shared.traffic[0];
    assert!((people.served as f64) < 0.9 * people.offered as f64, "{shared}");
}
