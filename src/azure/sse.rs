//! The events of a `text/event-stream`, found in the chunks of a passing body.
//!
//! A [`Reader`] only looks: it holds nothing up and changes nothing, so whoever passes the body on passes the chunks
//! themselves. It is given every chunk once and tells which events end in it, in the framing of the HTML standard: lines end in
//! `\n`, `\r\n` or `\r`, an empty line ends an event, lines that begin with a colon are comments, and a byte order mark may come
//! first. How the bytes are cut into chunks changes nothing. An event that lies within one chunk is not copied.
//!
//! Sources: <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>.

use std::borrow::Cow;
use std::fmt;

use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue};
use memchr::memchr2;

use super::media_type::MediaType;

mod lines;

pub(crate) use self::lines::{Field, Lines, Piece};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Streams are many and mostly wait: none of them keeps the room of its longest event.
const KEPT_CAPACITY: usize = 1024;

/// Tells whether the headers of an answer say that its body is a stream of events that can be read: one that is encoded cannot.
#[must_use]
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let is_readable = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    MediaType::of(headers).is_some_and(|kind| kind.is("text/event-stream"))
        && headers.get_all(CONTENT_ENCODING).iter().all(is_readable)
}

/// Finds the events in the chunks of a stream. See the [module docs](self).
pub(crate) struct Reader {
    limit: usize,
    /// The event that earlier chunks began; after [`Self::next_event`] gave it away it waits here to be cleared.
    begun: Vec<u8>,
    given_away: bool,
    /// The last byte of the event that has begun.
    last: Option<u8>,
    too_long: bool,
    at_start: bool,
}

/// One event, as it was sent.
#[derive(Clone, Copy)]
pub(crate) struct Event<'a>(&'a [u8]);

/// An event had more bytes than the reader may keep. Its bytes are passed over up to the next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than the limit")]
#[non_exhaustive]
pub(crate) struct TooLong;

// ===== impl Reader =====

impl Reader {
    /// Keeps at most `limit` bytes of an event whose end has not come yet, and gives no longer one.
    #[must_use]
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, begun: Vec::new(), given_away: false, last: None, too_long: false, at_start: true }
    }

    /// The next event that ends in `chunk`, which afterwards holds what follows that event.
    ///
    /// `None` when no more event ends in the chunk; the part of one that it holds is remembered. Give every chunk of the stream
    /// once and in order, and ask until the answer is `None`.
    ///
    /// # Errors
    /// [`TooLong`] once for every event that is longer than the limit, as soon as that is known; events after it follow.
    pub(crate) fn next_event<'a, 'c: 'a>(&'a mut self, chunk: &mut &'c [u8]) -> Option<Result<Event<'a>, TooLong>> {
        self.clear_given();
        loop {
            if self.last.is_none() {
                *chunk = skip_line_ends(chunk);
            }
            let Some(end) = empty_line(self.last, chunk) else { return self.keep(chunk).err().map(Err) };
            let (tail, rest) = chunk.split_at(end);
            *chunk = skip_one_line_end(rest);
            self.last = None;
            if !std::mem::take(&mut self.too_long) {
                return Some(self.complete(tail));
            }
        }
    }

    /// Takes a chunk that begins and ends between two events, unread. `false`, and nothing is done, if it is another.
    pub(crate) fn skip(&mut self, chunk: &[u8]) -> bool {
        self.clear_given();
        let is_whole = self.last.is_none() && (chunk.ends_with(b"\n\n") || chunk.ends_with(b"\r\n\r\n"));
        self.at_start &= !is_whole;
        is_whole
    }

    /// Returns what of an event had come when the stream ended: the standard drops it, but an error may well be the last that
    /// comes.
    pub(crate) fn finish(&mut self) -> Option<Event<'_>> {
        self.clear_given();
        self.last.take()?;
        self.given_away = true;
        Some(Event(without_mark(&self.begun, self.at_start))).filter(|event| !event.0.is_empty())
    }

    fn clear_given(&mut self) {
        if std::mem::take(&mut self.given_away) {
            self.begun.clear();
            self.begun.shrink_to(KEPT_CAPACITY);
        }
    }

    /// Remembers a part of an event.
    fn keep(&mut self, chunk: &mut &[u8]) -> Result<(), TooLong> {
        let part = std::mem::take(chunk);
        self.last = part.last().copied().or(self.last);
        if self.too_long {
            return Ok(());
        }
        if self.begun.len() + part.len() <= self.limit {
            self.begun.extend_from_slice(part);
            return Ok(());
        }
        self.too_long = true;
        self.at_start = false;
        self.begun = Vec::new();
        Err(TooLong)
    }

    fn complete<'a>(&'a mut self, tail: &'a [u8]) -> Result<Event<'a>, TooLong> {
        let at_start = std::mem::take(&mut self.at_start);
        if self.begun.len() + tail.len() > self.limit {
            self.begun = Vec::new();
            return Err(TooLong);
        }
        if self.begun.is_empty() {
            return Ok(Event(without_mark(tail, at_start)));
        }
        self.begun.extend_from_slice(tail);
        self.given_away = true;
        Ok(Event(without_mark(&self.begun, at_start)))
    }
}

/// The lengths, never the content.
impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("limit", &self.limit).field("begun", &self.begun.len()).finish_non_exhaustive()
    }
}

/// Returns the beginning of the empty line that ends the event, `last` being the byte of it that came before `bytes`.
fn empty_line(mut last: Option<u8>, bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line_end = match (last, bytes.get(at)?) {
            (Some(b'\r'), b'\n') => at,
            (Some(b'\r' | b'\n'), b'\r' | b'\n') => return Some(at),
            _ => at + memchr2(b'\r', b'\n', bytes.get(at..)?)?,
        };
        last = bytes.get(line_end).copied();
        at = line_end + 1;
    }
}

fn skip_line_ends(bytes: &[u8]) -> &[u8] {
    let ends = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    &bytes[ends..]
}

fn skip_one_line_end(bytes: &[u8]) -> &[u8] {
    let two = bytes.strip_prefix(b"\r\n");
    two.or_else(|| bytes.split_first().map(|(_, rest)| rest)).unwrap_or_default()
}

fn without_mark(block: &[u8], at_start: bool) -> &[u8] {
    if at_start { block.strip_prefix(BYTE_ORDER_MARK).unwrap_or(block) } else { block }
}

// ===== Boundary =====

/// Tells whether a passing stream stands between two events, where another could be put in, by its last bytes alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boundary {
    /// The last three bytes; `\n` stands for what there is not yet, since a stream begins between events.
    last: [u8; 3],
}

impl Default for Boundary {
    fn default() -> Self {
        Self::new()
    }
}

impl Boundary {
    /// At the start of a stream.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { last: [b'\n'; 3] }
    }

    /// Passes a chunk.
    pub(crate) fn pass(&mut self, chunk: &[u8]) {
        let new = chunk.len().min(3);
        self.last.rotate_left(new);
        self.last[3 - new..].copy_from_slice(&chunk[chunk.len() - new..]);
    }

    /// Tells whether the last line was an empty one, ended in whichever way.
    #[must_use]
    pub(crate) const fn is_between_events(&self) -> bool {
        matches!(self.last, [_, b'\n', b'\n' | b'\r'] | [_, b'\r', b'\r'] | [b'\n' | b'\r', b'\r', b'\n'])
    }
}

// ===== impl Event =====

impl<'a> Event<'a> {
    /// All lines of the event, without the empty line after them.
    #[must_use]
    pub(crate) const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Tells whether there are only comments in it.
    #[must_use]
    pub(crate) fn is_comment(&self) -> bool {
        lines(self.0).all(|line| line.is_empty() || line.starts_with(b":"))
    }

    /// Returns what the last `event:` line says.
    #[must_use]
    pub(crate) fn name(&self) -> Option<&'a [u8]> {
        self.values(b"event").last().filter(|name| !name.is_empty())
    }

    /// Returns what the `data:` lines say, joined by `\n`; `None` when there is none, as in a comment. A single line is not
    /// copied.
    #[must_use]
    pub(crate) fn data(&self) -> Option<Cow<'a, [u8]>> {
        let mut lines = self.values(b"data");
        let mut data = Cow::Borrowed(lines.next()?);
        for line in lines {
            let joined = data.to_mut();
            joined.push(b'\n');
            joined.extend_from_slice(line);
        }
        Some(data)
    }

    fn values(&self, field: &'static [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        lines(self.0).filter_map(move |line| value(line, field))
    }
}

/// The length, never the content.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("len", &self.0.len()).finish()
    }
}

/// The lines of a block; an empty one between the two bytes of `\r\n` says nothing.
fn lines(mut block: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if block.is_empty() {
            return None;
        }
        let end = memchr2(b'\r', b'\n', block).unwrap_or(block.len());
        let (line, rest) = block.split_at(end);
        block = rest.get(1..).unwrap_or_default();
        Some(line)
    })
}

fn value<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(field)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
