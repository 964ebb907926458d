//! Keys that nobody reads.

use super::nearest;
use super::reader::Section;

/// Reports a key that is none of those that have been `read`, with the one that may have been meant.
pub(super) fn refuse(section: &Section<'_>, key: &str, read: &[String]) {
    let meant = nearest::of(key, read.iter().map(String::as_str));
    let meant = meant.map(|known| format!(", did you mean {known}?")).unwrap_or_default();
    section.problem(key, format!("unknown key{meant}"));
}
