use std::time::Duration;
use tower_azure_openai::select::{LeastLoad, RoundRobin};
use tower_azure_openai::testkit::scenario::{Backend, Baseline, Scenario, Traffic, Weather};

fn main() {
    let s = Duration::from_secs;
    let scenario = Scenario::new("PTU and spill-over")
        .lasting(s(3600))
        .backend(Backend::provisioned("ptu", 1_200_000))
        .backend(Backend::standard("paygo-a", 1_200_000).priority(1))
        .backend(Backend::standard("paygo-b", 1_200_000).priority(1))
        .traffic(Traffic::poisson(60.0).daily(0.2).streamed(0.5))
        .weather("paygo-a", Weather::lost().from(s(1200)).lasting(s(600)));
    let began = std::time::Instant::now();
    let report = scenario.run(RoundRobin::default());
    println!("{report}{:?}", began.elapsed());
    std::fs::write("/tmp/w.svg", report.to_svg()).unwrap();
    println!("{}", scenario.run(LeastLoad::with_seed(1)));
    for b in [Baseline::RoundRobin, Baseline::CoolDown, Baseline::NoGateway] {
        println!("{}", scenario.run_baseline(b));
    }
}
