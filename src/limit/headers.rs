//! Headers that tell a client of its own limits.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::store::{Balance, Left};
use crate::context::Limits;

const PREFIX: &str = "x-ratelimit-";
const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// Replaces what the backend says of its own limits, which mislead whoever has others.
///
/// Azure tells resets in seconds.
pub(super) fn replace(headers: &mut HeaderMap, limits: Limits, balance: Balance) {
    let others: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    for name in others {
        headers.remove(name);
    }
    set(headers, REQUESTS, limits.requests_per_minute, balance.requests);
    let by_minute = balance.tokens.map(|left| (limits.tokens_per_minute, left));
    let by_day = balance.tokens_today.map(|left| (limits.tokens_per_day, left));
    // Of two limits, the one of which less is left decides.
    let scarce = by_minute.into_iter().chain(by_day).min_by_key(|(_, left)| left.count);
    if let Some((limit, left)) = scarce {
        set(headers, TOKENS, limit, Some(left));
    }
}

fn set(headers: &mut HeaderMap, [limit, remaining, reset]: [HeaderName; 3], most: u64, left: Option<Left>) {
    let Some(left) = left else { return };
    headers.insert(limit, HeaderValue::from(most));
    headers.insert(remaining, HeaderValue::from(left.count));
    headers.insert(reset, HeaderValue::from(ceil_seconds(left.until_full)));
}

fn ceil_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
