//! The headers that tell a client whether to come again, and when.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::pool::ceil_ms;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Client libraries obey longer waits very differently: some ignore them, some give up, some sleep for a day.
const LONGEST: u64 = 59_000;

/// Whether an answer with this status tells the client to come again.
pub(crate) fn is_due(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// Replaces what the answer says of waiting.
pub(crate) fn set(headers: &mut HeaderMap, wait: Duration) {
    let ms = ceil_ms(wait).clamp(1, LONGEST);
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
    headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
}

/// Tells client libraries not to repeat the request by themselves: it may have taken effect.
pub(crate) fn forbid_repeat(headers: &mut HeaderMap) {
    headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
}

#[cfg(test)]
mod tests {
    use super::*;

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
