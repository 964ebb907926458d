use super::{Tree, choppings};
use crate::azure::further_names;
use crate::azure::operation::Operation;
use crate::azure::request_body::Model;

const OPERATIONS: [Operation; 6] = [
    Operation::ChatCompletions,
    Operation::Conversations,
    Operation::Evals,
    Operation::FineTuning,
    Operation::Realtime,
    Operation::Responses,
];

/// More than this is refused.
const MOST: usize = 32;

/// Deployments that a body names beside its own: against a tree, and in pieces.
pub(super) fn check(data: &[u8]) {
    let tree = Tree::read(data);
    for operation in OPERATIONS {
        let found = further_names::find(operation, data).ok();
        if let Some(tree) = &tree {
            let ways = further_names::ways(operation);
            let expected = by_tree(tree, &ways);
            let names = found.as_ref().map(|found| found.iter().map(|name| name.name.as_str()).collect::<Vec<_>>());
            found.iter().flatten().for_each(|name| stands(data, name));
            match names {
                Some(names) => assert_eq!(names, expected, "{operation:?}"),
                None => assert!(!is_tidy(tree, &ways) || expected.len() > MOST, "{operation:?} is refused"),
            }
        }
        in_pieces(operation, data, found.as_ref());
    }
}

fn stands(data: &[u8], name: &Model) {
    assert_eq!(Tree::read_tolerantly(&data[name.span.clone()]), Some(Tree::Text(name.name.clone())));
}

/// The names at the ends of the ways, in their order.
pub(super) fn by_tree<'t>(tree: &'t Tree, ways: &[String]) -> Vec<&'t str> {
    let mut names = Vec::new();
    let ways: Vec<Vec<&str>> = ways.iter().map(|way| way.split('/').collect()).collect();
    if matches!(tree, Tree::Object(_)) {
        walk(tree, &ways.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut names);
    }
    names
}

/// A step is the name of a member, `[]` for every element, `[x]` for those of type `x`, `**x` for a member at any depth.
fn walk<'t>(tree: &'t Tree, ways: &[&[&str]], names: &mut Vec<&'t str>) {
    if let (Tree::Text(text), true) = (tree, ways.iter().any(|way| way.is_empty())) {
        names.push(text);
    }
    for (key, member) in tree.members() {
        let on: Vec<_> = ways.iter().filter_map(|way| into_member(way, key)).collect();
        walk(member, &on, names);
    }
    for element in tree.elements() {
        let on: Vec<_> = ways.iter().filter_map(|way| into_element(way, element)).collect();
        walk(element, &on, names);
    }
}

fn into_member<'w>(way: &'w [&'w str], key: &str) -> Option<&'w [&'w str]> {
    match way.split_first()? {
        (step, rest) if *step == key => Some(rest),
        (step, rest) if step.strip_prefix("**").is_some_and(|name| name == key) => Some(rest),
        (step, _) if step.starts_with("**") => Some(way),
        _ => None,
    }
}

fn into_element<'w>(way: &'w [&'w str], element: &Tree) -> Option<&'w [&'w str]> {
    let (step, rest) = way.split_first()?;
    if step.starts_with("**") {
        return Some(way);
    }
    let kind = step.strip_prefix('[')?.strip_suffix(']')?;
    let is_of_kind = || element.get("type").any(|said| said.text().is_some_and(|said| said.eq_ignore_ascii_case(kind)));
    (kind.is_empty() || is_of_kind()).then_some(rest)
}

/// Nothing in it is what two readers could read differently, or no name.
fn is_tidy(tree: &Tree, ways: &[String]) -> bool {
    let steps = || ways.iter().flat_map(|way| way.split('/')).map(|step| step.trim_start_matches("**"));
    let is_wanted = |key: &str| steps().chain(["type"]).any(|step| step.eq_ignore_ascii_case(key));
    let ends = |key: &str| ways.iter().any(|way| way.trim_start_matches("**").ends_with(key));
    let keys = || tree.members().map(|(key, _)| key);
    let fits = |(key, member): &(String, Tree)| {
        let is_name = !ends(key) || matches!(member, Tree::Null) || member.text().is_some_and(|text| text.len() < 512);
        let is_once = keys().filter(|other| other.eq_ignore_ascii_case(key)).count() == 1;
        let is_spelt = steps().chain(["type"]).any(|step| step == key);
        is_name && (!is_wanted(key) || is_once && is_spelt)
    };
    tree.depth() < 100
        && tree.members().all(fits)
        && tree.members().map(|(_, member)| member).chain(tree.elements()).all(|inner| is_tidy(inner, ways))
}

fn in_pieces(operation: Operation, data: &[u8], whole: Option<&Vec<Model>>) {
    let mut told = None;
    for pieces in choppings(data) {
        let Some(mut scan) = further_names::scan(operation) else { return };
        let read = pieces.iter().try_for_each(|piece| scan.feed(piece)).ok();
        let read = read.map(|()| scan.names().cloned().collect::<Vec<_>>());
        let first = told.get_or_insert_with(|| read.clone());
        assert_eq!(*first, read, "pieces change what is read");
        if let (Some(whole), Some(read)) = (whole, &read)
            && !whole.is_empty()
        {
            assert_eq!(whole, read, "read as it arrives, it says something else");
        }
    }
}
