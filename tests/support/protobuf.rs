//! Reads Protocol Buffers, without knowing what they mean.
#![allow(dead_code, reason = "each test file uses its part")]

/// A value as it stands on the wire.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// Fields by their numbers, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message(Vec<(u64, Field)>);

impl Message {
    pub(crate) fn read(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = number(&mut bytes);
            let value = match tag & 7 {
                0 => Field::Number(number(&mut bytes)),
                kind @ (1 | 5) => {
                    let (value, rest) = bytes.split_at(if kind == 1 { 8 } else { 4 });
                    bytes = rest;
                    Field::Number(value.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
                }
                2 => {
                    let length = number(&mut bytes) as usize;
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    Field::Bytes(value.to_vec())
                }
                other => panic!("wire type {other}"),
            };
            fields.push((tag >> 3, value));
        }
        Self(fields)
    }

    fn all(&self, field: u64) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(number, _)| *number == field).filter_map(|(_, value)| match value {
            Field::Bytes(bytes) => Some(&bytes[..]),
            Field::Number(_) => None,
        })
    }

    pub(crate) fn bytes(&self, field: u64) -> Vec<u8> {
        self.all(field).next().unwrap_or_default().to_vec()
    }

    pub(crate) fn hex(&self, field: u64) -> String {
        self.bytes(field).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn text(&self, field: u64) -> String {
        String::from_utf8(self.bytes(field)).unwrap()
    }

    pub(crate) fn number(&self, field: u64) -> u64 {
        let found = self.0.iter().find(|(number, value)| *number == field && matches!(value, Field::Number(_)));
        match found {
            Some((_, Field::Number(number))) => *number,
            _ => 0,
        }
    }

    pub(crate) fn messages(&self, field: u64) -> Vec<Self> {
        self.all(field).map(Self::read).collect()
    }

    /// The value of an attribute among those of this field, numbers as text.
    pub(crate) fn attribute(&self, field: u64, key: &str) -> Option<String> {
        let found = self.messages(field).into_iter().find(|attribute| attribute.text(1) == key)?;
        let value = found.messages(2).remove(0);
        Some(match value.bytes(1) {
            text if text.is_empty() => (value.number(3) + value.number(2)).to_string(),
            text => String::from_utf8(text).unwrap(),
        })
    }

    /// Keys of the attributes of this field.
    pub(crate) fn keys(&self, field: u64) -> Vec<String> {
        self.messages(field).iter().map(|attribute| attribute.text(1)).collect()
    }
}

fn number(bytes: &mut &[u8]) -> u64 {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap();
    let value = bytes[..=end].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    *bytes = &bytes[end + 1..];
    value
}

/// Spans, metrics or log records of a request to a collector, with the one resource of which they are.
pub(crate) fn told(request: &[u8]) -> (Message, Vec<Message>) {
    let of_resource = Message::read(request).messages(1).remove(0);
    (of_resource.messages(1).remove(0), of_resource.messages(2).remove(0).messages(2))
}
