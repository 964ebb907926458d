//! How well ways of routing use what there is: every scenario under every policy and baseline, over ten seeds.
//!
//! `cargo bench --bench weather` prints the table. `-- --minutes 10 --seeds 3` makes it shorter, `-- --only storm` runs the
//! scenarios with that word in their names, and `-- --svg DIRECTORY` also draws each of them under the default for the first seed.

#[path = "../tests/support/weather.rs"]
mod weather;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tower_azure_openai::select::{LeastLoad, LowestLatency, PromptCache, RoundRobin, SlowStart};
use tower_azure_openai::testkit::scenario::{Baseline, Report, Scenario, TargetReport};

const SLOW_START: Duration = Duration::from_secs(10);

/// A way of routing under its name in the table.
type Strategy = (&'static str, fn(&Scenario, u64) -> Report);

const STRATEGIES: [Strategy; 8] = [
    ("round robin (default)", |scenario, _| scenario.run(RoundRobin::default())),
    ("slow start, round robin", |scenario, seed| {
        scenario.run(SlowStart::new(RoundRobin::default(), SLOW_START).seed(seed))
    }),
    ("least load", |scenario, seed| scenario.run(LeastLoad::with_seed(seed))),
    ("lowest latency", |scenario, _| scenario.run(LowestLatency::default())),
    ("prompt cache", |scenario, seed| scenario.run(PromptCache::or_else(LeastLoad::with_seed(seed)))),
    ("baseline: cool-down", |scenario, _| scenario.run_baseline(Baseline::CoolDown)),
    ("baseline: static round robin", |scenario, _| scenario.run_baseline(Baseline::RoundRobin)),
    ("baseline: no gateway", |scenario, _| scenario.run_baseline(Baseline::NoGateway)),
];

fn main() -> std::io::Result<()> {
    let options = Options::read(std::env::args().skip(1));
    let length = Duration::from_secs(60 * options.minutes);
    println!("{} min of traffic, {} seeds; goodput and latency are means over them", options.minutes, options.seeds);
    for scenario in weather::all(length).iter().filter(|scenario| scenario.name().contains(&options.only)) {
        println!("\n{}", scenario.name());
        println!("{HEADER}");
        for (name, run) in STRATEGIES {
            let reports: Vec<_> = (1..=options.seeds).map(|seed| run(&scenario.clone().seed(seed), seed)).collect();
            println!("{}", row(name, &reports));
            if let (Some(folder), Some(report)) = (&options.svg, reports.first()) {
                draw(folder, report)?;
            }
        }
    }
    Ok(())
}

const HEADER: &str = "  \
    strategy                       goodput  of all-knowing: mean, least  first content p50 ms  p99 ms  \
    attempts  in hint  spent twice  PTU used, idle, overslept";

fn row(name: &str, reports: &[Report]) -> String {
    let seeds = reports.len().max(1) as f64;
    let mean = |of: fn(&Report) -> f64| reports.iter().map(of).sum::<f64>() / seeds;
    let share = |report: &Report| 100.0 * report.share_of_all_knowing();
    let least = reports.iter().map(share).fold(f64::INFINITY, f64::min);
    let ptus: Vec<_> = reports.iter().filter_map(ptu).collect();
    let used = ptus.iter().map(|ptu| 100.0 * ptu.utilization.unwrap_or_default()).sum::<f64>() / seeds;
    let most = |of: fn(&TargetReport) -> f64| ptus.iter().map(|ptu| 100.0 * of(ptu)).fold(0.0, f64::max);
    let (idle, overslept) = (most(|ptu| ptu.idle.unwrap_or_default()), most(|ptu| ptu.overslept));
    format!(
        "  {name:<29}  {:>6.2} %  {:>17.2} %  {least:>6.2} %  {:>20.0}  {:>6.0}  {:>8.3}  {:>7}  {:>11}  {}",
        mean(|report| 100.0 * report.goodput()),
        reports.iter().map(share).sum::<f64>() / seeds,
        mean(|report| report.first_content_ms.p50 as f64),
        mean(|report| report.first_content_ms.p99 as f64),
        mean(|report| report.attempts.per_request),
        reports.iter().map(Report::during_hint).sum::<u64>(),
        reports.iter().map(|report| report.tokens_spent_twice).sum::<u64>(),
        if ptus.is_empty() { "-".to_owned() } else { format!("{used:.2} %, {idle:.2} %, {overslept:.2} %") },
    )
}

fn ptu(report: &Report) -> Option<&TargetReport> {
    report.targets.iter().find(|target| target.utilization.is_some())
}

fn draw(folder: &Path, report: &Report) -> std::io::Result<()> {
    let name = format!("{} - {}.svg", report.scenario, report.strategy).replace([',', '/'], "").replace(' ', "-");
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(name), report.to_svg())
}

struct Options {
    minutes: u64,
    seeds: u64,
    only: String,
    svg: Option<PathBuf>,
}

impl Options {
    /// What is not known, such as the `--bench` that cargo adds, changes nothing.
    fn read(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self { minutes: 60, seeds: 10, only: String::new(), svg: None };
        while let Some(argument) = arguments.next() {
            let mut number = |default| arguments.next().and_then(|value| value.parse().ok()).unwrap_or(default);
            match argument.as_str() {
                "--minutes" => options.minutes = number(60),
                "--seeds" => options.seeds = number(10),
                "--only" => options.only = arguments.next().unwrap_or_default(),
                "--svg" => options.svg = arguments.next().map(PathBuf::from),
                _ => {}
            }
        }
        options
    }
}
