//! Name of a field, in the head of its part.
//!
//! Sources: RFC 7578 §4.2 (<https://www.rfc-editor.org/rfc/rfc7578#section-4.2>).

use crate::azure::request_body::ReadBodyError;

/// The name of a part's field.
pub(super) fn name(head: &[u8]) -> Result<String, ReadBodyError> {
    let malformed = || ReadBodyError::new("a form with a part whose head is malformed");
    let head = std::str::from_utf8(head).map_err(|_| malformed())?;
    let mut names = Vec::new();
    for line in head.split("\r\n") {
        let (header, value) = line.split_once(':').ok_or_else(malformed)?;
        // A folded line would hide a header, and so would a line break or a zero that only some readers take for an end.
        if header.is_empty()
            || !header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            || value.contains(|c: char| c.is_ascii_control() && c != '\t')
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
