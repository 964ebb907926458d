//! Single segments of a path, and what makes a path unfit.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// Reason why a path cannot be served. The message never repeats the path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ParsePathError(pub(super) Fault);

impl ParsePathError {
    /// The path leads to no part of the API.
    #[must_use]
    pub const fn is_outside(&self) -> bool {
        matches!(self.0, Fault::Outside)
    }

    /// Two readers could take the path for different paths.
    #[must_use]
    pub const fn is_ambiguous(&self) -> bool {
        !self.is_outside()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Fault {
    #[error("the path holds a backslash")]
    Backslash,
    #[error("the path holds a control character")]
    Control,
    #[error("the path holds a dot segment")]
    Dots,
    #[error("the path holds an empty segment")]
    Empty,
    #[error("the path holds percent-encoding that is malformed")]
    Encoding,
    #[error("the path holds percent-encoding that is not UTF-8")]
    NotUtf8,
    #[error("the path is outside the API")]
    Outside,
    #[error("the path holds an encoded slash")]
    Slash,
}

/// A segment, percent-decoded.
pub(super) fn decode(raw: &str) -> Result<Cow<'_, str>, Fault> {
    let plain = raw.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\'));
    let segment = if plain { Cow::Borrowed(raw) } else { decode_odd(raw)? };
    match &*segment {
        "" => Err(Fault::Empty),
        segment if is_dots(segment) => Err(Fault::Dots),
        _ => Ok(segment),
    }
}

/// Some servers take what stands behind a `;` for parameters of the segment.
fn is_dots(segment: &str) -> bool {
    segment.starts_with('.') && matches!(segment.split(';').next(), Some("." | ".."))
}

fn decode_odd(raw: &str) -> Result<Cow<'_, str>, Fault> {
    if has_malformed_escape(raw) {
        return Err(Fault::Encoding);
    }
    let segment = percent_decode_str(raw).decode_utf8().map_err(|_| Fault::NotUtf8)?;
    // Whoever decodes twice must not find another path.
    let again = percent_decode_str(&segment).decode_utf8_lossy();
    match fault_in(&segment).or_else(|| fault_in(&again)) {
        None if is_dots(&again) => Err(Fault::Dots),
        None => Ok(segment),
        Some(fault) => Err(fault),
    }
}

fn fault_in(segment: &str) -> Option<Fault> {
    segment.chars().find_map(|c| match c {
        '/' => Some(Fault::Slash),
        '\\' => Some(Fault::Backslash),
        c => c.is_control().then_some(Fault::Control),
    })
}

fn has_malformed_escape(raw: &str) -> bool {
    raw.split('%').skip(1).any(|after| !after.bytes().take(2).map(|b| b.is_ascii_hexdigit()).eq([true, true]))
}
