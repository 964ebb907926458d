//! Rate limits of a deployment, computed from the `now` that the caller gives.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
const REQUEST_WINDOW: Duration = Duration::from_secs(10);

/// The limits of one deployment, and what has been used of them.
#[derive(Debug, Default)]
pub(super) struct Limits {
    pub(super) requests: Option<Window>,
    pub(super) tokens: Option<Tokens>,
}

/// Way in which tokens are counted: by the minute, or by utilization.
#[derive(Debug)]
pub(super) enum Tokens {
    Provisioned(Bucket),
    Standard(Window),
}

/// Reason why a request was not admitted: how long each exhausted limit lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Requests(Duration),
    Tokens(Duration),
    Utilization(Duration),
}

impl Limits {
    /// Counts a request of `cost` tokens, or says why it does not fit; a refused request is not counted.
    pub(super) fn admit(&mut self, cost: u64, now: Instant) -> Result<(), Refusal> {
        let requests = self.requests.as_mut().and_then(|window| window.wait(1, now)).map(Refusal::Requests);
        let tokens = self.tokens.as_mut().and_then(|tokens| tokens.refusal(cost, now));
        if let Some(refusal) = requests.into_iter().chain(tokens).max_by_key(Refusal::wait) {
            return Err(refusal);
        }
        if let Some(window) = &mut self.requests {
            window.take(1, now);
        }
        match &mut self.tokens {
            Some(Tokens::Provisioned(bucket)) => bucket.add(cost, now),
            Some(Tokens::Standard(window)) => window.take(cost, now),
            None => {}
        }
        Ok(())
    }

    /// Corrects the estimate by what was used in the end. Only utilization is corrected: the count of a standard
    /// deployment stays what was estimated.
    pub(super) fn settle(&mut self, estimate: u64, actual: u64, now: Instant) {
        if let Some(Tokens::Provisioned(bucket)) = &mut self.tokens {
            bucket.correct(estimate, actual, now);
        }
    }

    /// Returns what every answer of the deployment tells of its limits.
    pub(super) fn headers(&mut self, now: Instant) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(window) = &mut self.requests {
            headers.insert("x-ratelimit-limit-requests", window.limit.into());
            headers.insert("x-ratelimit-remaining-requests", window.remaining(now).into());
        }
        match &mut self.tokens {
            Some(Tokens::Provisioned(bucket)) => {
                if let Ok(utilization) = HeaderValue::try_from(bucket.utilization(now)) {
                    headers.insert("azure-openai-deployment-utilization", utilization);
                }
            }
            Some(Tokens::Standard(window)) => {
                headers.insert("x-ratelimit-limit-tokens", window.limit.into());
                headers.insert("x-ratelimit-remaining-tokens", window.remaining(now).into());
            }
            None => {}
        }
        headers
    }
}

impl Refusal {
    pub(super) const fn wait(&self) -> Duration {
        let (Self::Requests(wait) | Self::Tokens(wait) | Self::Utilization(wait)) = self;
        *wait
    }

    /// The headers that tell how long to wait: standard deployments say it in whole seconds only.
    pub(super) fn headers(&self) -> HeaderMap {
        let seconds = HeaderValue::from(whole_seconds(self.wait()));
        let also = match self {
            Self::Requests(_) => ("x-ratelimit-reset-requests", seconds.clone()),
            Self::Tokens(_) => ("x-ratelimit-reset-tokens", seconds.clone()),
            Self::Utilization(wait) => ("retry-after-ms", whole_millis(*wait).into()),
        };
        let also = (HeaderName::from_static(also.0), also.1);
        [(http::header::RETRY_AFTER, seconds), also].into_iter().collect()
    }
}

impl Tokens {
    fn refusal(&mut self, cost: u64, now: Instant) -> Option<Refusal> {
        match self {
            Self::Provisioned(bucket) => bucket.wait(now).map(Refusal::Utilization),
            Self::Standard(window) => window.wait(cost, now).map(Refusal::Tokens),
        }
    }
}

/// Rounded up, so that whoever waits that long has waited long enough.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

/// Rounded up, like [`whole_seconds`].
pub(super) fn whole_millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

// ===== impl Window =====

/// A count that starts with the first request after the previous count was over, and is reset when its time is over.
#[derive(Debug)]
pub(super) struct Window {
    limit: u64,
    length: Duration,
    used: u64,
    ends: Option<Instant>,
}

impl Window {
    /// `limit` tokens in each minute.
    pub(super) const fn tokens_per_minute(limit: u64) -> Self {
        Self { limit, length: MINUTE, used: 0, ends: None }
    }

    /// A sixth of `limit`, rounded up, in each ten seconds; below six a minute, one request in each share of the minute.
    pub(super) fn requests_per_minute(limit: u64) -> Self {
        let length = match limit {
            1..6 => MINUTE / u32::try_from(limit).unwrap_or(1),
            _ => REQUEST_WINDOW,
        };
        Self { limit: limit.div_ceil(6), length, used: 0, ends: None }
    }

    fn wait(&mut self, cost: u64, now: Instant) -> Option<Duration> {
        let fits = cost <= self.remaining(now);
        (!fits).then(|| self.ends.map_or(self.length, |ends| ends - now))
    }

    fn take(&mut self, cost: u64, now: Instant) {
        self.reset_when_over(now);
        self.used = self.used.saturating_add(cost);
        self.ends.get_or_insert(now + self.length);
    }

    fn remaining(&mut self, now: Instant) -> u64 {
        self.reset_when_over(now);
        self.limit.saturating_sub(self.used)
    }

    fn reset_when_over(&mut self, now: Instant) {
        if self.ends.is_some_and(|ends| ends <= now) {
            self.used = 0;
            self.ends = None;
        }
    }
}

// ===== impl Bucket =====

/// One token in the units of [`Bucket::level`]: with these, a capacity in tokens per minute is a drain in units per
/// nanosecond, and nothing is lost to rounding.
const TOKEN: u128 = MINUTE.as_nanos();

/// A bucket that holds one minute's tokens and drains continuously; full is a utilization of 100 %.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens_per_minute: u128,
    level: u128,
    drained: Option<Instant>,
}

impl Bucket {
    /// A bucket for `capacity` tokens per minute, at least one.
    pub(super) fn tokens_per_minute(capacity: u64) -> Self {
        Self { tokens_per_minute: u128::from(capacity.max(1)), level: 0, drained: None }
    }

    /// Time until utilization is no longer above 100 %.
    fn wait(&mut self, now: Instant) -> Option<Duration> {
        self.drain(now);
        let excess = self.level.saturating_sub(self.tokens_per_minute * TOKEN);
        let nanos = excess.div_ceil(self.tokens_per_minute);
        (nanos > 0).then(|| Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn add(&mut self, cost: u64, now: Instant) {
        self.drain(now);
        self.level += u128::from(cost) * TOKEN;
    }

    fn correct(&mut self, estimate: u64, actual: u64, now: Instant) {
        self.add(actual, now);
        self.level = self.level.saturating_sub(u128::from(estimate) * TOKEN);
    }

    fn utilization(&mut self, now: Instant) -> String {
        self.drain(now);
        let tenths = self.level * 1_000 / (self.tokens_per_minute * TOKEN);
        format!("{}.{}%", tenths / 10, tenths % 10)
    }

    fn drain(&mut self, now: Instant) {
        let since = self.drained.replace(now).map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        self.level = self.level.saturating_sub(since.as_nanos() * self.tokens_per_minute);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standard(tokens: Option<u64>, requests: Option<u64>) -> Limits {
        Limits {
            requests: requests.map(Window::requests_per_minute),
            tokens: tokens.map(|limit| Tokens::Standard(Window::tokens_per_minute(limit))),
        }
    }

    fn provisioned(tokens: u64) -> Limits {
        Limits { requests: None, tokens: Some(Tokens::Provisioned(Bucket::tokens_per_minute(tokens))) }
    }

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn check(mut limits: Limits, table: &[(f64, u64, Result<(), Refusal>)]) {
        let start = Instant::now();
        for &(at, cost, expected) in table {
            assert_eq!(limits.admit(cost, start + secs(at)), expected, "{cost} tokens at {at} s");
        }
    }

    #[test]
    fn tokens_are_counted_by_the_minute_from_the_first_request() {
        check(
            standard(Some(100), None),
            &[
                (7.0, 60, Ok(())),
                (20.0, 40, Ok(())),
                (20.0, 1, Err(Refusal::Tokens(secs(47.0)))),
                (66.5, 1, Err(Refusal::Tokens(secs(0.5)))),
                (67.0, 100, Ok(())),
                (68.0, 1, Err(Refusal::Tokens(secs(59.0)))),
            ],
        );
    }

    #[test]
    fn a_refused_request_is_not_counted() {
        check(standard(Some(100), None), &[(0.0, 101, Err(Refusal::Tokens(secs(60.0)))), (1.0, 100, Ok(()))]);
    }

    #[test]
    fn requests_are_counted_by_ten_seconds() {
        check(
            standard(None, Some(12)),
            &[
                (0.0, 9, Ok(())),
                (1.0, 9, Ok(())),
                (2.0, 9, Err(Refusal::Requests(secs(8.0)))),
                (10.0, 9, Ok(())),
                (10.0, 9, Ok(())),
                (19.0, 9, Err(Refusal::Requests(secs(1.0)))),
            ],
        );
    }

    #[test]
    fn few_requests_a_minute_stay_few() {
        check(
            standard(None, Some(2)),
            &[(0.0, 1, Ok(())), (29.0, 1, Err(Refusal::Requests(secs(1.0)))), (30.0, 1, Ok(()))],
        );
        check(standard(None, Some(0)), &[(0.0, 1, Err(Refusal::Requests(secs(10.0))))]);
    }

    #[test]
    fn the_longer_wait_is_told() {
        check(standard(Some(10), Some(6)), &[(0.0, 10, Ok(())), (1.0, 1, Err(Refusal::Tokens(secs(59.0))))]);
    }

    #[test]
    fn utilization_drains_continuously() {
        check(
            provisioned(600),
            &[
                (0.0, 600, Ok(())),
                (0.0, 3, Ok(())),
                (0.0, 1, Err(Refusal::Utilization(secs(0.3)))),
                (0.1, 1, Err(Refusal::Utilization(secs(0.2)))),
                (0.3, 10, Ok(())),
                (0.3, 1, Err(Refusal::Utilization(secs(1.0)))),
                (90.0, 600, Ok(())),
            ],
        );
    }

    #[test]
    fn an_estimate_is_corrected_either_way() {
        let now = Instant::now();
        let mut limits = provisioned(100);
        limits.admit(87, now).unwrap();
        limits.settle(87, 50, now);
        assert_eq!(limits.headers(now)["azure-openai-deployment-utilization"], "50.0%");
        limits.settle(0, 75, now);
        assert_eq!(limits.headers(now)["azure-openai-deployment-utilization"], "125.0%");
        limits.settle(1_000, 0, now);
        assert_eq!(limits.headers(now)["azure-openai-deployment-utilization"], "0.0%");
    }

    #[test]
    fn waits_are_told_rounded_up() {
        let headers = Refusal::Utilization(Duration::from_nanos(299_000_001)).headers();
        assert_eq!(headers["retry-after-ms"], "300");
        assert_eq!(headers["retry-after"], "1");

        let headers = Refusal::Tokens(Duration::from_millis(32_001)).headers();
        assert_eq!(headers["retry-after"], "33");
        assert_eq!(headers["x-ratelimit-reset-tokens"], "33");
        assert!(!headers.contains_key("retry-after-ms"));
    }

    #[test]
    fn tells_what_remains() {
        let now = Instant::now();
        let mut limits = standard(Some(1_000), Some(60));
        limits.admit(100, now).unwrap();
        let headers = limits.headers(now);
        assert_eq!(headers["x-ratelimit-limit-tokens"], "1000");
        assert_eq!(headers["x-ratelimit-remaining-tokens"], "900");
        assert_eq!(headers["x-ratelimit-remaining-requests"], "9");
    }

    #[test]
    fn absurd_costs_do_not_overflow() {
        let now = Instant::now();
        let mut limits = provisioned(u64::MAX);
        limits.admit(u64::MAX, now).unwrap();
        limits.settle(1, u64::MAX, now + secs(1e9));
        let mut limits = provisioned(0);
        limits.admit(u64::MAX, now).unwrap();
        assert!(matches!(limits.admit(1, now), Err(Refusal::Utilization(_))));
    }
}
