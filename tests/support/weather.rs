//! The weather in which ways of routing are compared: shared by the benchmark that prints the table and by the tests.
#![allow(unreachable_pub, reason = "tests have no outside")]

use std::time::Duration;

use http::StatusCode;
use tower_azure_openai::testkit::scenario::{Backend, Deployment, Latency, Scenario, Sdk, Tokens, Traffic, Weather};

/// What an hour is stretched over; six times this long, a region is lost for ten minutes.
const TEN_MINUTES: u32 = 6;

/// Every scenario, each lasting so long. Whatever happens begins after a third of that and takes a sixth, unless it says so.
pub fn all(length: Duration) -> Vec<Scenario> {
    vec![
        daily_curve(length),
        region_lost(length),
        throttling_storm(length),
        flapping_backends(length),
        hot_alias(length),
        one_day_hint(length),
        slow_backend(length),
        long_prompts(length),
        saturated_ptu(Duration::from_secs(1), length),
        saturated_ptu(Duration::from_secs(5), length),
        saturated_ptu(Duration::from_secs(20), length),
    ]
}

fn passing(weather: Weather, length: Duration) -> Weather {
    weather.from(length / 3).lasting(length / TEN_MINUTES)
}

/// Half of the answers are streamed; a request costs 900 tokens on admission and 775 in the end.
fn chat(per_second: f64) -> Traffic {
    Traffic::poisson(per_second).streamed(0.5)
}

/// A day: at night the PTU serves everything, at noon it serves less than half.
pub fn daily_curve(length: Duration) -> Scenario {
    Scenario::new("PTU with spill-over, a day")
        .lasting(length)
        .backend(Backend::provisioned("ptu", 1_000_000))
        .backend(Backend::standard("paygo-east", 1_200_000).priority(1))
        .backend(Backend::standard("paygo-west", 1_200_000).priority(1))
        .traffic(chat(50.0).daily(0.1))
}

/// One of three regions cannot be reached; the other two have room.
pub fn region_lost(length: Duration) -> Scenario {
    Scenario::new("a region lost")
        .lasting(length)
        .backend(Backend::standard("east", 1_500_000).region("eastus"))
        .backend(Backend::standard("west", 1_500_000).region("westus"))
        .backend(Backend::standard("sweden", 1_500_000).region("swedencentral"))
        .traffic(chat(40.0))
        .weather("eastus", passing(Weather::lost(), length))
}

/// Quotas shrink and capacity errors come, so that there is not enough for all for a while.
pub fn throttling_storm(length: Duration) -> Scenario {
    Scenario::new("throttling storm")
        .lasting(length)
        .backend(Backend::standard("a", 900_000))
        .backend(Backend::standard("b", 900_000))
        .backend(Backend::standard("c", 900_000))
        .backend(Backend::standard("d", 900_000))
        .traffic(chat(40.0))
        .weather("a", passing(Weather::reduced(0.2), length))
        .weather("b", passing(Weather::reduced(0.2), length))
        .weather("c", passing(Weather::reduced(0.2), length))
        .weather("c", passing(Weather::capacity_errors(0.3), length))
}

/// One backend is away for 20 s of each minute, another answers nothing but 500 for 15 s of each 50 s.
pub fn flapping_backends(length: Duration) -> Scenario {
    let s = Duration::from_secs;
    Scenario::new("flapping backends")
        .lasting(length)
        .backend(Backend::standard("a", 2_500_000))
        .backend(Backend::standard("b", 2_500_000))
        .backend(Backend::standard("c", 2_500_000))
        .traffic(chat(40.0))
        .weather("a", Weather::refusing().from(s(20)).lasting(s(20)).every(s(60)))
        .weather("b", Weather::failing(StatusCode::INTERNAL_SERVER_ERROR, 1.0).from(s(30)).lasting(s(15)).every(s(50)))
}

/// More is asked of one alias than there is; another one on the same backends has all the room it needs.
pub fn hot_alias(length: Duration) -> Scenario {
    let backend = |name| {
        Backend::new(name)
            .deployment(Deployment::standard(600_000).alias("hot"))
            .deployment(Deployment::standard(600_000).alias("cold"))
    };
    Scenario::new("hot alias beside a cold one")
        .lasting(length)
        .backend(backend("east"))
        .backend(backend("west"))
        .traffic(chat(28.0).alias("hot"))
        .traffic(chat(5.0).alias("cold"))
}

/// One of three backends tells everybody to come back tomorrow, and is well again after a while; the others have room.
pub fn one_day_hint(length: Duration) -> Scenario {
    Scenario::new("one-day Retry-After")
        .lasting(length)
        .backend(Backend::standard("a", 1_200_000))
        .backend(Backend::standard("b", 1_200_000))
        .backend(Backend::standard("c", 1_200_000))
        .traffic(chat(30.0).sdk(Sdk::node()))
        .weather("a", passing(Weather::throttled(Duration::from_secs(86_400)), length))
}

/// One of three backends takes ten times as long as the others for a while.
pub fn slow_backend(length: Duration) -> Scenario {
    Scenario::new("slow backend")
        .lasting(length)
        .backend(Backend::unlimited("a"))
        .backend(Backend::unlimited("b"))
        .backend(Backend::unlimited("c"))
        .traffic(chat(30.0))
        .weather("a", passing(Weather::slow(10.0), length))
}

/// Steady traffic, and each minute forty prompts of 10,000 to 20,000 tokens within a second.
pub fn long_prompts(length: Duration) -> Scenario {
    Scenario::new("bursts of long prompts")
        .lasting(length)
        .backend(Backend::provisioned("ptu", 600_000))
        .backend(Backend::standard("paygo-east", 800_000).priority(1))
        .backend(Backend::standard("paygo-west", 800_000).priority(1))
        .traffic(chat(15.0))
        .traffic(Traffic::bursts(Duration::from_secs(60), 40).prompt(Tokens::from(10_000..=20_000)))
}

/// A PTU that is asked for twice what it has, whose answers all take this long and are not streamed, and spill-over for the rest.
/// It runs dry within a second of not being asked, and asks to wait for some ten milliseconds at a time.
pub fn saturated_ptu(answer: Duration, length: Duration) -> Scenario {
    let latency = Latency::fixed(answer);
    Scenario::new(format!("saturated PTU, answers of {} s", answer.as_secs()))
        .lasting(length)
        .backend(
            Backend::new("ptu")
                .deployment(Deployment::provisioned(400_000).holding(Duration::from_secs(1)).latency(latency)),
        )
        .backend(Backend::unlimited("paygo").latency(latency).priority(1))
        .traffic(Traffic::poisson(17.0))
}
