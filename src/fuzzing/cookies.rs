use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cookie::Cookie;
use http::HeaderValue;

use crate::session::{COOKIE_NAME, SessionCookie};

const KEY: [u8; 32] = [7; 32];
/// Longer than any cookie is good for.
const LONG: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// `Cookie` headers: nothing but what was signed is believed, and nothing of ours is sent on.
pub(super) fn check(data: &[u8]) {
    let Ok(header) = HeaderValue::from_bytes(data) else { return };
    let ours = SessionCookie::new(&KEY).expect("a key");
    let backends = ["east", "west"].map(Arc::<str>::from);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
    let signed = ours.write("west", true, now).expect("a cookie");
    let signed = signed.to_str().expect("a text").split(';').next().expect("a pair").to_owned();
    let (_, value) = signed.split_once('=').expect("a pair");

    if let Some((_, left)) = ours.read([&header], &backends, now) {
        assert!(left < LONG);
        assert!(header.to_str().is_ok_and(|header| header.contains(value)), "a cookie that nobody signed");
    }
    let kept = ours.removed_from(&header);
    if let Some(text) = kept.as_ref().and_then(|kept| kept.to_str().ok()) {
        assert!(!names(text).contains(&COOKIE_NAME.to_owned()), "ours is sent on: {text:?}");
    }
    if let Ok(text) = header.to_str() {
        let others: Vec<_> = names(text).into_iter().filter(|name| name != COOKIE_NAME).collect();
        assert_eq!(kept.as_ref().and_then(|kept| kept.to_str().ok()).map(names).unwrap_or_default(), others);
        beside(&ours, text, &signed, &backends, now);
    }
}

fn names(header: &str) -> Vec<String> {
    Cookie::split_parse(header).filter_map(Result::ok).map(|cookie| cookie.name().to_owned()).collect()
}

/// Ours is found whatever stands beside it, unless that is another of ours.
fn beside(ours: &SessionCookie, text: &str, signed: &str, backends: &[Arc<str>], now: SystemTime) {
    let is_alone = !names(text).contains(&COOKIE_NAME.to_owned());
    let Ok(both) = HeaderValue::from_str(&format!("{text}; {signed}")) else { return };
    let read = ours.read([&both], backends, now).map(|(backend, _)| backend);
    assert_eq!(read.as_deref() == Some("west"), is_alone, "{both:?}");
}
