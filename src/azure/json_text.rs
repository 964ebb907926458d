//! A JSON string that is read as it arrives, of which no more is kept than anybody reads.

use std::borrow::Cow;

use super::request_body::ReadBodyError;

/// A JSON string, or a word, as it is written; only so much of it is kept.
#[derive(Debug, Default)]
pub(super) struct Text {
    start: usize,
    bytes: Vec<u8>,
    limit: usize,
    is_cut: bool,
}

impl Text {
    pub(super) const fn new() -> Self {
        Self { start: 0, bytes: Vec::new(), limit: 0, is_cut: false }
    }

    /// Begins at `start`, and keeps up to `limit` bytes.
    pub(super) fn begin(&mut self, start: usize, limit: usize) {
        self.bytes.clear();
        (self.start, self.limit, self.is_cut) = (start, limit, false);
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        let room = self.limit - self.bytes.len();
        self.is_cut |= part.len() > room;
        self.bytes.extend_from_slice(&part[..part.len().min(room)]);
    }

    pub(super) const fn start(&self) -> usize {
        self.start
    }

    /// All of it as it is written, and nothing where it was too long.
    pub(super) fn take_written(&mut self) -> Vec<u8> {
        let written = std::mem::take(&mut self.bytes);
        if self.is_cut { Vec::new() } else { written }
    }

    /// What it says, if it is all here.
    pub(super) fn unescaped(&self) -> Result<Option<Cow<'_, str>>, ReadBodyError> {
        if self.is_cut {
            return Ok(None);
        }
        let text = std::str::from_utf8(&self.bytes).map_err(|_| not_json())?;
        if !text.contains('\\') {
            return Ok(Some(text.into()));
        }
        let text = serde_json::from_str::<String>(&format!("\"{text}\"")).map_err(|_| not_json())?;
        Ok(Some(text.into()))
    }
}

pub(super) fn not_json() -> ReadBodyError {
    ReadBodyError::new("not the JSON it should be")
}
