//! The full gateway, driven by a TOML file; `gateway.example.toml` beside this file is its contract.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a reader that is gone must not end the program")]

mod accept;
mod access_log;
mod admin;
mod alive;
mod answer;
mod args;
mod clock;
mod config;
mod connection;
mod cors;
mod demo;
mod fields;
mod identities;
mod kept;
mod live;
mod log;
mod loops;
mod metrics;
mod output;
mod patience;
mod recordings;
mod reloads;
mod replay;
mod server;
mod stack;
mod usage;
mod websockets;
mod wiring;

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use args::{Args, USAGE};
use config::{Config, Loaded, Problems, Sources};
use tower::BoxError;

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
        Args { replay: Some(file), emit_test: true, .. } => return told(replay::emit_test(&file)),
        Args { replay: Some(file), .. } => return told(replay::replay(&file)),
        Args { what_if: Some(file), config, changes, .. } => return what_if(config.as_deref(), &file, &changes),
        Args { config: Some(file), health: true, .. } => return health(&file),
        Args { config: Some(file), .. } => serve(file),
        Args { config: None, .. } => {
            log::start(&demo::telemetry()).and_then(|()| block_on(demo::run())).map_err(Ended::By)
        }
    };
    match &done {
        Ok(()) => {}
        Err(Ended::By(error)) => log::failed(error),
        Err(Ended::Unread(problems)) => log::refused(problems),
    }
    output::finish();
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

fn told(text: Result<String, BoxError>) -> ExitCode {
    match text {
        Ok(text) => print(&text),
        Err(error) => refuse(&format!("{error}\n")),
    }
}

fn what_if(config: Option<&Path>, recording: &Path, changes: &replay::Changes) -> ExitCode {
    match config.map(|file| Config::load(file, &Sources::PROCESS)).transpose() {
        Ok(loaded) => told(replay::what_if(loaded.map(|loaded| loaded.config).as_ref(), recording, changes)),
        Err(problems) => refuse(&problems.to_string()),
    }
}

/// Reasons for an end that nobody asked for.
enum Ended {
    By(BoxError),
    Unread(Problems),
}

fn serve(file: PathBuf) -> Result<(), Ended> {
    let loaded = Config::load(&file, &Sources::PROCESS).map_err(|problems| {
        // As the file wants it, as far as that can be read.
        let _ = problems.telemetry.as_ref().map(log::start);
        Ended::Unread(problems)
    })?;
    log::start(&loaded.config.telemetry).map_err(Ended::By)?;
    block_on(server::run(loaded.told(), Some(file))).map_err(Ended::By)
}

fn check(file: &Path, live: bool) -> ExitCode {
    match Config::load(file, &Sources::PROCESS) {
        Err(problems) => refuse(&problems.to_string()),
        Ok(Loaded { weaknesses, .. }) if !weaknesses.is_empty() => refuse(&weaknesses.to_string()),
        Ok(Loaded { config, warnings, .. }) => {
            remark(&warnings.to_string());
            if live { check_live(&config) } else { print(&config.served()) }
        }
    }
}

/// Checks the health; what is weak in the file was told when the gateway started.
fn health(file: &Path) -> ExitCode {
    let config = Config::load(file, &Sources::PROCESS).map_err(|problems| problems.to_string());
    match config.and_then(|loaded| alive::check(loaded.config.admin)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => refuse(&format!("{why}\n")),
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

impl Loaded {
    /// The configuration, once everybody was told what in it deserves a second look.
    fn told(self) -> Config {
        log::worth_a_look(&self.weaknesses);
        log::worth_a_look(&self.warnings);
        self.config
    }
}

fn block_on(program: impl Future<Output = Result<(), BoxError>>) -> Result<(), BoxError> {
    loops::runtime()?.block_on(program)
}

/// For what ends with its output: it waits for its reader. One that hangs up early, such as `head`, is no failure of ours.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    ExitCode::SUCCESS
}

fn refuse(text: &str) -> ExitCode {
    remark(text);
    ExitCode::from(2)
}

/// For what ends with its output, as with [`print`].
fn remark(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
