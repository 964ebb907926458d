//! Parts of a form, as its body arrives.

use memchr::memmem;

use super::head::name;
use super::malformed;
use crate::azure::request_body::ReadBodyError;

/// More than any call of the API has, so that a form of tiny parts costs no time.
const MAX_PARTS: usize = 1_000;
/// The longest head of a part.
const MAX_HEAD: usize = 16 << 10;

/// A form on its way in, part by part.
#[derive(Debug)]
pub(in crate::azure) struct FormReader {
    /// With the line break before it.
    delimiter: Box<[u8]>,
    finder: memmem::Finder<'static>,
    /// Bytes that were fed and are not yet understood; bounded, for values are passed over.
    rest: Vec<u8>,
    /// Offset of `rest` in the body.
    at: usize,
    state: State,
    parts: usize,
}

/// Parts of a form, in its order.
#[derive(Debug)]
pub(in crate::azure) enum Piece<'a> {
    /// A part begins, with this name.
    Field(&'a str),
    /// More of its value, which stands there in the body.
    Value(usize, &'a [u8]),
    /// Its value ends there.
    End(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Before the first delimiter, which stands without its line break.
    Start,
    /// After a delimiter.
    Line,
    Head,
    /// In a part whose value begins there.
    Value(usize),
    End,
}

/// Result of a look.
enum Step {
    /// So many bytes are understood; there may be more to see.
    On(usize),
    /// So many are, and the next ones must arrive first.
    Wait(usize),
}

impl FormReader {
    pub(in crate::azure) fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}").into_bytes().into_boxed_slice();
        let finder = memmem::Finder::new(&delimiter).into_owned();
        Self { delimiter, finder, rest: Vec::new(), at: 0, state: State::Start, parts: 0 }
    }

    /// Gives `take` the pieces that end in the next bytes.
    pub(in crate::azure) fn feed<E: From<ReadBodyError>>(
        &mut self,
        chunk: &[u8],
        mut take: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = std::mem::take(&mut self.rest);
        let joined = !rest.is_empty();
        if joined {
            rest.extend_from_slice(chunk);
        }
        let (mut window, mut waits) = (if joined { &rest } else { chunk }, false);
        while !waits {
            let (Step::On(read) | Step::Wait(read)) = {
                let step = self.step(window, &mut take)?;
                waits = matches!(step, Step::Wait(_));
                step
            };
            self.at += read;
            window = window.get(read..).unwrap_or_default();
        }
        self.rest = window.to_vec();
        Ok(())
    }

    /// Returns the length of the body that is understood.
    pub(in crate::azure) const fn understood(&self) -> usize {
        self.at
    }

    /// # Errors
    /// The form is not at its end.
    pub(in crate::azure) fn finish(&self) -> Result<(), ReadBodyError> {
        match (self.state, &*self.rest) {
            (State::End, b"" | b"\r\n") => Ok(()),
            _ => Err(malformed()),
        }
    }

    fn step<E: From<ReadBodyError>>(
        &mut self,
        window: &[u8],
        take: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<Step, E> {
        match self.state {
            State::Start => Ok(match expect(window, &self.delimiter[2..])? {
                true => self.go(State::Line, self.delimiter.len() - 2),
                false => Step::Wait(0),
            }),
            State::Line if window.len() < 2 => Ok(Step::Wait(0)),
            State::Line if window.starts_with(b"--") => Ok(self.go(State::End, 2)),
            State::Line if window.starts_with(b"\r\n") => {
                self.parts += 1;
                if self.parts > MAX_PARTS {
                    return Err(ReadBodyError::new("a form of too many parts").into());
                }
                Ok(self.go(State::Head, 2))
            }
            State::Line => Err(malformed().into()),
            State::Head => self.head(window, take),
            State::Value(start) => self.value(window, start, take),
            // One line break may follow, and nothing else.
            State::End => match (expect(window, b"\r\n")?, window.len()) {
                (true, length) if length > 2 => Err(malformed().into()),
                _ => Ok(Step::Wait(0)),
            },
        }
    }

    fn go(&mut self, state: State, read: usize) -> Step {
        self.state = state;
        Step::On(read)
    }

    fn head<E: From<ReadBodyError>>(
        &mut self,
        window: &[u8],
        take: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<Step, E> {
        let Some(length) = memmem::find(window, b"\r\n\r\n") else {
            return if window.len() > MAX_HEAD { Err(malformed().into()) } else { Ok(Step::Wait(0)) };
        };
        take(Piece::Field(&name(window.get(..length).unwrap_or_default())?))?;
        // The line break of the blank line stays in view: a delimiter that used it would be one for some readers only.
        Ok(self.go(State::Value(self.at + length + 4), length + 2))
    }

    fn value<E: From<ReadBodyError>>(
        &mut self,
        window: &[u8],
        start: usize,
        take: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<Step, E> {
        let found = self.finder.find(window);
        let end = found.unwrap_or_else(|| window.len().saturating_sub(self.delimiter.len() - 1));
        if found.is_some() && self.at + end < start {
            return Err(malformed().into());
        }
        let from = start.saturating_sub(self.at);
        if let Some(value) = window.get(from..end).filter(|value| !value.is_empty()) {
            take(Piece::Value(self.at + from, value))?;
        }
        if found.is_none() {
            return Ok(Step::Wait(end));
        }
        take(Piece::End(self.at + end))?;
        Ok(self.go(State::Line, end + self.delimiter.len()))
    }
}

/// Tells whether `expected` stands there; `false` while only its beginning has arrived.
fn expect(window: &[u8], expected: &[u8]) -> Result<bool, ReadBodyError> {
    let length = window.len().min(expected.len());
    if window.get(..length) == expected.get(..length) { Ok(length == expected.len()) } else { Err(malformed()) }
}
