//! Content of a recording, and what would have been: `--replay` and `--what-if`.

use std::fmt::Write as _;
use std::path::Path;

use tower::BoxError;
use tower_azure_openai::gateway;
use tower_azure_openai::recorder::Recording;
use tower_azure_openai::select::{SelectBackendLayer, SlowStart};
use tower_azure_openai::terminate::TerminateCredentialsLayer;
use tower_azure_openai::testkit::scenario::{Backend, Deployment, Happened, Report, Scenario};

use crate::config::behaviour::{self, Selection};
use crate::config::{Config, backends};
use crate::wiring;

/// A replay that is further from what happened than this share of the requests is no ground for a verdict.
const MOST_ERROR: f64 = 0.02;

/// Changes that are asked for besides.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    /// `kind:region:tokens[:alias[:priority]]`.
    pub(crate) add: Vec<Addition>,
    /// Names of backends.
    pub(crate) without: Vec<String>,
}

/// One more deployment, on a backend of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Addition {
    is_provisioned: bool,
    region: String,
    tokens_per_minute: u64,
    alias: Option<String>,
    priority: u32,
}

impl std::str::FromStr for Addition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "must be KIND:REGION:TOKENS[:ALIAS[:PRIORITY]], such as standard:eastus:450000";
        let mut parts = text.split(':');
        let is_provisioned = match parts.next() {
            Some("provisioned") => true,
            Some("standard") => false,
            _ => return Err(format!("{text:?}: KIND is standard or provisioned; it {FORM}")),
        };
        let region = parts.next().filter(|region| !region.is_empty()).ok_or_else(|| format!("{text:?} {FORM}"))?;
        let tokens = parts.next().and_then(|tokens| tokens.parse().ok()).filter(|tokens| *tokens > 0);
        let alias = parts.next().filter(|alias| !alias.is_empty()).map(ToOwned::to_owned);
        let priority = parts.next().map_or(Ok(0), str::parse).map_err(|_| format!("{text:?} {FORM}"))?;
        if parts.next().is_some() {
            return Err(format!("{text:?} {FORM}"));
        }
        let tokens_per_minute = tokens.ok_or_else(|| format!("{text:?} {FORM}"))?;
        Ok(Self { is_provisioned, region: region.to_owned(), tokens_per_minute, alias, priority })
    }
}

/// Runs a recording again as it was, draws it beside the file, and says how it went.
pub(crate) fn replay(file: &Path) -> Result<String, BoxError> {
    let Played { recording, happened, report } = Played::read(file)?;
    let picture = file.with_extension("svg");
    std::fs::write(&picture, report.to_svg()).map_err(|error| format!("{}: {error}", picture.display()))?;
    let mut text = String::new();
    let (from, to) = recording.span().unwrap_or_default();
    writeln!(
        text,
        "{}: {} events in {:.1} s, policy {}",
        file.display(),
        recording.events().len(),
        (to - from).as_secs_f64(),
        recording.policy().unwrap_or("unknown, run with round-robin")
    )?;
    write!(text, "{}", happened_lines(&happened, &report))?;
    writeln!(text, "{report}\ndrawn in {}", picture.display())?;
    Ok(text)
}

/// A test that an embedder pastes into a project.
pub(crate) fn emit_test(file: &Path) -> Result<String, BoxError> {
    let Played { report, .. } = Played::read(file)?;
    let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let first = report.targets.iter().map(|target| target.priority).min();
    let mut used = String::new();
    for target in report.targets.iter().filter(|target| Some(target.priority) == first && report.targets.len() > 1) {
        writeln!(used, "    assert!(report.target({:?}).overslept < 0.05, \"{{report}}\");", target.backend)?;
    }
    Ok(format!(
        "\
// [dev-dependencies] tower-azure-openai = {{ version = \"{version}\", features = [\"testkit\"] }}
#[test]
fn {function}() {{
    use tower_azure_openai::{{recorder::Recording, select::RoundRobin, testkit::scenario::Scenario}};
    let incident = Recording::read(include_bytes!({name:?})).expect(\"the recording is whole\");
    // Your own policy, or `run_stack` with your own layers.
    let report = Scenario::recorded(&incident).run(RoundRobin::default());
    report.assert_hints_obeyed().assert_share_of_all_knowing_at_least(0.99);
{used}}}
",
        version = env!("CARGO_PKG_VERSION"),
        function = identifier(&name),
    ))
}

/// The recording under the configuration that it was made with, and under another, side by side.
pub(crate) fn what_if(config: Option<&Config>, file: &Path, changes: &Changes) -> Result<String, BoxError> {
    let Played { recording, happened, report: before } = Played::read(file)?;
    let error = happened.error(&before);
    let mut text = happened_lines(&happened, &before);
    // Where a policy stood in its turn before the recording began is not known: one request may lie elsewhere.
    if error > MOST_ERROR && error * happened.requests.offered as f64 > 1.0 {
        writeln!(
            text,
            "The recording run again is further than {:.0} % from what happened: no verdict.",
            100.0 * MOST_ERROR
        )?;
        for target in &before.targets {
            let place = (target.backend.clone(), target.deployment.clone());
            let was = happened.served.get(&place).copied().unwrap_or_default();
            if was != target.served {
                writeln!(text, "  {}/{} served {was}, and {} when run again", place.0, place.1, target.served)?;
            }
        }
        return Err(text.into());
    }
    let scenario = changed(&recording, config, changes)?;
    let after = match config {
        Some(config) => run(&scenario, &config.selection),
        None => run(&scenario, &as_recorded(&recording)),
    };
    write!(text, "{}", side_by_side(&before, &after))?;
    Ok(text)
}

struct Played {
    recording: Recording,
    happened: Happened,
    report: Report,
}

impl Played {
    fn read(file: &Path) -> Result<Self, BoxError> {
        let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let recording = Recording::read(&bytes).map_err(|error| format!("{}: {error}", file.display()))?;
        let happened = Happened::of(&recording);
        if happened.requests.offered == 0 {
            return Err(format!("{}: no request in it came as far as a backend", file.display()).into());
        }
        let report = run(&Scenario::recorded(&recording), &as_recorded(&recording));
        Ok(Self { recording, happened, report })
    }
}

/// The policy that chose then.
fn as_recorded(recording: &Recording) -> Selection {
    let known = recording.policy().and_then(behaviour::Policy::by_name);
    Selection { policy: known.unwrap_or(behaviour::Policy::RoundRobin), ..Selection::default() }
}

fn run(scenario: &Scenario, selection: &Selection) -> Report {
    let policy = SlowStart::new(wiring::policy(selection), selection.slow_start);
    scenario.run_stack(selection.policy.as_str(), |pool, azure| {
        gateway::builder(pool.clone(), TerminateCredentialsLayer::without_clients())
            .select(SelectBackendLayer::new(pool).with_policy(policy))
            .build(azure)
    })
}

fn changed(recording: &Recording, config: Option<&Config>, changes: &Changes) -> Result<Scenario, BoxError> {
    let mut scenario = Scenario::recorded(recording);
    if let Some(config) = config {
        scenario =
            scenario.with_backends(config.backends.iter().map(backend)).circuit(wiring::circuit(&config.circuit));
        if let Some(region) = &config.region {
            scenario = scenario.region(region);
        }
    }
    for name in &changes.without {
        if !scenario.has_backend(name) {
            return Err(format!("--without {name}: there is no such backend").into());
        }
        scenario = scenario.without(name);
    }
    let mut aliases: Vec<_> = recording.targets().iter().filter_map(|target| target.alias.clone()).collect();
    aliases.sort();
    aliases.dedup();
    for (index, addition) in changes.add.iter().enumerate() {
        let alias = match (&addition.alias, &aliases[..]) {
            (Some(alias), _) => alias,
            (None, [alias]) => alias,
            (None, _) => return Err("--add: say for which alias, for the recording has several".into()),
        };
        let deployment = match addition.is_provisioned {
            true => Deployment::provisioned(addition.tokens_per_minute),
            false => Deployment::standard(addition.tokens_per_minute),
        };
        let added = Backend::new(format!("added-{}", index + 1)).region(&addition.region).priority(addition.priority);
        scenario = scenario.backend(added.deployment(deployment.alias(alias)));
    }
    Ok(scenario)
}

fn backend(described: &backends::Backend) -> Backend {
    let (weight, max_in_flight) = (described.weight, described.max_in_flight.map_or(0, Into::into));
    let geography = described.geography.clone();
    let told = move |backend: tower_azure_openai::pool::Backend| {
        let backend = backend.weight(weight).max_in_flight(max_in_flight);
        match &geography {
            Some(geography) => backend.geography(geography),
            None => backend,
        }
    };
    let mut backend = Backend::new(&described.name).priority(described.priority).describe(told);
    if let Some(region) = &described.region {
        backend = backend.region(region);
    }
    described.deployments.iter().fold(backend, |backend, described| {
        let deployment = match described.tokens_per_minute {
            Some(tokens) => Deployment::standard(tokens.get().into()),
            None => Deployment::unlimited(),
        };
        backend.deployment(deployment.named(&described.name).alias(&described.alias).priority(described.priority))
    })
}

fn happened_lines(happened: &Happened, report: &Report) -> String {
    let (was, is) = (&happened.requests, &report.requests);
    format!(
        "{:<16}{:>10}{:>10}{:>10}{:>10}{:>11}\n{:<16}{:>10}{:>10}{:>10}{:>10}{:>11}\n{:<16}{:>10}{:>10}{:>10}{:>10}{:>11}\nrun again, {:.2} % of the requests ended otherwise or elsewhere\n",
        "",
        "requests",
        "served",
        "refused",
        "broken",
        "abandoned",
        "happened",
        was.offered,
        was.served,
        was.refused,
        was.broken,
        was.abandoned,
        "run again",
        is.offered,
        is.served,
        is.refused,
        is.broken,
        is.abandoned,
        100.0 * happened.error(report),
    )
}

/// Two reports as one table.
fn side_by_side(before: &Report, after: &Report) -> String {
    let mut text = format!("\n{:<44}{:>16}{:>16}\n", "", "as it was", "what if");
    let mut row = |name: String, of: &dyn Fn(&Report) -> String| {
        let _ = writeln!(text, "{name:<44}{:>16}{:>16}", of(before), of(after));
    };
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    row("served".to_owned(), &|report| report.requests.served.to_string());
    row("refused".to_owned(), &|report| report.requests.refused.to_string());
    row("broken".to_owned(), &|report| report.requests.broken.to_string());
    row("goodput".to_owned(), &|report| percent(report.goodput()));
    row("goodput of an all-knowing router".to_owned(), &|report| percent(report.all_knowing.goodput));
    row("first content, p50".to_owned(), &|report| format!("{} ms", report.first_content_ms.p50));
    row("first content, p99".to_owned(), &|report| format!("{} ms", report.first_content_ms.p99));
    row("attempts per request".to_owned(), &|report| format!("{:.3}", report.attempts.per_request));
    let mut tiers: Vec<_> = before.tiers.iter().chain(&after.tiers).map(|tier| tier.priority).collect();
    tiers.sort_unstable();
    tiers.dedup();
    for priority in tiers {
        row(format!("tokens of priority {priority}"), &|report| {
            let found = report.tiers.iter().find(|tier| tier.priority == priority);
            found.map_or_else(|| "-".to_owned(), |tier| tier.tokens.to_string())
        });
    }
    let mut targets: Vec<_> =
        before.targets.iter().chain(&after.targets).map(|target| (&target.backend, &target.deployment)).collect();
    targets.sort_unstable();
    targets.dedup();
    for (backend, deployment) in targets {
        let find = |report: &Report| {
            report.targets.iter().find(|target| target.backend == *backend && target.deployment == *deployment).cloned()
        };
        row(format!("tokens at {backend}/{deployment}"), &|report| {
            find(report).map_or_else(|| "-".to_owned(), |target| target.tokens.to_string())
        });
        let is_provisioned =
            [before, after].into_iter().any(|report| find(report).is_some_and(|t| t.utilization.is_some()));
        if is_provisioned {
            row(format!("use of {backend}/{deployment}"), &|report| {
                find(report).and_then(|target| target.utilization).map_or_else(|| "-".to_owned(), percent)
            });
        }
    }
    text
}

/// A function's name out of a file's.
fn identifier(file: &str) -> String {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let plain: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if plain.starts_with(|c: char| c.is_ascii_alphabetic()) { plain } else { format!("incident_{plain}") }
}
