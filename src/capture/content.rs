//! From what passed to what is written of it.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tape::{Kind, Tape, hex};
use super::{Content, Redact, events, redact};
use crate::azure::json_text;

/// From this length on, a text of nothing but base64 is a medium and not something that anybody said.
const SHORTEST_MEDIUM: usize = 512;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// At most so many bytes of it.
pub(super) fn of(tape: &mut Tape, limit: usize, redacts: Option<&dyn Redact>) -> Content {
    let length = tape.length;
    let found = match tape.kind {
        _ if length == 0 => Content::default(),
        Kind::Media => Content { sha256: tape.take_digest(), ..Content::default() },
        Kind::Text if redacts.is_some() => omitted("it is no JSON, so that nothing can be taken out of it"),
        Kind::Text => text(String::from_utf8_lossy(&tape.joined()).into_owned(), limit, tape.is_cut),
        Kind::Events => {
            let mut said = events::assemble(&tape.frames);
            clean(&mut said, redacts);
            json(said, limit, tape.is_cut)
        }
        // Nothing can be taken out of a part of it.
        Kind::Json if tape.is_cut => omitted("it is longer than what could be kept"),
        Kind::Json => match json_text::read(&tape.joined()) {
            Ok(mut said) => {
                clean(&mut said, redacts);
                json(said, limit, false)
            }
            Err(_) => Content { sha256: Some(hex(&Sha256::digest(tape.joined()))), ..Content::default() },
        },
    };
    Content { length, ..found }
}

fn clean(said: &mut Value, redacts: Option<&dyn Redact>) {
    if let Some(redacts) = redacts {
        redacts.redact(said);
    }
    redact::credentials(said);
    media(said);
}

fn json(said: Value, limit: usize, is_cut: bool) -> Content {
    let written = said.to_string();
    if written.len() > limit {
        return text(written, limit, is_cut);
    }
    Content { json: Some(said), truncated: is_cut, ..Content::default() }
}

fn text(mut text: String, limit: usize, is_cut: bool) -> Content {
    let is_long = text.len() > limit;
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    text.truncate(end);
    Content { text: Some(text), truncated: is_long || is_cut, ..Content::default() }
}

fn omitted(why: &'static str) -> Content {
    Content { omitted: Some(why), ..Content::default() }
}

/// Puts a length and a digest in the place of images, audio and files.
fn media(said: &mut Value) {
    match said {
        Value::Array(elements) => elements.iter_mut().for_each(media),
        Value::Object(members) => members.values_mut().for_each(media),
        Value::String(text) => {
            if let Some(medium) = medium(text) {
                *said = medium;
            }
        }
        _ => {}
    }
}

fn medium(text: &str) -> Option<Value> {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let of_url = text.strip_prefix("data:").and_then(|url| url.split_once(";base64,"));
    let (kind, encoded) = match of_url {
        Some((kind, encoded)) => (Some(kind), encoded),
        None if text.len() >= SHORTEST_MEDIUM && text.bytes().all(is_base64) => (None, text),
        None => return None,
    };
    let (length, digest) = match BASE64.decode(encoded) {
        Ok(bytes) => (bytes.len(), hex(&Sha256::digest(&bytes))),
        Err(_) => (encoded.len(), hex(&Sha256::digest(encoded))),
    };
    Some(json!({"media": {"type": kind, "length": length, "sha256": digest}}))
}
