use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};

use crate::azure::hint;
use crate::azure::signals::Signals;
use crate::date::Date;

/// Decimals below this are exact enough as a `f64` to be compared.
const COMPARED: f64 = 1e9;

/// Waits in headers, in messages and as dates: against floating point, and against how dates are written.
pub(super) fn check(data: &[u8]) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
    if let Ok(value) = HeaderValue::from_bytes(data) {
        for (name, unit) in [("retry-after", 1.0), ("retry-after-ms", 1e3), ("x-ms-retry-after-ms", 1e3)] {
            let headers: HeaderMap = [(http::HeaderName::from_static(name), value.clone())].into_iter().collect();
            let read = hint::retry_after(&headers, now);
            assert_eq!(hint::from_headers(&headers, now), read);
            if let Some(expected) = decimal(data) {
                let read = read.expect("a number is a hint").as_secs_f64();
                assert!((read - expected / unit).abs() <= 1e-6 + expected * 1e-9, "{read} s for {expected} / {unit}");
            }
        }
        for name in ["x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens"] {
            let headers: HeaderMap = [(http::HeaderName::from_static(name), value.clone())].into_iter().collect();
            assert_eq!(hint::retry_after(&headers, now), None, "a quota's reset is no wait by name");
            let _ = (hint::from_headers(&headers, now), Signals::read(&headers).is_empty());
        }
    }
    let Ok(text) = str::from_utf8(data) else { return };
    let _ = hint::from_message(text);
    if let Ok(date) = text.parse::<Date>() {
        assert_eq!(date.to_string(), text);
    }
    http_date(text, now);
}

fn decimal(data: &[u8]) -> Option<f64> {
    let text = str::from_utf8(data).ok()?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_whole = text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(|c: char| c.is_ascii_digit());
    text.parse().ok().filter(|number| is_plain && is_whole && (0.0..COMPARED).contains(number))
}

/// A date that is written again is the same moment.
fn http_date(text: &str, now: SystemTime) {
    let Ok(moment) = httpdate::parse_http_date(text.trim()) else { return };
    if HeaderValue::from_str(text).is_err() {
        return;
    }
    let headers = |text: &str| -> HeaderMap {
        let value = HeaderValue::from_str(text).expect("a header");
        [(http::header::RETRY_AFTER, value)].into_iter().collect()
    };
    let wait = hint::retry_after(&headers(text), now);
    assert_eq!(wait, Some(moment.duration_since(now).unwrap_or_default()));
    assert_eq!(hint::retry_after(&headers(&httpdate::fmt_http_date(moment)), now), wait);
}
