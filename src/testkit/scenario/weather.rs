use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::report::Spell;

/// Something that goes wrong with a backend for a while.
///
/// From the start and for ever, until told otherwise. What is drawn by chance is drawn for each request and backend, or for each
/// second and backend, from the seed of the scenario: every strategy meets the same weather.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Weather {
    pub(super) kind: Kind,
    from: u64,
    lasting: Option<u64>,
    every: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    CapacityErrors(f64),
    Failing(StatusCode, f64),
    Hanging,
    Lost,
    Reduced(f64),
    Refusing,
    Slow(f64),
    SlowStart(f64),
    StreamErrors(f64),
    Throttled(u64),
}

impl Weather {
    const fn new(kind: Kind) -> Self {
        Self { kind, from: 0, lasting: None, every: None }
    }

    /// In this share of the seconds all requests get 429 and `retry-after: 1`, whatever quota is left: "the system is currently
    /// experiencing high demand".
    pub const fn capacity_errors(share: f64) -> Self {
        Self::new(Kind::CapacityErrors(share))
    }

    /// This share of the requests gets this status at once, without a hint.
    pub const fn failing(status: StatusCode, share: f64) -> Self {
        Self::new(Kind::Failing(status, share))
    }

    /// Requests are accepted and never answered. The simulated HTTP client gives up after 60 s for a stream, and after 600 s for
    /// any other answer.
    pub const fn hanging() -> Self {
        Self::new(Kind::Hanging)
    }

    /// The region is gone: running answers break off, and connections are given up after 5 s.
    pub const fn lost() -> Self {
        Self::new(Kind::Lost)
    }

    /// Only this share of a standard quota is there. Provisioned deployments keep theirs.
    pub const fn reduced(share: f64) -> Self {
        Self::new(Kind::Reduced(share))
    }

    /// Connections are refused, and running answers break off.
    pub const fn refusing() -> Self {
        Self::new(Kind::Refusing)
    }

    /// Everything takes this many times as long.
    pub const fn slow(factor: f64) -> Self {
        Self::new(Kind::Slow(factor))
    }

    /// Everything takes this many times as long at first, and less and less until the end. Needs [`lasting`](Self::lasting).
    pub const fn slow_start(factor: f64) -> Self {
        Self::new(Kind::SlowStart(factor))
    }

    /// This share of the streams begins with 200 and then reports an error: half of these before, half of them after their first
    /// content.
    pub const fn stream_errors(share: f64) -> Self {
        Self::new(Kind::StreamErrors(share))
    }

    /// All requests get 429 with this hint, in whole seconds, whatever quota is left.
    pub const fn throttled(hint: Duration) -> Self {
        Self::new(Kind::Throttled(hint.as_secs()))
    }

    /// Begins so long after the start.
    pub fn from(mut self, start: Duration) -> Self {
        self.from = millis(start);
        self
    }

    /// Ends so long after it began.
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting = Some(millis(time));
        self
    }

    /// Begins again each time that so much time has passed since it began.
    pub fn every(mut self, period: Duration) -> Self {
        self.every = Some(millis(period).max(1));
        self
    }

    /// Time for which it has been so, if it is so.
    pub(super) fn age(&self, now: u64) -> Option<u64> {
        let since = now.checked_sub(self.from)?;
        let age = self.every.map_or(since, |period| since % period);
        self.lasting.is_none_or(|lasting| age < lasting).then_some(age)
    }

    /// Returns when it will be over, if it is so and ever will be.
    pub(super) fn ends(&self, now: u64) -> Option<u64> {
        let age = self.age(now)?;
        self.lasting.map(|lasting| now - age + lasting)
    }

    /// Returns when it begins next, after `now`.
    pub(super) fn begins_after(&self, now: u64) -> Option<u64> {
        match (now.checked_sub(self.from), self.every) {
            (None, _) => Some(self.from),
            (Some(since), Some(period)) => Some(now - since % period + period),
            (Some(_), None) => None,
        }
    }

    /// Returns when it is so for the first and for the last time, and what it is like.
    pub(super) fn spell(&self, backend: &str, horizon: u64) -> Option<Spell> {
        let ends = match (self.lasting, self.every) {
            (Some(lasting), None) => self.from.saturating_add(lasting),
            (None, _) | (_, Some(_)) => horizon,
        };
        let mut weather = self.kind.to_string();
        if let (Some(lasting), Some(every)) = (self.lasting, self.every) {
            weather += &format!(", {} s in {} s", lasting as f64 / 1_000.0, every as f64 / 1_000.0);
        }
        let spell = Spell { backend: backend.to_owned(), weather, from_ms: self.from, until_ms: ends.min(horizon) };
        (spell.from_ms < spell.until_ms).then_some(spell)
    }

    /// Returns how many times as long everything takes.
    pub(super) fn slowness(&self, now: u64) -> f64 {
        match (self.kind, self.age(now), self.lasting) {
            (Kind::Slow(factor), Some(_), _) => factor,
            (Kind::SlowStart(factor), Some(age), Some(lasting)) => {
                1.0 + (factor - 1.0) * (1.0 - age as f64 / lasting.max(1) as f64)
            }
            _ => 1.0,
        }
    }

    /// Tells whether running answers break off when it begins.
    pub(super) const fn cuts(&self) -> bool {
        matches!(self.kind, Kind::Lost | Kind::Refusing)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| 100.0 * share;
        match *self {
            Self::CapacityErrors(share) => write!(f, "429 in {} % of the seconds", percent(share)),
            Self::Failing(status, share) => write!(f, "{} for {} %", status.as_u16(), percent(share)),
            Self::Hanging => f.write_str("never answers"),
            Self::Lost => f.write_str("region lost"),
            Self::Reduced(share) => write!(f, "{} % of the quota", percent(share)),
            Self::Refusing => f.write_str("connections refused"),
            Self::Slow(factor) => write!(f, "{factor} times as long"),
            Self::SlowStart(factor) => write!(f, "{factor} times as long at first"),
            Self::StreamErrors(share) => write!(f, "errors in {} % of the streams", percent(share)),
            Self::Throttled(seconds) => write!(f, "429, wait {seconds} s"),
        }
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_and_goes() {
        let s = Duration::from_secs;
        let flapping = Weather::refusing().from(s(10)).lasting(s(2)).every(s(5));
        let table =
            [(0, None), (9_999, None), (10_000, Some(0)), (11_999, Some(1_999)), (12_000, None), (16_000, Some(1_000))];
        for (at, age) in table {
            assert_eq!(flapping.age(at), age, "{at}");
        }
        assert_eq!(flapping.ends(16_000), Some(17_000));
        assert_eq!((flapping.begins_after(0), flapping.begins_after(10_000)), (Some(10_000), Some(15_000)));
        assert_eq!(Weather::lost().begins_after(0), None, "it has begun");
    }

    #[test]
    fn a_slow_start_wears_off() {
        let start = Weather::slow_start(5.0).lasting(Duration::from_secs(10));
        assert_eq!([0, 5_000, 10_000].map(|at| start.slowness(at)), [5.0, 3.0, 1.0]);
    }
}
