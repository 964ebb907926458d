//! The headers that tell a client whether to come again, and when.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::pool::{NoTarget, ceil_ms};

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Client libraries obey longer waits very differently: some ignore them, some give up, some sleep for a day.
const LONGEST: u64 = 59_000;

/// The shortest wait of which an outage tells.
const OUTAGE: Duration = Duration::from_secs(1);

/// Tells whether an answer with this status tells the client to come again.
pub(crate) fn is_due(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// Replaces what the answer says of waiting.
pub(crate) fn set(headers: &mut HeaderMap, wait: Duration) {
    let ms = ceil_ms(wait).clamp(1, LONGEST);
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
    headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
}

/// Tells a wait of any length, in whole seconds, on an answer that client libraries do not repeat by themselves.
pub(crate) fn set_true_seconds(headers: &mut HeaderMap, wait: Duration) {
    headers.insert(RETRY_AFTER, HeaderValue::from(ceil_ms(wait).div_ceil(1_000)));
}

/// Replaces what an answer says that tells of an outage.
///
/// Client libraries come again twice, within less than a second of their own, and then give up: so that they ride out a short
/// outage it is [`OUTAGE`] at least, and up to as much more, so that they do not all come at once: `spread`, or by chance where
/// no pool or circuit said how much.
pub(crate) fn set_for_outage(headers: &mut HeaderMap, wait: Duration, spread: Option<Duration>) {
    let by_chance = || Duration::from_millis(getrandom::u64().unwrap_or_default() % ceil_ms(OUTAGE));
    set(headers, wait.max(OUTAGE) + spread.unwrap_or_else(by_chance));
}

fn set_by_outlook<B>(answer: &mut Response<B>, none: &NoTarget, wait: Duration) {
    match answer.status() {
        StatusCode::SERVICE_UNAVAILABLE if none.reason.is_outage() => {
            set_for_outage(answer.headers_mut(), wait, none.spread);
        }
        _ => set(answer.headers_mut(), wait),
    }
}

/// Tells on an answer of a backend how the pool looks. What the backend asked for stands where nobody knows better, or where it
/// holds for this request alone, so that its target seems to admit at once.
pub(crate) fn tell<B>(answer: &mut Response<B>, outlook: Option<NoTarget>, hint: Option<Duration>) {
    let soonest = outlook.and_then(|none| Some((none, none.retry_after?)));
    match (soonest.filter(|(_, wait)| !wait.is_zero() || hint.is_none()), hint) {
        (Some((none, wait)), _) => set_by_outlook(answer, &none, wait),
        (None, Some(hint)) => set(answer.headers_mut(), hint),
        (None, None) => {}
    }
}

/// Tells client libraries not to repeat the request by themselves: it may have taken effect.
pub(crate) fn forbid_repeat(headers: &mut HeaderMap) {
    headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_waited_for_a_second_or_two() {
        let told = |wait, spread: Option<Duration>| {
            let mut headers = HeaderMap::new();
            set_for_outage(&mut headers, Duration::from_millis(wait), spread);
            let number = |name| headers[name].to_str().unwrap().parse::<u64>().unwrap();
            assert_eq!(number(RETRY_AFTER), number(RETRY_AFTER_MS).div_ceil(1_000));
            number(RETRY_AFTER_MS)
        };
        for (wait, from, to) in
            [(0, 1_000, 2_000), (250, 1_000, 2_000), (5_000, 5_000, 6_000), (58_999, 58_999, 59_001)]
        {
            assert!((0..100).all(|_| (from..to).contains(&told(wait, None))), "{wait}");
            assert_eq!(told(wait, Some(Duration::ZERO)), from);
        }
    }

    #[test]
    fn is_exact_in_milliseconds_and_rounded_up_in_seconds() {
        for (wait, ms, s) in [(0, "1", "1"), (300, "300", "1"), (1_001, "1001", "2"), (86_400_000, "59000", "59")] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("86400"));
            set(&mut headers, Duration::from_millis(wait));
            assert_eq!(
                (&headers[RETRY_AFTER_MS], &headers[RETRY_AFTER]),
                (&HeaderValue::from_static(ms), &HeaderValue::from_static(s))
            );
        }
    }
}
