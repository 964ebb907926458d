//! Fields of a `multipart/form-data` body (RFC 7578), found where they stand.
//!
//! It is strict: a body that a more tolerant reader could take for another one is refused.

use std::ops::Range;

use memchr::memmem;

use super::{Fields, Model, ReadBodyError};

/// The longest boundary of RFC 2046.
const MAX_BOUNDARY: usize = 70;
/// More than any call of the API has, so that a form of tiny parts costs no memory.
const MAX_PARTS: usize = 1_000;

/// Reads a form of up to 1,000 parts, whose boundary stands in `content_type`.
///
/// # Errors
/// There is no boundary, or several; there are more parts; the body does not start with it or does not end with it; the head of a part is malformed;
/// a field that is read stands twice, or beside one that differs in case only; the value of `model` is not UTF-8.
pub fn read_form(content_type: &str, body: &[u8]) -> Result<Fields, ReadBodyError> {
    let boundary = boundary(content_type)?;
    let mut fields = Fields::default();
    let mut stream = None;
    for part in parts(body, boundary)? {
        match &*name(part.head)? {
            "model" if fields.model.is_some() => return Err(ReadBodyError::new("`model` stands in the form twice")),
            "model" => {
                let value = body.get(part.value.clone()).unwrap_or_default();
                let value = std::str::from_utf8(value).map_err(|_| ReadBodyError::new("`model` is not UTF-8"))?;
                fields.model = Some(Model { name: value.to_owned(), span: part.value });
            }
            "stream" if stream.is_some() => return Err(ReadBodyError::new("`stream` stands in the form twice")),
            "stream" => stream = body.get(part.value),
            other if other.eq_ignore_ascii_case("model") => {
                return Err(ReadBodyError::new("`model` is not spelt in lower case"));
            }
            _ => {}
        }
    }
    fields.streams = stream.is_some_and(|value| value.eq_ignore_ascii_case(b"true"));
    Ok(fields)
}

fn boundary(content_type: &str) -> Result<&str, ReadBodyError> {
    let mut found = None;
    for (name, value) in parameters(content_type) {
        if name.eq_ignore_ascii_case("boundary") && found.replace(value).is_some() {
            return Err(ReadBodyError::new("a form with two boundaries"));
        }
    }
    let boundary = found.unwrap_or_default();
    let usable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b';') || byte == b' ';
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY || !boundary.bytes().all(usable) {
        return Err(ReadBodyError::new("a form without a boundary that can be used"));
    }
    Ok(boundary)
}

/// The parameters of a header's value, after its first part. A quoted value must not hold a semicolon.
fn parameters(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value.split(';').skip(1).filter_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        Some((name.trim_end(), unquoted.unwrap_or(value)))
    })
}

struct Part<'a> {
    head: &'a [u8],
    value: Range<usize>,
}

fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>, ReadBodyError> {
    let malformed = || ReadBodyError::new("not the form that its boundary says");
    let delimiter = format!("\r\n--{boundary}");
    let (finder, mut parts) = (memmem::Finder::new(&delimiter), Vec::new());
    // The first delimiter stands without its line break.
    let mut at = body.starts_with(&delimiter.as_bytes()[2..]).then(|| delimiter.len() - 2).ok_or_else(malformed)?;
    loop {
        let rest = body.get(at..).unwrap_or_default();
        if rest.starts_with(b"--") {
            return if matches!(&rest[2..], b"" | b"\r\n") { Ok(parts) } else { Err(malformed()) };
        }
        let start = at + 2;
        let rest = rest.strip_prefix(b"\r\n").ok_or_else(malformed)?;
        let head = memmem::find(rest, b"\r\n\r\n").ok_or_else(malformed)?;
        let value = start + head + 4;
        // A delimiter right after the head's blank line would be one for some readers only.
        let blank_line = value - 2;
        let found = finder.find(body.get(blank_line..).unwrap_or_default()).filter(|length| *length >= 2);
        let end = blank_line + found.ok_or_else(malformed)?;
        if parts.len() == MAX_PARTS {
            return Err(ReadBodyError::new("a form of too many parts"));
        }
        parts.push(Part { head: rest.get(..head).unwrap_or_default(), value: value..end });
        at = end + delimiter.len();
    }
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
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        rest = after.strip_prefix('"').unwrap_or(after).trim_start();
        if name.eq_ignore_ascii_case("name") && (value.contains('\\') || found.replace(value.trim_end()).is_some()) {
            return None;
        }
        if name.eq_ignore_ascii_case("name*") {
            return None;
        }
    }
    found.map(str::to_owned)
}

/// Where a quoted text ends; a file's name may hold escaped quotes.
fn closing_quote(quoted: &str) -> Option<usize> {
    let mut escaped = false;
    quoted.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}
