//! The full gateway, driven by a TOML file; `gateway.example.toml` beside this file is its contract.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a reader that is gone must not end the program")]

mod accept;
mod access_log;
mod admin;
mod answer;
mod args;
mod config;
mod connection;
mod cors;
mod demo;
mod identities;
mod kept;
mod live;
mod loops;
mod metrics;
mod output;
mod patience;
mod reloads;
mod server;
mod usage;
mod websockets;
mod wiring;

use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use args::{Args, USAGE};
use config::behaviour::{LogFormat, Telemetry};
use config::{Config, Loaded, Problems, Sources};
use tower::BoxError;
use tracing_subscriber::EnvFilter;

// Memory that is freed stays with it for some milliseconds more, which the tests of memory would see.
#[cfg(all(feature = "mimalloc", not(debug_assertions)))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// More than any header can carry.
const LONGEST_KEY: u64 = 64 << 10;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(wrong) => return refuse(&format!("{wrong}\n\n{USAGE}")),
    };
    output::take_panics();
    let done = match args {
        Args { help: true, .. } => return print(USAGE),
        Args { hash_key: true, .. } => return hash_key(),
        Args { config: Some(file), check: true, live, .. } => return check(&file, live),
        Args { config: Some(file), .. } => match load(&file, Weaknesses::Told) {
            Ok(config) => block_on(&config.telemetry.clone(), server::run(config, Some(file))),
            Err(problems) => Err(problems.to_string().into()),
        },
        Args { config: None, .. } => block_on(&demo::telemetry(), demo::run()),
    };
    if let Err(error) = &done {
        output::complain(&error.to_string());
    }
    output::finish();
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

fn check(file: &Path, live: bool) -> ExitCode {
    match load(file, Weaknesses::Refused) {
        Ok(config) if live => check_live(&config),
        Ok(config) => print(&config.served()),
        Err(problems) => refuse(&problems.to_string()),
    }
}

fn check_live(config: &Config) -> ExitCode {
    let runtime = loops::runtime().map_err(BoxError::from);
    match runtime.and_then(|runtime| runtime.block_on(live::check(config))) {
        Ok(report) => {
            let printed = print(&format!("{}\n{report}", config.served()));
            if report.is_fine() { printed } else { ExitCode::from(2) }
        }
        Err(error) => refuse(&format!("{error}\n")),
    }
}

/// A key that is typed at a terminal would stand there for all to see.
fn hash_key() -> ExitCode {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return refuse("--hash-key reads the key from a pipe or a file, not from a terminal\n");
    }
    let mut key = Vec::new();
    if let Err(error) = stdin.lock().take(LONGEST_KEY).read_to_end(&mut key) {
        return refuse(&format!("the key cannot be read: {error}\n"));
    }
    match config::secret::hash(key) {
        Ok(digest) => print(&format!("{digest}\n")),
        Err(wrong) => refuse(&format!("the key {wrong}\n")),
    }
}

/// What becomes of a file that works, with something in it that is better changed.
#[derive(Clone, Copy, PartialEq)]
enum Weaknesses {
    Refused,
    Told,
}

fn load(file: &Path, weak: Weaknesses) -> Result<Config, Problems> {
    let Loaded { config, weaknesses, warnings } = Config::load(file, &Sources::PROCESS)?;
    if weak == Weaknesses::Refused && !weaknesses.is_empty() {
        return Err(weaknesses);
    }
    output::complain(&format!("{weaknesses}{warnings}"));
    Ok(config)
}

fn block_on(telemetry: &Telemetry, program: impl Future<Output = Result<(), BoxError>>) -> Result<(), BoxError> {
    let filter = EnvFilter::try_new(&telemetry.log).map_err(|error| format!("telemetry.log: {error}"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(output::Log).log_internal_errors(false);
    match telemetry.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.init(),
    }
    loops::runtime()?.block_on(program)
}

/// For what ends with its output: it waits for its reader. One that hangs up early, such as `head`, is no failure of ours.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    ExitCode::SUCCESS
}

fn refuse(text: &str) -> ExitCode {
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(2)
}
