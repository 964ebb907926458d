//! Takes keys out of a TOML table by type and collects everything that is wrong.
//!
//! A key that is wrong is reported and read as its default or an empty placeholder, so that one mistake hides no other;
//! the values of a file with problems are never used.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::{Table, Value};

use super::problem::{Problem, join};
use super::value::{choose, integer, must_be, name, ratio, table, tables, text};
use super::{Sources, units, unknown};

/// Findings that the sections of one file share.
pub(super) struct Findings<'a> {
    pub(super) sources: &'a Sources<'a>,
    problems: RefCell<Vec<Problem>>,
    weaknesses: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

/// Findings of one file.
pub(super) struct Found {
    pub(super) problems: Vec<Problem>,
    pub(super) weaknesses: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(sources: &'a Sources<'a>) -> Self {
        Self { sources, problems: RefCell::default(), weaknesses: RefCell::default(), warnings: RefCell::default() }
    }

    pub(super) fn problem(&self, place: impl Into<String>, text: impl Into<String>) {
        self.problems.borrow_mut().push(Problem::new(place, text));
    }

    /// Notes what `--check` refuses; a gateway that runs with it already goes on, and says so.
    pub(super) fn weakness(&self, place: impl Into<String>, text: impl Into<String>) {
        self.weaknesses.borrow_mut().push(Problem::new(place, text));
    }

    pub(super) fn warning(&self, place: impl Into<String>, text: &str) {
        self.warnings.borrow_mut().push(Problem::new(place, format!("warning: {text}")));
    }

    pub(super) fn into_found(self) -> Found {
        Found {
            problems: self.problems.into_inner(),
            weaknesses: self.weaknesses.into_inner(),
            warnings: self.warnings.into_inner(),
        }
    }

    pub(super) fn read<T>(&'a self, table: Table, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        Section { place: String::new(), shape: String::new(), table, known: Vec::new(), findings: self }.read(read)
    }
}

/// One table, from which keys are taken.
pub(super) struct Section<'a> {
    /// The full key path, such as `backends[0]`.
    place: String,
    /// The same without positions, such as `backends[]`.
    shape: String,
    table: Table,
    /// The keys that were asked for, given or not.
    known: Vec<String>,
    pub(super) findings: &'a Findings<'a>,
}

impl<'a> Section<'a> {
    /// Runs `read`, then reports the keys that it left.
    fn read<T>(mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let read = read(&mut self);
        let left: Vec<String> = self.table.keys().cloned().collect();
        let known = std::mem::take(&mut self.known);
        for key in &left {
            unknown::refuse(&self, key, &known);
        }
        read
    }

    pub(super) fn place(&self, key: &str) -> String {
        below(&self.place, &quoted(key))
    }

    pub(super) fn shape(&self, key: &str) -> String {
        below(&self.shape, &quoted(key))
    }

    /// Reports what is wrong with `key`.
    pub(super) fn problem(&self, key: &str, text: impl Into<String>) {
        self.findings.problem(self.place(key), text);
    }

    /// Reports what is wrong with the table as a whole.
    pub(super) fn problem_here(&self, text: &str) {
        self.findings.problem(&self.place, text);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.known.push(key.to_owned());
        self.table.remove(key)
    }

    fn ok<T>(&self, key: &str, result: Result<T, impl Into<String>>) -> Option<T> {
        result.map_err(|text| self.problem(key, text)).ok()
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let value = self.take(key)?;
        self.ok(key, text(value))
    }

    pub(super) fn parsed<T, E: Into<String>>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(key)?;
        self.ok(key, parse(&text))
    }

    /// A word that names something: shown in logs and tables, never empty.
    pub(super) fn name(&mut self, key: &str) -> Option<String> {
        self.parsed(key, name)
    }

    /// Reports `key` when it is absent; tells whether it is there.
    pub(super) fn require(&self, key: &str) -> bool {
        if !self.has(key) {
            self.problem(key, "is missing");
        }
        self.has(key)
    }

    pub(super) fn required_name(&mut self, key: &str) -> String {
        self.require(key);
        self.name(key).unwrap_or_default()
    }

    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        match self.take(key) {
            Some(Value::Boolean(flag)) => flag,
            Some(other) => {
                self.problem(key, must_be("true or false", &other));
                default
            }
            None => default,
        }
    }

    pub(super) fn integer(&mut self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.take(key)?;
        self.ok(key, integer(&value, &range))
    }

    /// Reads a number of something; 0 when the key is absent.
    pub(super) fn count(&mut self, key: &str) -> u64 {
        let count = match self.take(key) {
            None => return 0,
            Some(Value::Integer(count)) => u64::try_from(count).map_err(|_| "must be 0 or more".to_owned()),
            Some(other) => Err(must_be("an integer", &other)),
        };
        self.ok(key, count).unwrap_or_default()
    }

    pub(super) fn ratio(&mut self, key: &str, default: f64) -> f64 {
        let Some(value) = self.take(key) else { return default };
        self.ok(key, ratio(&value)).unwrap_or(default)
    }

    pub(super) fn duration(&mut self, key: &str, default: Duration) -> Duration {
        self.parsed(key, units::duration).unwrap_or(default)
    }

    /// A duration that must be longer than nothing.
    pub(super) fn positive_duration(&mut self, key: &str, default: Duration) -> Duration {
        let duration = self.duration(key, default);
        if duration.is_zero() {
            self.problem(key, "must be longer than nothing");
        }
        duration
    }

    pub(super) fn size(&mut self, key: &str, default: usize) -> usize {
        self.parsed(key, units::size).unwrap_or(default)
    }

    /// One word of a vocabulary.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, vocabulary: &[(&str, T)]) -> Option<T> {
        let word = self.text(key)?;
        self.ok(key, choose(&word, vocabulary))
    }

    /// Words of a vocabulary.
    pub(super) fn choices<T: Copy>(&mut self, key: &str, vocabulary: &[(&str, T)]) -> Option<Vec<T>> {
        let words = self.texts(key)?;
        let chosen = words.into_iter().filter_map(|(place, word)| {
            choose(&word, vocabulary).map_err(|text| self.findings.problem(place, text)).ok()
        });
        Some(chosen.collect())
    }

    /// An array of strings, each with its place.
    pub(super) fn texts(&mut self, key: &str) -> Option<Vec<(String, String)>> {
        match self.take(key)? {
            Value::Array(values) => Some(self.each_text(key, values)),
            other => {
                self.problem(key, must_be("an array of strings", &other));
                None
            }
        }
    }

    /// An array of [`name`](Self::name)s; one that is absent is empty.
    pub(super) fn names(&mut self, key: &str) -> Vec<String> {
        let texts = self.texts(key).unwrap_or_default();
        let names =
            texts.into_iter().map(|(place, text)| name(&text).map_err(|wrong| self.findings.problem(place, wrong)));
        names.filter_map(Result::ok).collect()
    }

    /// A string or an array of at least one, each with its place.
    pub(super) fn one_or_more_texts(&mut self, key: &str) -> Vec<(String, String)> {
        match self.take(key) {
            Some(Value::String(text)) => vec![(self.place(key), text)],
            Some(Value::Array(values)) if !values.is_empty() => self.each_text(key, values),
            Some(Value::Array(_)) => {
                self.problem(key, "must not be empty");
                Vec::new()
            }
            Some(other) => {
                self.problem(key, must_be("a string or an array of strings", &other));
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// A table of strings by names of the file's own choice.
    pub(super) fn texts_by_name(&mut self, key: &str) -> Vec<(String, String)> {
        self.section(key, |s| {
            let names: Vec<String> = s.table.keys().cloned().collect();
            names.into_iter().filter_map(|name| s.name(&name).map(|text| (name, text))).collect()
        })
    }

    fn each_text(&self, key: &str, values: Vec<Value>) -> Vec<(String, String)> {
        let place = |at| format!("{}[{at}]", self.place(key));
        let each = values.into_iter().enumerate();
        each.filter_map(|(at, value)| {
            let text = text(value).map_err(|wrong| self.findings.problem(place(at), wrong)).ok()?;
            Some((place(at), text))
        })
        .collect()
    }

    /// The one key that is given out of several that exclude each other.
    pub(super) fn one_of<'k>(&mut self, keys: &[&'k str]) -> Option<&'k str> {
        self.known.extend(keys.iter().map(|key| (*key).to_owned()));
        let given: Vec<&str> = keys.iter().copied().filter(|key| self.has(key)).collect();
        match given[..] {
            [key] => return Some(key),
            [] => self.findings.problem(&self.place, format!("needs one of {}", join(keys, "or"))),
            _ => {
                self.findings
                    .problem(&self.place, format!("needs exactly one of {}, not several", join(&given, "and")));
                given.iter().for_each(|key| drop(self.take(key)));
            }
        }
        None
    }

    pub(super) fn table(&mut self, key: &str) -> Option<Table> {
        let value = self.take(key)?;
        self.ok(key, table(value))
    }

    pub(super) fn tables(&mut self, key: &str) -> Option<Vec<Table>> {
        let value = self.take(key)?;
        self.ok(key, tables(value))
    }

    /// A table; one that is absent or malformed is read as empty.
    pub(super) fn section<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let table = self.table(key).unwrap_or_default();
        self.nested(key, table).read(read)
    }

    /// A table without defaults; one that is absent or malformed is not read.
    pub(super) fn given_section<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let table = self.table(key)?;
        Some(self.nested(key, table).read(read))
    }

    fn nested(&self, key: &str, table: Table) -> Self {
        Self { place: self.place(key), shape: self.shape(key), table, known: Vec::new(), findings: self.findings }
    }

    /// An array of tables; of a malformed one, nothing is read.
    pub(super) fn sections<T>(&mut self, key: &str, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let tables = self.tables(key).unwrap_or_default();
        let section = |(at, table)| Section {
            place: format!("{}[{at}]", self.place(key)),
            shape: format!("{}[]", self.shape(key)),
            table,
            known: Vec::new(),
            findings: self.findings,
        };
        tables.into_iter().enumerate().map(|each| section(each).read(&mut read)).collect()
    }

    /// Reports an array of tables that is absent or empty.
    pub(super) fn require_sections(&self, key: &str) {
        if self.is_empty(key) {
            self.problem(key, format!("is missing: at least one [[{}]] is needed", self.shape(key).replace("[]", "")));
        }
    }

    /// Tells whether `key` is absent or an empty array.
    pub(super) fn is_empty(&self, key: &str) -> bool {
        self.table.get(key).is_none_or(|value| value.as_array().is_some_and(Vec::is_empty))
    }
}

fn below(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

/// As in TOML: quoted unless bare.
pub(super) fn quoted(key: &str) -> String {
    let bare = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if bare && !key.is_empty() { key.to_owned() } else { format!("{key:?}") }
}
