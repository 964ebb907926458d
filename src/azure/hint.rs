//! Time for which a backend asks us to wait.
//!
//! Azure OpenAI and what stands in front of it say this in many ways: in milliseconds, seconds or dates, in headers that a
//! backend sends on some answers only, or in the text of an error. All of them are read here, and no input panics.
//!
//! Nothing is capped. A hint can be a day, which Azure does send, or as long as [`Duration::MAX`]: cap it, or use checked
//! arithmetic, before adding it to a moment.
//!
//! Sources: `Retry-After` as in RFC 9110 §10.2.3 (<https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3>), `retry-after-ms` and the
//! `x-ratelimit-…` headers as in <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/quota> and <https://platform.openai.com/docs/guides/rate-limits>.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const UNITS: &[(u64, &[&str])] = &[
    (MILLISECOND, &["ms", "millisecond", "milliseconds"]),
    (SECOND, &["s", "sec", "secs", "second", "seconds"]),
    (MINUTE, &["m", "min", "mins", "minute", "minutes"]),
    (HOUR, &["h", "hr", "hrs", "hour", "hours"]),
    (DAY, &["d", "day", "days"]),
];

const RESETS: &[&str] = &["x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "x-rate-limit-reset-tokens"];

const PHRASES: &[&str] = &["retry after", "try again in", "try again after", "retry in"];

/// The wait that the headers of a 429 ask for.
///
/// The first of these that can be read: [`retry_after`]'s headers, then `x-ratelimit-reset-requests`,
/// `x-ratelimit-reset-tokens` and its older spelling `x-rate-limit-reset-tokens`. Reset headers hold seconds or a duration
/// such as `17ms` or `6m0s`; zero or less means *unknown* there and counts as absent.
///
/// Backends send the reset headers with answers of any status, where they only report the quota: use [`retry_after`] for
/// answers other than 429.
#[must_use]
pub fn from_headers(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    retry_after(headers, now).or_else(|| RESETS.iter().find_map(|name| first(headers, name, reset)))
}

/// The wait that an answer of any status asks for by name.
///
/// The first of these that can be read: `retry-after-ms`, `x-ms-retry-after-ms` (both in milliseconds), `Retry-After` (seconds,
/// or an HTTP date that is compared with `now`). Decimals are understood. Zero, or a date that has passed, is a hint of zero;
/// a negative value is none. Of several values of one header the first readable one counts.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    first(headers, "retry-after-ms", milliseconds)
        .or_else(|| first(headers, "x-ms-retry-after-ms", milliseconds))
        .or_else(|| first(headers, "retry-after", |text| seconds(text).or_else(|| until(text, now))))
}

/// The wait that the message of an error asks for, as in "Please retry after 33 seconds" or "Try again in 2 minutes".
#[must_use]
pub fn from_message(message: &str) -> Option<Duration> {
    let mut rest = message;
    while let Some(after) = after_phrase(rest) {
        if let Some((nanos, _)) = sum(after) {
            return Some(duration(nanos));
        }
        rest = after;
    }
    None
}

fn first(headers: &HeaderMap, name: &str, read: impl Fn(&str) -> Option<Duration>) -> Option<Duration> {
    headers.get_all(name).iter().filter_map(text).find_map(read)
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().map(str::trim)
}

fn milliseconds(text: &str) -> Option<Duration> {
    bare_number(text, MILLISECOND)
}

fn seconds(text: &str) -> Option<Duration> {
    bare_number(text, SECOND)
}

fn until(text: &str, now: SystemTime) -> Option<Duration> {
    let moment = httpdate::parse_http_date(text).ok()?;
    Some(moment.duration_since(now).unwrap_or_default())
}

fn reset(text: &str) -> Option<Duration> {
    let whole_sum = || sum(text).filter(|(_, rest)| rest.is_empty()).map(|(nanos, _)| duration(nanos));
    seconds(text).or_else(whole_sum).filter(|wait| !wait.is_zero())
}

fn bare_number(text: &str, unit: u64) -> Option<Duration> {
    let (number, rest) = Decimal::read(text)?;
    rest.is_empty().then(|| duration(number.times(unit)))
}

/// Numbers with units, one after the other (`1h2m3s`, `33 seconds`), as nanoseconds, and what follows them.
fn sum(text: &str) -> Option<(u128, &str)> {
    let (mut total, mut rest) = term(text)?;
    while let Some((nanos, after)) = term(rest) {
        total = total.saturating_add(nanos);
        rest = after;
    }
    Some((total, rest))
}

fn term(text: &str) -> Option<(u128, &str)> {
    let (number, rest) = Decimal::read(text.trim_start())?;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let (unit, _) = UNITS.iter().find(|(_, names)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))?;
    Some((number.times(*unit), rest))
}

/// Returns what follows the earliest of the phrases.
fn after_phrase(text: &str) -> Option<&str> {
    (0..text.len()).find_map(|start| PHRASES.iter().find_map(|phrase| strip_ignoring_case(text.get(start..)?, phrase)))
}

fn strip_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn duration(nanos: u128) -> Duration {
    let seconds = nanos / u128::from(SECOND);
    let below = u32::try_from(nanos % u128::from(SECOND)).unwrap_or_default();
    u64::try_from(seconds).map_or(Duration::MAX, |seconds| Duration::new(seconds, below))
}

/// A number without sign, in full precision to nine decimals; more than a `u64` holds saturates.
struct Decimal {
    whole: u64,
    billionths: u64,
}

impl Decimal {
    fn read(text: &str) -> Option<(Self, &str)> {
        let (whole, rest) = split_digits(text);
        let (fraction, rest) = match rest.strip_prefix('.').map(split_digits) {
            Some((fraction, rest)) if !fraction.is_empty() => (fraction, rest),
            _ => ("", rest),
        };
        if whole.is_empty() {
            return None;
        }
        let whole = whole.parse().unwrap_or(u64::MAX);
        let billionths = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
        Some((Self { whole, billionths: billionths.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')) }, rest))
    }

    fn times(&self, unit: u64) -> u128 {
        let unit = u128::from(unit);
        u128::from(self.whole) * unit + u128::from(self.billionths) * unit / u128::from(SECOND)
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests;
