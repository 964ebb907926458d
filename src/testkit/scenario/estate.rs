//! Backends that a recording was made with, as far as it shows them.

use std::time::Duration;

use http::StatusCode;

use super::backend::{Deployment, Latency};
use super::weather::{Weather, millis};
use crate::azure::Outcome;
use crate::recorder::{Attempted, RecordedTarget, Recording, Requested};

const MINUTE: u64 = 60_000;
/// Quotas that were used up at amounts which differ by more than this are not what refused.
const QUOTA_SPREAD: f64 = 1.5;
/// Failures one after the other that make an outage.
const OUTAGE: usize = 3;

/// Signals that a target showed of itself.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) deployment: Deployment,
    pub(super) weather: Vec<Weather>,
}

/// One attempt with its request, in milliseconds since the recording's first event.
struct Look<'a> {
    at: u64,
    attempted: &'a Attempted,
    requested: &'a Requested,
}

impl Look<'_> {
    fn hint(&self) -> Option<u64> {
        match self.attempted.outcome {
            Some(Outcome::Throttled { hint }) => Some(hint.map_or(10_000, millis)),
            _ => None,
        }
    }

    fn is_served(&self) -> bool {
        self.attempted.outcome == Some(Outcome::Success)
    }

    fn is_failure(&self) -> bool {
        self.attempted.outcome.is_some_and(|outcome| outcome.is_failure())
    }

    /// Returns what a standard quota counts: the prompt, and what the answer may have.
    fn counted(&self) -> u64 {
        let (input, output) = self.tokens();
        input + self.requested.max_tokens.map_or(output, u64::from)
    }

    fn tokens(&self) -> (u64, u64) {
        let (input, output) = self.requested.tokens.unwrap_or((self.requested.bytes / 4, 0));
        (input.into(), output.into())
    }
}

pub(super) fn seen(recording: &Recording, target: &RecordedTarget, begin: Duration) -> Seen {
    let requests: std::collections::HashMap<_, _> =
        recording.requests().map(|requested| (requested.number, requested)).collect();
    let look = |attempted: &'_ Attempted| {
        let requested = *requests.get(&attempted.number)?;
        Some((millis(attempted.at.saturating_sub(begin)), requested))
    };
    let mut looks: Vec<_> = recording
        .attempts()
        .filter(|attempted| attempted.target == target.identity)
        .filter_map(|attempted| look(attempted).map(|(at, requested)| Look { at, attempted, requested }))
        .collect();
    looks.sort_by_key(|look| look.at);

    let mut weather = outages(&looks);
    let (quota, throttled) = quota(&looks, target.tokens_per_minute);
    weather.extend(throttled);
    Seen { deployment: quota.latency(latency(&looks)), weather }
}

/// The quota, and where none explains the refusals, the refusals themselves.
fn quota(looks: &[Look<'_>], declared: Option<u64>) -> (Deployment, Vec<Weather>) {
    let refused: Vec<_> = looks.iter().filter_map(|look| Some((look.at, look.hint()?))).collect();
    let Some((first, _)) = refused.first().copied() else {
        return (declared.map_or_else(Deployment::unlimited, Deployment::standard), Vec::new());
    };
    if refused.iter().any(|(_, hint)| hint % 1_000 != 0) {
        return (
            Deployment::provisioned(drained(looks, first, refused.last().map_or(first, |(at, hint)| at + hint))),
            Vec::new(),
        );
    }
    if let Some(declared) = declared {
        return (Deployment::standard(declared), Vec::new());
    }
    // A window ends when its hint does.
    let served: Vec<_> = looks.iter().filter(|look| look.is_served()).collect();
    let counted = std::iter::once(0).chain(served.iter().scan(0, |sum, look| {
        *sum += look.counted();
        Some(*sum)
    }));
    let counted: Vec<u64> = counted.collect();
    let before = |time: u64| counted[served.partition_point(|look| look.at < time)];
    let used = |(at, hint): &(u64, u64)| before(*at).saturating_sub(before((at + hint).saturating_sub(MINUTE)));
    let all: Vec<_> = refused.iter().map(used).collect();
    let (least, most) = (all.iter().min().copied().unwrap_or(0), all.iter().max().copied().unwrap_or(0));
    if least > 0 && most as f64 <= least as f64 * QUOTA_SPREAD {
        let phase = refused.first().map_or(0, |(at, hint)| (at + hint) % MINUTE);
        return (Deployment::standard(least).window_ends_at(Duration::from_millis(phase)), Vec::new());
    }
    let throttled = refused.iter().map(|(at, hint)| {
        let weather = Weather::throttled(Duration::from_millis(*hint));
        weather.from(Duration::from_millis(*at)).lasting(Duration::from_millis((*hint).max(1)))
    });
    (Deployment::unlimited(), throttled.collect())
}

/// Tokens a minute that a saturated provisioned deployment works off.
fn drained(looks: &[Look<'_>], from: u64, to: u64) -> u64 {
    let (from, to) = if to - from >= MINUTE { (from, to) } else { (from.saturating_sub(MINUTE), to) };
    let inside = looks.iter().filter(|look| look.is_served() && (from..to).contains(&look.at));
    let tokens: u64 = inside.map(|look| look.tokens().0 + look.tokens().1).sum();
    (tokens * MINUTE / (to - from).max(1)).max(1)
}

/// Stretches in which nothing but failures came, and what came.
fn outages(looks: &[Look<'_>]) -> Vec<Weather> {
    let mut weather = Vec::new();
    for run in looks.chunk_by(|a, b| a.is_failure() == b.is_failure()) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        if !first.is_failure() || run.len() < OUTAGE {
            continue;
        }
        let kind = match first.attempted.outcome {
            Some(Outcome::ServerFailed { status, .. }) => Weather::failing(status, 1.0),
            Some(Outcome::TimedOut(_)) => Weather::hanging(),
            Some(Outcome::Unreachable) => Weather::refusing(),
            _ => Weather::failing(StatusCode::BAD_GATEWAY, 1.0),
        };
        let lasting = Duration::from_millis(last.at - first.at + 1);
        weather.push(kind.from(Duration::from_millis(first.at)).lasting(lasting));
    }
    weather
}

fn latency(looks: &[Look<'_>]) -> Latency {
    let served: Vec<_> = looks.iter().filter(|look| look.is_served()).collect();
    if served.is_empty() {
        return Latency::TYPICAL;
    }
    let whole = served.iter().map(|look| millis(look.requested.total)).sum::<u64>();
    let answer: u64 = served.iter().map(|look| look.tokens().1).sum();
    let streamed = served.iter().filter(|look| look.requested.is_streamed);
    let firsts: Vec<_> = streamed.filter_map(|look| look.requested.first_content).map(millis).collect();
    let count = served.len() as u64;
    // Where nothing was streamed, a part of the whole is the time that comes before the answer's first token.
    let first = if firsts.is_empty() { whole / count / 4 } else { firsts.iter().sum::<u64>() / firsts.len() as u64 };
    let rest = (whole / count).saturating_sub(first);
    let token = rest * count * 1_000 / answer.max(1);
    Latency::fixed(Duration::from_millis(first)).answer_token(Duration::from_micros(token.min(1_000_000)))
}
