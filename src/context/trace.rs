//! Places in distributed traces.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::random::random_bits;

const SAMPLED: u8 = 1;

/// Place of a span in a trace, as `traceparent` tells it (W3C Trace Context).
///
/// That of a caller is read from a request; [`ObserveLayer`](crate::observe::ObserveLayer) asks its
/// [recorders](super::Recorder::trace) for that of the request itself, and selection makes one below it for each attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent_id: Option<[u8; 8]>,
    flags: u8,
}

impl TraceContext {
    /// The header that tells it.
    pub const HEADER: HeaderName = HeaderName::from_static("traceparent");

    /// The caller's; `None` where there is no such header, or several, or one that says nothing.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(Self::HEADER).iter();
        let (line, None) = (lines.next()?, lines.next()) else { return None };
        Self::read(line.to_str().ok()?.trim())
    }

    /// The first span of a trace of its own.
    #[must_use]
    pub fn root(is_sampled: bool) -> Self {
        let flags = if is_sampled { SAMPLED } else { 0 };
        // Zeros alone would be no id.
        Self { trace_id: random_bits().max(1).to_be_bytes(), span_id: random_span(), parent_id: None, flags }
    }

    /// A span below this one, in the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: random_span(), parent_id: Some(self.span_id), ..*self }
    }

    /// The same, recorded or not.
    #[must_use]
    pub const fn sampled(self, is_sampled: bool) -> Self {
        let flags = if is_sampled { self.flags | SAMPLED } else { self.flags & !SAMPLED };
        Self { flags, ..self }
    }

    /// The id of the trace.
    #[must_use]
    pub const fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the span.
    #[must_use]
    pub const fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// The id of the span above it; `None` for the first of a trace, and for one that was read from a header.
    #[must_use]
    pub const fn parent_id(&self) -> Option<[u8; 8]> {
        self.parent_id
    }

    /// The flags of the header.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// True if the trace is recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// As it stands in the header.
    pub(crate) fn as_header(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.to_string()).ok()
    }

    /// Later versions may go on behind what is known.
    fn read(line: &str) -> Option<Self> {
        let mut parts = line.split('-');
        let [version] = unhex(parts.next()?)?;
        let (trace_id, span_id, [flags]) = (unhex(parts.next()?)?, unhex(parts.next()?)?, unhex(parts.next()?)?);
        let goes_on = parts.next().is_some();
        let is_known = version != 0xff && (version > 0 || !goes_on);
        let is_one = is_known && trace_id != [0; 16] && span_id != [0; 8];
        is_one.then_some(Self { trace_id, span_id, parent_id: None, flags })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

fn random_span() -> [u8; 8] {
    (random_bits() as u64).max(1).to_be_bytes()
}

/// In lower case only, as the standard has it.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn reads_what_the_standard_has() {
        for (line, sampled) in [
            (format!("00-{TRACE}-b7ad6b7169203331-01"), Some(true)),
            (format!("00-{TRACE}-b7ad6b7169203331-00"), Some(false)),
            (format!("01-{TRACE}-b7ad6b7169203331-03-more"), Some(true)),
            (format!("00-{TRACE}-b7ad6b7169203331-01-more"), None),
            (format!("ff-{TRACE}-b7ad6b7169203331-01"), None),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-0000000000000000-01"), None),
            (format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}-b7ad6b716920333-01"), None),
            (String::new(), None),
            ("00".to_owned(), None),
        ] {
            let read = TraceContext::read(&line);
            assert_eq!(read.map(|read| read.is_sampled()), sampled, "{line:?}");
            if let Some(read) = read.filter(|_| line.starts_with("00")) {
                assert_eq!(read.to_string(), line);
            }
        }
    }

    #[test]
    fn two_headers_are_none() {
        let line = TraceContext::root(true).as_header().unwrap();
        let once = HeaderMap::from_iter([(TraceContext::HEADER, line.clone())]);
        let mut twice = once.clone();
        twice.append(TraceContext::HEADER, line);
        assert!(TraceContext::of(&once).is_some() && TraceContext::of(&twice).is_none());
    }

    proptest! {
        #[test]
        fn any_line_is_read_and_a_child_stays_in_the_trace(line in "\\PC{0,80}", is_sampled: bool) {
            let _ = TraceContext::read(&line);
            let root = TraceContext::root(is_sampled);
            let child = root.child();
            prop_assert_eq!((child.trace_id(), child.parent_id()), (root.trace_id(), Some(root.span_id())));
            prop_assert_eq!(child.is_sampled(), is_sampled);
            prop_assert_eq!(child.sampled(!is_sampled).is_sampled(), !is_sampled);
            let read = TraceContext::read(&child.to_string()).unwrap();
            prop_assert_eq!((read.trace_id(), read.span_id()), (child.trace_id(), child.span_id()));
        }
    }
}
