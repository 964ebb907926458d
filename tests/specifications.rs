//! The table of operations against what the public specifications list.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::collections::BTreeSet;

use http::Method;
use tower_azure_openai::azure::operation::{self, Call, ModelPlace, Operation, Repeat, Surface};

const OPERATIONS: &str = include_str!("specifications/operations.txt");
const FOUNDRY: &str = include_str!("specifications/foundry.txt");

struct Listed {
    methods: Vec<Method>,
    path: &'static str,
    family: &'static str,
    model: &'static str,
    repeat: &'static str,
}

fn listed() -> Vec<Listed> {
    listed_in(OPERATIONS)
}

fn listed_in(list: &'static str) -> Vec<Listed> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let columns = |line: &'static str| line.split(" | ").map(str::trim).collect::<Vec<_>>();
    let listed = lines.map(columns).map(|columns| {
        let [methods, path, family, model, repeat] = columns[..] else { panic!("five columns: {columns:?}") };
        let methods = methods.split(' ').map(|method| method.parse().unwrap()).collect();
        Listed { methods, path, family, model, repeat }
    });
    listed.collect()
}

impl Listed {
    /// The path with an id in every place of one, and these ids.
    fn with_ids(&self) -> (String, Vec<String>) {
        let ids: Vec<_> = (0..self.path.matches("{}").count()).map(|i| format!("id_{i}")).collect();
        let path = ids.iter().fold(self.path.to_owned(), |path, id| path.replacen("{}", id, 1));
        (path, ids)
    }

    fn read(&self, base: &str, method: &Method) -> Call {
        let path = format!("{base}{}", self.with_ids().0);
        operation::parse(method, &path).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn places(&self) -> ModelPlace {
        match self.model {
            "-" => ModelPlace::Nowhere,
            "body" => ModelPlace::Body,
            "default" => ModelPlace::DefaultBody,
            "hidden" => ModelPlace::Elsewhere,
            "object" => ModelPlace::Object,
            "query" => ModelPlace::Query,
            "optional" => ModelPlace::OptionalBody,
            "session" => ModelPlace::Session,
            other => panic!("{other}"),
        }
    }
}

#[test]
fn every_operation_is_of_its_family_with_its_ids() {
    for listed in listed() {
        for method in &listed.methods {
            for base in ["/openai/v1", "/openai", "/openai/deployments/d"] {
                let call = listed.read(base, method);
                assert_eq!(call.operation().as_str(), listed.family, "{method} {base}{}", listed.path);
                assert!(
                    call.object_ids().eq(listed.with_ids().1.iter().map(String::as_str)),
                    "{method} {}",
                    listed.path
                );
            }
        }
    }
}

#[test]
fn every_post_names_its_model_where_it_is_read_and_is_repeated_where_it_may_be() {
    for listed in listed().iter().filter(|listed| listed.methods.contains(&Method::POST)) {
        let call = listed.read("/openai/v1", &Method::POST);
        assert_eq!(call.model_place(), listed.places(), "{}", listed.path);
        let repeat = if listed.repeat == "safe" { Repeat::Safe } else { Repeat::Creates };
        assert_eq!(call.repeat(), repeat, "{}", listed.path);
    }
}

#[test]
fn what_a_foundry_resource_has_beside_it_names_its_model_and_is_safe_to_repeat() {
    for listed in listed_in(FOUNDRY) {
        let [method] = &listed.methods[..] else { panic!("one method: {}", listed.path) };
        let call = listed.read("", method);
        assert_eq!((call.surface(), call.operation().as_str()), (Surface::Foundry, listed.family), "{}", listed.path);
        assert_eq!((call.model_place(), call.repeat()), (listed.places(), Repeat::Safe), "{}", listed.path);
        assert_eq!(call.object_ids().len(), 0, "{}", listed.path);
    }
}

#[test]
fn what_reads_is_safe_and_what_deletes_is_not() {
    for listed in listed() {
        for method in listed.methods.iter().filter(|method| **method != Method::POST) {
            let repeat = if method.is_safe() { Repeat::Safe } else { Repeat::Creates };
            assert_eq!(listed.read("/openai/v1", method).repeat(), repeat, "{method} {}", listed.path);
        }
    }
}

/// A word of the API is never taken for an id, wherever an id may stand.
#[test]
fn no_word_is_an_id() {
    let listed = listed();
    let paths: BTreeSet<_> = listed.iter().map(|listed| listed.path).collect();
    for path in &paths {
        let Some((before, word)) = path.rsplit_once('/').filter(|(_, word)| *word != "{}") else { continue };
        if paths.contains(&*format!("{before}/{{}}")) {
            let before = before.replace("{}", "id_0");
            let call = operation::parse(&Method::GET, &format!("/openai/v1{before}/{word}")).unwrap();
            assert!(call.object_ids().all(|id| id != word), "{path}");
        }
    }
}

#[test]
fn the_administration_of_an_account_is_no_part_of_it() {
    for path in ["organization/projects/p/api_keys", "organization/usage/completions", "projects/p/roles"] {
        let call = operation::parse(&Method::GET, &format!("/openai/v1/{path}")).unwrap();
        assert_eq!((call.operation(), call.object_ids().len()), (Operation::Other, 0), "{path}");
        assert_eq!(call.model_place(), ModelPlace::Elsewhere, "{path}: clients with a list of aliases need `other`");
    }
}
