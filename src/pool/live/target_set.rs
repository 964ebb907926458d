//! Sets of targets.

use super::Target;

/// Targets, as a set of their slots. The first 64 slots, which is all of most pools, need no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetSet {
    first: u64,
    rest: Vec<u64>,
}

impl TargetSet {
    /// Adds a target; `false` when it was there already.
    pub fn insert(&mut self, target: &Target) -> bool {
        let new = !self.contains(target);
        let bit = 1 << (target.slot() % 64);
        match (target.slot() / 64).checked_sub(1) {
            None => self.first |= bit,
            Some(word) => {
                if self.rest.len() <= word {
                    self.rest.resize(word + 1, 0);
                }
                self.rest[word] |= bit;
            }
        }
        new
    }

    /// Tells whether the target is in the set.
    #[must_use]
    pub fn contains(&self, target: &Target) -> bool {
        let word = match (target.slot() / 64).checked_sub(1) {
            None => Some(&self.first),
            Some(word) => self.rest.get(word),
        };
        word.is_some_and(|bits| bits & (1 << (target.slot() % 64)) != 0)
    }

    /// Returns how many targets are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Tells whether no target is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words().all(|bits| bits == 0)
    }

    fn words(&self) -> impl Iterator<Item = u64> {
        std::iter::once(self.first).chain(self.rest.iter().copied())
    }
}
