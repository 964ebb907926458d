use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::sdk::Sdk;
use super::weather::millis;
use crate::pool::Priority;

/// Number of tokens that something has.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Tokens(Spread);

#[derive(Clone, Debug, PartialEq)]
enum Spread {
    Between(u32, u32),
    LongTailed(u32),
}

/// A long tail is cut at so many times its mean.
const LONGEST_TAIL: u32 = 10;

impl Tokens {
    /// Mostly few and sometimes many: exponentially distributed with this mean, at most ten times it.
    pub const fn long_tailed(mean: u32) -> Self {
        Self(Spread::LongTailed(mean))
    }

    fn draw(&self, dice: &mut Dice) -> u32 {
        match self.0 {
            Spread::Between(low, high) => low + dice.below(u64::from(high.saturating_sub(low)) + 1) as u32,
            Spread::LongTailed(mean) => ((dice.exponential() * f64::from(mean)) as u32).clamp(1, self.most()),
        }
    }

    const fn most(&self) -> u32 {
        match self.0 {
            Spread::Between(_, high) => high,
            Spread::LongTailed(mean) => mean.saturating_mul(LONGEST_TAIL),
        }
    }
}

/// Always so many.
impl From<u32> for Tokens {
    fn from(tokens: u32) -> Self {
        Self(Spread::Between(tokens, tokens))
    }
}

/// Each number as often as any other.
impl From<RangeInclusive<u32>> for Tokens {
    fn from(range: RangeInclusive<u32>) -> Self {
        Self(Spread::Between(*range.start(), *range.end()))
    }
}

/// Requests of one kind: when they come, how large they are, and what their clients do.
///
/// Until told otherwise: chat completions for the alias [`ALIAS`](super::ALIAS), with 200 to 1,000 tokens of prompt and 50 to 300
/// of answer, not streamed, from a hundred clients that repeat as openai-python does and never go away.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Traffic {
    arrivals: Arrivals,
    least: f64,
    alias: String,
    prompt: Tokens,
    answer: Tokens,
    max_tokens: Option<u32>,
    streamed: f64,
    leaving: Option<(f64, u64)>,
    clients: u32,
    sdk: Sdk,
    priority: Priority,
}

#[derive(Clone, Debug, PartialEq)]
enum Arrivals {
    Bursts { every: u64, requests: u32 },
    Poisson(f64),
    Recorded(Arc<[Job]>),
    Steady(f64),
}

impl Traffic {
    const fn new(arrivals: Arrivals) -> Self {
        Self {
            arrivals,
            least: 1.0,
            alias: String::new(),
            prompt: Tokens(Spread::Between(200, 1_000)),
            answer: Tokens(Spread::Between(50, 300)),
            max_tokens: None,
            streamed: 0.0,
            leaving: None,
            clients: 100,
            sdk: Sdk::python(),
            priority: Priority::Normal,
        }
    }

    /// So many requests a second on average, at times that have nothing to do with one another.
    pub const fn poisson(per_second: f64) -> Self {
        Self::new(Arrivals::Poisson(per_second))
    }

    /// So many requests a second, equally spaced.
    pub const fn steady(per_second: f64) -> Self {
        Self::new(Arrivals::Steady(per_second))
    }

    /// So many requests within one second, each time that so much time has passed.
    pub fn bursts(every: Duration, requests: u32) -> Self {
        Self::new(Arrivals::Bursts { every: millis(every).max(1), requests })
    }

    /// As these came.
    pub(super) fn recorded(jobs: impl IntoIterator<Item = Job>) -> Self {
        Self::new(Arrivals::Recorded(jobs.into_iter().collect()))
    }

    /// The scenario is one day: this share of the rate at its beginning and end, all of it in the middle.
    pub const fn daily(mut self, least: f64) -> Self {
        self.least = least;
        self
    }

    /// Sets the alias that is asked for.
    pub fn alias(mut self, alias: impl Into<String>) -> Self {
        self.alias = alias.into();
        self
    }

    /// Length of the prompts.
    pub fn prompt(mut self, tokens: impl Into<Tokens>) -> Self {
        self.prompt = tokens.into();
        self
    }

    /// Length of the answers in fact.
    pub fn answer(mut self, tokens: impl Into<Tokens>) -> Self {
        self.answer = tokens.into();
        self
    }

    /// The `max_tokens` of every request, which backends reckon with on admission. Default: the most that an answer has.
    pub const fn max_tokens(mut self, tokens: u32) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// This share of the answers is streamed.
    pub const fn streamed(mut self, share: f64) -> Self {
        self.streamed = share;
        self
    }

    /// This share of the clients goes away after so much time, if it has no answer by then.
    pub fn leaving(mut self, share: f64, after: Duration) -> Self {
        self.leaving = Some((share, millis(after)));
        self
    }

    /// From so many clients, each with its own `user` and known to the gateway as the [`Client`](crate::context::Client) of that
    /// id: `client-0`, `client-1`, …
    pub const fn clients(mut self, clients: u32) -> Self {
        self.clients = clients;
        self
    }

    /// Sets the library that the clients use.
    pub const fn sdk(mut self, sdk: Sdk) -> Self {
        self.sdk = sdk;
        self
    }

    /// Of clients of this priority. Default: normal.
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    pub(super) fn alias_or<'a>(&'a self, default: &'a str) -> &'a str {
        if self.alias.is_empty() { default } else { &self.alias }
    }

    /// Returns what its clients will do, in the order of time.
    fn plan(&self, index: usize, seed: u64, horizon: u64) -> Vec<Job> {
        if let Arrivals::Recorded(jobs) = &self.arrivals {
            return jobs.iter().map(|job| Job { traffic: index, ..*job }).collect();
        }
        let mut dice = Dice::of(seed, &[TRAFFIC, index as u64]);
        let times = self.times(horizon, &mut dice);
        times.into_iter().map(|at| self.job(at, index, &mut dice)).collect()
    }

    fn times(&self, horizon: u64, dice: &mut Dice) -> Vec<u64> {
        let mut times = Vec::new();
        if let Arrivals::Bursts { every, requests } = self.arrivals {
            for burst in (0..horizon).step_by(usize::try_from(every).unwrap_or(usize::MAX)) {
                times.extend((0..requests).map(|_| burst + dice.below(1_000)).filter(|at| *at < horizon));
            }
            times.sort_unstable();
            return times;
        }
        let (mut at, horizon) = (0.0, horizon as f64);
        loop {
            at += match self.arrivals {
                Arrivals::Poisson(rate) => dice.exponential() * 1_000.0 / rate,
                Arrivals::Steady(rate) => 1_000.0 / rate,
                Arrivals::Bursts { .. } | Arrivals::Recorded(_) => horizon,
            };
            if at >= horizon || at.is_nan() {
                return times;
            }
            if dice.share() < self.share_at(at / horizon) {
                times.push(at as u64);
            }
        }
    }

    /// A parabola, which every machine computes alike.
    fn share_at(&self, day: f64) -> f64 {
        let from_noon = 2.0 * day - 1.0;
        self.least + (1.0 - self.least) * (1.0 - from_noon * from_noon)
    }

    fn job(&self, at: u64, traffic: usize, dice: &mut Dice) -> Job {
        let answer = self.answer.draw(dice);
        let leaves = self.leaving.filter(|(share, _)| dice.share() < *share).map(|(_, after)| after);
        Job {
            id: 0,
            at,
            traffic,
            client: dice.below(u64::from(self.clients)) as u32,
            prompt: self.prompt.draw(dice),
            answer,
            max_tokens: self.max_tokens.unwrap_or(self.answer.most()),
            streamed: dice.share() < self.streamed,
            leaves,
            tried: 0,
            sdk: self.sdk,
            priority: self.priority,
            recorded: None,
        }
    }
}

const TRAFFIC: u64 = 1;

/// One request that a client will make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Job {
    /// Its place in the order of all requests.
    pub(super) id: usize,
    pub(super) at: u64,
    pub(super) traffic: usize,
    pub(super) client: u32,
    pub(super) prompt: u32,
    pub(super) answer: u32,
    pub(super) max_tokens: u32,
    pub(super) streamed: bool,
    /// Time for which its client waits.
    pub(super) leaves: Option<u64>,
    /// Number of times that its client has repeated it.
    pub(super) tried: u32,
    pub(super) sdk: Sdk,
    pub(super) priority: Priority,
    /// Its number in a recording.
    pub(super) recorded: Option<u32>,
}

impl Job {
    /// Returns what its client is called.
    pub(super) fn name(&self) -> String {
        format!("client-{}", self.client)
    }

    pub(super) const fn tokens(&self) -> u64 {
        self.prompt as u64 + self.answer as u64
    }

    pub(super) const fn estimate(&self) -> u64 {
        self.prompt as u64 + self.max_tokens as u64
    }
}

/// Returns what the clients of all traffic will do, in the order of time.
pub(super) fn plan(traffic: &[Traffic], seed: u64, horizon: u64) -> Vec<Job> {
    let mut jobs: Vec<_> =
        traffic.iter().enumerate().flat_map(|(index, traffic)| traffic.plan(index, seed, horizon)).collect();
    jobs.sort_by_key(|job| job.at);
    jobs.iter_mut().enumerate().for_each(|(id, job)| job.id = id);
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn comes_at_its_rate() {
        let count = |traffic: Traffic| plan(&[traffic], 1, HOUR).len();
        assert!(count(Traffic::poisson(10.0)).abs_diff(36_000) < 600);
        assert_eq!(count(Traffic::steady(2.0)), 7_199);
        assert_eq!(count(Traffic::bursts(Duration::from_secs(60), 5)), 300);
        assert_eq!(count(Traffic::poisson(0.0)), 0);
        let day = plan(&[Traffic::poisson(10.0).daily(0.2)], 1, HOUR);
        let first = day.iter().filter(|job| job.at < HOUR / 10).count();
        let noon = day.iter().filter(|job| job.at.abs_diff(HOUR / 2) < HOUR / 20).count();
        assert!(noon > 2 * first && first > 1_000, "{first} at first, {noon} at noon");
    }

    #[test]
    fn one_kind_does_not_change_another() {
        let (a, b) = (Traffic::poisson(1.0), Traffic::steady(1.0));
        let alone = plan(std::slice::from_ref(&a), 3, HOUR);
        let both = plan(&[a, b], 3, HOUR);
        let of_a: Vec<_> = both.iter().filter(|job| job.traffic == 0).map(|job| (job.at, job.prompt)).collect();
        assert_eq!(of_a, alone.iter().map(|job| (job.at, job.prompt)).collect::<Vec<_>>());
        assert!(both.is_sorted_by_key(|job| job.at));
    }
}
