use bytes::Bytes;

use super::Bounds;
use crate::azure::stream_event::{Reader, StreamError, StreamEvent};
use crate::body::Joined;

/// Part of a stream that has come and is held.
///
/// How it is cut into chunks changes no verdict: an event counts when it ends within the bounds, whatever came with it.
#[derive(Debug)]
pub(super) struct Preamble {
    kept: Joined,
    reader: Reader,
    events: usize,
    bytes: usize,
}

/// Verdict on the stream.
#[derive(Debug)]
pub(super) enum Verdict {
    Commit,
    /// It has ended, and delivered nothing.
    Nothing,
    Refuse(StreamError),
}

impl Preamble {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self { kept: Joined::default(), reader: Reader::new(bounds.bytes), events: bounds.events, bytes: bounds.bytes }
    }

    /// Keeps a chunk; a verdict ends the preamble.
    pub(super) fn push(&mut self, chunk: Bytes) -> Option<Verdict> {
        let mut within = chunk.get(..self.bytes).unwrap_or(&chunk);
        self.bytes -= within.len();
        let verdict = self.judge(&mut within);
        self.kept.push(chunk);
        verdict.or_else(|| (self.bytes == 0).then_some(Verdict::Commit))
    }

    /// The stream has ended. An event without its empty line was not delivered, but may be the last word all the same.
    pub(super) fn finish(&mut self) -> Verdict {
        match self.reader.finish() {
            Some(StreamEvent::Error(error)) => Verdict::Refuse(error),
            Some(StreamEvent::Content) if self.reader.is_complete() => Verdict::Commit,
            _ => Verdict::Nothing,
        }
    }

    /// Everything that came, as it came.
    pub(super) fn into_bytes(self) -> Bytes {
        self.kept.into_bytes()
    }

    fn judge(&mut self, chunk: &mut &[u8]) -> Option<Verdict> {
        while let Some(event) = self.reader.next_event(chunk) {
            match event {
                StreamEvent::Error(error) => return Some(Verdict::Refuse(error)),
                StreamEvent::Preamble | StreamEvent::Done => self.events -= 1,
                _ => return Some(Verdict::Commit),
            }
            if self.events == 0 {
                return Some(Verdict::Commit);
            }
        }
        None
    }
}
