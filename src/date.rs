//! Days and moments by UTC, as they are counted and written down.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

const DAY: u64 = 24 * 60 * 60;

/// A day by UTC: `2026-11-28`. From 1970 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(u64);

impl Date {
    /// The day of a moment.
    #[must_use]
    pub const fn of(since_1970: Duration) -> Self {
        Self(since_1970.as_secs() / DAY)
    }

    /// So many days earlier.
    #[must_use]
    pub const fn before(self, days: u64) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// Year, month and day of the proleptic Gregorian calendar, by years that begin in March, so that leap days come last.
    const fn civil(self) -> (u64, u64, u64) {
        let shifted = self.0 + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let is_next = month >= 10;
        (era * 400 + year + is_next as u64, if is_next { month - 9 } else { month + 3 }, day)
    }

    const fn of_civil(year: u64, month: u64, day: u64) -> Self {
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let (era, of_era) = (year / 400, year % 400);
        let of_year = (153 * month + 2) / 5 + day - 1;
        Self(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A moment in the form of RFC 3339: `2026-11-28T15:36:32.125Z`.
pub(crate) fn moment(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs() % DAY;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}.{:03}Z", Date::of(since_1970), since_1970.subsec_millis())
}

/// A text is no day in the form `2026-11-28`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a day in the form 2026-11-28")]
#[non_exhaustive]
pub struct InvalidDate;

impl FromStr for Date {
    type Err = InvalidDate;

    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        let bytes = text.as_bytes();
        let has_form = bytes.len() == 10
            && bytes
                .iter()
                .enumerate()
                .all(|(at, byte)| if matches!(at, 4 | 7) { *byte == b'-' } else { byte.is_ascii_digit() });
        if !has_form {
            return Err(InvalidDate);
        }
        let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().map_err(|_| InvalidDate);
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(InvalidDate);
        }
        // Of a day that a month does not have, another comes back.
        Some(Self::of_civil(year, month, day)).filter(|date| date.civil() == (year, month, day)).ok_or(InvalidDate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_a_hundred_and_forty_years_is_written_and_read() {
        let mut expected = (1970, 1, 1);
        for day in 0..51_136 {
            let date = Date(day);
            assert_eq!(date.civil(), expected);
            assert_eq!(date.to_string().parse(), Ok(date));
            let (year, month, day) = expected;
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let days = match month {
                2 => 28 + u64::from(is_leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                _ if day == days => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
        assert_eq!(Date(20_785).to_string(), "2026-11-28");
        assert_eq!(Date::of(Duration::from_secs(20_785 * DAY - 1)).to_string(), "2026-11-27");
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "",
            "2026-11",
            "2026-11-31",
            "2026-02-29",
            "1969-12-31",
            "2026-13-01",
            "2026-00-10",
            "26-11-28",
            "2026/11/28",
            "+026-11-28",
            "2026-11-28 ",
        ] {
            assert_eq!(text.parse::<Date>(), Err(InvalidDate), "{text}");
        }
    }
}
