//! JSON as a tree, with every member as often as it is given.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Array(Vec<Self>),
    Bool(bool),
    Null,
    Number,
    Object(Vec<(String, Self)>),
    Text(String),
}

impl Tree {
    /// Reads a text that `serde_json` takes for JSON.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Reads a text that Python, Node and Go take for JSON, too: half of a pair of surrogates, written as an escape, is a character that nobody
    /// knows.
    pub(super) fn read_tolerantly(text: &[u8]) -> Option<Self> {
        Self::read(&with_whole_pairs(text))
    }

    pub(super) const fn text(&self) -> Option<&String> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The members of an object, and none of anything else.
    pub(super) fn members(&self) -> impl DoubleEndedIterator<Item = &(String, Self)> {
        let members = if let Self::Object(members) = self { &members[..] } else { &[] };
        members.iter()
    }

    pub(super) fn elements(&self) -> impl Iterator<Item = &Self> {
        let elements = if let Self::Array(elements) = self { &elements[..] } else { &[] };
        elements.iter()
    }

    pub(super) fn get<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a Self> {
        self.members().filter(move |(known, _)| known == name).map(|(_, member)| member)
    }

    pub(super) fn depth(&self) -> usize {
        let inner = self.members().map(|(_, member)| member).chain(self.elements());
        1 + inner.map(Self::depth).max().unwrap_or(0)
    }

    /// Gives every key and every text, in their order.
    pub(super) fn texts(&self, take: &mut impl FnMut(&str)) {
        if let Some(text) = self.text() {
            take(text);
        }
        for (key, member) in self.members() {
            take(key);
            member.texts(take);
        }
        self.elements().for_each(|element| element.texts(take));
    }
}

fn with_whole_pairs(text: &[u8]) -> Vec<u8> {
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix(b"\\u")?.get(..4)?;
        u16::from_str_radix(str::from_utf8(digits).ok().filter(|digits| !digits.contains('+'))?, 16).ok()
    };
    let (mut whole, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(byte) = text.get(at) {
        let (length, is_lone) = match (byte, unit(at)) {
            (b'\\', Some(0xd800..=0xdbff)) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => (12, false),
            (b'\\', Some(0xd800..=0xdfff)) => (6, true),
            (b'\\', _) => (2, false),
            _ => (1, false),
        };
        let written = text.get(at..at + length).unwrap_or(&text[at..]);
        whole.extend_from_slice(if is_lone { b"\\ufffd" } else { written });
        at += length;
    }
    whole
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Tree, A::Error> {
        let mut read = Vec::new();
        while let Some(element) = elements.next_element()? {
            read.push(element);
        }
        Ok(Tree::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
        let mut read = Vec::new();
        while let Some(member) = members.next_entry()? {
            read.push(member);
        }
        Ok(Tree::Object(read))
    }
}
