//! Values of TOML by type, each with what is wrong about another one.

use std::ops::RangeInclusive;

use toml::{Table, Value};

use super::problem::join;

pub(super) fn must_be(what: &str, other: &Value) -> String {
    let article = if matches!(other, Value::Integer(_) | Value::Array(_)) { "an" } else { "a" };
    format!("must be {what}, not {article} {}", other.type_str())
}

pub(super) fn text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(must_be("a string", &other)),
    }
}

pub(super) fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err("must have neither control characters nor space around it".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn integer(value: &Value, range: &RangeInclusive<u32>) -> Result<u32, String> {
    let number = value.as_integer().ok_or_else(|| must_be("an integer", value))?;
    let number = u32::try_from(number).ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("must be from {} to {}", range.start(), range.end()))
}

pub(super) fn ratio(value: &Value) -> Result<f64, String> {
    let number = match value {
        Value::Float(number) => *number,
        // Only 0 and 1 are in range, and both are exact.
        Value::Integer(number) => *number as f64,
        other => return Err(must_be("a number from 0 to 1", other)),
    };
    if (0.0..=1.0).contains(&number) { Ok(number) } else { Err("must be a number from 0 to 1".to_owned()) }
}

pub(super) fn choose<T: Copy>(word: &str, vocabulary: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, choice)) = vocabulary.iter().find(|(known, _)| *known == word) {
        return Ok(*choice);
    }
    let known: Vec<String> = vocabulary.iter().map(|(known, _)| format!("{known:?}")).collect();
    Err(format!("{word:?} is unknown, must be {}", join(&known, "or")))
}

pub(super) fn table(value: Value) -> Result<Table, String> {
    match value {
        Value::Table(table) => Ok(table),
        other => Err(must_be("a table", &other)),
    }
}

pub(super) fn tables(value: Value) -> Result<Vec<Table>, String> {
    let expected = "an array of tables";
    let Value::Array(values) = value else { return Err(must_be(expected, &value)) };
    let tables = values.into_iter().map(|value| match value {
        Value::Table(table) => Ok(table),
        other => Err(format!("must be {expected}, not of {}s", other.type_str())),
    });
    tables.collect()
}
