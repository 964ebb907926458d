use http::HeaderValue;
use http::header::CONTENT_TYPE;

use crate::azure::media_type::{MediaType, form_with};

/// Content types: a boundary that is read is the one that `multer` reads, and the one that is sent on.
pub(super) fn check(data: &[u8]) {
    let Ok(line) = HeaderValue::from_bytes(data) else { return };
    let headers = [(CONTENT_TYPE, line)].into_iter().collect();
    let Some(kind) = MediaType::of(&headers) else { return };
    let _ = (kind.is_json(), kind.is_text());
    let (Ok(boundary), true) = (kind.boundary(), kind.is_form()) else { return };
    let theirs = str::from_utf8(data).ok().and_then(|line| multer::parse_boundary(line).ok());
    assert!(theirs.is_none_or(|theirs| theirs == boundary), "another boundary than {boundary:?}");

    let sent = form_with(boundary).expect("a header");
    let sent = sent.to_str().expect("a text");
    assert_eq!(multer::parse_boundary(sent).as_deref().ok(), Some(boundary), "{sent}");
    assert_eq!(MediaType::read(sent).boundary(), Ok(boundary));
}
