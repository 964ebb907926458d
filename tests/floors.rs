//! The floors of the crate: which module may import which.
//!
//! A module imports those of the floors below it and none beside it or above it. What [`FLOORS`] does not name is a layer, so that a
//! new folder stands among the layers until it is given another floor. The pool is a house of its own, with [`ROOMS`].
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// From the ground up.
const FLOORS: [&[&str]; 11] = [
    &["sync"],
    &["account", "azure", "body", "date", "headers", "idle_clock", "problems", "single_flight", "writes_through"],
    &["pool"],
    &["error"],
    &["below"],
    &["refusable"],
    &["context"],
    &["announced", "answer", "attempt", "client", "directory"],
    LAYERS,
    &["gateway", "health", "otel", "shared"],
    &["fuzzing", "testkit"],
];

/// Everything that has no other floor.
const LAYERS: &[&str] = &[];

/// Of the pool, from the ground up; what is beside them stands above them.
const ROOMS: [&str; 4] = ["describe", "live", "find", "tell"];

/// Crates that a module must do without: what is said on the wire is known without any service or runtime.
const WITHOUT: [(&str, &[&str]); 2] = [
    ("azure", &["futures_core", "hyper", "tokio", "tower", "tower_layer", "tower_service"]),
    ("pool", &["hyper", "tower_layer", "tower_service"]),
];

/// The floor of a top module, 0 for the ground.
fn floor(module: &str) -> usize {
    let layers = FLOORS.iter().position(|floor| floor.is_empty()).unwrap();
    FLOORS.iter().position(|floor| floor.contains(&module)).unwrap_or(layers)
}

fn room(module: Option<&String>) -> usize {
    module.and_then(|module| ROOMS.iter().position(|room| room == module)).unwrap_or(ROOMS.len())
}

/// What is wrong with the imports of a file, by its path under `src/`.
fn violations(path: &str, source: &str) -> BTreeSet<String> {
    let own = module(path);
    let wrong = imports(path, source).into_iter().filter_map(|import| {
        let of = |at: usize| own.get(at).zip(import.get(at + 1));
        match (import[0].as_str(), of(0)?) {
            ("crate", (from, to)) if from == "pool" && to == "pool" => {
                let is_room = own.len() > 1 && room(own.get(1)) < ROOMS.len();
                (is_room && room(import.get(2)) > room(own.get(1))).then(|| import[1..import.len().min(3)].join("::"))
            }
            ("crate", (from, to)) if from == to || from == "lib" => None,
            ("crate", (from, to)) => (floor(to) >= floor(from)).then(|| to.clone()),
            (other, _) => {
                let is_banned = |(module, banned): &(&str, &[&str])| own[0] == *module && banned.contains(&other);
                WITHOUT.iter().any(is_banned).then(|| other.to_owned())
            }
        }
    });
    wrong.map(|module| format!("{path} imports {module}")).collect()
}

/// The module that a file is, without `crate`.
fn module(path: &str) -> Vec<String> {
    let mut module: Vec<_> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    module.pop_if(|last| last == "mod");
    module
}

/// Every path that a source names, outside tests and imports for the documentation only, as `crate` or the name of another crate
/// with at least one segment after it.
fn imports(path: &str, source: &str) -> BTreeSet<Vec<String>> {
    let mut reader = Reader { module: module(path), found: BTreeSet::new() };
    reader.visit_file(&syn::parse_file(source).unwrap_or_else(|why| panic!("{path}: {why}")));
    reader.found
}

struct Reader {
    module: Vec<String>,
    found: BTreeSet<Vec<String>>,
}

impl Reader {
    fn add(&mut self, path: &[String]) {
        let absolute = self.absolute(path);
        if absolute.len() > 1 {
            self.found.insert(absolute);
        }
    }

    /// The path with `self` and `super` resolved.
    fn absolute(&self, path: &[String]) -> Vec<String> {
        let (mut module, mut rest, mut is_relative) = (self.module.clone(), path, false);
        while let Some(("self" | "super", tail)) = rest.split_first().map(|(head, tail)| (head.as_str(), tail)) {
            if rest[0] == "super" {
                module.pop();
            }
            (rest, is_relative) = (tail, true);
        }
        if !is_relative {
            return rest.to_vec();
        }
        std::iter::once("crate".to_owned()).chain(module).chain(rest.iter().cloned()).collect()
    }

    fn read_use(&mut self, tree: &UseTree, prefix: &[String]) {
        let with = |ident: &syn::Ident| [prefix, &[ident.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.read_use(&path.tree, &with(&path.ident)),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.read_use(tree, prefix)),
            UseTree::Name(name) => self.add(&with(&name.ident)),
            UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            UseTree::Glob(_) => self.add(&[prefix, &["*".to_owned()]].concat()),
        }
    }

    /// Paths in what is given to a macro, which may be anything.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.add(&path);
                        path.clear();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.add(&path);
                    (path, colons) = (Vec::new(), 0);
                    self.read_tokens(group.stream());
                }
                _ => {
                    self.add(&path);
                    (path, colons) = (Vec::new(), 0);
                }
            }
        }
        self.add(&path);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_left_out(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.read_use(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.read_tokens(call.tokens.clone());
    }

    /// Documentation may point anywhere.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    /// `pub(in crate::…)` is no import.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

/// Behind `#[cfg(test)]` or `#[cfg(doc)]`.
fn is_left_out(item: &Item) -> bool {
    let attributes = match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        let only = attribute.path().is_ident("cfg").then(|| attribute.parse_args::<syn::Path>());
        only.is_some_and(|only| only.is_ok_and(|only| only.is_ident("test") || only.is_ident("doc")))
    })
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
    let files = files(&src, &src);
    let wrong: Vec<_> =
        files.iter().flat_map(|path| violations(path, &fs::read_to_string(src.join(path)).unwrap())).collect();
    assert!(wrong.is_empty(), "only what is on a floor below may be imported: {wrong:#?}");
    for path in ["azure/hint.rs", "body.rs", "circuit/mod.rs", "pool/find/table.rs"] {
        assert!(files.iter().any(|file| file == path), "{path} is looked at");
    }
}

#[test]
fn every_room_and_floor_is_there() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_room = |room: &str| src.join("pool").join(room).join("mod.rs").is_file();
    assert!(ROOMS.iter().all(|room| is_room(room)), "{ROOMS:?}");
    let rooms = fs::read_dir(src.join("pool")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(rooms.count(), ROOMS.len(), "a folder of the pool is one of its rooms");
    let gone = |module: &&&str| !src.join(module).is_dir() && !src.join(format!("{module}.rs")).is_file();
    let gone: Vec<_> = FLOORS.iter().copied().flatten().filter(gone).collect();
    assert!(gone.is_empty(), "floors without a module: {gone:?}");
}

/// The guide for contributors, and the files and folders that it names.
fn guide() -> (String, Vec<String>) {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/CONTRIBUTING.md")).unwrap();
    let code = guide.split('`').skip(1).step_by(2);
    let is_path = |code: &&str| ["src/", "tests/", "benches/", "examples/"].iter().any(|root| code.starts_with(root));
    let named = code.filter(is_path).map(str::to_owned).collect();
    (guide, named)
}

#[test]
fn what_the_guide_names_is_there() {
    let (_, named) = guide();
    let gone: Vec<_> = named.iter().filter(|path| !Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()).collect();
    assert!(named.len() > 12 && gone.is_empty(), "gone: {gone:?}");
}

#[test]
fn the_guide_knows_every_module() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (guide, _) = guide();
    let table = guide.split("## ").find(|section| section.starts_with("The floors")).unwrap();
    let modules = fs::read_dir(src).unwrap().map(|entry| entry.unwrap().path());
    let names = modules.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    let unknown: Vec<_> = names.filter(|name| name != "lib" && !table.contains(&format!("`{name}`"))).collect();
    assert!(unknown.is_empty(), "no floor of the guide has {unknown:?}");
}

/// Words that begin a riddle where a verb or a noun of the field would name the thing.
const RIDDLES: [&str; 12] =
    ["How", "Until", "What", "Whatever", "When", "Where", "Whether", "Which", "Who", "Whoever", "Whose", "Why"];

/// First lines of documentation that begin with one of [`RIDDLES`].
fn riddles(source: &str) -> Vec<&str> {
    let (mut found, mut was_doc) = (Vec::new(), false);
    for line in source.lines().map(str::trim_start) {
        let text = line.strip_prefix("//!").or_else(|| line.strip_prefix("///"));
        let word = text.and_then(|text| text.split_whitespace().next()).unwrap_or_default();
        if !was_doc && RIDDLES.contains(&word.trim_end_matches(',')) {
            found.push(line);
        }
        was_doc = text.is_some();
    }
    found
}

#[test]
fn documentation_begins_with_what_a_thing_is_or_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let riddled: Vec<_> = ["src", "examples"]
        .iter()
        .flat_map(|folder| files(root, &root.join(folder)))
        .filter(|path| !path.contains("/tests/"))
        .flat_map(|path| {
            let source = fs::read_to_string(root.join(&path)).unwrap();
            riddles(&source).into_iter().map(|line| format!("{path}: {line}")).collect::<Vec<_>>()
        })
        .collect();
    // One in a hundred is told of and not refused: a sentence is no defect.
    assert!(riddled.len() < 40, "documentation begins with a verb or a noun of the field: {riddled:#?}");
    let planted = "//! Why not.\n\n/// Returns it.\n/// What it is.\nfn f() {\n    /// Whether so.\n    /// More.\n}";
    assert_eq!(riddles(planted), ["//! Why not.", "/// Whether so."]);
}

mod checker {
    use super::*;

    fn check(path: &str, source: &str) -> Vec<String> {
        violations(path, source).into_iter().collect()
    }

    #[test]
    fn finds_what_is_planted() {
        for (path, source, module) in [
            ("azure/hint.rs", "use crate::pool::Pool;", "pool"),
            ("azure/hint.rs", "pub(crate) use crate::error::Error;", "error"),
            ("azure/hint.rs", "use tokio::time::Instant;", "tokio"),
            ("azure/hint.rs", "use crate::headers::x;", "headers"),
            ("body.rs", "use crate::azure::Outcome;", "azure"),
            ("pool/mod.rs", "use crate::select::Policy;", "select"),
            ("pool/mod.rs", "use crate::context::Route;", "context"),
            ("pool/tell/explain.rs", "use crate::context::{Client, Route};", "context"),
            ("context/mod.rs", "fn f() { crate::circuit::g() }", "circuit"),
            ("pool/mod.rs", "use crate::directory::SessionStore;", "directory"),
            ("context/mod.rs", "use crate::directory::SessionStore;", "directory"),
            ("directory/mod.rs", "use crate::circuit::CircuitBreaker;", "circuit"),
            ("select/mod.rs", "use crate::circuit::CircuitBreaker;", "circuit"),
            ("select/mod.rs", "use super::circuit::CircuitBreaker;", "circuit"),
            ("select/mod.rs", "use crate::{\n    body::Body,\n    circuit::{self, CircuitBreaker},\n};", "circuit"),
            ("select/mod.rs", "use crate::{pool::{Pool, Target}, circuit as c};", "circuit"),
            ("select/mod.rs", "type T = Vec<crate::circuit::CircuitBreaker>;", "circuit"),
            ("select/mod.rs", "fn f() { <crate::circuit::X as Clone>::clone(x) }", "circuit"),
            ("select/mod.rs", "pin_project! { struct X { #[pin] f: crate::circuit::ResponseFuture } }", "circuit"),
            ("select/mod.rs", "fn f() { debug!(?x, \"{}\", crate::circuit::x()) }", "circuit"),
            ("select/mod.rs", "#[cfg(doc)]\nuse crate::pool::Pool;\nuse crate::circuit::X;", "circuit"),
            ("circuit/a/b.rs", "#[cfg(test)]\nmod tests { fn f() {} }\npub use crate::reissue::*;", "reissue"),
            ("circuit/a/b.rs", "mod c { use super::super::super::super::reissue::X; }", "reissue"),
            ("select/mod.rs", "#[cfg(feature = \"client\")]\nuse crate::gateway::Builder;", "gateway"),
            ("client/mod.rs", "use crate::forward::X;", "forward"),
            ("a_new_layer.rs", "use crate::another_new_layer::X;", "another_new_layer"),
            ("pool/describe/backend.rs", "use crate::pool::live::Target;", "pool::live"),
            ("pool/describe/backend.rs", "use super::super::find::Query;", "pool::find"),
            ("pool/live/permit.rs", "use crate::pool::find::Pool;", "pool::find"),
            ("pool/find/table.rs", "fn f() { crate::pool::tell::g() }", "pool::tell"),
            ("pool/find/table.rs", "use crate::pool::Target;", "pool::Target"),
            ("pool/find/table.rs", "use super::super::Target;", "pool::Target"),
        ] {
            assert_eq!(check(path, source), [format!("{path} imports {module}")], "{source}");
        }
    }

    #[test]
    fn lets_pass_what_may() {
        for (path, source) in [
            ("azure/hint.rs", "use super::envelope;\nuse crate::azure::outcome;\nuse http::HeaderMap;"),
            (
                "pool/mod.rs",
                "use crate::azure::Outcome;\nuse crate::body::Body;\nuse self::tell::X;\nuse tokio::time::Y;",
            ),
            ("directory/mod.rs", "use crate::{context::Route, pool::Pool};"),
            ("select/mod.rs", "use crate::directory::SessionStore;"),
            ("pool/describe/credential.rs", "/// See [`TokenKeeper`](crate::reissue::TokenKeeper).\nstruct X;"),
            ("pool/mod.rs", "//! use crate::select::Policy;"),
            ("pool/tell/status.rs", "use crate::pool::{describe::Release, find::Table, live};\nuse super::X;"),
            ("pool/live/x.rs", "pub(in crate::pool) struct X;\nuse super::super::describe::Y;"),
            ("select/mod.rs", "use crate::select::Policy;\nuse crate::{error::Error, pool::Pool};"),
            ("select/mod.rs", "#[cfg(doc)]\nuse crate::circuit::CircuitBreaker;\nuse crate::pool::Pool;"),
            ("select/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::circuit::X;\n    fn f() { if a {} }\n}"),
            ("select/mod.rs", "#[cfg(test)]\nuse crate::{circuit::X};\nuse other_crate::circuit::X;"),
            ("select/mod.rs", "fn f() { let circuit = \"crate::circuit\"; circuit::x() }"),
            ("gateway.rs", "use crate::{circuit::CircuitBreakerLayer, select::SelectBackendLayer};"),
            ("lib.rs", "pub use self::gateway::X;\npub use crate::testkit::Y;"),
            ("testkit/mod.rs", "use crate::select::SelectBackendLayer;"),
        ] {
            assert_eq!(check(path, source), [""; 0], "{source}");
        }
    }
}
