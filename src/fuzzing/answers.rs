use std::collections::BTreeSet;

use super::{Tree, choppings};
use crate::azure::object_id::{AnswerScan, Answered, EventScan, Family, MAX_LEN, MAX_REFERENCES, ObjectId, References};
use crate::azure::operation::Operation;

/// Deeper than anything of interest lies.
const DEEP: usize = 50;

/// Members that hold an id, ids, or objects with one.
const REFERENCES: [(&str, &str); 10] = [
    ("assistant_id", "Assistant"),
    ("container_id", "Container"),
    ("conversation", "Conversation"),
    ("error_file_id", "File"),
    ("file", "File"),
    ("generations", "Video"),
    ("output_file_id", "File"),
    ("result_files", "File"),
    ("thread_id", "Thread"),
    ("vector_store_id", "VectorStore"),
];

/// Ids in answers and in events of streams: against a tree, and in pieces. What is sealed is known again in a request.
pub(super) fn check(data: &[u8]) {
    for family in [None, Some(Family::Response)] {
        let whole = Answered::read(data, family);
        assert!(whole.ids().len() <= MAX_REFERENCES && whole.spoken().len() <= MAX_REFERENCES);
        for pieces in choppings(data) {
            let mut scan = AnswerScan::new(family);
            pieces.iter().for_each(|piece| scan.feed(piece));
            assert_eq!(scan.finish(), whole, "pieces change what is read");
        }
        if let Some(tree) = Tree::read_tolerantly(data).filter(|tree| tree.depth() < DEEP) {
            against_tree(&tree, family, &whole);
        }
        let id = ObjectId::new(Family::Response, "resp_1").expect("an id");
        let _ = id.is_shown_by(data);
    }
    events(data);
    sealed(data);
}

fn named(ids: &[ObjectId]) -> BTreeSet<(String, String)> {
    ids.iter().map(|id| (format!("{:?}", id.family()), id.as_str().to_owned())).collect()
}

fn against_tree(tree: &Tree, family: Option<Family>, read: &Answered) {
    let mut told = Told::default();
    told.answer(tree, family);
    assert_eq!(read.is_not_stored(), told.not_stored);
    if told.ids.len().max(told.spoken.len()) < MAX_REFERENCES {
        let ids = if told.not_stored { BTreeSet::new() } else { told.ids };
        assert_eq!(named(read.ids()), ids);
        assert_eq!(named(read.spoken()), told.spoken);
    }
    assert_eq!(read.sealed().len(), told.sealed.min(64));
}

#[derive(Default)]
struct Told {
    ids: BTreeSet<(String, String)>,
    spoken: BTreeSet<(String, String)>,
    sealed: usize,
    not_stored: bool,
}

impl Told {
    fn answer(&mut self, tree: &Tree, family: Option<Family>) {
        for element in tree.elements() {
            self.answer(element, family);
        }
        for (key, member) in tree.members() {
            match (key.as_str(), member) {
                ("id", Tree::Text(id)) => {
                    if let Some(family) = Family::of_prefix(id).or(family) {
                        self.learn(&format!("{family:?}"), id);
                    }
                }
                ("data" | "response", _) => self.answer(member, family),
                ("choices", _) => self.choice(member),
                ("item" | "output", _) => self.output(member),
                ("store", Tree::Bool(flag)) => self.not_stored |= !flag,
                _ => {
                    if let Some((_, family)) = REFERENCES.iter().find(|(name, _)| name == key) {
                        self.id(member, family);
                    }
                }
            }
        }
    }

    fn id(&mut self, tree: &Tree, family: &str) {
        if let Some(id) = tree.text() {
            self.learn(family, id);
        }
        tree.elements().chain(tree.get("id")).for_each(|inner| self.id(inner, family));
    }

    fn choice(&mut self, tree: &Tree) {
        tree.elements().for_each(|element| self.choice(element));
        for id in ["delta", "message"].iter().flat_map(|name| tree.get(name)).flat_map(|message| message.get("audio")) {
            for id in id.get("id").filter_map(Tree::text).filter(|id| (1..=MAX_LEN).contains(&id.len())) {
                self.spoken.insert(("Audio".into(), id.clone()));
            }
        }
    }

    fn output(&mut self, tree: &Tree) {
        tree.elements().for_each(|element| self.output(element));
        for (key, member) in tree.members() {
            match (key.as_str(), member) {
                ("id", member) => self.id(member, "Item"),
                ("container_id", member) => self.id(member, "Container"),
                ("encrypted_content", Tree::Text(content)) => self.sealed += usize::from(!content.is_empty()),
                _ => {}
            }
        }
    }

    fn learn(&mut self, family: &str, id: &str) {
        if (1..=MAX_LEN).contains(&id.len()) {
            self.ids.insert((family.to_owned(), id.to_owned()));
        }
    }
}

fn events(data: &[u8]) {
    let read = |pieces: &[&[u8]]| {
        let (mut scan, mut told) = (EventScan::default(), Vec::new());
        for mut piece in pieces.iter().copied() {
            told.extend(std::iter::from_fn(|| scan.next_event(&mut piece)));
            assert!(piece.is_empty(), "a piece is read to its end");
        }
        told
    };
    let whole = read(&[data]);
    choppings(data).for_each(|pieces| assert_eq!(read(&pieces), whole, "pieces change what is read"));
}

/// A content is known by the same mark where it is learned and where it is met.
fn sealed(data: &[u8]) {
    let Some(Tree::Text(_)) = Tree::read(data) else { return };
    let answer = [b"{\"output\":[{\"encrypted_content\":", data, b"}]}"].concat();
    let request = [b"{\"input\":[{\"type\":\"reasoning\",\"encrypted_content\":", data, b"}]}"].concat();
    let met = References::read(Operation::Responses, &request).expect("JSON");
    assert_eq!(Answered::read(&answer, None).sealed(), met.sealed());
}
