use http::HeaderName;
use proptest::prelude::*;

use super::*;

fn now() -> SystemTime {
    httpdate::parse_http_date("Sat, 21 Nov 2026 10:00:00 GMT").unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let name = |name| HeaderName::from_static(name);
    pairs.iter().map(|(key, value)| (name(key), HeaderValue::from_bytes(value.as_bytes()).unwrap())).collect()
}

fn read(pairs: &[(&'static str, &str)]) -> Option<Duration> {
    from_headers(&headers(pairs), now())
}

const fn ms(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

const fn s(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn reads_every_header_in_its_unit() {
    for (name, value, wait) in [
        ("retry-after-ms", "300", ms(300)),
        ("retry-after-ms", "0", ms(0)),
        ("retry-after-ms", "1.5", Some(Duration::from_micros(1500))),
        ("x-ms-retry-after-ms", "250", ms(250)),
        ("retry-after", "33", s(33)),
        ("retry-after", " 33 ", s(33)),
        ("retry-after", "0", s(0)),
        ("retry-after", "0.5", ms(500)),
        ("retry-after", "1.0000000019", Some(Duration::new(1, 1))),
        ("retry-after", "86400", s(86_400)),
        ("x-ratelimit-reset-requests", "17", s(17)),
        ("x-ratelimit-reset-requests", "17ms", ms(17)),
        ("x-ratelimit-reset-requests", "1s", s(1)),
        ("x-ratelimit-reset-tokens", "6m0s", s(360)),
        ("x-ratelimit-reset-tokens", "1m30s", s(90)),
        ("x-ratelimit-reset-tokens", "1h2m3s", s(3723)),
        ("x-ratelimit-reset-tokens", "1m30.5s", ms(90_500)),
        ("x-ratelimit-reset-tokens", "0.25", ms(250)),
        ("x-rate-limit-reset-tokens", "12", s(12)),
    ] {
        assert_eq!(read(&[(name, value)]), wait, "{name}: {value}");
    }
}

#[test]
fn reads_http_dates_against_the_given_clock() {
    for (value, wait) in [
        ("Sat, 21 Nov 2026 10:00:30 GMT", s(30)),
        ("Saturday, 21-Nov-26 10:00:30 GMT", s(30)),
        ("Sat Nov 21 10:00:30 2026", s(30)),
        ("Sat, 21 Nov 2026 09:00:00 GMT", s(0)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", s(0)),
        ("Sat, 31 Feb 2026 10:00:00 GMT", None),
        ("Sat, 21 Nov 0000 10:00:00 GMT", None),
        ("Sat, 21 Nov 99999 10:00:00 GMT", None),
    ] {
        assert_eq!(read(&[("retry-after", value)]), wait, "{value}");
    }
    let distant = read(&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")]);
    assert!(distant > s(200_000_000_000), "an absurd date is a long wait: {distant:?}");
}

#[test]
fn what_cannot_be_read_is_absent() {
    for name in ["retry-after-ms", "x-ms-retry-after-ms", "retry-after", "x-ratelimit-reset-requests"] {
        for value in
            ["", "-1", "-0.5", "+5", "soon", "NaN", "inf", "1e3", "0x10", "5 apples", ".", ".5", "5.", "5, 6", "é"]
        {
            assert_eq!(read(&[(name, value)]), None, "{name}: {value}");
        }
    }
    assert_eq!(read(&[]), None);
}

#[test]
fn a_reset_of_zero_or_less_means_unknown() {
    for name in RESETS {
        for value in ["0", "0.0", "-1", "0s", "0ms", "-1s", "1m-", "1m 30"] {
            assert_eq!(read(&[(name, value)]), None, "{name}: {value}");
        }
    }
}

#[test]
fn overflow_saturates() {
    let digits = "99999999999999999999";
    assert_eq!(read(&[("retry-after", digits)]), s(u64::MAX));
    assert_eq!(read(&[("retry-after-ms", digits)]), ms(u64::MAX));
    assert_eq!(read(&[("x-ratelimit-reset-tokens", &format!("{digits}h{digits}h"))]), Some(Duration::MAX));
    assert_eq!(from_message(&format!("retry after {digits} days")), Some(Duration::MAX));
}

#[test]
fn earlier_headers_win_and_unreadable_ones_fall_through() {
    let order = ["retry-after-ms", "x-ms-retry-after-ms", "retry-after", RESETS[0], RESETS[1], RESETS[2]];
    for from in 0..order.len() {
        let readable: Vec<_> = order[from..].iter().rev().map(|name| (*name, "7")).collect();
        let expected = if from < 2 { ms(7) } else { s(7) };
        assert_eq!(read(&readable), expected, "{} comes first", order[from]);

        let mut behind_garbage: Vec<_> = order[..from].iter().map(|name| (*name, "-1")).collect();
        behind_garbage.extend(readable);
        assert_eq!(read(&behind_garbage), expected, "{} after garbage", order[from]);
    }
    assert_eq!(read(&[("retry-after", "0"), (RESETS[0], "30")]), s(0), "zero is a hint");
}

#[test]
fn of_several_values_the_first_readable_counts() {
    assert_eq!(
        read(&[("retry-after", "later"), ("retry-after", "-5"), ("retry-after", "9"), ("retry-after", "3")]),
        s(9)
    );
}

#[test]
fn reset_headers_are_no_retry_after() {
    assert_eq!(retry_after(&headers(&[(RESETS[0], "30")]), now()), None);
    assert_eq!(retry_after(&headers(&[(RESETS[0], "30"), ("retry-after", "2")]), now()), s(2));
}

#[test]
fn reads_messages() {
    for (message, wait) in [
        (
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded token \
             rate limit of your current OpenAI S0 pricing tier. Please retry after 33 seconds. Please go here: https://a.b",
            s(33),
        ),
        ("Rate limit is exceeded. Try again in 40 seconds.", s(40)),
        ("Please retry after 86400 seconds", s(86_400)),
        ("please RETRY AFTER 1 second", s(1)),
        ("Retry after 250 milliseconds", ms(250)),
        ("retry after 250ms", ms(250)),
        ("Try again in 2 minutes", s(120)),
        ("Try again in 1 minute 30 seconds", s(90)),
        ("try again in 1 hour.", s(3600)),
        ("try again in 3 hours", s(10_800)),
        ("Please try again in 1.2s. Visit", ms(1200)),
        ("Please try again in 6m0s.", s(360)),
        ("retry after 0 seconds", s(0)),
        ("retry after a while, or try again in 5 seconds", s(5)),
        ("é retry after 5 seconds é", s(5)),
        ("retry after", None),
        ("retry after 33", None),
        ("retry after -1 seconds", None),
        ("retry after 5 attempts", None),
        ("retry after 5 secondary", None),
        ("retry after 2026-11-21", None),
        ("5 seconds", None),
        ("", None),
    ] {
        assert_eq!(from_message(message), wait, "{message}");
    }
}

fn header_value() -> impl Strategy<Value = HeaderValue> {
    let odd = prop::collection::vec(any::<u8>(), 0..40);
    let near = "[-+]?[0-9]{0,25}(\\.[0-9]{0,12})?(ms|s|m|h|d| GMT)?".prop_map(String::into_bytes);
    prop_oneof![odd, near].prop_filter_map("not a header value", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

proptest! {
    #[test]
    fn headers_are_read_without_panic(values in prop::collection::vec((0..6usize, header_value()), 0..8)) {
        let names = ["retry-after-ms", "x-ms-retry-after-ms", "retry-after", RESETS[0], RESETS[1], RESETS[2]];
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(names[name], value);
        }
        let explicit = retry_after(&headers, now());
        prop_assert!(explicit.is_none() || from_headers(&headers, now()) == explicit);
    }

    #[test]
    fn messages_are_read_without_panic(message in "(?s).*", number in "[0-9.]{0,30}", unit in "(?s).{0,4}") {
        let _ = from_message(&message);
        let _ = from_message(&format!("{message}retry after {number} {unit}"));
    }

    #[test]
    fn dates_are_read_without_panic(date in "[A-Za-z]{3,9},? [0-9]{1,2}[ -][A-Z][a-z]{2}[ -][0-9]{2,5} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT") {
        let _ = read(&[("retry-after", &date)]);
    }

    #[test]
    fn longer_numbers_ask_for_longer_waits(a in any::<u64>(), b in any::<u64>()) {
        let (short, long) = (a.min(b), a.max(b));
        for name in ["retry-after-ms", "retry-after"] {
            prop_assert!(read(&[(name, &short.to_string())]) <= read(&[(name, &long.to_string())]));
        }
    }

    #[test]
    fn milliseconds_come_before_seconds(millis in any::<u32>(), seconds in any::<u32>()) {
        let both = read(&[("retry-after", &seconds.to_string()), ("retry-after-ms", &millis.to_string())]);
        prop_assert_eq!(both, ms(millis.into()));
    }
}
