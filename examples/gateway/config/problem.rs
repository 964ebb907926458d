//! Problems of a file, and their places.

use std::fmt;
use std::path::PathBuf;

use super::behaviour::Telemetry;

/// One thing that is wrong, or worth a warning.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The full path of the key, a position for what is no TOML, or nothing for the file as a whole.
    place: String,
    text: String,
}

impl Problem {
    pub(super) fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }
}

/// Problems of one file; displayed as `FILE: KEY: what is wrong`, one line each.
#[derive(Debug)]
pub(crate) struct Problems {
    pub(crate) file: PathBuf,
    pub(super) list: Vec<Problem>,
    /// Of the same file, unless that could not be read at all.
    pub(crate) telemetry: Option<Telemetry>,
}

impl Problems {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Each with its place.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|problem| (&*problem.place, problem.text.trim_start_matches("warning: ")))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { place, text } in &self.list {
            let between = if place.is_empty() { "" } else { ": " };
            writeln!(f, "{}: {place}{between}{text}", self.file.display())?;
        }
        Ok(())
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn join(words: &[impl AsRef<str>], last: &str) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.split_last() {
        Some((end, [])) => (*end).to_owned(),
        Some((end, start)) => format!("{} {last} {end}", start.join(", ")),
        None => String::new(),
    }
}
