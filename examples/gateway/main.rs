//! The full gateway, driven by a TOML file; `gateway.example.toml` beside this file is its contract.

mod args;
mod config;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use args::{Args, USAGE};
use config::{Config, Sources};

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(wrong) => return refuse(&format!("{wrong}\n\n{USAGE}")),
    };
    if args.help {
        return print(USAGE);
    }
    match args.config {
        Some(file) if args.check => check(&file),
        _ => refuse(USAGE),
    }
}

fn check(file: &Path) -> ExitCode {
    match Config::load(file, &Sources::PROCESS) {
        Ok(loaded) => {
            eprint!("{}", loaded.warnings);
            print(&loaded.config.served())
        }
        Err(problems) => refuse(&problems.to_string()),
    }
}

/// A reader that hangs up early, such as `head`, is no failure of ours.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn refuse(text: &str) -> ExitCode {
    eprint!("{text}");
    ExitCode::from(2)
}
