//! A deployment while the scenario runs: what becomes of a request that reaches it, and what has been seen there.

use http::StatusCode;

use super::backend::{Backend, Deployment, Latency};
use super::dice::Dice;
use super::quota::{Quota, SECOND};
use super::tape::Tape;
use super::traffic::Job;
use super::weather::{Kind, Weather};
use crate::pool::Release;

/// There and back: how long an answer takes that needs no thinking.
pub(super) const ROUND_TRIP: u64 = 10;
/// As the crate's HTTP client waits.
const CONNECT_TIMEOUT: u64 = 5_000;
const FIRST_BYTE_TIMEOUT: u64 = 60_000;
const ANSWER_TIMEOUT: u64 = 600_000;
/// A longer hint is obeyed no longer than this, as circuits are by default.
pub(super) const LONGEST_HINT: u64 = 60_000;

const CAPACITY: u64 = 3;
const FAILURE: u64 = 4;
const LATENCY: u64 = 5;
const STREAM: u64 = 6;

/// Fate of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    /// An answer without thinking.
    Answered {
        status: StatusCode,
        hint: Option<Hint>,
    },
    /// No answer within the time that the HTTP client waits.
    TimesOut {
        streamed: bool,
        after: u64,
    },
    Served(Course),
    /// No connection.
    Unreachable {
        after: u64,
    },
}

/// Time to wait, and how it is put.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Hint {
    Millis(u64),
    Seconds(u64),
}

impl Hint {
    pub(super) const fn millis(self) -> u64 {
        match self {
            Self::Millis(millis) => millis,
            Self::Seconds(seconds) => seconds.saturating_mul(1_000),
        }
    }
}

/// The way of an answer, in milliseconds since the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Course {
    pub(super) began: u64,
    pub(super) first: u64,
    /// As it would be if nothing went wrong.
    pub(super) end: u64,
    pub(super) ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ending {
    Complete,
    Cut { at: u64 },
    StreamError { after_content: bool },
}

impl Course {
    /// Returns what was worked on until `now`.
    fn tokens(&self, job: &Job, now: u64) -> u64 {
        if now >= self.end {
            return job.tokens();
        }
        let written = (now.saturating_sub(self.first)) as f64 / (self.end - self.first).max(1) as f64;
        u64::from(job.prompt) + (f64::from(job.answer) * written) as u64
    }
}

/// A deployment of a backend.
pub(super) struct Site {
    pub(super) backend: String,
    pub(super) host: String,
    pub(super) alias: String,
    pub(super) deployment: String,
    /// Its place among those of the scenario.
    pub(super) release: Option<usize>,
    pub(super) priority: u32,
    pub(super) seen: Seen,
    index: u64,
    seed: u64,
    quota: Quota,
    latency: Latency,
    weather: Vec<Weather>,
    tape: Tape,
}

impl Site {
    pub(super) fn new(
        backend: &Backend,
        deployment: &Deployment,
        releases: &[Release],
        index: usize,
        seed: u64,
    ) -> Self {
        Self {
            backend: backend.name.clone(),
            host: backend.host(),
            alias: deployment.alias_name().to_owned(),
            deployment: deployment.name(),
            release: releases.iter().position(|release| deployment.is_of(release)),
            priority: deployment.priority_or(backend.priority),
            seen: Seen::default(),
            index: index as u64,
            seed,
            quota: deployment.quota(seed, index),
            latency: deployment.latency,
            weather: backend.weather.clone(),
            tape: Tape::default(),
        }
    }

    /// Returns what really became of requests here.
    pub(super) fn play(mut self, tape: Tape) -> Self {
        self.tape = tape;
        self
    }

    /// Returns what it says of its utilization.
    pub(super) fn told(&self, now: u64) -> Option<f64> {
        self.quota.told(now)
    }

    /// Returns what would become of a request now. Changes nothing.
    pub(super) fn fate(&self, job: &Job, now: u64) -> Fate {
        if let Some(fate) = self.tape.fate(job, now) {
            return fate;
        }
        if let Some(fate) = self.weather.iter().find_map(|weather| self.struck(weather, job, now)) {
            return fate;
        }
        if let Some(hint) = self.quota_hint(now) {
            return Fate::Answered { status: StatusCode::TOO_MANY_REQUESTS, hint: Some(hint) };
        }
        let slowness = self.weather.iter().map(|weather| weather.slowness(now)).product();
        let mut dice = self.dice(LATENCY, job);
        let (first, whole) = self.latency.draw(job.prompt, job.answer, slowness, &mut dice);
        let (first, end) = (now + first.max(ROUND_TRIP), now + whole.max(ROUND_TRIP));
        let first = if job.streamed { first } else { end };
        Fate::Served(Course { began: now, first, end, ending: self.ending(job, now, end) })
    }

    fn struck(&self, weather: &Weather, job: &Job, now: u64) -> Option<Fate> {
        weather.age(now)?;
        match weather.kind {
            Kind::CapacityErrors(share) => {
                let strikes = Dice::of(self.seed, &[CAPACITY, self.index, now / 1_000]).share() < share;
                strikes.then_some(throttled(Hint::Seconds(1)))
            }
            Kind::Failing(status, share) => {
                let strikes = self.dice(FAILURE, job).share() < share;
                strikes.then_some(Fate::Answered { status, hint: None })
            }
            Kind::Hanging => {
                let after = if job.streamed { FIRST_BYTE_TIMEOUT } else { ANSWER_TIMEOUT };
                Some(Fate::TimesOut { streamed: job.streamed, after })
            }
            Kind::Lost => Some(Fate::Unreachable { after: CONNECT_TIMEOUT }),
            Kind::Refusing => Some(Fate::Unreachable { after: ROUND_TRIP }),
            Kind::Throttled(hint) => Some(throttled(Hint::Seconds(hint))),
            Kind::Reduced(_) | Kind::Slow(_) | Kind::SlowStart(_) | Kind::StreamErrors(_) => None,
        }
    }

    fn quota_hint(&self, now: u64) -> Option<Hint> {
        let wait = self.quota.wait(self.share(now), now)?;
        Some(match self.quota {
            Quota::Provisioned(_) => Hint::Millis(wait),
            Quota::Standard { .. } => Hint::Seconds(wait.div_ceil(1_000)),
        })
    }

    fn share(&self, now: u64) -> f64 {
        let reduced = |weather: &Weather| match weather.kind {
            Kind::Reduced(share) if weather.age(now).is_some() => share,
            _ => 1.0,
        };
        self.weather.iter().map(reduced).fold(1.0, f64::min)
    }

    fn ending(&self, job: &Job, now: u64, end: u64) -> Ending {
        let cuts = self.weather.iter().filter(|weather| weather.cuts()).filter_map(|weather| weather.begins_after(now));
        if let Some(at) = cuts.min().filter(|at| *at < end) {
            return Ending::Cut { at };
        }
        let strikes = |weather: &Weather| match weather.kind {
            Kind::StreamErrors(share) if job.streamed && weather.age(now).is_some() => {
                let mut dice = self.dice(STREAM, job);
                (dice.share() < share).then(|| Ending::StreamError { after_content: dice.share() < 0.5 })
            }
            _ => None,
        };
        self.weather.iter().find_map(strikes).unwrap_or(Ending::Complete)
    }

    /// For one try of one request here.
    fn dice(&self, purpose: u64, job: &Job) -> Dice {
        Dice::of(self.seed, &[purpose, self.index, job.id as u64, u64::from(job.tried)])
    }

    /// Milliseconds until the next request may be admitted, as far as can be known.
    pub(super) fn admits_in(&self, job: &Job, now: u64) -> u64 {
        match self.fate(job, now) {
            Fate::Served(_) => 0,
            Fate::Answered { status: StatusCode::TOO_MANY_REQUESTS, .. }
                if self.quota.wait(self.share(now), now).is_some() =>
            {
                self.quota.wait(self.share(now), now).unwrap_or_default()
            }
            _ => self.over(now).map_or(LONGEST_HINT, |over| over - now),
        }
    }

    /// Returns when the weather that keeps it from serving is over.
    fn over(&self, now: u64) -> Option<u64> {
        let down = |weather: &&Weather| {
            matches!(weather.kind, Kind::Hanging | Kind::Lost | Kind::Refusing | Kind::Throttled(_))
        };
        self.weather.iter().filter(down).filter_map(|weather| weather.ends(now)).max()
    }

    /// A request arrives.
    pub(super) fn receive(&mut self, job: &Job, now: u64) -> Fate {
        self.seen.received(now);
        self.seen.taped += u64::from(self.tape.fate(job, now).is_some());
        let fate = self.fate(job, now);
        match fate {
            Fate::Answered { status: StatusCode::TOO_MANY_REQUESTS, .. } => self.seen.throttled += 1,
            Fate::Answered { .. } | Fate::TimesOut { .. } | Fate::Unreachable { .. } => {
                self.seen.failed += 1;
                self.seen.down_until = self.over(now).or(self.seen.down_until);
            }
            Fate::Served(_) => self.quota.take(job.estimate(), now),
        }
        fate
    }

    /// An answer has ended, in one way or another; gives what it cost.
    pub(super) fn release(&mut self, job: &Job, course: &Course, now: u64) -> u64 {
        let tokens = course.tokens(job, now);
        self.quota.settle(job.estimate(), tokens, now);
        self.seen.tokens += tokens;
        match course.ending {
            Ending::Cut { at } if now >= at => {
                self.seen.failed += 1;
                self.seen.down_until = self.over(at).or(self.seen.down_until);
            }
            Ending::StreamError { .. } if now >= course.first => self.seen.failed += 1,
            _ => {}
        }
        tokens
    }

    /// A request that could have come here went elsewhere, or was refused.
    pub(super) fn passed_over(&mut self, job: &Job, now: u64) {
        self.wanted(job, now, now);
        if !self.seen.is_hinted(now) && matches!(self.fate(job, now), Fate::Served(_)) {
            self.seen.overslept_since.get_or_insert(now);
        }
    }

    /// A request has nobody who works on it. Whether its quota would let it in does not matter here, the weather does.
    pub(super) fn wanted(&mut self, job: &Job, from: u64, to: u64) {
        for second in from / SECOND..=to / SECOND {
            let at = from.max(second * SECOND);
            if self.weather.iter().all(|weather| self.struck(weather, job, at).is_none()) {
                self.quota.want(second as usize);
            }
        }
    }

    /// The shares of a provisioned deployment's capacity that were used, and lost while it was wanted.
    pub(super) fn usage(&mut self, now: u64) -> Option<(f64, f64)> {
        Some((self.quota.utilization(now)?, self.quota.idle(now)?))
    }
}

const fn throttled(hint: Hint) -> Fate {
    Fate::Answered { status: StatusCode::TOO_MANY_REQUESTS, hint: Some(hint) }
}

// ===== Seen =====

/// Figures of a site.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) attempts: u64,
    /// Of the attempts, those whose outcome was recorded.
    pub(super) taped: u64,
    pub(super) served: u64,
    pub(super) throttled: u64,
    pub(super) failed: u64,
    pub(super) tokens: u64,
    pub(super) during_hint: u64,
    pub(super) after_hint: Returns,
    pub(super) after_outage: Returns,
    pub(super) overslept: u64,
    /// Time until which the router was told to wait.
    hinted_until: Option<u64>,
    down_until: Option<u64>,
    /// Requests that reached the router since the hint, or the outage, was over.
    passed: u64,
    overslept_since: Option<u64>,
}

/// Time until a target was used again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Returns {
    pub(super) times: u64,
    pub(super) longest: u64,
    pub(super) most_requests: u64,
}

impl Returns {
    fn add(&mut self, after: u64, requests: u64) {
        self.times += 1;
        self.longest = self.longest.max(after);
        self.most_requests = self.most_requests.max(requests);
    }
}

impl Seen {
    const fn is_hinted(&self, now: u64) -> bool {
        matches!(self.hinted_until, Some(until) if now < until)
    }

    /// The router was told to wait until then.
    pub(super) fn hint(&mut self, until: u64) {
        self.hinted_until = self.hinted_until.max(Some(until));
        self.overslept_since = None;
        self.passed = 0;
    }

    /// A request has reached the router.
    pub(super) fn demand(&mut self, now: u64) {
        let over = |until: Option<u64>| until.is_some_and(|until| until <= now);
        self.passed += u64::from(over(self.hinted_until) || over(self.down_until));
    }

    fn received(&mut self, now: u64) {
        self.attempts += 1;
        self.overslept += self.overslept_since.take().map_or(0, |since| now - since);
        if self.is_hinted(now) {
            self.during_hint += 1;
            return;
        }
        // The first request to come is itself one of those that came.
        let requests = self.passed.max(1);
        for (until, returns) in
            [(&mut self.hinted_until, &mut self.after_hint), (&mut self.down_until, &mut self.after_outage)]
        {
            if let Some(until) = until.take_if(|until| *until <= now) {
                returns.add(now - until, requests);
                self.passed = 0;
            }
        }
    }

    /// The scenario is over.
    pub(super) fn close(&mut self, now: u64) {
        self.overslept += self.overslept_since.take().map_or(0, |since| now.saturating_sub(since));
    }
}
