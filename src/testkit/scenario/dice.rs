//! Chance that is the same on every machine.

/// SplitMix64. Only additions, multiplications and comparisons, which every machine computes alike: no logarithm is drawn from.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// The dice for one purpose: whoever names the same things throws the same numbers, whatever was thrown elsewhere.
    pub(super) fn of(seed: u64, things: &[u64]) -> Self {
        let mut dice = Self(seed);
        for thing in things {
            dice.0 = dice.next() ^ thing;
        }
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`; 0 when that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// From 0 up to, and without, 1.
    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponentially distributed, with a mean of 1, by von Neumann's method: the length of a falling run of uniform numbers is
    /// odd with probability e⁻ˣ when the first of them is x.
    pub(super) fn exponential(&mut self) -> f64 {
        let mut whole = 0.0;
        loop {
            let first = self.share();
            let (mut last, mut odd) = (first, true);
            loop {
                let next = self.share();
                if next >= last {
                    break;
                }
                (last, odd) = (next, !odd);
            }
            if odd {
                return whole + first;
            }
            whole += 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_has_its_mean_and_its_tail() {
        let mut dice = Dice::of(1, &[]);
        let drawn: Vec<_> = (0..100_000).map(|_| dice.exponential()).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let above_two = drawn.iter().filter(|x| **x > 2.0).count() as f64 / drawn.len() as f64;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert!((above_two - 0.1353).abs() < 0.005, "{above_two}");
    }

    #[test]
    fn the_same_things_throw_the_same() {
        assert_eq!(Dice::of(7, &[1, 2]).next(), Dice::of(7, &[1, 2]).next());
        assert_ne!(Dice::of(7, &[1, 2]).next(), Dice::of(7, &[2, 1]).next());
        assert_ne!(Dice::of(7, &[1, 2]).next(), Dice::of(8, &[1, 2]).next());
    }
}
