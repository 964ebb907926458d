//! The events of a passing stream.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::{StreamError, StreamEvent, closes, may_fail, name, names_a_finish, speaks_of_end, speaks_of_objects};
use crate::azure::sse;

/// Reads the events of a passing stream.
///
/// A `response.failed` without a reason counts as preamble until the next event: an `error` is the reason, anything else, or
/// the end, makes it an error without one. An event above the limit is [`StreamEvent::Content`], and taken for a closing one: a
/// response that ends comes as a whole once more.
#[derive(Debug)]
pub(crate) struct Reader {
    events: sse::Reader,
    failures_only: bool,
    failed: bool,
    complete: bool,
}

impl Reader {
    /// Reads every event of up to `limit` bytes.
    #[must_use]
    pub(crate) const fn new(limit: usize) -> Self {
        Self { events: sse::Reader::new(limit), failures_only: false, failed: false, complete: false }
    }

    /// Tells failures only: what cannot be one is given as [`StreamEvent::Content`] unread, or not at all. For streams that have
    /// begun.
    #[must_use]
    pub(crate) const fn failures_only(mut self) -> Self {
        self.failures_only = true;
        self
    }

    /// The next event that ends in `chunk`, as [`sse::Reader::next_event`].
    pub(crate) fn next_event(&mut self, chunk: &mut &[u8]) -> Option<StreamEvent> {
        let needs_reading = !self.failures_only || self.failed;
        let may_say_something = needs_reading || may_say_something(chunk, self.complete);
        if !may_say_something && self.events.skip(chunk) {
            *chunk = &[];
            return None;
        }
        let event = self.events.next_event(chunk)?;
        self.complete = self.complete || event.as_ref().map_or(true, closes);
        let meaning = event.ok().filter(|event| needs_reading || could_fail(event)).as_ref().map(StreamEvent::of);
        Some(self.resolve(meaning.unwrap_or(StreamEvent::Content)))
    }

    /// Tells whether a closing event has come. What follows one may be skipped unread.
    #[must_use]
    pub(crate) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns what the stream ended with, if that was no whole event or a failure without a reason.
    pub(crate) fn finish(&mut self) -> Option<StreamEvent> {
        let rest = self.events.finish();
        self.complete = self.complete || rest.as_ref().is_some_and(closes);
        let rest = rest.as_ref().map(StreamEvent::of);
        let rest = rest.map(|event| self.resolve(event));
        let failed = std::mem::take(&mut self.failed);
        if failed { Some(StreamEvent::Error(StreamError::without_reason())) } else { rest }
    }

    fn resolve(&mut self, event: StreamEvent) -> StreamEvent {
        match event {
            StreamEvent::FailedWithoutReason => {
                self.failed = true;
                StreamEvent::Preamble
            }
            StreamEvent::Preamble => event,
            StreamEvent::Error(_) => {
                self.failed = false;
                event
            }
            _ if std::mem::take(&mut self.failed) => StreamEvent::Error(StreamError::without_reason()),
            _ => event,
        }
    }
}

/// A quote inside a text is escaped, so a delta that quotes an error does not have this.
fn could_fail(event: &sse::Event<'_>) -> bool {
    match name(event) {
        Some(name) => str::from_utf8(name).is_ok_and(may_fail),
        None => ERROR_KEY.find(event.as_bytes()).is_some(),
    }
}

/// One of these words stands in every failure, and in everything that closes a stream, and little else has them.
fn may_say_something(chunk: &[u8], is_complete: bool) -> bool {
    let of_objects = speaks_of_objects(chunk);
    ERROR.find(chunk).is_some()
        || of_objects && FAILED.find(chunk).is_some()
        || !is_complete && (names_a_finish(chunk) || speaks_of_end(chunk, of_objects))
}

static ERROR_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"error"));
static FAILED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"failed"));
