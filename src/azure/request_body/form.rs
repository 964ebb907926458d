//! Fields of a `multipart/form-data` body (RFC 7578), found where they stand, as the body arrives.
//!
//! It is strict: a body that a more tolerant reader could take for another one is refused.

use std::ops::Range;

use memchr::memmem;

use super::{Fields, Model, ReadBodyError};

/// More than any call of the API has, so that a form of tiny parts costs no time.
const MAX_PARTS: usize = 1_000;
/// The longest head of a part.
const MAX_HEAD: usize = 16 << 10;
/// The longest value of a field that is read.
const MAX_VALUE: usize = 4 << 10;

/// Reads a form of up to 1,000 parts with this boundary.
///
/// # Errors
/// There are more parts; the body does not start with the boundary or does not end with it; the head of a part is malformed;
/// a field that is read stands twice, or beside one that differs in case only; the value of `model` is not UTF-8.
pub(crate) fn read_form_with(boundary: &str, body: &[u8]) -> Result<Fields, ReadBodyError> {
    let mut scan = FormScan::new(boundary);
    scan.feed(body)?;
    scan.finish()
}

/// Reads a form whose boundary stands in `content_type`.
#[cfg(test)]
pub(super) fn read_form(content_type: &str, body: &[u8]) -> Result<Fields, ReadBodyError> {
    read_form_with(crate::azure::media_type::MediaType::read(content_type).boundary()?, body)
}

/// A part of a form: its head, without the blank line, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) head: &'a str,
    pub(crate) value: &'a [u8],
}

impl Part<'_> {
    /// Tells whether it is the content of a file rather than a field.
    pub(crate) fn is_file(&self) -> bool {
        self.head.to_ascii_lowercase().contains("filename")
    }
}

/// The parts of a form that is held whole.
///
/// # Errors
/// As [`read_form_with`].
pub(crate) fn parts<'a>(boundary: &str, body: &'a [u8]) -> Result<Vec<Part<'a>>, ReadBodyError> {
    // From here on the form is one that can be read in one way only.
    read_form_with(boundary, body)?;
    let delimiter = format!("\r\n--{boundary}");
    let (finder, mut parts) = (memmem::Finder::new(&delimiter), Vec::new());
    let mut at = delimiter.len() - 2;
    while let Some(part) = body.get(at..).and_then(|rest| rest.strip_prefix(b"\r\n")) {
        let blank = memmem::find(part, b"\r\n\r\n").ok_or_else(malformed)?;
        let head = std::str::from_utf8(&part[..blank]).map_err(|_| malformed())?;
        let rest = part.get(blank + 4..).ok_or_else(malformed)?;
        let value = finder.find(rest).and_then(|end| rest.get(..end)).ok_or_else(malformed)?;
        parts.push(Part { head, value });
        at += 2 + blank + 4 + value.len() + delimiter.len();
    }
    Ok(parts)
}

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

/// Returns the place of a field's value in a form that is all there; `None` when it has no such field.
///
/// # Errors
/// As [`read_form_with`]; the field stands twice, or in another case.
pub(crate) fn find_field(
    boundary: &str,
    body: &[u8],
    field: &'static str,
) -> Result<Option<Range<usize>>, ReadBodyError> {
    let mut found = None;
    let mut reader = FieldReader::default();
    let mut form = FormReader::new(boundary);
    form.feed(body, |piece| {
        if let Piece::Field(name) = &piece
            && name.eq_ignore_ascii_case(field)
            && (*name != field || found.is_some())
        {
            return Err(ReadBodyError::new(format!("`{field}` stands in the form twice, or in another case")));
        }
        if let Some((_, value)) = reader.take(&piece).filter(|(name, _)| name == field) {
            found = Some(value);
        }
        Ok::<_, ReadBodyError>(())
    })?;
    form.finish()?;
    Ok(found)
}

/// Gives `take` the name and the value of each field, up to where the form was cut or cannot be read.
///
/// # Errors
/// As [`read_form_with`], but that fields may stand twice.
pub(in crate::azure) fn each_field(
    boundary: &str,
    body: &[u8],
    mut take: impl FnMut(&str, &[u8]),
) -> Result<(), ReadBodyError> {
    let (mut form, mut reader) = (FormReader::new(boundary), FieldReader::default());
    form.feed(body, |piece| {
        if let Some((name, value)) = reader.take(&piece) {
            take(&name, body.get(value).unwrap_or_default());
        }
        Ok::<_, ReadBodyError>(())
    })?;
    form.finish()
}

/// The fields of a form that is all there, put together from its pieces.
#[derive(Default)]
struct FieldReader {
    name: String,
    start: Option<usize>,
}

impl FieldReader {
    /// The field that ends with this piece, and where its value stands.
    fn take(&mut self, piece: &Piece<'_>) -> Option<(String, Range<usize>)> {
        match piece {
            Piece::Field(name) => (self.name, self.start) = ((*name).to_owned(), None),
            Piece::Value(at, _) => drop(self.start.get_or_insert(*at)),
            Piece::End(end) => return Some((std::mem::take(&mut self.name), self.start.unwrap_or(*end)..*end)),
        }
        None
    }
}

/// The fields of a form by which a gateway decides, as they arrive.
#[derive(Debug)]
pub(super) struct FormScan {
    reader: FormReader,
    values: Values,
}

#[derive(Debug, Default)]
struct Values {
    field: Field,
    start: Option<usize>,
    value: Vec<u8>,
    fields: Fields,
    stream: bool,
}

/// Subject of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Field {
    Model,
    #[default]
    Other,
    Stream,
}

impl FormScan {
    pub(super) fn new(boundary: &str) -> Self {
        Self { reader: FormReader::new(boundary), values: Values::default() }
    }

    pub(super) const fn fields(&self) -> &Fields {
        &self.values.fields
    }

    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<(), ReadBodyError> {
        let values = &mut self.values;
        self.reader.feed(chunk, |piece| values.take(piece))
    }

    pub(super) fn finish(self) -> Result<Fields, ReadBodyError> {
        self.reader.finish().map(|()| self.values.fields)
    }
}

impl Values {
    fn take(&mut self, piece: Piece<'_>) -> Result<(), ReadBodyError> {
        match (piece, self.field) {
            (Piece::Field(name), _) => {
                self.value.clear();
                self.start = None;
                self.field = self.field(name)?;
            }
            (Piece::Value(..), Field::Other) => {}
            (Piece::Value(at, value), _) => {
                self.start.get_or_insert(at);
                if self.value.len() + value.len() > MAX_VALUE {
                    return Err(ReadBodyError::new("a form with a field that is too long"));
                }
                self.value.extend_from_slice(value);
            }
            (Piece::End(end), Field::Model) => {
                let name = str::from_utf8(&self.value).map_err(|_| ReadBodyError::new("`model` is not UTF-8"))?;
                self.fields.model = Some(Model { name: name.to_owned(), span: self.start.unwrap_or(end)..end });
            }
            (Piece::End(_), Field::Stream) => self.fields.streams = self.value.eq_ignore_ascii_case(b"true"),
            (Piece::End(_), Field::Other) => {}
        }
        Ok(())
    }

    fn field(&mut self, name: &str) -> Result<Field, ReadBodyError> {
        match name {
            "model" if self.fields.model.is_some() => Err(ReadBodyError::new("`model` stands in the form twice")),
            "model" => Ok(Field::Model),
            "stream" if std::mem::replace(&mut self.stream, true) => {
                Err(ReadBodyError::new("`stream` stands in the form twice"))
            }
            "stream" => Ok(Field::Stream),
            other if other.eq_ignore_ascii_case("model") => {
                Err(ReadBodyError::new("`model` is not spelt in lower case"))
            }
            _ => Ok(Field::Other),
        }
    }
}

fn malformed() -> ReadBodyError {
    ReadBodyError::new("not the form that its boundary says")
}

/// Tells whether `expected` stands there; `false` while only its beginning has arrived.
fn expect(window: &[u8], expected: &[u8]) -> Result<bool, ReadBodyError> {
    let length = window.len().min(expected.len());
    if window.get(..length) == expected.get(..length) { Ok(length == expected.len()) } else { Err(malformed()) }
}

/// The name of a part's field.
fn name(head: &[u8]) -> Result<String, ReadBodyError> {
    let malformed = || ReadBodyError::new("a form with a part whose head is malformed");
    let head = std::str::from_utf8(head).map_err(|_| malformed())?;
    let mut names = Vec::new();
    for line in head.split("\r\n") {
        let (header, value) = line.split_once(':').ok_or_else(malformed)?;
        // A folded line, or a line break that only some readers see, would hide a header.
        if header.is_empty()
            || !header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            || value.contains(['\r', '\n'])
        {
            return Err(malformed());
        }
        if header.eq_ignore_ascii_case("content-disposition") {
            names.push(field_name(value).ok_or_else(malformed)?);
        }
        // RFC 7578 §4.7: nobody sends it, and only some readers decode what it announces.
        if header.eq_ignore_ascii_case("content-transfer-encoding")
            && !["7bit", "8bit", "binary"].iter().any(|plain| value.trim().eq_ignore_ascii_case(plain))
        {
            return Err(ReadBodyError::ambiguous("a form with a part in an encoding that not everybody reads"));
        }
    }
    match <[String; 1]>::try_from(names) {
        Ok([name]) => Ok(name),
        Err(_) => Err(malformed()),
    }
}

/// The `name` of a `Content-Disposition: form-data`; an escape in it, or a second one, is not read.
fn field_name(value: &str) -> Option<String> {
    let rest = value.trim().strip_prefix("form-data")?;
    let (mut rest, mut found) = (rest.trim_start(), None);
    while !rest.is_empty() {
        let (name, after) = rest.strip_prefix(';')?.trim_start().split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_at(closing_quote(quoted)?),
            None => after.trim_end().split_at(after.find(';').unwrap_or(after.trim_end().len())),
        };
        rest = after.strip_prefix('"').unwrap_or(after).trim_start();
        if name.eq_ignore_ascii_case("name") && (is_read_otherwise(value) || found.replace(value).is_some()) {
            return None;
        }
        // Only `filename` has a notation of its own for other alphabets.
        if name.len() > 4 && name.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("name*")) {
            return None;
        }
    }
    found.map(str::to_owned)
}

/// Tells whether some readers take a field's name for another one: they end it at a NUL, trim it, unescape it, or take off quotes of
/// another kind.
fn is_read_otherwise(name: &str) -> bool {
    name.trim() != name || name.contains('\\') || name.contains(char::is_control) || name.starts_with('\'')
}

/// Returns the end of a quoted text; a file's name may hold escaped quotes.
fn closing_quote(quoted: &str) -> Option<usize> {
    let mut escaped = false;
    quoted.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}
