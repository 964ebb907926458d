//! Times to the first content of the last answers.

use std::time::Duration;

use tokio::time::Instant;

/// So many answers are looked back at, of one target: 256.
const ANSWERS: usize = 256;
/// Older answers say nothing of now: 10 min.
const AGE: Duration = Duration::from_secs(600);

/// The last answers of one target, at most [`ANSWERS`].
#[derive(Debug, Default)]
pub(in crate::pool) struct Recent {
    answers: Vec<(Instant, Duration)>,
    /// The oldest, once there are as many as are looked back at.
    oldest: usize,
}

impl Recent {
    pub(in crate::pool) fn add(&mut self, took: Duration, now: Instant) {
        if self.answers.len() < ANSWERS {
            self.answers.push((now, took));
        } else {
            self.answers[self.oldest] = (now, took);
            self.oldest = (self.oldest + 1) % ANSWERS;
        }
    }

    /// The times that so many per cent of the answers did not exceed; `None` without any answer.
    pub(in crate::pool) fn percentiles<const N: usize>(
        &self,
        percent: [usize; N],
        now: Instant,
    ) -> Option<[Duration; N]> {
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) <= AGE;
        let mut took: Vec<_> = self.answers.iter().filter(|(at, _)| is_recent(at)).map(|(_, took)| *took).collect();
        took.sort_unstable();
        // The nearest rank: a time that some answer really took.
        let rank = |percent: usize| (took.len() * percent).div_ceil(100).saturating_sub(1);
        (!took.is_empty()).then(|| percent.map(|percent| took[rank(percent)]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn old_answers_and_too_many_are_forgotten() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        assert_eq!(recent.percentiles([50], start), None);
        for _ in 0..ANSWERS {
            recent.add(9_000 * MS, start);
        }
        for _ in 0..ANSWERS / 2 {
            recent.add(MS, start + AGE);
        }
        assert_eq!(recent.percentiles([50, 51], start), Some([MS, 9_000 * MS]));
        assert_eq!(recent.percentiles([50, 100], start + AGE + MS), Some([MS, MS]));
        assert_eq!(recent.percentiles([50], start + 2 * AGE + MS), None);
    }

    proptest! {
        #[test]
        fn a_percentile_is_an_answer_that_so_many_did_not_exceed(ms in prop::collection::vec(0_u32..5_000, 1..=ANSWERS)) {
            let (mut recent, now) = (Recent::default(), Instant::now());
            ms.iter().for_each(|ms| recent.add(*ms * MS, now));
            for percent in [1, 50, 95, 100] {
                let [found] = recent.percentiles([percent], now).unwrap();
                let within = ms.iter().filter(|ms| **ms * MS <= found).count();
                let below = ms.iter().filter(|ms| **ms * MS < found).count();
                prop_assert!(within * 100 >= percent * ms.len() && below * 100 < percent * ms.len());
            }
        }
    }
}
