use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The golden ratio's part after the point, as a fraction of 2⁶⁴.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Shares of a second that lie evenly, however many are taken: the multiples of the golden ratio. So those who are told to
/// come again do not come together, and a scenario has the same waits each time.
#[derive(Debug, Default)]
pub(in crate::pool) struct Spread(AtomicU64);

impl Spread {
    /// The next share, in whole milliseconds.
    pub(in crate::pool) fn next(&self) -> Duration {
        let share = self.0.fetch_add(GOLDEN, Relaxed).wrapping_add(GOLDEN);
        Duration::from_millis(((u128::from(share) * 1_000) >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_shares_is_spread_over_the_second() {
        for number in [2_u32, 5, 10, 100] {
            let spread = Spread::default();
            let mut shares: Vec<_> = (0..number).map(|_| spread.next()).collect();
            shares.sort_unstable();
            let second = Duration::from_secs(1);
            let around = shares[0] + second - shares[shares.len() - 1];
            let gaps = shares.windows(2).map(|pair| pair[1] - pair[0]).chain([around]);
            assert!(gaps.max().unwrap() <= second * 2 / number, "{shares:?}");
        }
    }
}
