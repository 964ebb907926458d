use std::time::Duration;

use tokio::time::Instant;

use super::random::Random;
use super::{Choice, Policy};
use crate::pool::{Target, in_range};

/// The share that a target begins with.
const LEAST: f64 = 0.1;

/// Gives a target that [came back after failures](Target::recovered_at) its share gradually: a tenth of it at first, all of it
/// after a while, so that its recovery is no second outage. After a 429, which is no failure, a target is used at once.
///
/// The policy inside chooses among all; the choice of a target that is still recovering stands with the probability of that
/// share, and otherwise the policy chooses again without it. So it gets about that part of what the policy would give it. A target is
/// never kept waiting when there is no other.
///
/// The ramp is linear over the window and begins at a tenth, as Envoy's slow start does by default; unlike there it begins with the
/// first answer after failures and not with membership.
#[derive(Debug)]
pub struct SlowStart<P> {
    policy: P,
    window: Duration,
    random: Random,
}

impl<P> SlowStart<P> {
    /// Slows the start of targets under this policy over this time; [`Duration::ZERO`] slows nothing.
    #[must_use]
    pub fn new(policy: P, window: Duration) -> Self {
        Self { policy, window, random: Random::default() }
    }

    /// Draws the same numbers in every run, for tests.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.random = Random::with_seed(seed);
        self
    }

    fn holds_back(&self, target: &Target) -> bool {
        let Some(recovered) = target.recovered_at() else { return false };
        let age = Instant::now().saturating_duration_since(recovered);
        age < self.window && self.random.share() >= (age.as_secs_f64() / self.window.as_secs_f64()).max(LEAST)
    }
}

impl<P: Policy> Policy for SlowStart<P> {
    fn choose(&self, choice: &Choice<'_>) -> usize {
        let (first, candidates) = (self.policy.choose(choice), choice.candidates());
        match candidates.get(first) {
            Some(target) if candidates.len() > 1 && self.holds_back(target) => {
                self.among_others(first, choice).unwrap_or(first)
            }
            _ => first,
        }
    }

    fn wants_affinity(&self) -> bool {
        self.policy.wants_affinity()
    }
}

impl<P: Policy> SlowStart<P> {
    #[cold]
    fn among_others(&self, first: usize, choice: &Choice<'_>) -> Option<usize> {
        let mut targets = choice.candidates().to_vec();
        let mut indexes: Vec<_> = (0..targets.len()).collect();
        let mut held = first;
        loop {
            targets.remove(held);
            indexes.remove(held);
            if targets.is_empty() {
                return None;
            }
            held = in_range(self.policy.choose(&choice.with_candidates(&targets)), targets.len());
            if !self.holds_back(targets[held]) {
                return Some(indexes[held]);
            }
        }
    }
}
