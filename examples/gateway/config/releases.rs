//! `[[releases]]`: several versions of a model behind one alias.

use super::reader::Section;

const MAX_SHARE: u32 = 1_000_000;

/// A version of an alias's model, with its share of the clients.
#[derive(Debug, PartialEq)]
pub(crate) struct Release {
    pub(crate) alias: String,
    pub(crate) model: String,
    pub(crate) version: String,
    /// Relative to the alias's other releases; 0 is none.
    pub(crate) share: u32,
}

pub(super) fn read(s: &mut Section<'_>) -> Vec<Release> {
    s.sections("releases", |s| Release {
        alias: s.required_name("alias"),
        model: s.required_name("model"),
        version: s.required_name("version"),
        share: if s.require("share") { s.integer("share", 0..=MAX_SHARE).unwrap_or_default() } else { 0 },
    })
}
