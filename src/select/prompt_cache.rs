use super::{Choice, LeastLoad, Policy};
use crate::pool::{Target, rendezvous};

/// Requests with a common prompt go to a common target, where its cache is warm.
///
/// The [affinity](crate::context::Route::affinity) of the route decides, by weighted rendezvous hashing: each target draws a number from its own
/// name and the affinity, and the highest one wins. A target that comes or goes moves only its own share; every process draws the
/// same numbers (Thaler and Ravishankar, "Using name-based mappings to increase hit rates"). A target scores `weight / −ln(1 −
/// u)` for its draw `u`: the reciprocal is exponentially distributed with the weight as its rate, and the smallest of such
/// numbers is each one's with the probability of its share of the rates (Schindelhauer and Schomaker, "Weighted distributed hash
/// tables", as the logarithmic method).
///
/// The load is bounded, as in Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads": a target that has
/// reached [`load_factor`](Self::load_factor) times its share of the requests in flight, rounded up, and [`BUSY`] of them, is
/// passed over for the next in its order, so that a hot key spills over and comes back. The limits of all together are above what
/// is in flight, so that somebody always has room. [`BUSY`] is ours: of a few requests the shares are about one, and to spread
/// them would cost caches and spare nobody.
///
/// The layer reads the affinity from the prompts of chats, completions and responses whose body is in hand, as it is below
/// [inspection](crate::inspect); or it is put on the [`Route`](crate::context::Route) above. A route without affinity is for another policy:
/// [`LeastLoad`] by default.
#[derive(Debug)]
pub struct PromptCache<P = LeastLoad> {
    otherwise: P,
    load_factor: f64,
}

/// So many requests in flight make no target busy: 8.
pub const BUSY: u32 = 8;

impl<P> PromptCache<P> {
    /// Leaves routes without affinity to another policy.
    #[must_use]
    pub const fn or_else(otherwise: P) -> Self {
        Self { otherwise, load_factor: 1.5 }
    }

    /// Sets how much more than its share of the requests in flight a target may have. Default 1.5; what is not above 1 is as good
    /// as 1, which spreads rather than remembers.
    #[must_use]
    pub const fn load_factor(mut self, factor: f64) -> Self {
        self.load_factor = factor.max(1.0);
        self
    }
}

impl Default for PromptCache {
    fn default() -> Self {
        Self::or_else(LeastLoad::default())
    }
}

impl<P: Policy> Policy for PromptCache<P> {
    fn choose(&self, choice: &Choice<'_>) -> usize {
        let Some(key) = choice.route().affinity() else { return self.otherwise.choose(choice) };
        let eligible = choice.candidates();
        let [home, next] = two_highest(key, eligible, |_| true);
        let Some(home) = home.filter(|home| eligible[*home].in_flight() >= BUSY) else { return home.unwrap_or(0) };
        let limit = self.limit(eligible);
        let has_room = |index: &usize| limit.has_room(eligible[*index]);
        let further = || two_highest(key, eligible, |target| limit.has_room(target))[0];
        [Some(home), next].into_iter().flatten().find(has_room).or_else(further).unwrap_or(home)
    }

    fn wants_affinity(&self) -> bool {
        true
    }
}

impl<P> PromptCache<P> {
    fn limit(&self, eligible: &[&Target]) -> Limit {
        // With the request that is on its way.
        let (mut in_flight, mut weights) = (1_u64, 0_u64);
        for target in eligible {
            in_flight += u64::from(target.in_flight());
            weights += u64::from(weight(target));
        }
        Limit { each: self.load_factor * in_flight as f64 / weights as f64 }
    }
}

/// Limit on the requests that a target may have in flight.
struct Limit {
    each: f64,
}

impl Limit {
    fn has_room(&self, target: &Target) -> bool {
        let limit = (self.each * f64::from(weight(target))).ceil() as u32;
        target.in_flight() < BUSY.max(limit)
    }
}

/// A drained target can still be asked for by the state that it holds.
#[inline]
fn weight(target: &Target) -> u32 {
    target.weight().max(1)
}

/// Returns who has the highest score and who the next, among those that are kept.
fn two_highest(key: u64, eligible: &[&Target], keep: impl Fn(&Target) -> bool) -> [Option<usize>; 2] {
    let (mut first, mut second) = ((None, 0.0), (None, 0.0));
    for (index, target) in eligible.iter().enumerate() {
        let (weight, draw) = (f64::from(weight(target)), rendezvous::draw(key, target.identity()));
        if weight > second.1 * draw && keep(target) {
            let score = rendezvous::score(weight, draw);
            if score > first.1 {
                (first, second) = ((Some(index), score), first);
            } else if score > second.1 {
                second = (Some(index), score);
            }
        }
    }
    [first.0, second.0]
}
