//! The fields of a body.

use http::{HeaderMap, header};
use memchr::memmem;
use serde_json::{Map, Value, json};

/// The fields of a JSON object or of a form, or nothing when the body is something else.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Payload {
    fields: Option<Value>,
    form: bool,
}

impl Payload {
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        match boundary(headers) {
            Some(boundary) => Self { fields: form(body, boundary), form: true },
            None => Self { fields: serde_json::from_slice(body).ok().filter(Value::is_object), form: false },
        }
    }

    pub(in super::super) const fn is_readable(&self) -> bool {
        self.fields.is_some()
    }

    pub(in super::super) const fn is_form(&self) -> bool {
        self.form
    }

    pub(in super::super) fn field(&self, name: &str) -> Option<&Value> {
        self.fields.as_ref()?.get(name).filter(|value| !value.is_null())
    }

    pub(in super::super) fn text(&self, name: &str) -> Option<&str> {
        self.field(name)?.as_str()
    }

    pub(in super::super) fn flag(&self, name: &str) -> Option<bool> {
        self.field(name)?.as_bool()
    }
}

fn boundary(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let parameters = kind.strip_prefix("multipart/form-data")?;
    parameter(parameters, "boundary")
}

/// The fields of a form: texts, and of files the name and the size.
fn form(body: &[u8], boundary: &str) -> Option<Value> {
    let delimiter = format!("\r\n--{boundary}");
    let first = body.strip_prefix(&delimiter.as_bytes()[2..])?;
    let mut ends = memmem::find_iter(first, &delimiter);
    let (mut fields, mut start) = (Map::new(), 0);
    loop {
        let end = ends.next()?;
        let (name, value) = part(first.get(start..end)?)?;
        fields.insert(name, value);
        start = end + delimiter.len();
        if first.get(start..)?.starts_with(b"--") {
            return Some(fields.into());
        }
    }
}

fn part(part: &[u8]) -> Option<(String, Value)> {
    let part = part.strip_prefix(b"\r\n")?;
    let head_end = memmem::find(part, b"\r\n\r\n")?;
    let head = str::from_utf8(&part[..head_end]).ok()?;
    let content = &part[head_end + 4..];
    let disposition = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let name = parameter(disposition, "name")?.to_owned();
    let value = match parameter(disposition, "filename") {
        Some(filename) => json!({ "filename": filename, "bytes": content.len() }),
        None => str::from_utf8(content).ok()?.into(),
    };
    Some((name, value))
}

/// A parameter of a header, without its quotes.
fn parameter<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = header.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    parameters.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().trim_matches('"'))
}
