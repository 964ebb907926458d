use std::collections::{BTreeSet, HashSet};

use super::Tree;
use crate::azure::object_id::{self, LookAlikes, MAX_LEN, MAX_REFERENCES, ObjectId, References};
use crate::azure::operation::Operation;

const OPERATIONS: [Operation; 15] = [
    Operation::Assistants,
    Operation::AudioSpeech,
    Operation::AudioVoices,
    Operation::Batches,
    Operation::ChatCompletions,
    Operation::Containers,
    Operation::Conversations,
    Operation::Evals,
    Operation::FineTuning,
    Operation::ImagesEdits,
    Operation::Realtime,
    Operation::Responses,
    Operation::Threads,
    Operation::VectorStores,
    Operation::Videos,
];

/// Ids in bodies: those that a tree has at the places of the operation, whatever stands beside them, and never more work than a
/// bounded number of ids makes.
pub(super) fn check(data: &[u8]) {
    let tree = Tree::read_tolerantly(data);
    for operation in OPERATIONS {
        let read = References::read(operation, data);
        if let Some(tree) = &tree {
            against_tree(operation, tree, read.as_ref().expect("JSON is searched"));
        }
        let start = References::read_start(operation, &data[..data.len() * 3 / 4]);
        bounded(&start);
        if let Ok(read) = &read {
            bounded(read);
            let known: BTreeSet<_> = named(read.ids()).into_iter().collect();
            let is_known = named(start.ids()).iter().all(|id| known.contains(id));
            assert!(is_known || read.is_truncated(), "the beginning refers to more than the whole");
        }
    }
    look_alikes(data, tree.as_ref());
}

fn bounded(read: &References) {
    assert!(read.ids().len() <= MAX_REFERENCES && read.repeated().len() <= 32 && read.sealed().len() <= 8);
    // Each that is read costs a look into a set; the same one again, too.
    assert!(read.times_read() <= 8 * MAX_REFERENCES + 8, "{} ids were read", read.times_read());
}

fn named(ids: &[ObjectId]) -> Vec<(String, String)> {
    ids.iter().map(|id| (format!("{:?}", id.family()), id.as_str().to_owned())).collect()
}

fn against_tree(operation: Operation, tree: &Tree, read: &References) {
    let mut found = Found::default();
    let rows = object_id::rows_of(operation);
    let ways: Vec<_> = rows.iter().map(|(path, holds)| Way { steps: steps(path), holds }).collect();
    found.walk(tree, &ways.iter().collect::<Vec<_>>());
    if read.is_truncated() {
        return;
    }
    assert_eq!(read.is_oversized(), found.oversized, "{operation:?}");
    let ids: BTreeSet<_> = named(read.ids()).into_iter().collect();
    assert_eq!(ids, found.ids, "{operation:?}");
    if found.repeated.len() <= 32 {
        // An object's own id is told at its end.
        let mut repeated = named(read.repeated());
        repeated.sort();
        found.repeated.sort();
        assert_eq!(repeated, found.repeated, "{operation:?}");
    }
    assert_eq!(read.sealed().len(), found.sealed.min(8), "{operation:?}");
    assert_eq!((read.store(), read.speaks()), (found.store, found.speaks), "{operation:?}");
}

/// A place, as steps from where a walk stands.
struct Way<'r> {
    steps: Vec<String>,
    holds: &'r str,
}

fn steps(path: &str) -> Vec<String> {
    let steps = path.split('.').filter(|step| !step.is_empty());
    steps
        .flat_map(|step| {
            let name = step.trim_end_matches("[]");
            std::iter::once(name.to_owned()).chain((name.len() < step.len()).then(|| "[]".to_owned()))
        })
        .collect()
}

#[derive(Default)]
struct Found {
    ids: BTreeSet<(String, String)>,
    repeated: Vec<(String, String)>,
    sealed: usize,
    store: Option<bool>,
    speaks: bool,
    oversized: bool,
}

impl Found {
    fn walk<'r>(&mut self, tree: &Tree, ways: &[&Way<'r>]) {
        let here = |kind: &str| ways.iter().any(|way| way.steps.is_empty() && way.holds == kind);
        for way in ways.iter().filter(|way| way.steps.is_empty()) {
            self.value(tree, way.holds);
        }
        let is_item = here("Item");
        if matches!(tree, Tree::Object(_)) {
            self.speaks |= here("Speech");
            if is_item || here("FileSource") {
                self.object(tree, is_item);
            }
        }
        for (key, member) in tree.members() {
            let named = ways.iter().any(|way| way.steps.first().is_some_and(|step| step.eq_ignore_ascii_case(key)));
            let leads = |way: &&&Way<'r>| {
                way.steps.first().is_some_and(|step| step.eq_ignore_ascii_case(key) || step == "*" && !named)
            };
            let on: Vec<_> = ways.iter().filter(leads).map(|way| way.after_first()).collect();
            self.walk(member, &on.iter().collect::<Vec<_>>());
        }
        for element in tree.elements() {
            let into = |way: &&&Way<'r>| way.steps.first().is_some_and(|step| step == "[]");
            let on: Vec<_> = ways.iter().filter(into).map(|way| way.after_first()).collect();
            self.walk(element, &on.iter().collect::<Vec<_>>());
        }
    }

    fn value(&mut self, tree: &Tree, holds: &str) {
        match (tree, holds) {
            (Tree::Text(text), "Sealed") => self.sealed += usize::from(!text.is_empty()),
            (Tree::Text(text), _) => {
                let family = |kind: &str| holds.strip_prefix(kind)?.strip_suffix(')').map(str::to_owned);
                if let Some(family) = family("Id(") {
                    self.refer(family, text);
                } else if let Some(family) = family("Repeated(") {
                    self.repeat(family, text);
                }
            }
            (Tree::Bool(flag), "Store") => self.store = Some(*flag),
            _ => {}
        }
    }

    fn refer(&mut self, family: String, text: &str) {
        self.oversized |= text.len() > MAX_LEN;
        if (1..=MAX_LEN).contains(&text.len()) {
            self.ids.insert((family, text.to_owned()));
        }
    }

    fn repeat(&mut self, family: String, text: &str) {
        if (1..=MAX_LEN).contains(&text.len()) {
            self.repeated.push((family, text.to_owned()));
        }
    }

    /// An object whose `id` means what the rest of it says.
    fn object(&mut self, tree: &Tree, is_item: bool) {
        let all = |name: &'static str| {
            let members = tree.members().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
            members.map(|(_, member)| member)
        };
        let texts = |name: &'static str| all(name).filter_map(Tree::text);
        let is_of = |kind: &str| texts("type").any(|said| said == kind);
        let is_encrypted = texts("encrypted_content").next().is_some();
        let has_type = texts("type").next().is_some();
        let has_content = all("content").chain(all("output")).next().is_some();
        let is_reference = is_of("item_reference") || is_of("reasoning") && !is_encrypted || !(has_type || has_content);
        if is_item {
            for id in texts("approval_request_id") {
                if is_of("mcp_approval_response") {
                    self.refer("Item".into(), id)
                } else {
                    self.repeat("Item".into(), id)
                }
            }
        }
        for id in texts("id") {
            match is_item {
                true if is_reference => self.refer("Item".into(), id),
                true => self.repeat("Item".into(), id),
                false if is_of("file_id") => self.refer("File".into(), id),
                false => {}
            }
        }
    }
}

impl<'r> Way<'r> {
    fn after_first(&self) -> Self {
        Self { steps: self.steps[1..].to_vec(), holds: self.holds }
    }
}

/// Texts that could be ids, wherever they stand.
fn look_alikes(data: &[u8], tree: Option<&Tree>) {
    let mut found = LookAlikes::default();
    let read = found.json(data);
    let Some(tree) = tree else { return };
    read.expect("JSON is searched");
    let mut expected = HashSet::new();
    tree.texts(&mut |text| {
        if object_id::is_look_alike(text) {
            expected.insert(text.to_owned());
        }
    });
    if let Ok(texts) = found.into_texts() {
        assert_eq!(texts, expected);
    }
}
