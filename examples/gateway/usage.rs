//! Usage of clients, and what they have left: `/usage`, and `clients` in `/status`.

use std::collections::BTreeMap;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::health::Health;
use tower_azure_openai::limit::Limit;
use tower_azure_openai::meter::{By, Date, Ledger, SilentStreams};
use tower_azure_openai::shared::Shared;

use crate::config::Config;
use crate::kept::Kept;
use crate::wiring;

pub(crate) const PATH: &str = "/usage";

/// Answers `/usage?by=client,alias,backend&from=2026-11-01&to=2026-11-30&format=json`; everything may be left out.
pub(crate) fn answer(ledger: &Ledger, method: &Method, query: &str) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", String::new());
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let mut answer = match Asked::read(query) {
        Ok(asked) => asked.report(ledger),
        Err(wrong) => text(StatusCode::BAD_REQUEST, "text/plain", wrong),
    };
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if method == Method::HEAD {
        *answer.body_mut() = Body::empty();
    }
    answer
}

struct Asked {
    by: Vec<By>,
    from: Option<Date>,
    to: Option<Date>,
    is_csv: bool,
}

impl Asked {
    fn read(query: &str) -> Result<Self, String> {
        let mut asked = Self { by: vec![By::Client, By::Alias, By::Backend], from: None, to: None, is_csv: false };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            let wrong = |error: &dyn std::fmt::Display| format!("{name}: {error}\n");
            match name {
                "by" => {
                    let names = value.split(',').filter(|name| !name.is_empty()).map(str::parse);
                    asked.by = names.collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
                }
                "from" => asked.from = Some(value.parse().map_err(|error| wrong(&error))?),
                "to" => asked.to = Some(value.parse().map_err(|error| wrong(&error))?),
                "format" if value == "csv" => asked.is_csv = true,
                "format" if value == "json" => asked.is_csv = false,
                "format" => return Err(wrong(&"must be json or csv")),
                _ => return Err(wrong(&"is not known: by, from, to and format are")),
            }
        }
        Ok(asked)
    }

    fn report(&self, ledger: &Ledger) -> Response<Body> {
        let report = ledger.report(&self.by, self.from, self.to);
        if self.is_csv {
            return text(StatusCode::OK, "text/csv; charset=utf-8; header=present", report.to_csv(&self.by));
        }
        match serde_json::to_string_pretty(&report) {
            Ok(json) => text(StatusCode::OK, "application/json", json),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
        }
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Adds to the status what there is to say of each client.
pub(crate) fn tell(health: Health, config: &Config, kept: &Kept) -> Health {
    let (clients, accounts, limits, ledger) = (wiring::clients(config), kept.accounts(), kept.limits(), kept.ledger());
    let (shared, counted, streams) = (kept.shared(), kept.ledger(), config.usage.streams);
    let of = move |client: &Client| {
        let (used, left) = (ledger.used_today(client.id()), accounts.left(client));
        let refused = limits.refused(client.id());
        let count = |left: Option<tower_azure_openai::limit::Left>| left.map(|left| left.count);
        json!({
            "id": client.id(),
            "priority": "normal",
            "tokens_today": { "input": used.input_tokens, "output": used.output_tokens },
            "left": {
                Limit::TokensPerMinute.as_str(): count(left.tokens),
                Limit::RequestsPerMinute.as_str(): count(left.requests),
                Limit::TokensPerDay.as_str(): count(left.tokens_today),
            },
            "refused": refused.iter().map(|(_, count)| count).sum::<u64>(),
        })
    };
    let replicas = shared.clone();
    let health = health.add_to_status("replicas", move || replicas.as_ref().map_or(1, Shared::replicas).into());
    let redis = shared.clone();
    let health =
        health.add_to_status("shared_state_late", move || redis.as_ref().map(Shared::late).unwrap_or_default().into());
    let health = health.add_to_status("usage", move || estimates(&counted, streams));
    health.add_to_status("clients", move || clients.iter().map(&of).collect::<Vec<Value>>().into()).add_to_status(
        "shared_state",
        move || match &shared {
            None => "none".into(),
            Some(shared) => shared.problem().unwrap_or_else(|| "ok".to_owned()).into(),
        },
    )
}

/// Returns how much of what each alias used is estimated, over the days that are kept, and what would help.
fn estimates(ledger: &Ledger, streams: SilentStreams) -> Value {
    let mut aliases = BTreeMap::<Box<str>, (u64, u64, u64)>::new();
    for row in ledger.report(&[By::Alias], None, None).rows {
        let (all, estimated, reasoning) = aliases.entry(row.alias.unwrap_or_default()).or_default();
        *all += row.sums.input_tokens + row.sums.output_tokens;
        *estimated += row.sums.estimated_tokens;
        *reasoning += row.sums.output_reasoning_tokens;
    }
    let told = aliases.iter().map(|(alias, (all, estimated, reasoning))| {
        let misses = *estimated > 0 && *reasoning > 0 && streams == SilentStreams::Estimate;
        json!({
            "alias": alias,
            "estimated_share": if *all == 0 { 0.0 } else { *estimated as f64 / *all as f64 },
            "advice": misses.then_some(ASK),
        })
    });
    told.collect::<Vec<_>>().into()
}

const ASK: &str = "Its model reasons, and no estimate sees that: set `[usage] streams = \"ask\"`, so that backends tell what streams used.";
