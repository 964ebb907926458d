use std::time::SystemTime;

use http::{HeaderMap, StatusCode};

use super::Tree;
use crate::azure::envelope::{self, ErrorEnvelope};
use crate::azure::outcome::Outcome;

/// Bodies of errors: what is read of one is what is read again when it is written, and every status has a meaning.
pub(super) fn check(data: &[u8]) {
    for status in [400, 401, 403, 404, 408, 409, 424, 429, 499, 500, 503, 529] {
        let status = StatusCode::from_u16(status).expect("a status");
        let outcome = Outcome::of_answer(status, &HeaderMap::new(), data, SystemTime::UNIX_EPOCH);
        assert!(!matches!(outcome, Outcome::Success), "{status}");
    }
    let read = envelope::read(data);
    let tree = Tree::read(data);
    let is_object = matches!(tree, Some(Tree::Object(_)));
    assert!(read.is_none() || is_object, "only an object holds an envelope");
    let Some(error) = read else { return };
    against_tree(&error, &tree.expect("an object"));
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let (code, kind, message) = (text(error.code()), text(error.kind()), text(error.message()));
    let written = envelope::write(&code, &kind, &message, error.param());
    let again = envelope::read(&written).expect("what is written can be read");
    assert_eq!((again.code(), again.kind(), again.message()), (Some(&*code), Some(&*kind), Some(&*message)));
    assert_eq!(again.param(), error.param());
    assert_eq!(again.cannot_read_content(), error.cannot_read_content());
}

/// The last of a member that is given twice counts.
fn against_tree(error: &ErrorEnvelope, tree: &Tree) {
    let at = match tree.get("error").next_back() {
        Some(inner @ Tree::Object(_)) => inner,
        Some(Tree::Text(message)) => return assert_eq!(error.message(), Some(message.as_str())),
        _ => tree,
    };
    for (name, read) in [("type", error.kind()), ("message", error.message()), ("param", error.param())] {
        match at.get(name).next_back() {
            Some(Tree::Text(text)) => assert_eq!(read, Some(text.as_str()), "{name}"),
            Some(Tree::Number) => assert!(read.is_some(), "{name}"),
            _ => assert_eq!(read, None, "{name}"),
        }
    }
    let is_said = |name| matches!(at.get(name).next_back(), Some(Tree::Text(_) | Tree::Number));
    assert_eq!(error.code().is_some(), is_said("code") || is_said("statusCode"), "code");
}
