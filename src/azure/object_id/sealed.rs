//! Content that only the resource reads that made it.
//!
//! Sources: `encrypted_content` as in <https://platform.openai.com/docs/guides/reasoning> and <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/responses>.

use std::fmt;

/// Length of either end of a long content that tells it apart: both are as good as random.
const EDGE: usize = 256;

/// Fingerprint of one `encrypted_content` of a reasoning or compaction item.
///
/// Both ends and the length: such content begins with the vector that it was encrypted with and ends with its signature, so
/// that a long one need not be read as a whole.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Sealed(String);

impl Sealed {
    /// The mark of a content; that of an empty one is `None`.
    #[must_use]
    pub fn of(content: &str) -> Option<Self> {
        let mut sealed = Self::default();
        sealed.read(content);
        (!content.is_empty()).then_some(sealed)
    }

    /// The mark as a text, which is part of the content itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Becomes the mark of this content, in the same memory.
    pub(super) fn read(&mut self, content: &str) {
        self.0.clear();
        let head = ends_before(content, if content.len() <= 2 * EDGE { content.len() } else { EDGE });
        let tail = begins_after(content, (content.len() - head).min(EDGE));
        self.write(content.len(), &content[..head], if head == content.len() { "" } else { tail });
    }

    fn write(&mut self, length: usize, head: &str, tail: &str) {
        self.0.push_str(&length.to_string());
        self.0.push(':');
        self.0.push_str(head);
        self.0.push_str(tail);
    }
}

/// The last place up to `at` at which a text can be cut.
fn ends_before(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// Returns what stands in the last `length` bytes of a text from where it can be cut.
fn begins_after(text: &str, length: usize) -> &str {
    let at = (text.len() - length..text.len()).find(|at| text.is_char_boundary(*at));
    &text[at.unwrap_or(text.len())..]
}

/// The mark of a content that comes in parts, of which no more than its ends is held.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    length: usize,
    /// The beginning, and all of a short one.
    head: Vec<u8>,
    /// The end of a long one.
    tail: Vec<u8>,
}

impl Sealing {
    pub(super) fn push(&mut self, part: &[u8]) {
        self.length += part.len();
        let (first, rest) = part.split_at(part.len().min(2 * EDGE - self.head.len()));
        self.head.extend_from_slice(first);
        if rest.len() >= EDGE {
            self.tail.clear();
        } else if self.tail.len() + rest.len() > 4 * EDGE {
            self.tail.drain(..self.tail.len() - EDGE);
        }
        self.tail.extend_from_slice(&rest[rest.len().saturating_sub(EDGE)..]);
    }

    /// The mark, as that of the whole content; `None` for an empty one.
    pub(super) fn finish(self) -> Option<Sealed> {
        if self.tail.is_empty() {
            return Sealed::of(&String::from_utf8_lossy(&self.head));
        }
        let ends = [&self.head[..], &self.tail].concat();
        let begins_character = |at: &usize| ends.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
        let head = (0..=EDGE).rev().find(begins_character).unwrap_or_default();
        let tail = (ends.len() - EDGE..ends.len()).find(begins_character).unwrap_or(ends.len());
        let mut sealed = Sealed::default();
        let text = |bytes| String::from_utf8_lossy(bytes);
        sealed.write(self.length, &text(&ends[..head]), &text(&ends[tail..]));
        Some(sealed)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_content_is_known_by_its_ends() {
        let long = |head: &str, tail: &str| format!("{head}{}{tail}", "x".repeat(10_000));
        let mark = |content: &str| Sealed::of(content).unwrap();
        assert_eq!(mark(&long("a", "b")), mark(&long("a", "b")));
        assert_ne!(mark(&long("a", "b")), mark(&long("c", "b")));
        assert_ne!(mark(&long("a", "b")), mark(&long("a", "c")));
        assert_ne!(mark(&long("a", "b")), mark(&long("ax", "b")));
        assert!(mark(&long("a", "b")).as_str().len() < 600);
        assert_eq!(Sealed::of(""), None);
        assert_eq!(format!("{:?}", mark("secret")), "Sealed { .. }");
    }

    proptest! {
        #[test]
        fn a_content_in_parts_has_the_mark_of_the_whole(parts in prop::collection::vec("\\PC{0,700}", 0..6)) {
            let mut sealing = Sealing::default();
            for part in &parts {
                // Parts end anywhere, within a character too.
                let (one, other) = part.as_bytes().split_at(part.len() / 2);
                sealing.push(one);
                sealing.push(other);
            }
            prop_assert_eq!(sealing.finish(), Sealed::of(&parts.concat()));
        }

        #[test]
        fn any_text_has_a_mark_of_its_own(one in "\\PC{0,900}", other in "\\PC{0,400}") {
            prop_assert_eq!(Sealed::of(&one) == Sealed::of(&other), one == other);
        }
    }
}
