//! Fields of a `multipart/form-data` body (RFC 7578), found where they stand, as the body arrives.
//!
//! It is strict: a body that a more tolerant reader could take for another one is refused.
//!
//! Sources: <https://www.rfc-editor.org/rfc/rfc7578>.

mod head;
mod reader;

use std::ops::Range;

use memchr::memmem;

pub(in crate::azure) use self::reader::{FormReader, Piece};
use super::{Fields, Model, ReadBodyError};

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
