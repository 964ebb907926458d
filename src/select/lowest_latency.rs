use super::random::Random;
use super::{Choice, Policy};
use crate::pool::Target;

/// One in so many choices tries whoever might have become the fastest.
const EXPLORE: u64 = 16;

/// Policy that chooses the target which is fastest to the first content, for the kind of the route: a stream is compared with
/// streams, a whole answer with whole answers.
///
/// A target that was never measured for this kind is tried first, by one request at a time. What was slow once would never be
/// found to be fast. One choice in sixteen, drawn at random, therefore goes
/// by the [latency in the light of disuse](Target::latency_at), which brings each target its turn, the slower the rarer; a target
/// that is being tried loses that light, so that one request finds out and no crowd follows it. As disuse discounts by e^(−t /
/// [`LATENCY_DECAY`](crate::pool::load::LATENCY_DECAY)), a target that is f times as slow as the fastest is tried at most once in
/// 10 s × ln f, each 7 s if it is twice as slow and each 23 s if ten times. This is the ε-greedy rule of bandit problems, ε =
/// 1/16, with the exploring choices spent where most may have changed.
///
/// Among equals the one with fewer requests in flight. Weights have no meaning here, and all requests follow the fastest until
/// it is slower than the others: use [`LeastLoad`](super::LeastLoad) where one target cannot carry them.
#[derive(Debug, Default)]
pub struct LowestLatency {
    random: Random,
}

impl LowestLatency {
    /// Draws the same numbers in every run, for tests.
    #[must_use]
    pub const fn with_seed(seed: u64) -> Self {
        Self { random: Random::with_seed(seed) }
    }
}

impl Policy for LowestLatency {
    fn choose(&self, choice: &Choice<'_>) -> usize {
        let (kind, eligible) = (choice.route().kind(), choice.candidates());
        let is_new = |target: &&Target| target.last_latency(kind).is_infinite() && target.in_flight() == 0;
        if let Some(new) = eligible.iter().position(is_new) {
            new
        } else if self.random.below(EXPLORE) == 0 {
            least(eligible, |target| target.latency_rank(kind))
        } else {
            least(eligible, |target| target.last_latency(kind))
        }
    }
}

fn least(eligible: &[&Target], figure: impl Fn(&Target) -> f64) -> usize {
    let mut best = (0, f64::INFINITY, u32::MAX);
    for (index, target) in eligible.iter().enumerate() {
        let figure = figure(target);
        if figure < best.1 || (figure == best.1 && target.in_flight() < best.2) {
            best = (index, figure, target.in_flight());
        }
    }
    best.0
}
