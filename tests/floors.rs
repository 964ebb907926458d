//! The floors of the crate: which module may import which.
//!
//! `azure` and `body` stand on nothing, `pool` and `context` on them, `directory` on these, every layer on all of these and on
//! no other layer.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Folders under `src/` that are no layers.
const NOT_LAYERS: [&str; 6] = ["azure", "client", "context", "directory", "pool", "testkit"];

/// What is wrong with the imports of a file, by its path under `src/`.
fn violations(path: &str, source: &str, layers: &BTreeSet<String>) -> Vec<String> {
    let floor = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let imports = imports(source).into_iter().filter(|module| module != floor);
    let wrong = imports.filter(|module| match floor {
        "azure" | "body" => true,
        "context" | "pool" => module == "directory" || layers.contains(module),
        _ if layers.contains(floor) || floor == "directory" => layers.contains(module),
        _ => false,
    });
    wrong.map(|module| format!("{path} imports {module}")).collect()
}

/// The modules of the crate that a source names, outside comments, tests and imports for the documentation only.
fn imports(source: &str) -> BTreeSet<String> {
    let code = code(source);
    let paths = code.match_indices("crate::").filter(|(at, _)| !code[..*at].ends_with(is_word));
    paths.flat_map(|(at, found)| heads(&code[at + found.len()..])).collect()
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The first segments of what follows `crate::`: one, or each of a group.
fn heads(path: &str) -> Vec<String> {
    let head = |path: &str| path.trim_start().chars().take_while(|c| is_word(*c)).collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![head(path)] };
    let (mut heads, mut depth) = (vec![head(group)], 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(head(&group[at + 1..])),
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// The source without comments and without items behind `#[cfg(test)]` or `#[cfg(doc)]`.
fn code(source: &str) -> String {
    let lines: Vec<_> = source.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code)).collect();
    let mut code = lines.join("\n");
    for attribute in ["#[cfg(test)]", "#[cfg(doc)]"] {
        while let Some(start) = code.find(attribute) {
            let end = start + attribute.len() + item_end(&code[start + attribute.len()..]);
            code.replace_range(start..end, "");
        }
    }
    code
}

/// Where the first item ends: at its semicolon, or with the brace that closes it.
fn item_end(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 && !code[at + 1..].trim_start().starts_with(';') => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

fn layers(src: &Path) -> BTreeSet<String> {
    let folders = fs::read_dir(src).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
    let names = folders.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| !NOT_LAYERS.contains(&name.as_str())).collect()
}

/// Every Rust file below a folder but those that are tests, as paths under `src`.
fn files(src: &Path, folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found = entries.flat_map(|path| {
        if path.is_dir() {
            return files(src, &path);
        }
        vec![path.strip_prefix(src).unwrap().to_str().unwrap().replace('\\', "/")]
    });
    found.filter(|path| path.ends_with(".rs") && !path.ends_with("tests.rs")).collect()
}

#[test]
fn no_import_runs_the_wrong_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (layers, files) = (layers(&src), files(&src, &src));
    assert!(layers.contains("select") && layers.contains("circuit"), "{layers:?}");
    assert!(files.iter().any(|path| path == "azure/hint.rs") && files.iter().any(|path| path == "body.rs"));
    let check = |path: &String| violations(path, &fs::read_to_string(src.join(path)).unwrap(), &layers);
    let wrong: Vec<_> = files.iter().flat_map(check).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

mod checker {
    use super::*;

    fn check(path: &str, source: &str) -> Vec<String> {
        violations(path, source, &BTreeSet::from(["circuit", "reissue", "select"].map(str::to_owned)))
    }

    #[test]
    fn finds_what_is_planted() {
        for (path, source, module) in [
            ("azure/hint.rs", "use crate::pool::Pool;", "pool"),
            ("azure/hint.rs", "pub(crate) use crate::error::Error;", "error"),
            ("body.rs", "use crate::azure::Outcome;", "azure"),
            ("pool/mod.rs", "use crate::select::Policy;", "select"),
            ("context/mod.rs", "fn f() { crate::circuit::g() }", "circuit"),
            ("pool/mod.rs", "use crate::directory::SessionStore;", "directory"),
            ("context/mod.rs", "use crate::directory::SessionStore;", "directory"),
            ("directory/mod.rs", "use crate::circuit::CircuitBreaker;", "circuit"),
            ("select/mod.rs", "use crate::circuit::CircuitBreaker;", "circuit"),
            ("select/mod.rs", "use crate::{\n    body::Body,\n    circuit::{self, CircuitBreaker},\n};", "circuit"),
            ("select/mod.rs", "use crate::{pool::{Pool, Target}, circuit};", "circuit"),
            ("select/mod.rs", "type T = Vec<crate::circuit::CircuitBreaker>;", "circuit"),
            ("select/mod.rs", "#[cfg(doc)]\nuse crate::pool::Pool;\nuse crate::circuit::X;", "circuit"),
            ("circuit/a/b.rs", "#[cfg(test)]\nmod tests { fn f() {} }\npub use crate::reissue::*;", "reissue"),
        ] {
            assert_eq!(check(path, source), [format!("{path} imports {module}")], "{source}");
        }
    }

    #[test]
    fn lets_pass_what_may() {
        for (path, source) in [
            ("azure/hint.rs", "use super::envelope;\nuse crate::azure::outcome;"),
            ("pool/mod.rs", "use crate::azure::Outcome;\nuse crate::body::Body;\nuse crate::context::Route;"),
            ("directory/mod.rs", "use crate::{context::Route, pool::Pool};"),
            ("select/mod.rs", "use crate::directory::SessionStore;"),
            ("pool/credential.rs", "/// See [`TokenKeeper`](crate::reissue::TokenKeeper).\nstruct X;"),
            ("pool/mod.rs", "//! use crate::select::Policy;"),
            ("select/mod.rs", "use crate::select::Policy;\nuse crate::{error::Error, pool::Pool};"),
            ("select/mod.rs", "#[cfg(doc)]\nuse crate::circuit::CircuitBreaker;\nuse crate::pool::Pool;"),
            ("select/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::circuit::X;\n    fn f() { if a {} }\n}"),
            ("select/mod.rs", "#[cfg(test)]\nuse crate::{circuit::X};\nuse other_crate::circuit::X;"),
            ("gateway.rs", "use crate::{circuit::CircuitBreakerLayer, select::SelectBackendLayer};"),
            ("testkit/mod.rs", "use crate::select::SelectBackendLayer;"),
        ] {
            assert_eq!(check(path, source), [""; 0], "{source}");
        }
    }
}
