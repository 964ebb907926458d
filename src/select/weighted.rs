use std::sync::{Mutex, PoisonError};

use super::Policy;
use super::policy::slot;
use crate::context::Route;
use crate::pool::Target;

/// By weight, evenly spread: smooth weighted round robin.
///
/// Each choice adds its weight to every candidate's score, takes the highest score, and subtracts the sum of the weights
/// from the winner. Over any run of choices each candidate gets its share within one, and weights 5, 1, 1 give `a a b a c a
/// a` rather than five `a` in a row. The algorithm is that of nginx's `upstream` module.
#[derive(Debug, Default)]
pub struct Weighted(Mutex<Vec<i64>>);

impl Policy for Weighted {
    fn choose(&self, _: &Route, eligible: &[&Target]) -> usize {
        let mut scores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let scores = &mut *scores;
        let (mut best, mut total) = ((0, i64::MIN), 0);
        for (index, target) in eligible.iter().enumerate() {
            let (weight, score) = (i64::from(target.weight()), slot(scores, target.slot()));
            *score += weight;
            total += weight;
            if *score > best.1 {
                best = (index, *score);
            }
        }
        if let Some(winner) = eligible.get(best.0) {
            *slot(scores, winner.slot()) -= total;
        }
        best.0
    }
}
