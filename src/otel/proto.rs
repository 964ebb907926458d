//! Messages of Protocol Buffers, as far as OTLP needs them.

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

/// A message that is being written, field after field.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

/// The value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Flag(bool),
    Number(u64),
    Text(&'a str),
}

impl Message {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn varint(&mut self, field: u32, value: u64) {
        self.tag(field, VARINT);
        self.number(value);
    }

    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn fixed32(&mut self, field: u32, value: u32) {
        self.tag(field, FIXED32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn double(&mut self, field: u32, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.tag(field, BYTES);
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// A message inside this one.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.tag(field, BYTES);
        let start = self.0.len();
        // Most are short: room for a length of one byte, and more when it turns out to be longer.
        self.0.push(0);
        write(self);
        let mut length = Self::default();
        length.number((self.0.len() - start - 1) as u64);
        self.0.splice(start..=start, length.0);
    }

    /// Numbers of fixed length, in one piece.
    pub(super) fn packed(&mut self, field: u32, values: impl ExactSizeIterator<Item = u64>) {
        self.tag(field, BYTES);
        self.number(8 * values.len() as u64);
        values.for_each(|value| self.0.extend_from_slice(&value.to_le_bytes()));
    }

    /// Adds fields that were written before.
    pub(super) fn written(&mut self, fields: &[u8]) {
        self.0.extend_from_slice(fields);
    }

    /// `opentelemetry.proto.common.v1.KeyValue`.
    pub(super) fn attribute(&mut self, field: u32, key: &str, value: Value<'_>) {
        self.message(field, |pair| {
            pair.text(1, key);
            pair.message(2, |any| match value {
                Value::Flag(flag) => any.varint(2, u64::from(flag)),
                Value::Number(number) => any.varint(3, number),
                Value::Text(text) => any.text(1, text),
            });
        });
    }

    /// `opentelemetry.proto.common.v1.AnyValue`.
    pub(super) fn any(&mut self, field: u32, value: &serde_json::Value) {
        use serde_json::Value;
        self.message(field, |any| match value {
            Value::Null => {}
            Value::Bool(flag) => any.varint(2, u64::from(*flag)),
            Value::Number(number) => match number.as_i64() {
                Some(number) => any.varint(3, number.cast_unsigned()),
                None => any.double(4, number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => any.text(1, text),
            Value::Array(values) => any.message(5, |list| values.iter().for_each(|value| list.any(1, value))),
            Value::Object(members) => any.message(6, |list| {
                for (name, value) in members {
                    list.message(1, |pair| {
                        pair.text(1, name);
                        pair.any(2, value);
                    });
                }
            }),
        });
    }

    fn tag(&mut self, field: u32, kind: u32) {
        self.number(u64::from(field << 3 | kind));
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Reads the number of items that were not accepted: `partial_success` of an answer, whose first field is the same for all signals.
pub(super) fn rejected(answer: &[u8]) -> Option<u64> {
    let partial = fields(answer)?.find_map(|(field, value)| match value {
        Field::Bytes(bytes) if field == 1 => Some(bytes),
        _ => None,
    });
    let count = fields(partial?)?.find_map(|(field, value)| match value {
        Field::Number(number) if field == 1 => Some(number),
        _ => None,
    });
    count.filter(|count| *count > 0)
}

enum Field<'a> {
    Bytes(&'a [u8]),
    Number(u64),
    Fixed,
}

/// `None` where it is no message.
fn fields(message: &[u8]) -> Option<impl Iterator<Item = (u64, Field<'_>)>> {
    let (mut rest, mut found) = (message, Vec::new());
    while !rest.is_empty() {
        let tag = number(&mut rest)?;
        let value = match (tag & 7) as u32 {
            VARINT => Field::Number(number(&mut rest)?),
            FIXED64 => take(&mut rest, 8).map(|_| Field::Fixed)?,
            FIXED32 => take(&mut rest, 4).map(|_| Field::Fixed)?,
            BYTES => {
                let length = usize::try_from(number(&mut rest)?).ok()?;
                Field::Bytes(take(&mut rest, length)?)
            }
            _ => return None,
        };
        found.push((tag >> 3, value));
    }
    Some(found.into_iter())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::default();
        write(&mut message);
        message.into_bytes()
    }

    /// The examples of the encoding's own documentation.
    #[test]
    fn is_written_as_documented() {
        assert_eq!(written(|message| message.varint(1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(written(|message| message.text(2, "testing")), b"\x12\x07testing");
        assert_eq!(written(|message| message.message(3, |inner| inner.varint(1, 150))), [0x1a, 3, 0x08, 0x96, 0x01]);
        assert_eq!(written(|message| message.varint(16, u64::MAX)).len(), 12);
        assert_eq!(written(|message| message.packed(6, [1, 2].into_iter()))[..2], [0x32, 16]);
    }

    #[test]
    fn what_was_not_accepted_is_read() {
        let answer = |count| {
            written(|answer| {
                answer.message(1, |partial| {
                    partial.varint(1, count);
                    partial.text(2, "too many");
                });
            })
        };
        assert_eq!(rejected(&answer(300)), Some(300));
        assert_eq!(rejected(&answer(0)), None);
        assert_eq!(rejected(b""), None);
        assert_eq!(rejected(br#"{"partialSuccess":{}}"#), None);
    }

    proptest! {
        #[test]
        fn lengths_are_right_whatever_they_are(inner in proptest::collection::vec(any::<u8>(), 0..40_000), bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let outer = written(|outer| outer.message(1, |message| message.bytes(2, &inner)));
            let (_, Field::Bytes(message)) = fields(&outer).unwrap().next().unwrap() else { panic!() };
            let (_, Field::Bytes(read)) = fields(message).unwrap().next().unwrap() else { panic!() };
            prop_assert_eq!(read, inner);
            let _ = rejected(&bytes);
        }
    }
}
