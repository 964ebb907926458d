use tokio::time::Instant;

use super::random::Random;
use super::{Choice, Policy};
use crate::pool::{RouteKind, Target};

/// Costs that differ by less than this share of the larger one are equal: answers of one target differ by more than that.
const EQUAL: f64 = 0.2;

/// The cheaper of two that are drawn at random, by weight.
///
/// The cost of a target is its [latency](Target::latency_at) × (requests in flight + 1): how long a request would take if those in
/// flight were served one after the other and it came last. A target of twice the average weight carries twice as many requests at
/// the same cost. The product is that of Finagle's and linkerd's balancers, and [`load`](crate::pool::load) says how the latency
/// comes about; with equal latencies it is the number of requests in flight, of which the smaller one wins.
///
/// Two draws rather than a search for the cheapest of all: the figures are always a little old, and if everybody followed them to
/// the same target, it would be the busiest before they are corrected. Two are enough for the longest queue to grow with log log
/// n instead of log n (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").
///
/// Among two whose costs differ by less than a fifth, the one that says it has more [room](Target::room) is chosen, if both say
/// so.
#[derive(Debug, Default)]
pub struct LeastLoad {
    random: Random,
}

impl LeastLoad {
    /// Draws the same targets in every run, for tests.
    #[must_use]
    pub const fn with_seed(seed: u64) -> Self {
        Self { random: Random::with_seed(seed) }
    }
}

impl Policy for LeastLoad {
    fn choose(&self, choice: &Choice<'_>) -> usize {
        let (route, eligible) = (choice.route(), choice.candidates());
        let Some(mean) = Weights::of(eligible) else { return 0 };
        let (first, second) = mean.draw_two(eligible, &self.random);
        let now = Instant::now();
        let cost = |index: usize| mean.cost(eligible[index], route.kind(), now);
        let (one, other) = (cost(first), cost(second));
        let second_is_better = if (one - other).abs() <= EQUAL * one.max(other) {
            let room = |index: usize| eligible[index].room(now);
            match (room(first), room(second)) {
                (Some(one), Some(other)) if one != other => other > one,
                _ => other < one,
            }
        } else {
            other < one
        };
        if second_is_better { second } else { first }
    }
}

/// The weights of at least two targets.
struct Weights {
    targets: u64,
    total: u64,
    /// Weight of each of them, if it is the same for all.
    each: Option<u64>,
}

impl Weights {
    fn of(eligible: &[&Target]) -> Option<Self> {
        let [first, _, ..] = eligible else { return None };
        let (first, mut total, mut same) = (weight(first), 0, true);
        for target in eligible {
            let weight = weight(target);
            total += weight;
            same &= weight == first;
        }
        Some(Self { targets: eligible.len() as u64, total, each: same.then_some(first) })
    }

    /// Two different indexes.
    fn draw_two(&self, eligible: &[&Target], random: &Random) -> (usize, usize) {
        if self.each.is_some() {
            let first = random.below(self.targets);
            let second = (first + 1 + random.below(self.targets - 1)) % self.targets;
            return (first as usize, second as usize);
        }
        let first = at(eligible, random.below(self.total), usize::MAX);
        (first, at(eligible, random.below(self.total - weight(eligible[first])), first))
    }

    fn cost(&self, target: &Target, kind: RouteKind, now: Instant) -> f64 {
        let capacity = weight(target) as f64 * self.targets as f64 / self.total as f64;
        target.discounted_latency(kind, now) * (f64::from(target.in_flight()) / capacity + 1.0)
    }
}

/// A drained target can still be asked for by the state that it holds.
fn weight(target: &Target) -> u64 {
    u64::from(target.weight().max(1))
}

/// Returns in whose share of the weights a point lies, when one of the targets has none.
fn at(eligible: &[&Target], mut point: u64, without: usize) -> usize {
    let others = eligible.iter().enumerate().filter(|(index, _)| *index != without);
    for (index, target) in others {
        match point.checked_sub(weight(target)) {
            Some(rest) => point = rest,
            None => return index,
        }
    }
    0
}
