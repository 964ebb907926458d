//! Names in a JSON text, found as it arrives: nothing of it is held but the name or the key that is being read.

use std::borrow::Cow;

use memchr::memchr2;

use super::ways::Way;
use super::{MAX_NAMES, Step};
use crate::azure::json_text::{Text, not_json};
use crate::azure::request_body::{Model, ReadBodyError};

/// More than any key on a way has, with every letter escaped.
const MAX_KEY: usize = 128;
/// More than any name has, with every letter escaped.
const MAX_NAME: usize = 4 << 10;
/// Depth to which a way may lead; parsers stop there, too.
const MAX_DEPTH: usize = 128;

/// The ways on which a place lies, one bit each.
type Ways = u32;

/// A JSON object on its way in, whose names are looked for.
///
/// Where ways lead it is strict, so that nobody reads other members there; what lies beside them is only passed over.
#[derive(Debug)]
pub(crate) struct NameScan {
    ways: &'static [Way],
    /// Offset of the next byte in the body.
    at: usize,
    state: State,
    /// The open objects and arrays where ways lead.
    frames: Vec<Frame>,
    /// Number that is open inside of these, where none leads.
    beside: usize,
    text: Text,
    /// True if the next byte of the string is escaped.
    is_escaped: bool,
    found: Vec<Found>,
}

/// A name, and the way on which it was found.
#[derive(Debug)]
pub(in crate::azure) struct Found {
    pub(in crate::azure) name: Model,
    pub(in crate::azure) way: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Before the object.
    Start,
    /// Place where a key or the end of the object may stand.
    KeyOrEnd,
    Key,
    Colon,
    /// Place where a value or the end of an array may stand.
    ValueOrEnd,
    Value,
    CommaOrEnd,
    Word,
    String(Purpose),
    /// After the object.
    End,
    /// There is no object.
    Nothing,
}

/// Purpose of a string.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Purpose {
    Key,
    /// The `type` of an element by which it is chosen.
    Kind,
    /// Names, by the way that comes first.
    Name(usize),
    Other,
}

#[derive(Debug, Default)]
struct Frame {
    is_array: bool,
    /// The ways that lead through it.
    ways: Ways,
    /// Those whose member was there.
    seen: Ways,
    /// Those that go on in its next value.
    next: Ways,
    /// Those whose name is its next value.
    names: Ways,
    /// Those that go on only if its `type` says so.
    typed: Ways,
    kind: Option<String>,
    has_kind: bool,
    /// True if the next value is its `type`.
    is_kind: bool,
    /// Number of names that were found before it.
    before: usize,
}

impl NameScan {
    pub(in crate::azure) const fn new(ways: &'static [Way]) -> Self {
        Self {
            ways,
            at: 0,
            state: State::Start,
            frames: Vec::new(),
            beside: 0,
            text: Text::new(),
            is_escaped: false,
            found: Vec::new(),
        }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// Those of [`find`](super::find), as soon as they are seen. Then it is over.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Result<(), ReadBodyError> {
        let mut rest = chunk;
        while let Some(byte) = rest.first() {
            let read = match self.state {
                State::String(purpose) => self.string(purpose, rest)?,
                State::Nothing => rest.len(),
                _ if self.beside > 0 => self.pass(rest),
                _ => {
                    self.byte(*byte)?;
                    1
                }
            };
            self.at += read;
            rest = &rest[read..];
        }
        Ok(())
    }

    /// The names that were found by now, in the order in which they stand.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Model> {
        let settled = self.settled();
        self.found.iter().map(|found| &found.name).filter(move |name| name.span.start < settled)
    }

    pub(in crate::azure) fn found(&self) -> &[Found] {
        &self.found
    }

    /// Returns where the text is settled: what stands before has been understood, and no name in it is still to be found.
    pub(in crate::azure) fn settled(&self) -> usize {
        let reading = matches!(self.state, State::String(Purpose::Name(_))).then(|| self.text.start());
        let undecided = self
            .frames
            .iter()
            .filter(|frame| frame.typed != 0)
            .find_map(|frame| self.found.get(frame.before..)?.iter().map(|found| found.name.span.start).min());
        reading.into_iter().chain(undecided).min().unwrap_or(self.at)
    }

    /// Goes on with another object, which begins at `at`.
    pub(in crate::azure) fn restart(&mut self, at: usize) {
        self.frames.clear();
        self.found.clear();
        (self.at, self.state, self.beside) = (at, State::Start, 0);
    }

    pub(in crate::azure) const fn is_complete(&self) -> bool {
        matches!(self.state, State::End)
    }

    // ===== text =====

    fn string(&mut self, purpose: Purpose, rest: &[u8]) -> Result<usize, ReadBodyError> {
        if std::mem::take(&mut self.is_escaped) {
            self.text.push(&rest[..1]);
            return Ok(1);
        }
        let Some(end) = memchr2(b'"', b'\\', rest) else {
            self.text.push(rest);
            return Ok(rest.len());
        };
        if rest[end] == b'\\' {
            self.is_escaped = true;
            self.text.push(&rest[..=end]);
        } else {
            self.text.push(&rest[..end]);
            self.ends_string(purpose, self.at + end + 1)?;
        }
        Ok(end + 1)
    }

    /// Passes over what lies beside the ways, up to its end or a string.
    fn pass(&mut self, rest: &[u8]) -> usize {
        for (index, byte) in rest.iter().enumerate() {
            match byte {
                b'"' => {
                    self.begins_string(Purpose::Other, self.at + index, 0);
                    return index + 1;
                }
                b'{' | b'[' => self.beside += 1,
                b'}' | b']' => {
                    self.beside -= 1;
                    if self.beside == 0 {
                        self.state = State::CommaOrEnd;
                        return index + 1;
                    }
                }
                _ => {}
            }
        }
        rest.len()
    }

    fn begins_string(&mut self, purpose: Purpose, start: usize, limit: usize) {
        self.text.begin(start, limit);
        self.state = State::String(purpose);
    }

    fn ends_string(&mut self, purpose: Purpose, end: usize) -> Result<(), ReadBodyError> {
        self.state = State::CommaOrEnd;
        match purpose {
            Purpose::Key => {
                self.state = State::Colon;
                self.key()
            }
            Purpose::Kind => {
                let kind = self.text.unescaped()?.map(Cow::into_owned);
                if let Some(frame) = self.frames.last_mut() {
                    frame.kind = kind;
                }
                Ok(())
            }
            Purpose::Name(way) => {
                let name =
                    self.text.unescaped()?.ok_or_else(|| ReadBodyError::new("a name in it is too long for one"))?;
                let name = name.into_owned();
                if self.found.len() == MAX_NAMES {
                    return Err(ReadBodyError::new("it names too many deployments"));
                }
                self.found.push(Found { name: Model { name, span: self.text.start()..end }, way });
                Ok(())
            }
            Purpose::Other => Ok(()),
        }
    }

    // ===== grammar =====

    fn byte(&mut self, byte: u8) -> Result<(), ReadBodyError> {
        match (byte, self.state) {
            (b' ' | b'\t' | b'\r' | b'\n', State::Word) => self.state = State::CommaOrEnd,
            (b' ' | b'\t' | b'\r' | b'\n', _) | (0xef | 0xbb | 0xbf, State::Start) => {}
            (b'{', State::Start) => self.opens(false, Ways::MAX)?,
            (_, State::Start) => self.state = State::Nothing,
            (b'"', State::Key | State::KeyOrEnd) => self.begins_string(Purpose::Key, self.at, MAX_KEY),
            (b':', State::Colon) => self.state = State::Value,
            (b',', State::CommaOrEnd | State::Word) => {
                self.state = if self.is_array() { State::Value } else { State::Key };
                self.awaits_element();
            }
            (b'}', State::KeyOrEnd) => self.closes(false)?,
            (b']', State::ValueOrEnd) => self.closes(true)?,
            (b'}' | b']', State::CommaOrEnd | State::Word) => self.closes(byte == b']')?,
            (_, State::Value | State::ValueOrEnd) => self.begins_value(byte)?,
            (b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.', State::Word) => {}
            _ => return Err(not_json()),
        }
        Ok(())
    }

    fn begins_value(&mut self, byte: u8) -> Result<(), ReadBodyError> {
        let Some(frame) = self.frames.last_mut() else { return Err(not_json()) };
        let (next, names) = (std::mem::take(&mut frame.next), std::mem::take(&mut frame.names));
        let (is_kind, typed) = (std::mem::take(&mut frame.is_kind), frame.typed);
        match byte {
            b'"' if names != 0 => {
                self.begins_string(Purpose::Name(names.trailing_zeros() as usize), self.at, MAX_NAME);
            }
            b'"' if is_kind => self.begins_string(Purpose::Kind, self.at, MAX_KEY),
            b'"' => self.begins_string(Purpose::Other, self.at, 0),
            // `null` names nothing, and an image tool with anything else is none.
            _ if names & !typed != 0 && byte != b'n' => {
                return Err(ReadBodyError::new("the name of a further deployment is not a string"));
            }
            b'{' | b'[' => self.opens(byte == b'[', next)?,
            b'0'..=b'9' | b'-' | b't' | b'f' | b'n' => self.state = State::Word,
            _ => return Err(not_json()),
        }
        Ok(())
    }

    fn opens(&mut self, is_array: bool, next: Ways) -> Result<(), ReadBodyError> {
        let depth = self.frames.len();
        let ways = self.choose(next, |way| match way.step(depth) {
            Some(Step::Each | Step::EachOfType(_)) => is_array,
            Some(Step::In(_)) => !is_array,
            Some(Step::Deep(_)) => true,
            None => false,
        });
        if ways == 0 {
            self.beside = 1;
            return Ok(());
        }
        if depth == MAX_DEPTH {
            return Err(ReadBodyError::new("what stands in it is nested too deep"));
        }
        let is_typed = |way: &Way| matches!(way.before(depth), Some(Step::EachOfType(_)));
        let (typed, before) = (self.choose(ways, is_typed), self.found.len());
        self.frames.push(Frame { is_array, ways, typed, before, ..Frame::default() });
        self.state = if is_array { State::ValueOrEnd } else { State::KeyOrEnd };
        self.awaits_element();
        Ok(())
    }

    /// In an array, the ways go on in each element.
    fn awaits_element(&mut self) {
        if let Some(frame) = self.frames.last_mut().filter(|frame| frame.is_array) {
            frame.next = frame.ways;
        }
    }

    fn is_array(&self) -> bool {
        self.frames.last().is_some_and(|frame| frame.is_array)
    }

    fn choose(&self, among: Ways, is_chosen: impl Fn(&Way) -> bool) -> Ways {
        let chosen = self.ways.iter().enumerate().filter(|(index, way)| among & bit(*index) != 0 && is_chosen(way));
        chosen.fold(0, |ways, (index, _)| ways | bit(index))
    }

    fn closes(&mut self, is_array: bool) -> Result<(), ReadBodyError> {
        if self.is_array() != is_array {
            return Err(not_json());
        }
        self.decide();
        self.state = if self.frames.is_empty() { State::End } else { State::CommaOrEnd };
        Ok(())
    }

    /// Drops what was found in an element of another type than the way wants.
    fn decide(&mut self) {
        let Some(frame) = self.frames.pop().filter(|frame| frame.typed != 0) else { return };
        let (depth, ways, mut index) = (self.frames.len(), self.ways, 0);
        self.found.retain(|found| {
            index += 1;
            let is_typed = index > frame.before && frame.typed & bit(found.way) != 0;
            let wanted = ways[found.way].before(depth);
            !is_typed || matches!(wanted, Some(Step::EachOfType(kind)) if frame.kind.as_deref().is_some_and(|said| said.eq_ignore_ascii_case(kind)))
        });
    }

    fn key(&mut self) -> Result<(), ReadBodyError> {
        let key = self.text.unescaped()?.unwrap_or_default();
        let (ways, depth) = (self.ways, self.frames.len().saturating_sub(1));
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        (frame.next, frame.names) = (0, 0);
        if frame.typed != 0 && key.eq_ignore_ascii_case("type") {
            if key != "type" || std::mem::replace(&mut frame.has_kind, true) {
                return Err(ambiguous("type"));
            }
            frame.is_kind = true;
        }
        for (index, way) in ways.iter().enumerate().filter(|(index, _)| frame.ways & bit(*index) != 0) {
            let (Some(step), is_last) = (way.step(depth), way.is_last(depth)) else { continue };
            match step {
                Step::In(wanted) | Step::Deep(wanted) if key.eq_ignore_ascii_case(wanted) => {
                    if key != wanted || frame.seen & bit(index) != 0 {
                        return Err(ambiguous(wanted));
                    }
                    frame.seen |= bit(index);
                    *(if is_last { &mut frame.names } else { &mut frame.next }) |= bit(index);
                }
                Step::Deep(_) => frame.next |= bit(index),
                Step::Each | Step::EachOfType(_) | Step::In(_) => {}
            }
        }
        Ok(())
    }
}

impl Way {
    /// The step that leads on from a place so deep; the last one again where it is any number of steps.
    fn step(&self, depth: usize) -> Option<Step> {
        match self.0.get(depth) {
            Some(step) => Some(*step),
            None => self.0.last().copied().filter(|step| matches!(step, Step::Deep(_))),
        }
    }

    /// The step that leads to a place so deep.
    fn before(&self, depth: usize) -> Option<Step> {
        self.0.get(depth.checked_sub(1)?).copied()
    }

    const fn is_last(&self, depth: usize) -> bool {
        depth + 1 >= self.0.len()
    }
}

const fn bit(way: usize) -> Ways {
    1 << way
}

fn ambiguous(key: &str) -> ReadBodyError {
    ReadBodyError::new(format!(
        "`{key}`, on the way to the name of a deployment, stands in it twice, or in another case"
    ))
}
