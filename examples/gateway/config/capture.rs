//! `[capture]`: requests and answers, written down.

use std::path::PathBuf;
use std::time::Duration;

use tower_azure_openai::capture::Pointers;

use super::reader::Section;

const ROTATE: usize = 64 << 20;
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) sink: Sink,
    /// Not empty where files are written.
    pub(crate) directory: PathBuf,
    /// Empty is all.
    pub(crate) clients: Vec<String>,
    /// From 0 to 1.
    pub(crate) sample: f64,
    /// Bytes of each side; 0 is none.
    pub(crate) body: usize,
    pub(crate) redact: Pointers,
    /// Bytes.
    pub(crate) rotate: usize,
    pub(crate) keep: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sink {
    JsonLines,
    Off,
    Otlp,
}

impl Capture {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        let vocabulary = [("off", Sink::Off), ("jsonl", Sink::JsonLines), ("otlp", Sink::Otlp)];
        let sink = s.choice("sink", &vocabulary).unwrap_or(Sink::Off);
        let directory = s.text("directory").unwrap_or_default();
        if sink == Sink::JsonLines && directory.is_empty() {
            s.problem("directory", "is missing: captures are written into files there");
        }
        let body = |text: &str| if text == "none" { Ok(0) } else { super::units::size(text) };
        Self {
            sink,
            directory: directory.into(),
            clients: s.names("clients"),
            sample: s.ratio("sample", 1.0),
            body: s.parsed("body", |text| body(text).map_err(|wrong| format!("{wrong}, or \"none\""))).unwrap_or(0),
            redact: redact(s),
            rotate: s.size("rotate", ROTATE),
            keep: s.positive_duration("keep", KEEP),
        }
    }
}

fn redact(s: &mut Section<'_>) -> Pointers {
    let mut given = s.texts("redact").unwrap_or_default();
    given.retain(|(place, pointer)| match Pointers::parse([pointer]) {
        Ok(_) => true,
        Err(wrong) => {
            s.findings.problem(place, wrong.to_string());
            false
        }
    });
    Pointers::parse(given.into_iter().map(|(_, pointer)| pointer)).unwrap_or_default()
}
