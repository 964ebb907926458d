//! The report as a table.

use std::fmt;

use super::report::{Attempts, ClientReport, Percentiles, Report, Requests, ReturnReport, Spell, TargetReport, Tier};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Requests { offered, served, refused, broken, abandoned } = self.requests;
        let Percentiles { p50, p90, p99, max } = self.first_content_ms;
        let minutes = (self.lasted_ms as f64 / 600.0).round() / 100.0;
        writeln!(f, "{} under {}, seed {}, {minutes} min", self.scenario, self.strategy, self.seed)?;
        writeln!(
            f,
            "  requests       {offered}: {served} served, {refused} refused, {broken} broken, {abandoned} abandoned"
        )?;
        writeln!(
            f,
            "  goodput        {:.2} %, {:.2} % of the all-knowing router's {:.2} %",
            100.0 * self.goodput(),
            100.0 * self.share_of_all_knowing(),
            100.0 * self.all_knowing.goodput
        )?;
        writeln!(f, "  first content  p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, max {max} ms")?;
        let Attempts { per_request, most, .. } = self.attempts;
        writeln!(f, "  attempts       {per_request:.3} per request, at most {most}")?;
        writeln!(f, "  spent twice    {} tokens", self.tokens_spent_twice)?;
        if let Some(taped) = self.taped {
            writeln!(f, "  recorded       {:.2} % of the attempts; the others are a model's", 100.0 * taped)?;
        }
        for Tier { priority, served, tokens } in self.tiers.iter().filter(|_| self.tiers.len() > 1) {
            writeln!(f, "  tier {priority:<10}{served} served, {tokens} tokens")?;
        }
        self.fmt_targets(f)?;
        for ClientReport { client, requests: Requests { served, refused, broken, abandoned, .. }, tokens } in
            &self.clients
        {
            writeln!(
                f,
                "  {client:<15}{served} served, {refused} refused, {broken} broken, {abandoned} abandoned, {tokens} tokens"
            )?;
        }
        for Spell { backend, weather, from_ms, until_ms } in &self.weather {
            let [from, until] = [from_ms, until_ms].map(|ms| *ms as f64 / 1_000.0);
            writeln!(f, "  weather        {backend}: {weather}, {from} s to {until} s")?;
        }
        for alias in &self.unserved_aliases {
            writeln!(f, "  nobody serves  {alias}")?;
        }
        self.releases.as_ref().map_or(Ok(()), |releases| releases.fmt(f))
    }
}

const COLUMNS: [&str; 13] = [
    "target",
    "tier",
    "attempts",
    "served",
    "429",
    "failed",
    "tokens",
    "in hint",
    "after hint",
    "after outage",
    "used",
    "idle",
    "overslept",
];

impl Report {
    fn fmt_targets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![COLUMNS.map(str::to_owned)];
        rows.extend(self.targets.iter().map(TargetReport::row));
        columns(f, &rows)
    }
}

/// The first column to the left, the others to the right.
pub(super) fn columns<const N: usize>(f: &mut fmt::Formatter<'_>, rows: &[[String; N]]) -> fmt::Result {
    let widths: Vec<_> = (0..N).map(|i| rows.iter().map(|row| row[i].len()).max().unwrap_or(0)).collect();
    for row in rows {
        write!(f, "  {:<width$}", row[0], width = widths[0])?;
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            write!(f, "  {cell:>width$}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

impl TargetReport {
    fn row(&self) -> [String; COLUMNS.len()] {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        [
            format!("{}/{}", self.backend, self.deployment),
            self.priority.to_string(),
            self.attempts.to_string(),
            self.served.to_string(),
            self.throttled.to_string(),
            self.failed.to_string(),
            self.tokens.to_string(),
            self.during_hint.to_string(),
            self.after_hint.to_string(),
            self.after_outage.to_string(),
            self.utilization.map_or_else(|| "-".to_owned(), percent),
            self.idle.map_or_else(|| "-".to_owned(), percent),
            percent(self.overslept),
        ]
    }
}

impl fmt::Display for ReturnReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.times {
            0 => f.write_str("-"),
            _ => write!(f, "{} ms, {} req", self.longest_ms, self.most_requests),
        }
    }
}
