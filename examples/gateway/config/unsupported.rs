//! The keys of the contract whose feature is not built yet: their defaults are accepted, everything else is refused by name.
//!
//! A feature that arrives reads its keys like any other and deletes their lines here.

use super::reader::Section;

/// What a key may hold, and the default from which it must not differ yet.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// A table whose presence asks for the feature.
    AnyTable,
    Count(u32),
    Text(&'static str),
}

const KEYS: &[(&str, Known)] = &[
    ("clients[].tokens_per_minute", Known::Count(0)),
    ("clients[].requests_per_minute", Known::Count(0)),
    ("clients[].tokens_per_day", Known::Count(0)),
    ("telemetry.otlp_endpoint", Known::Text("")),
    ("redis", Known::AnyTable),
];

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
            Self::Count(default) => section.integer(key, 0..=u32::MAX).is_some_and(|count| count != default),
            Self::Text(default) => section.text(key).is_some_and(|text| text != default),
        }
    }
}
