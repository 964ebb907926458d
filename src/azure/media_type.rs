//! Kind of a body, by its `Content-Type` (RFC 9110 §8.3.1). Read here and nowhere else, so that no two layers differ on it.
//!
//! Sources: <https://www.rfc-editor.org/rfc/rfc9110#section-8.3.1>; boundaries as in RFC 2046 §5.1.1 (<https://www.rfc-editor.org/rfc/rfc2046#section-5.1.1>).

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use memchr::memchr;

use super::request_body::ReadBodyError;

/// The longest boundary of RFC 2046.
const MAX_BOUNDARY: usize = 70;

/// As most bodies are called, in both directions.
const PLAIN: &[u8] = b"application/json";

/// One media type, borrowed from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MediaType<'a> {
    essence: &'a str,
    parameters: &'a str,
}

impl<'a> MediaType<'a> {
    /// Returns what the headers call the body; `None` when they call it nothing, or several things.
    #[must_use]
    pub(crate) fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(CONTENT_TYPE).iter();
        match (lines.next().map(HeaderValue::as_bytes), lines.next()) {
            (Some(PLAIN), None) => Some(Self { essence: "application/json", parameters: "" }),
            (Some(line), None) => std::str::from_utf8(line).ok().map(Self::read),
            _ => None,
        }
    }

    /// Reads the value of the header.
    #[must_use]
    pub(crate) fn read(line: &'a str) -> Self {
        let (essence, parameters) = line.split_at(memchr(b';', line.as_bytes()).unwrap_or(line.len()));
        Self { essence: essence.trim_ascii(), parameters }
    }

    /// Tells whether it is this type, whatever its parameters are.
    #[must_use]
    pub(crate) fn is(&self, essence: &str) -> bool {
        self.essence.eq_ignore_ascii_case(essence)
    }

    /// Tells whether it is JSON: `application/json`, or a type that ends with `+json`.
    #[must_use]
    pub(crate) fn is_json(&self) -> bool {
        let Some((kind, subtype)) = self.essence.split_once('/') else { return false };
        let suffix = subtype.rsplit_once('+').map_or(subtype, |(_, suffix)| suffix);
        kind.eq_ignore_ascii_case("application") && suffix.eq_ignore_ascii_case("json")
    }

    /// Tells whether it is any kind of text.
    #[must_use]
    pub(crate) fn is_text(&self) -> bool {
        self.essence.split_once('/').is_some_and(|(kind, _)| kind.eq_ignore_ascii_case("text"))
    }

    /// Tells whether it is any kind of multipart.
    #[must_use]
    pub(crate) fn is_multipart(&self) -> bool {
        self.essence.split_once('/').is_some_and(|(kind, _)| kind.eq_ignore_ascii_case("multipart"))
    }

    /// Tells whether it is a form with a part for every field.
    #[must_use]
    pub(crate) fn is_form(&self) -> bool {
        self.is("multipart/form-data")
    }

    /// Returns what stands between the parts of a multipart.
    ///
    /// # Errors
    /// There is none that can be used; there are several, or one in the notation of RFC 2231, which some readers prefer and
    /// others do not know; the parameters cannot be told apart.
    pub(crate) fn boundary(&self) -> Result<&'a str, ReadBodyError> {
        let mut found = None;
        let mut rest = self.parameters;
        while let Some((parameter, after)) = next_parameter(rest)? {
            rest = after;
            let Some((name, value)) = parameter else { continue };
            let name = name.to_ascii_lowercase();
            if name.strip_prefix("boundary").is_some_and(|rest| rest.starts_with('*')) {
                return Err(ReadBodyError::ambiguous(
                    "a form whose boundary is in a notation that not everybody reads",
                ));
            }
            if name == "boundary" && found.replace(value).is_some() {
                return Err(ReadBodyError::ambiguous("a form with two boundaries"));
            }
        }
        let boundary = found.unwrap_or_default();
        let usable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b';') || byte == b' ';
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY || !boundary.bytes().all(usable) {
            return Err(ReadBodyError::new("a form without a boundary that can be used"));
        }
        Ok(boundary)
    }
}

/// A form with this boundary, written in the one way that everybody reads alike.
#[must_use]
pub(crate) fn form_with(boundary: &str) -> Option<HeaderValue> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let quote = if boundary.bytes().all(token) { "" } else { "\"" };
    HeaderValue::try_from(format!("multipart/form-data; boundary={quote}{boundary}{quote}")).ok()
}

type Parameter<'a> = (&'a str, &'a str);

/// The parameter that `rest` begins with, after its semicolon, and what follows it. An empty one is none.
fn next_parameter(rest: &str) -> Result<Option<(Option<Parameter<'_>>, &str)>, ReadBodyError> {
    let unclear = || ReadBodyError::ambiguous("a content-type whose parameters cannot be told apart");
    let Some(rest) = rest.trim_start().strip_prefix(';') else {
        return if rest.trim().is_empty() { Ok(None) } else { Err(unclear()) };
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with(';') {
        return Ok(Some((None, rest)));
    }
    let end = rest.find(['=', ';']).filter(|end| rest[*end..].starts_with('=')).ok_or_else(unclear)?;
    let (name, value) = (&rest[..end], &rest[end + 1..]);
    let (value, after) = match value.strip_prefix('"') {
        Some(quoted) => {
            let end = quoted.find(['"', '\\']).filter(|end| quoted[*end..].starts_with('"')).ok_or_else(unclear)?;
            (&quoted[..end], &quoted[end + 1..])
        }
        None => {
            let (value, after) = value.split_at(value.find(';').unwrap_or(value.len()));
            if value.contains('"') {
                return Err(unclear());
            }
            (value.trim(), after)
        }
    };
    Ok(Some((Some((name.trim_end(), value)), after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_read_in_one_way_or_not_at_all() {
        for (line, expected) in [
            ("multipart/form-data; boundary=BB", Ok("BB")),
            ("multipart/form-data;BOUNDARY=\"a b;\"", Err(false)),
            ("multipart/form-data; charset=utf-8; boundary=\"a=b\" ;", Ok("a=b")),
            ("multipart/form-data; boundary=a/b:c", Ok("a/b:c")),
            ("multipart/form-data; x=\"; boundary=no\"; boundary=yes", Ok("yes")),
            ("multipart/form-data", Err(false)),
            ("multipart/form-data; boundary=", Err(false)),
            ("multipart/form-data; boundary=a; boundary=a", Err(true)),
            ("multipart/form-data; boundary=a; Boundary*=utf-8''b", Err(true)),
            ("multipart/form-data; boundary*0=a; boundary*1=b", Err(true)),
            ("multipart/form-data; boundary=a; x=\"; boundary*=b", Err(true)),
            ("multipart/form-data; boundary=\"a\\\"b\"", Err(true)),
            ("multipart/form-data; boundary=\"a\"b", Err(true)),
            ("multipart/form-data; boundary=a\"b", Err(true)),
            ("multipart/form-data; boundary", Err(true)),
        ] {
            let read = MediaType::read(line).boundary();
            assert_eq!(read.as_ref().map(|found| &**found).map_err(ReadBodyError::is_ambiguous), expected, "{line}");
        }
    }

    #[test]
    fn what_is_sent_on_is_read_back() {
        for boundary in ["BB", "a b", "a=b", "----WebKitFormBoundary7MA4YWxkTrZu0gW", "x/y:z"] {
            let line = form_with(boundary).unwrap();
            assert_eq!(MediaType::read(line.to_str().unwrap()).boundary().unwrap(), boundary);
        }
    }

    #[test]
    fn kinds() {
        let json = |line| MediaType::read(line).is_json();
        assert!(json("application/json") && json(" Application/Problem+JSON ;charset=utf-8"));
        assert!(!json("text/json") && !json("application/json5") && !json("json") && !json(""));
        assert!(MediaType::read("multipart/mixed").is_multipart() && !MediaType::read("multipart/mixed").is_form());

        let mut headers = HeaderMap::new();
        assert_eq!(MediaType::of(&headers), None);
        headers.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(MediaType::of(&headers).unwrap().is_json());
        headers.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert_eq!(MediaType::of(&headers), None, "two");
    }

    #[test]
    fn a_boundary_is_read_in_any_spelling() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("Multipart/Form-Data; boundary=\"a b\""));
        let kind = MediaType::of(&headers).unwrap();
        assert!(kind.is("multipart/form-data") && !kind.is_json());
        assert_eq!(kind.boundary().unwrap(), "a b");
    }
}
