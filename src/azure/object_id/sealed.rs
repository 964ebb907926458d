//! Content that only the resource reads that made it.

use std::fmt;

/// How much of each end of a long content tells it apart: both are as good as random.
const EDGE: usize = 256;

/// What tells one `encrypted_content` of a reasoning or compaction item from every other.
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
        self.0.push_str(&content.len().to_string());
        self.0.push(':');
        if content.len() <= 2 * EDGE {
            self.0.push_str(content);
            return;
        }
        let head = (0..=EDGE).rev().find(|at| content.is_char_boundary(*at)).unwrap_or_default();
        let tail = (content.len() - EDGE..content.len()).find(|at| content.is_char_boundary(*at));
        self.0.push_str(&content[..head]);
        self.0.push_str(&content[tail.unwrap_or(content.len())..]);
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
        fn any_text_has_a_mark_of_its_own(one in "\\PC{0,900}", other in "\\PC{0,400}") {
            prop_assert_eq!(Sealed::of(&one) == Sealed::of(&other), one == other);
        }
    }
}
