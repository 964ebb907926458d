//! Usage by day, of all replicas together.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use redis::Script;
use tokio::time::sleep;

use super::link::{Call, Lazy, Link};
use crate::meter::{Date, KEPT_DAYS, Ledger, Names, Sums};

static ADD: Lazy = Lazy::new(|| Script::new(include_str!("usage.lua")));

/// Interval at which replicas tell each other.
const INTERVAL: Duration = Duration::from_secs(2);
/// Number of rows that one call adds, so that it holds nobody up for long.
const ROWS: usize = 500;
/// A day longer than it is shown.
const SECONDS: u64 = (KEPT_DAYS + 1) * 24 * 60 * 60;

/// Rows to be added in one call. It is repeated as it is until it is known to have been taken.
struct Batch {
    date: Date,
    number: u64,
    fields: Vec<(String, u64)>,
}

pub(super) fn share(link: &Link, ledger: &Ledger) {
    ledger.share();
    let (weak, ledger) = (link.downgrade(), ledger.clone());
    let sharing = tokio::spawn(async move {
        let (mut batches, mut number, mut is_known) = (VecDeque::new(), 0, false);
        loop {
            sleep(INTERVAL).await;
            let Some(link) = weak.upgrade() else { return };
            if !link.is_up() {
                is_known = false;
                continue;
            }
            if batches.is_empty() {
                batches = take(&ledger, &mut number);
            }
            let shared = tell(&link, &ledger, &mut batches).await;
            if shared.is_some() {
                // After an outage the other days may have grown too.
                let days = if is_known { 1 } else { KEPT_DAYS };
                is_known = refresh(&link, &ledger, days).await.is_some();
            }
        }
    });
    link.keep_task("usage", sharing.abort_handle());
}

fn take(ledger: &Ledger, number: &mut u64) -> VecDeque<Batch> {
    let mut batches = VecDeque::new();
    for (date, rows) in ledger.take_unshared() {
        for rows in rows.chunks(ROWS) {
            *number += 1;
            let fields = rows.iter().flat_map(|(names, sums)| fields(names, sums)).collect();
            batches.push_back(Batch { date, number: *number, fields });
        }
    }
    batches
}

/// Adds what is to be added; `None` when Redis has gone meanwhile.
async fn tell(link: &Link, ledger: &Ledger, batches: &mut VecDeque<Batch>) -> Option<()> {
    while let Some(Batch { date, number, fields }) = batches.front() {
        let (date, call) = (*date, call(link, *date, *number));
        let call = fields.iter().fold(call, |call, (field, more)| call.arg(field).arg(more));
        let said = link.send(&call).await.ok()?;
        batches.pop_front();
        // What is still to be told would be missing.
        if batches.iter().all(|other| other.date != date) {
            ledger.adopt(date, rows(said));
        }
    }
    Some(())
}

async fn refresh(link: &Link, ledger: &Ledger, days: u64) -> Option<()> {
    let today = ledger.today();
    for ago in 0..days {
        let date = today.before(ago);
        let said = link.send(&call(link, date, 0)).await.ok()?;
        ledger.adopt(date, rows(said));
    }
    Some(())
}

fn call(link: &Link, date: Date, number: u64) -> Call {
    Call::new(&ADD, format!("aoai:usage:{date}")).arg(link.replica()).arg(number).arg(SECONDS)
}

/// The names of the sums, as fields of a day.
const SUMS: [&str; 9] = [
    "requests",
    "input",
    "output",
    "input_cached",
    "input_audio",
    "output_reasoning",
    "output_audio",
    "estimated",
    "audio_us",
];

fn fields(names: &Names, sums: &Sums) -> impl Iterator<Item = (String, u64)> {
    let name = |name: &Option<std::sync::Arc<str>>| name.as_deref().unwrap_or_default().to_owned();
    let (client, alias, backend) = (name(&names.client), name(&names.alias), name(&names.backend));
    let field = move |sum| serde_json::json!([sum, client, alias, backend]).to_string();
    SUMS.into_iter().zip(figures(sums)).filter(|(_, more)| *more > 0).map(move |(sum, more)| (field(sum), more))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "microseconds of a day's audio")]
fn figures(sums: &Sums) -> impl Iterator<Item = u64> {
    sums.counts().into_iter().chain([(sums.audio_seconds * 1e6).round() as u64])
}

fn rows(said: HashMap<String, u64>) -> HashMap<Names, Sums> {
    let mut rows = HashMap::<Names, Sums>::new();
    for (field, figure) in said {
        // Other fields tell what has been added.
        let Ok((sum, client, alias, backend)) = serde_json::from_str::<(String, String, String, String)>(&field) else {
            continue;
        };
        let name = |name: String| (!name.is_empty()).then(|| name.into());
        let names = Names { client: name(client), alias: name(alias), backend: name(backend) };
        set(rows.entry(names).or_default(), &sum, figure);
    }
    rows
}

#[expect(clippy::cast_precision_loss, reason = "seconds")]
fn set(sums: &mut Sums, sum: &str, figure: u64) {
    let sum = match sum {
        "requests" => &mut sums.requests,
        "input" => &mut sums.input_tokens,
        "output" => &mut sums.output_tokens,
        "input_cached" => &mut sums.input_cached_tokens,
        "input_audio" => &mut sums.input_audio_tokens,
        "output_reasoning" => &mut sums.output_reasoning_tokens,
        "output_audio" => &mut sums.output_audio_tokens,
        "estimated" => &mut sums.estimated_tokens,
        "audio_us" => return sums.audio_seconds = figure as f64 / 1e6,
        _ => return,
    };
    *sum = figure;
}
