//! How well ways of routing use what there is: every scenario under every policy and baseline, over ten seeds.
//!
//! `cargo bench --bench weather` prints the table. `-- --minutes 10 --seeds 3` makes it shorter, `-- --only storm` runs the
//! scenarios with that word in their names, `-- --svg DIRECTORY` also draws each of them under every strategy for the first seed, and
//! `-- --markdown` also prints the tables of the README.

#[path = "../tests/support/weather.rs"]
mod weather;

use std::fmt;
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
    ("lowest latency", |scenario, seed| scenario.run(LowestLatency::with_seed(seed))),
    ("prompt cache", |scenario, seed| scenario.run(PromptCache::or_else(LeastLoad::with_seed(seed)))),
    ("baseline: cool-down", |scenario, _| scenario.run_baseline(Baseline::CoolDown)),
    ("baseline: static round robin", |scenario, _| scenario.run_baseline(Baseline::RoundRobin)),
    ("baseline: no gateway", |scenario, _| scenario.run_baseline(Baseline::NoGateway)),
];

fn main() -> std::io::Result<()> {
    let options = Options::read(std::env::args().skip(1));
    let length = Duration::from_secs(60 * options.minutes);
    println!(
        "{} min of traffic, {} seeds; figures are means over them, of shares also the least",
        options.minutes, options.seeds
    );
    let mut lines = Vec::new();
    let scenarios = weather::all(length);
    for scenario in scenarios.iter().filter(|scenario| scenario.name().contains(&options.only)) {
        println!("\n{}\n{HEADER}", scenario.name());
        let mut line = Vec::new();
        for (name, run) in STRATEGIES {
            let reports: Vec<_> = (1..=options.seeds).map(|seed| run(&scenario.clone().seed(seed), seed)).collect();
            let row = Row::of(name, &reports);
            println!("{row}");
            line.push(row);
            if let (Some(folder), Some(report)) = (&options.svg, reports.first()) {
                draw(folder, name, report)?;
            }
        }
        lines.push((scenario.name(), line));
    }
    if options.markdown {
        markdown(&lines, Row::least_and_latency);
        markdown(&lines, Row::used_idle_and_overslept);
    }
    Ok(())
}

const HEADER: &str = "  \
    strategy                       goodput  of all-knowing: mean, least  first content p50 ms  p99 ms  \
    attempts  in hint  spent twice  PTU used, idle, overslept";

/// One way of routing in one scenario.
struct Row {
    strategy: &'static str,
    goodput: f64,
    share: f64,
    least_share: f64,
    p50: f64,
    p99: f64,
    attempts: f64,
    in_hint: u64,
    spent_twice: u64,
    ptu: Option<Ptu>,
}

/// The most of it in any seed, but for what was used, which is a mean.
struct Ptu {
    used: f64,
    idle: f64,
    overslept: f64,
}

impl Row {
    fn of(strategy: &'static str, reports: &[Report]) -> Self {
        let mean = |of: fn(&Report) -> f64| reports.iter().map(of).sum::<f64>() / reports.len().max(1) as f64;
        Self {
            strategy,
            goodput: mean(|report| 100.0 * report.goodput()),
            share: mean(|report| 100.0 * report.share_of_all_knowing()),
            least_share: reports.iter().map(|it| 100.0 * it.share_of_all_knowing()).fold(f64::INFINITY, f64::min),
            p50: mean(|report| report.first_content_ms.p50 as f64),
            p99: mean(|report| report.first_content_ms.p99 as f64),
            attempts: mean(|report| report.attempts.per_request),
            in_hint: reports.iter().map(Report::during_hint).sum(),
            spent_twice: reports.iter().map(|report| report.tokens_spent_twice).sum(),
            ptu: Ptu::of(&reports.iter().filter_map(ptu).collect::<Vec<_>>()),
        }
    }

    fn least_and_latency(&self) -> Option<String> {
        Some(format!("{:.2} · {:.1} s", self.least_share, self.p99 / 1_000.0))
    }

    fn used_idle_and_overslept(&self) -> Option<String> {
        let Ptu { used, idle, overslept } = self.ptu.as_ref()?;
        Some(format!("{used:.1} · {idle:.1} · {overslept:.1}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { strategy, goodput, share, least_share, p50, p99, attempts, in_hint, spent_twice, ptu } = self;
        write!(
            f,
            "  {strategy:<29}  {goodput:>6.2} %  {share:>17.2} %  {least_share:>6.2} %  {p50:>20.0}  {p99:>6.0}  "
        )?;
        write!(f, "{attempts:>8.3}  {in_hint:>7}  {spent_twice:>11}  ")?;
        match ptu {
            Some(Ptu { used, idle, overslept }) => write!(f, "{used:.2} %, {idle:.2} %, {overslept:.2} %"),
            None => f.write_str("-"),
        }
    }
}

impl Ptu {
    fn of(ptus: &[&TargetReport]) -> Option<Self> {
        let most = |of: fn(&TargetReport) -> f64| ptus.iter().map(|ptu| 100.0 * of(ptu)).fold(0.0, f64::max);
        let used = ptus.iter().map(|ptu| 100.0 * ptu.utilization.unwrap_or_default()).sum::<f64>();
        (!ptus.is_empty()).then(|| Self {
            used: used / ptus.len() as f64,
            idle: most(|ptu| ptu.idle.unwrap_or_default()),
            overslept: most(|ptu| ptu.overslept),
        })
    }
}

/// Scenarios by strategies, without the scenarios for which there is nothing to say.
fn markdown(lines: &[(&str, Vec<Row>)], cell: fn(&Row) -> Option<String>) {
    println!("\n| |{}", STRATEGIES.map(|(name, _)| format!(" {name} |")).concat());
    println!("|---|{}", STRATEGIES.map(|_| "---|").concat());
    for (scenario, line) in lines {
        if let Some(cells) = line.iter().map(cell).collect::<Option<Vec<_>>>() {
            println!("| {scenario} | {} |", cells.join(" | "));
        }
    }
}

fn ptu(report: &Report) -> Option<&TargetReport> {
    report.targets.iter().find(|target| target.utilization.is_some())
}

fn draw(folder: &Path, strategy: &str, report: &Report) -> std::io::Result<()> {
    let file = format!("{} {strategy}.svg", report.scenario).replace([',', ':', '(', ')'], "").replace(' ', "-");
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(file), report.to_svg())
}

struct Options {
    minutes: u64,
    seeds: u64,
    only: String,
    svg: Option<PathBuf>,
    markdown: bool,
}

impl Options {
    /// What is not known, such as the `--bench` that cargo adds, changes nothing.
    fn read(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self { minutes: 60, seeds: 10, only: String::new(), svg: None, markdown: false };
        while let Some(argument) = arguments.next() {
            let mut number = |default| arguments.next().and_then(|value| value.parse().ok()).unwrap_or(default);
            match argument.as_str() {
                "--minutes" => options.minutes = number(60),
                "--seeds" => options.seeds = number(10),
                "--only" => options.only = arguments.next().unwrap_or_default(),
                "--svg" => options.svg = arguments.next().map(PathBuf::from),
                "--markdown" => options.markdown = true,
                _ => {}
            }
        }
        options
    }
}
