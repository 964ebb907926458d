use std::sync::{Mutex, PoisonError};

use super::policy::slot;
use super::{Choice, Policy};
use crate::pool::Target;

/// In rotation: whoever was chosen longest ago is next.
///
/// A counter taken modulo the number of candidates would favour the neighbour of a target that drops out, and would lock step
/// with any second user of the same counter. The time of the last choice has neither fault, whatever set is eligible: each choice
/// of another target puts it behind one that waits, so of n targets nobody is passed over n times in a row, and one that comes
/// back has one turn at once and then no more than the others, for what it missed is not made up. In queueing theory the rule is
/// known as longest idle server first.
#[derive(Debug, Default)]
pub struct RoundRobin(Mutex<Chosen>);

#[derive(Debug, Default)]
struct Chosen {
    choices: u64,
    last: Vec<u64>,
}

impl Policy for RoundRobin {
    fn choose(&self, choice: &Choice<'_>) -> usize {
        let mut chosen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = chosen.last.as_slice();
        let age = |target: &&Target| last.get(target.slot()).copied().unwrap_or_default();
        let next = choice.candidates().iter().enumerate().min_by_key(|(_, target)| age(target));
        let Some((index, target)) = next else { return 0 };
        chosen.choices += 1;
        let now = chosen.choices;
        *slot(&mut chosen.last, target.slot()) = now;
        index
    }
}
