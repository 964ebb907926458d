//! `[recorder]`: the last decisions.

use std::path::PathBuf;

use super::reader::Section;
use super::units;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recorder {
    /// Bytes; 0 remembers nothing.
    pub(crate) memory: usize,
    /// Folder in which recordings are written; `None`: whoever asks for one gets it.
    pub(crate) directory: Option<PathBuf>,
}

impl Recorder {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        let directory = s.text("directory").filter(|directory| !directory.is_empty()).map(PathBuf::from);
        if directory.as_ref().is_some_and(|directory| !directory.is_dir()) {
            s.problem("directory", "is no directory");
        }
        let memory = s.parsed("memory", |text| if text == "0" { Ok(0) } else { units::size(text) });
        Self { memory: memory.unwrap_or(16 << 20), directory }
    }
}
