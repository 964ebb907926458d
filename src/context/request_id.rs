use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::random::random_bits;

/// The longest id that is kept of a client's.
const LONGEST: usize = 128;

/// Names a request in logs and answers.
///
/// Kept from the client where it sent one that can stand in a log (up to 128 of `A-Z a-z 0-9 - _ . :`), in the header by which Azure
/// takes it (`x-ms-client-request-id`) or that of OpenAI (`x-client-request-id`); otherwise made, at random.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The header in which Azure takes a client's id, and tells it back.
    pub const HEADER: HeaderName = HeaderName::from_static("x-ms-client-request-id");
    const OF_OPENAI: HeaderName = HeaderName::from_static("x-client-request-id");

    /// The client's id, or one that is made.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let sent = [Self::HEADER, Self::OF_OPENAI].into_iter().find_map(|name| headers.get(name));
        sent.filter(|id| is_plain(id)).map_or_else(Self::random, |id| Self(id.clone()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(crate) const fn as_header(&self) -> &HeaderValue {
        &self.0
    }

    /// A UUID of version 4.
    fn random() -> Self {
        let bits = random_bits() & !(0xf << 76) & !(0b11 << 62) | 0x4 << 76 | 0b10 << 62;
        let mut text = [b'-'; 36];
        let mut digit = 32;
        for (at, place) in text.iter_mut().enumerate() {
            if !matches!(at, 8 | 13 | 18 | 23) {
                digit -= 1;
                *place = b"0123456789abcdef"[(bits >> (4 * digit) & 0xf) as usize];
            }
        }
        // Bytes that have an owner are shared by their first clone, where others would be moved into a second piece of memory.
        let text = HeaderValue::from_maybe_shared(Bytes::from_owner(text));
        Self(text.unwrap_or_else(|_| HeaderValue::from_static("")))
    }
}

fn is_plain(id: &HeaderValue) -> bool {
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(is_fine)
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn of(name: &'static str, value: &[u8]) -> RequestId {
        RequestId::of(&HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())]))
    }

    #[test]
    fn keeps_what_can_stand_in_a_log() {
        let longest = "x".repeat(LONGEST);
        for id in ["1", "0f8e-4a:b_c.d", &longest] {
            assert_eq!(of("x-ms-client-request-id", id.as_bytes()).as_str(), id);
            assert_eq!(of("x-client-request-id", id.as_bytes()).as_str(), id);
        }
    }

    #[test]
    fn makes_one_otherwise() {
        let longer = "x".repeat(LONGEST + 1);
        for id in [b"".as_slice(), b"a b", b"a\"b", b"\xff", longer.as_bytes()] {
            let made = of("x-ms-client-request-id", id);
            assert_eq!(made.as_str().len(), 36, "{made}");
        }
        let (one, other) = (RequestId::of(&HeaderMap::new()), RequestId::of(&HeaderMap::new()));
        assert_ne!(one, other);
        let many: HashSet<_> = (0..1_000).map(|_| RequestId::random().as_str().to_owned()).collect();
        assert_eq!(many.len(), 1_000, "none is given twice");
        let parts: Vec<_> = one.as_str().split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&one.as_str()[14..15], "4");
        assert!("89ab".contains(&one.as_str()[19..20]), "{one}");
    }
}
