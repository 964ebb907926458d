//! The keys of the contract whose feature is not built yet: their defaults are accepted, everything else is refused by name.
//!
//! A feature that arrives reads its keys like any other and deletes their lines here.

use super::reader::Section;
use super::units;

/// What a key may hold, and the default from which it must not differ yet.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// A table whose presence asks for the feature.
    AnyTable,
    /// A string without a default.
    AnyText,
    Count(u32),
    Duration(&'static str),
    Flag(bool),
    /// No tables.
    NoTables,
    /// An empty table.
    NoTable,
    /// No strings.
    NoTexts,
    /// No words of a vocabulary.
    NoWords(&'static [&'static str]),
    Size(&'static str),
    Text(&'static str),
    /// The first word of a vocabulary.
    Word(&'static [&'static str]),
}

const KEYS: &[(&str, Known)] = &[
    ("base_path", Known::Text("")),
    ("region", Known::AnyText),
    ("tls", Known::AnyTable),
    ("backends[].kind", Known::Word(&["azure", "openai"])),
    ("backends[].credential.pass_through", Known::Flag(false)),
    ("clients[].operations", Known::NoWords(&["batches", "fine_tuning", "evals", "other"])),
    ("clients[].route", Known::NoTable),
    ("clients[].entra", Known::AnyTable),
    ("clients[].tokens_per_minute", Known::Count(0)),
    ("clients[].requests_per_minute", Known::Count(0)),
    ("clients[].tokens_per_day", Known::Count(0)),
    ("entra", Known::AnyTable),
    ("releases", Known::NoTables),
    ("selection.slow_start", Known::Duration("10s")),
    ("stream.preamble_events", Known::Count(64)),
    ("stream.preamble_bytes", Known::Size("256KiB")),
    ("stream.preamble_time", Known::Duration("30s")),
    ("api_version.allow", Known::NoTexts),
    ("api_version.default", Known::Text("")),
    ("front_door.ids", Known::NoTexts),
    ("telemetry.otlp_endpoint", Known::Text("")),
    ("redis", Known::AnyTable),
];

/// Words of keys that are read, of which some are not built yet.
const WORDS: &[(&str, &[&str])] = &[("selection.policy", &["least-load", "lowest-latency", "prompt-cache"])];

pub(super) fn is_word_of(shape: &str, word: &str) -> bool {
    WORDS.iter().any(|(key, words)| *key == shape && words.contains(&word))
}

/// Takes a key that nobody has read and reports it, unless it holds the default of a feature that is not built yet.
pub(super) fn refuse(section: &mut Section<'_>, key: &str) {
    let shape = section.shape(key);
    let within = format!("{shape}.");
    if let Some((_, known)) = KEYS.iter().find(|(name, _)| *name == shape) {
        if known.differs(section, key) {
            section.problem(key, "not supported yet");
        }
    } else if KEYS.iter().any(|(name, _)| name.starts_with(&within)) {
        section.section(key, |_| ());
    } else {
        section.problem(key, "unknown key");
    }
}

impl Known {
    /// Whether the value has the right type and is not the default.
    fn differs(self, section: &mut Section<'_>, key: &str) -> bool {
        match self {
            Self::AnyTable => section.table(key).is_some(),
            Self::AnyText => section.text(key).is_some(),
            Self::Count(default) => section.integer(key, 0..=u32::MAX).is_some_and(|count| count != default),
            Self::Duration(default) => {
                section.parsed(key, units::duration).is_some_and(|value| Ok(value) != units::duration(default))
            }
            Self::Flag(default) => section.flag(key, default) != default,
            Self::NoTable => section.table(key).is_some_and(|table| !table.is_empty()),
            Self::NoTables => section.tables(key).is_some_and(|tables| !tables.is_empty()),
            Self::NoTexts => section.texts(key).is_some_and(|texts| !texts.is_empty()),
            Self::NoWords(words) => section.choices(key, &vocabulary(words)).is_some_and(|words| !words.is_empty()),
            Self::Size(default) => {
                section.parsed(key, units::size).is_some_and(|value| Ok(value) != units::size(default))
            }
            Self::Text(default) => section.text(key).is_some_and(|text| text != default),
            Self::Word(words) => {
                section.choice(key, &vocabulary(words)).is_some_and(|word| words.first() != Some(&word))
            }
        }
    }
}

fn vocabulary(words: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    words.iter().map(|word| (*word, *word)).collect()
}
