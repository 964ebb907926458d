//! Whatever does not stand at a place of the table is the client's own and says nothing, for every documented operation.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use http::Method;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::References;
use super::super::places::{Holds, rows};
use crate::azure::operation::{self, Operation};

/// Every call that takes a body, as the specifications list them.
static CALLS: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    let listed = include_str!("../../../../tests/specifications/operations.txt");
    let calls = listed.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (methods, rest) = line.split_once(" | ")?;
        let (path, _) = rest.split_once(" | ")?;
        let takes_body = methods.contains("POST");
        takes_body.then(|| operation::parse(&Method::POST, &format!("/openai/v1{path}")).unwrap().operation())
    });
    calls.collect()
});

/// Those that have places for ids.
static REFERRING: LazyLock<Vec<Operation>> =
    LazyLock::new(|| CALLS.iter().copied().filter(|call| References::are_defined_for(*call)).collect());

type Steps = Vec<String>;

/// A place as steps: members by name, `[]` for the elements of an array.
fn steps(path: &str) -> Steps {
    let steps = path.split('.').filter(|step| !step.is_empty());
    steps
        .flat_map(|step| {
            let name = step.trim_end_matches("[]");
            let elements = (step.len() - name.len()) / 2;
            [name.to_owned()].into_iter().chain(std::iter::repeat_n("[]".to_owned(), elements))
        })
        .collect()
}

/// Every place at which something of an operation is read.
fn places(operation: Operation) -> Vec<Steps> {
    let below = |steps: &Steps, names: &[&str]| -> Vec<Steps> {
        names.iter().map(|name| steps.iter().cloned().chain([(*name).to_owned()]).collect()).collect()
    };
    let of_row = |(path, holds): (String, Holds)| {
        let steps = steps(&path);
        match holds {
            Holds::Item => below(&steps, &["approval_request_id", "id"]),
            Holds::FileSource => below(&steps, &["id"]),
            _ => vec![steps],
        }
    };
    rows(operation).into_iter().flat_map(of_row).collect()
}

fn is_at(places: &[Steps], at: &[String]) -> bool {
    let fits = |(known, step): (&String, &String)| known.eq_ignore_ascii_case(step) || (known == "*" && step != "[]");
    places.iter().any(|place| place.len() == at.len() && place.iter().zip(at).all(fits))
}

/// Takes away what stands at the places.
fn empty(value: &mut Value, places: &[Steps], at: &mut Steps) {
    if is_at(places, at) && !value.is_array() {
        *value = Value::Null;
    }
    match value {
        Value::Array(elements) => {
            at.push("[]".to_owned());
            elements.iter_mut().for_each(|element| empty(element, places, at));
            at.pop();
        }
        Value::Object(members) => {
            for (key, member) in members {
                at.push(key.clone());
                empty(member, places, at);
                at.pop();
            }
        }
        _ => {}
    }
}

/// The words of all places: what a client may well use in a way of its own.
static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let own =
        ["metadata", "client_metadata", "structured_inputs", "parameters", "item_schema", "arguments", "type", "role"];
    let known = CALLS.iter().flat_map(|call| rows(*call)).flat_map(|(path, _)| steps(&path));
    let words: BTreeSet<_> = own.map(str::to_owned).into_iter().chain(known).collect();
    words.into_iter().filter(|word| !matches!(&**word, "[]" | "*")).collect()
});

/// What a client could write: words and ids of the API, in a shape of its own.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => "(thread_|file-|conv_|vs_|asst_|resp_|msg_|rs_|skill_|audio_)[a-z0-9]{1,4}".prop_map(Value::String),
        1 => prop::sample::select(&["item_reference", "file_id", "reasoning", "mcp_approval_response"][..]).prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(5, 16, 3, |inner| {
        prop_oneof![
            1 => vec(inner.clone(), 0..3).prop_map(Value::Array),
            2 => vec((prop::sample::select(&WORDS[..]), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A body that has something at one place only.
fn body_at(place: &[String]) -> Value {
    match place.split_first() {
        None => json!("file-1"),
        Some((step, rest)) if step == "[]" => json!([body_at(rest)]),
        Some((step, rest)) => json!({(step.replace('*', "any")): body_at(rest)}),
    }
}

/// Puts a client's own into a body, wherever that is nothing but its own: every variable of a prompt may be a file.
fn add(value: &mut Value, name: &str, own: &Value, is_open: bool) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|element| add(element, name, own, is_open)),
        Value::Object(members) => {
            members.iter_mut().for_each(|(key, member)| add(member, name, own, key != "variables"));
            if is_open {
                members.insert(name.to_owned(), own.clone());
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn what_stands_at_no_place_says_nothing(call in prop::sample::select(&CALLS[..]), body in anything()) {
        let mut body = body;
        empty(&mut body, &places(call), &mut Vec::new());
        let read = References::read(call, body.to_string().as_bytes()).unwrap();
        prop_assert_eq!(read, References::default(), "{:?} {}", call, body);
    }

    #[test]
    fn what_a_client_adds_changes_nothing(
        call in prop::sample::select(&REFERRING[..]),
        place in any::<prop::sample::Index>(),
        name in prop::sample::select(&["metadata", "client_metadata", "structured_inputs", "parameters", "own"][..]),
        own in anything(),
    ) {
        let places = places(call);
        let mut body = body_at(&places[place.index(places.len())]);
        let plain = References::read(call, body.to_string().as_bytes()).unwrap();
        add(&mut body, name, &own, true);
        let filled = References::read(call, body.to_string().as_bytes()).unwrap();
        prop_assert_eq!(filled, plain, "{:?} {}", call, body);
    }
}

/// Without this the two above could hold because nothing is ever read.
#[test]
fn what_stands_at_a_place_says_something() {
    for call in CALLS.iter() {
        for (path, holds) in rows(*call) {
            let mut place = steps(&path);
            let body = match holds {
                Holds::Store => json!(true),
                Holds::Speech => json!({"format": "wav"}),
                Holds::FileSource => json!({"type": "file_id", "id": "file-1"}),
                Holds::Item => json!({"type": "item_reference", "id": "msg_1"}),
                _ => json!("file-1"),
            };
            let mut whole = body;
            while let Some(step) = place.pop() {
                whole = if step == "[]" { json!([whole]) } else { json!({(step.replace('*', "any")): whole}) };
            }
            let read = References::read(*call, whole.to_string().as_bytes()).unwrap();
            assert_ne!(read, References::default(), "{call:?} {path}");
        }
    }
}
