//! JSON as it arrives: what stands at places of interest, and nothing else of it is held.
//!
//! It follows strings and nesting only. That the rest is JSON is for whoever the answer is for to see.

use std::borrow::Cow;

use memchr::memchr2;

use crate::azure::object_id::sealed::{Sealed, Sealing};

/// Depth of places of interest. Nothing that the API defines lies deeper than a few.
const MAX_DEPTH: usize = 64;
/// Longer than any key that anybody looks for.
const MAX_KEY: usize = 64;

/// Part of a text that is kept.
pub(super) enum Keep {
    /// Mark by which it is known, however long it is.
    Mark,
    Nothing,
    /// All of it; nothing when it has more bytes.
    UpTo(usize),
}

/// Knows the places of interest.
pub(super) trait Places {
    type Place: Copy;

    /// Returns what a member of an object at a place leads to.
    fn member(&self, place: Self::Place, key: &str) -> Option<Self::Place>;

    /// Returns what an element of an array at a place leads to.
    fn element(&self, place: Self::Place) -> Option<Self::Place>;

    /// Returns what is kept of a text at a place.
    fn keeps(&self, place: Self::Place) -> Keep;

    fn text(&mut self, place: Self::Place, text: &str);

    fn mark(&mut self, place: Self::Place, mark: Sealed);

    fn flag(&mut self, place: Self::Place, flag: bool);
}

/// Reader of a text that comes in pieces.
#[derive(Debug)]
pub(super) struct Scan<P> {
    /// The objects and arrays of interest that are open.
    open: Vec<Open<P>>,
    /// Number of arrays and objects that are open inside a value of no interest.
    passed_over: usize,
    /// Place where the next value stands, if that is of interest.
    next: Option<P>,
    expects_key: bool,
    string: Option<Text<P>>,
    escape: Escape,
    /// The first half of a pair of surrogates, whose second half may follow.
    half: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
struct Open<P> {
    place: P,
    is_object: bool,
}

/// A string that has begun.
#[derive(Debug)]
enum Text<P> {
    Key(Vec<u8>),
    Kept { place: P, limit: usize, bytes: Vec<u8> },
    Marked { place: P, sealing: Box<Sealing> },
    PassedOver,
}

impl<P: Copy> Scan<P> {
    pub(super) fn new(place: P) -> Self {
        Self {
            open: Vec::new(),
            passed_over: 0,
            next: Some(place),
            expects_key: false,
            string: None,
            escape: Escape::default(),
            half: None,
        }
    }

    pub(super) fn feed(&mut self, mut rest: &[u8], places: &mut impl Places<Place = P>) {
        while let Some((&byte, after)) = rest.split_first() {
            if self.string.is_some() {
                rest = self.read_string(rest, places);
                continue;
            }
            rest = after;
            match byte {
                b'"' => self.string = Some(self.begin_text(places)),
                b'{' | b'[' => self.open(byte == b'{', places),
                b'}' | b']' => self.close(),
                b',' if self.passed_over == 0 => self.go_on(places),
                b't' | b'f' if self.passed_over == 0 => {
                    if let Some(place) = self.next.take() {
                        places.flag(place, byte == b't');
                    }
                }
                _ => {}
            }
        }
    }

    fn begin_text(&mut self, places: &impl Places<Place = P>) -> Text<P> {
        if self.passed_over > 0 {
            return Text::PassedOver;
        }
        if std::mem::take(&mut self.expects_key) {
            return Text::Key(Vec::new());
        }
        let Some(place) = self.next.take() else { return Text::PassedOver };
        match places.keeps(place) {
            Keep::Mark => Text::Marked { place, sealing: Box::default() },
            Keep::Nothing => Text::PassedOver,
            Keep::UpTo(limit) => Text::Kept { place, limit, bytes: Vec::new() },
        }
    }

    /// As much of a string as is there; what follows it.
    fn read_string<'c>(&mut self, rest: &'c [u8], places: &mut impl Places<Place = P>) -> &'c [u8] {
        if self.escape.is_open() {
            let (&byte, after) = rest.split_first().unwrap_or((&b'"', rest));
            if let Some(unit) = self.escape.push(byte) {
                self.push_unit(unit);
            }
            return after;
        }
        let Some(end) = memchr2(b'"', b'\\', rest) else {
            self.push_plain(rest);
            return &[];
        };
        self.push_plain(&rest[..end]);
        if rest[end] == b'\\' {
            self.escape.open();
        } else {
            self.end_half();
            self.end_text(places);
        }
        &rest[end + 1..]
    }

    fn push_plain(&mut self, part: &[u8]) {
        if !part.is_empty() {
            self.end_half();
            self.push(part);
        }
    }

    /// One unit of UTF-16, as escapes have them.
    fn push_unit(&mut self, unit: u16) {
        if let (Some(high), 0xdc00..=0xdfff) = (self.half, unit) {
            self.half = None;
            char::decode_utf16([high, unit]).flatten().for_each(|c| self.push_char(c));
            return;
        }
        self.end_half();
        match unit {
            0xd800..=0xdbff => self.half = Some(unit),
            unit => self.push_char(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
    }

    /// A half that stays alone, as clients write where they cut a text, is a character that nobody knows.
    fn end_half(&mut self) {
        if self.half.take().is_some() {
            self.push_char(char::REPLACEMENT_CHARACTER);
        }
    }

    fn push_char(&mut self, c: char) {
        self.push(c.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn push(&mut self, part: &[u8]) {
        match &mut self.string {
            Some(Text::Key(bytes)) => push_up_to(bytes, part, MAX_KEY),
            Some(Text::Kept { limit, bytes, .. }) => push_up_to(bytes, part, *limit),
            Some(Text::Marked { sealing, .. }) => sealing.push(part),
            Some(Text::PassedOver) | None => {}
        }
    }

    fn end_text(&mut self, places: &mut impl Places<Place = P>) {
        match self.string.take() {
            Some(Text::Key(key)) => {
                let within = self.open.last().map(|open| open.place);
                self.next = within.and_then(|place| places.member(place, &String::from_utf8_lossy(&key)));
            }
            Some(Text::Kept { place, limit, bytes }) if bytes.len() <= limit => {
                let text: Cow<'_, str> = String::from_utf8_lossy(&bytes);
                places.text(place, &text);
            }
            Some(Text::Marked { place, sealing }) => {
                if let Some(mark) = sealing.finish() {
                    places.mark(place, mark);
                }
            }
            Some(Text::Kept { .. } | Text::PassedOver) | None => {}
        }
    }

    fn open(&mut self, is_object: bool, places: &impl Places<Place = P>) {
        match self.next.take() {
            Some(place) if self.passed_over == 0 && self.open.len() < MAX_DEPTH => {
                self.open.push(Open { place, is_object });
                self.go_on(places);
            }
            _ => self.passed_over += 1,
        }
    }

    fn close(&mut self) {
        match self.passed_over.checked_sub(1) {
            Some(fewer) => self.passed_over = fewer,
            None => {
                self.open.pop();
                (self.next, self.expects_key) = (None, false);
            }
        }
    }

    /// Returns what may come next where something is open.
    fn go_on(&mut self, places: &impl Places<Place = P>) {
        let within = self.open.last();
        self.expects_key = within.is_some_and(|open| open.is_object);
        self.next = within.filter(|open| !open.is_object).and_then(|open| places.element(open.place));
    }
}

/// One byte more than the limit says that it is too long.
fn push_up_to(bytes: &mut Vec<u8>, part: &[u8], limit: usize) {
    let room = (limit + 1).saturating_sub(bytes.len());
    bytes.extend_from_slice(&part[..part.len().min(room)]);
}

/// An escaped character on its way in.
#[derive(Debug, Default)]
struct Escape {
    is_open: bool,
    /// Number of hexadecimal digits that are still to come.
    digits: u8,
    unit: u16,
}

impl Escape {
    const fn is_open(&self) -> bool {
        self.is_open
    }

    const fn open(&mut self) {
        self.is_open = true;
    }

    /// The next byte of it, and the unit that ends with it.
    fn push(&mut self, byte: u8) -> Option<u16> {
        if self.digits == 0 {
            if byte == b'u' {
                (self.digits, self.unit) = (4, 0);
                return None;
            }
            self.is_open = false;
            return Some(match byte {
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => 0x0a,
                b'r' => 0x0d,
                b't' => 0x09,
                other => other.into(),
            });
        }
        let digit = char::from(byte).to_digit(16).unwrap_or_default();
        self.unit = self.unit << 4 | digit as u16;
        self.digits -= 1;
        if self.digits > 0 {
            return None;
        }
        self.is_open = false;
        Some(self.unit)
    }
}
