use serde_json::value::RawValue;

use super::{Tree, choppings};
use crate::azure::usage::{AnswerReader, Reported, Usage};

/// The usage of an answer: against what `serde_json` finds, and in pieces.
pub(super) fn check(data: &[u8]) {
    let read = |pieces: &[&[u8]]| {
        let mut reader = AnswerReader::new();
        pieces.iter().for_each(|piece| reader.push(piece));
        reader.finish()
    };
    let whole = read(&[data]);
    // Of what is no JSON, a chunk that holds more may tell more.
    let tree = Tree::read(data);
    if tree.is_some() {
        choppings(data).for_each(|pieces| assert_eq!(read(&pieces), whole, "pieces change what is read"));
    }
    if let Some(reported) = &whole {
        plausible(&reported.usage);
    }
    // A name in escapes is none of those that are looked for, and a long value is none that is kept.
    if data.len() > 4000 || memchr::memmem::find(data, b"\\").is_some() {
        return;
    }
    let Some(tree) = tree else { return };
    assert_eq!(whole.map(|reported| reported.usage), by_tree(data, &tree));
}

fn plausible(usage: &Usage) {
    assert!(usage.input <= 3 * Usage::MOST && usage.output <= Usage::MOST);
    let details = usage.details;
    assert!(details.input_cached.max(details.input_audio).max(details.input_image) <= usage.input);
    assert!(details.output_reasoning.max(details.output_audio).max(details.output_image) <= usage.output);
}

/// The last `usage` of the object itself, as an event would tell it.
fn by_tree(data: &[u8], tree: &Tree) -> Option<Usage> {
    tree.get("usage").next()?;
    let members: std::collections::HashMap<String, Box<RawValue>> = serde_json::from_slice(data).ok()?;
    let frame = format!("{{\"usage\":{}}}", members.get("usage")?.get());
    Reported::of_frame(frame.as_bytes()).map(|reported| reported.usage)
}
