//! Objects that a request asks for.

use super::family::{Action, Family, SHAPES};

/// A call to an object, or to those of one family.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct ObjectCall {
    /// The objects that the path names, the outermost first.
    pub(super) named: Vec<(Family, String)>,
    pub(super) verb: Verb,
}

/// Verb that is asked of the last object that is named.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verb {
    Act(Action),
    /// Makes an object inside it.
    Create(Family),
    Delete,
    /// Lists the objects inside it.
    List(Family),
    Read,
    Update,
}

impl ObjectCall {
    /// Nothing when the API has no such call.
    pub(in super::super) fn read(method: &str, path: &[&str]) -> Option<Self> {
        let (mut named, mut within, mut rest) = (Vec::new(), None, path);
        loop {
            let mut inside = SHAPES.iter().filter(|shape| shape.within == within);
            let (shape, below) = inside.find_map(|shape| Some((shape, rest.strip_prefix(shape.name)?)))?;
            let Some((id, further)) = below.split_first() else {
                let (letter, verb) = match method {
                    "GET" => ('l', Verb::List(shape.family)),
                    "POST" => ('c', Verb::Create(shape.family)),
                    _ => return None,
                };
                return shape.serves(letter).then_some(Self { named, verb });
            };
            named.push((shape.family, (*id).to_owned()));
            if further.is_empty() {
                let (letter, verb) = match method {
                    "DELETE" => ('d', Verb::Delete),
                    "GET" => ('r', Verb::Read),
                    "POST" => ('u', Verb::Update),
                    _ => return None,
                };
                return shape.serves(letter).then_some(Self { named, verb });
            }
            if let [word] = further
                && let Some(action) = shape.action(method, word)
            {
                return Some(Self { named, verb: Verb::Act(action) });
            }
            (within, rest) = (Some(shape.family), further);
        }
    }
}
