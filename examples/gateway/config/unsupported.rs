//! The keys of the contract whose feature is not built yet: their defaults are accepted, everything else is refused by name.
//!
//! A feature that arrives reads its keys like any other and deletes their lines here.

use super::nearest;
use super::reader::Section;

/// Type of a key, and the default from which it must not differ yet.
#[derive(Clone, Copy, Debug)]
enum Known {
    Text(&'static str),
}

/// The keys without positions.
const KEYS: &[(&str, Known)] = &[("telemetry.otlp_endpoint", Known::Text(""))];

/// Takes a key that nobody has read and reports it, unless it holds the default of a feature that is not built yet.
///
/// `read` are the keys that have been read, which it may have been meant for.
pub(super) fn refuse(section: &mut Section<'_>, key: &str, read: &[String]) {
    let shape = section.shape(key);
    let within = format!("{shape}.");
    if let Some((_, known)) = KEYS.iter().find(|(name, _)| *name == shape) {
        if known.differs(section, key) {
            section.problem(key, "not supported yet");
        }
    } else if KEYS.iter().any(|(name, _)| name.starts_with(&within)) {
        section.section(key, |_| ());
    } else {
        let meant = nearest::of(key, read.iter().map(String::as_str));
        let meant = meant.map(|known| format!(", did you mean {known}?")).unwrap_or_default();
        section.problem(key, format!("unknown key{meant}"));
    }
}

impl Known {
    /// Tells whether the value has the right type and is not the default.
    fn differs(self, section: &mut Section<'_>, key: &str) -> bool {
        match self {
            Self::Text(default) => section.text(key).is_some_and(|text| text != default),
        }
    }
}
