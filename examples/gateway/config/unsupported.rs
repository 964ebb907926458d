//! The keys of the contract whose feature is not built yet: their defaults are accepted, everything else is refused by name.
//!
//! A feature that arrives reads its keys like any other and deletes their lines here.

use super::reader::Section;
use super::secret::{Form, resolve};

/// What a key may hold, and the default from which it must not differ yet.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// A table whose presence asks for the feature.
    AnyTable,
    /// A secret of at least 32 bytes, without a default.
    AnySessionKey,
    Count(u32),
    Flag(bool),
    Text(&'static str),
    /// The first word of a vocabulary.
    Word(&'static [&'static str]),
}

const KEYS: &[(&str, Known)] = &[
    ("backends[].credential.pass_through", Known::Flag(false)),
    ("clients[].tokens_per_minute", Known::Count(0)),
    ("clients[].requests_per_minute", Known::Count(0)),
    ("clients[].tokens_per_day", Known::Count(0)),
    ("session.cookie", Known::Text("aoai-session")),
    ("session.key", Known::AnySessionKey),
    ("session.key_env", Known::AnySessionKey),
    ("session.key_file", Known::AnySessionKey),
    ("session.header", Known::Text("x-session-affinity")),
    ("session.when_unavailable", Known::Word(&["refuse", "move"])),
    ("session.discover", Known::Flag(true)),
    ("session.remember", Known::Count(100_000)),
    ("session.ownership", Known::Word(&["off", "enforce"])),
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
            Self::AnySessionKey => session_key(section, key),
            Self::Count(default) => section.integer(key, 0..=u32::MAX).is_some_and(|count| count != default),
            Self::Flag(default) => section.flag(key, default) != default,
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

fn session_key(section: &mut Section<'_>, key: &str) -> bool {
    let sources = section.findings.sources;
    let long_enough = section.parsed(key, |text| {
        let secret = resolve(Form::of(key), text, sources)?;
        if secret.expose().len() < 32 { Err("must be 32 bytes or more".to_owned()) } else { Ok(()) }
    });
    long_enough.is_some()
}
