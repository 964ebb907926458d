//! The tokens of a day, by UTC.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A time of day, by UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeOfDay {
    /// Days since 1970.
    pub(super) day: u64,
    pub(super) until_midnight: Duration,
}

impl TimeOfDay {
    pub(super) fn at(since_1970: Duration) -> Self {
        let day = since_1970.as_secs() / DAY.as_secs();
        let midnight = Duration::from_secs((day + 1) * DAY.as_secs());
        Self { day, until_midnight: midnight.saturating_sub(since_1970) }
    }
}

/// Tokens spent on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Day {
    day: u64,
    spent: u64,
}

impl Day {
    #[cfg(feature = "redis")]
    pub(super) const fn spent_on(now: TimeOfDay, spent: u64) -> Self {
        Self { day: now.day, spent }
    }

    /// Begins anew when the day is over. A clock that goes back begins no day.
    pub(super) fn turn_to(&mut self, now: TimeOfDay) {
        if now.day > self.day {
            *self = Self { day: now.day, spent: 0 };
        }
    }

    pub(super) const fn spent(&self) -> u64 {
        self.spent
    }

    pub(super) const fn spend(&mut self, tokens: u64) {
        self.spent = self.spent.saturating_add(tokens);
    }

    /// Takes back what was spent on `day`; on a later one nothing of it counts any more.
    pub(super) const fn take_back(&mut self, tokens: u64, day: u64) {
        if day == self.day {
            self.spent = self.spent.saturating_sub(tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn midnight_begins_a_day() {
        let evening = TimeOfDay::at(Duration::from_secs(2 * 86_400 - 1));
        assert_eq!((evening.day, evening.until_midnight), (1, Duration::from_secs(1)));
        let midnight = TimeOfDay::at(Duration::from_secs(2 * 86_400));
        assert_eq!((midnight.day, midnight.until_midnight), (2, DAY));

        let mut day = Day::default();
        day.turn_to(evening);
        day.spend(7);
        day.turn_to(evening);
        assert_eq!(day.spent(), 7);
        day.turn_to(midnight);
        assert_eq!(day.spent(), 0);
        day.spend(5);
        day.take_back(7, evening.day);
        day.turn_to(evening);
        assert_eq!(day.spent(), 5, "yesterday's is over, and no day comes twice");
    }
}
