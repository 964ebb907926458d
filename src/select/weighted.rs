use std::sync::{Mutex, PoisonError};

use super::policy::slot;
use super::{Choice, Policy};

/// By weight, evenly spread: smooth weighted round robin.
///
/// Each choice adds its weight to every candidate's score, takes the highest score, and subtracts the sum of the weights
/// from the winner. Weights 5, 1, 1 give `a a b a c a a` rather than five `a` in a row. The algorithm is that of nginx's `upstream`
/// module.
///
/// While the candidates stay the same, a score is what is owed: after n choices, n × weight − (choices so far) × sum. The scores
/// sum to zero after each choice, so the winner's was positive before the subtraction and nobody is ever ahead of its share by a
/// whole choice. Nor behind by more than ½ + ⅓ + … + 1/k among k candidates: the k − 1 highest scores have been at most 1/k of a
/// sum on average, and dropping the lowest of m scores lets the average of the others be higher by 1/m at most (Adler et al., "A
/// proportionate fair scheduling rule with good worst-case performance"). After each full round, as many choices as the weights
/// sum to, all is even. A candidate that cannot be chosen for a while keeps its score, and makes up for nothing.
#[derive(Debug, Default)]
pub struct Weighted(Mutex<Vec<i64>>);

impl Policy for Weighted {
    fn choose(&self, choice: &Choice<'_>) -> usize {
        let eligible = choice.candidates();
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
