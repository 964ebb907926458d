//! From bytes to a TOML table.

use toml::Table;
use toml::de::{DeTable, Error};

use super::problem::Problem;

/// The first mistake of each line is reported.
pub(super) fn parse(bytes: Vec<u8>) -> Result<Table, Vec<Problem>> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned();
        vec![problem(position(&before), "is not UTF-8")]
    })?;
    let (_, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        return Err(first_of_each_line(&text, &errors));
    }
    // The parser's own words would repeat the number, which may be a secret without its quotes.
    toml::from_str(&text).map_err(|error| vec![problem(start(&text, &error), "has a number out of range")])
}

fn first_of_each_line(text: &str, errors: &[Error]) -> Vec<Problem> {
    let mut errors: Vec<_> = errors.iter().map(|error| (start(text, error), error.message())).collect();
    errors.sort_by_key(|(position, _)| *position);
    errors.dedup_by_key(|((line, _), _)| *line);
    errors.into_iter().map(|(position, message)| problem(position, message)).collect()
}

fn start(text: &str, error: &Error) -> (usize, usize) {
    let start = error.span().map_or(0, |span| span.start);
    position(text.get(..start).unwrap_or(text))
}

/// The line and column, from 1, that follow this text.
fn position(before: &str) -> (usize, usize) {
    let last = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, last.chars().count() + 1)
}

fn problem((line, column): (usize, usize), message: &str) -> Problem {
    Problem::new(format!("line {line}, column {column}"), message.replace('\n', ", "))
}
