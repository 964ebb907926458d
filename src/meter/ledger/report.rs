//! Reports of usage, and the sums that they are made of.

use std::str::FromStr;

use serde::Serialize;

use crate::azure::usage::Usage;
use crate::context::UsageSource;
use crate::date::Date;

/// Name by which usage is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum By {
    /// `alias`
    Alias,
    /// `backend`
    Backend,
    /// `client`
    Client,
}

impl FromStr for By {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        match name {
            "alias" => Ok(Self::Alias),
            "backend" => Ok(Self::Backend),
            "client" => Ok(Self::Client),
            _ => Err(UnknownName),
        }
    }
}

/// Usage is summed up by `client`, `alias` and `backend` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage is kept by client, alias and backend")]
#[non_exhaustive]
pub struct UnknownName;

/// Usage in a span of days.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The first day.
    pub from: Date,
    /// The last.
    pub to: Date,
    /// By day and then by names, in their order.
    pub rows: Vec<Row>,
}

/// Usage of one day. A name by which it is not summed up is absent; one that is unknown is empty.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// The day.
    pub date: Date,
    /// Client that used it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Box<str>>,
    /// By which alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<Box<str>>,
    /// Backend that served it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Box<str>>,
    /// The sums.
    #[serde(flatten)]
    pub sums: Sums,
}

/// Usage of several requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Sums {
    /// Requests that used something.
    pub requests: u64,
    /// Tokens of prompts.
    pub input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// Part of the input.
    pub input_cached_tokens: u64,
    /// Part of the input.
    pub input_audio_tokens: u64,
    /// Part of the output.
    pub output_reasoning_tokens: u64,
    /// Part of the output.
    pub output_audio_tokens: u64,
    /// Tokens of both that nobody told.
    pub estimated_tokens: u64,
    /// Audio that is billed by its length.
    pub audio_seconds: f64,
}

impl Sums {
    /// Returns all but the seconds, in the order in which they stand in tables.
    pub(crate) const fn counts(&self) -> [u64; 8] {
        [
            self.requests,
            self.input_tokens,
            self.output_tokens,
            self.input_cached_tokens,
            self.input_audio_tokens,
            self.output_reasoning_tokens,
            self.output_audio_tokens,
            self.estimated_tokens,
        ]
    }

    pub(super) fn add(&mut self, usage: &Usage, source: UsageSource) {
        let details = usage.details;
        let sum = |sum: &mut u64, more| *sum = sum.saturating_add(more);
        sum(&mut self.requests, 1);
        sum(&mut self.input_tokens, usage.input);
        sum(&mut self.output_tokens, usage.output);
        sum(&mut self.input_cached_tokens, details.input_cached);
        sum(&mut self.input_audio_tokens, details.input_audio);
        sum(&mut self.output_reasoning_tokens, details.output_reasoning);
        sum(&mut self.output_audio_tokens, details.output_audio);
        if source == UsageSource::Estimated {
            sum(&mut self.estimated_tokens, usage.total());
        }
        self.audio_seconds += usage.audio.as_secs_f64();
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.requests, other.requests),
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.output_tokens, other.output_tokens),
            (&mut self.input_cached_tokens, other.input_cached_tokens),
            (&mut self.input_audio_tokens, other.input_audio_tokens),
            (&mut self.output_reasoning_tokens, other.output_reasoning_tokens),
            (&mut self.output_audio_tokens, other.output_audio_tokens),
            (&mut self.estimated_tokens, other.estimated_tokens),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.audio_seconds += other.audio_seconds;
    }
}

impl Report {
    /// As comma-separated values (RFC 4180), with a line of names on top.
    #[must_use]
    pub fn to_csv(&self, by: &[By]) -> String {
        let has = |name: By| by.contains(&name);
        let mut csv = String::from("date");
        for (name, by) in [("client", By::Client), ("alias", By::Alias), ("backend", By::Backend)] {
            if has(by) {
                csv.push(',');
                csv += name;
            }
        }
        csv += ",requests,input_tokens,output_tokens,input_cached_tokens,input_audio_tokens,output_reasoning_tokens,output_audio_tokens,\
            estimated_tokens,audio_seconds\r\n";
        for row in &self.rows {
            csv += &row.date.to_string();
            for name in [&row.client, &row.alias, &row.backend].into_iter().flatten() {
                csv.push(',');
                csv += &field(name);
            }
            row.sums.counts().iter().for_each(|count| csv += &format!(",{count}"));
            csv += &format!(",{}\r\n", row.sums.audio_seconds);
        }
        csv
    }
}

/// A field that no reader takes for several, nor a spreadsheet for a formula.
fn field(name: &str) -> String {
    let is_formula = name.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let name = if is_formula { format!("'{name}") } else { name.to_owned() };
    if name.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name }
}
