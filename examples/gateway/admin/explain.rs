//! `/explain?alias=A&client=C`: for every target why it would or would not be chosen now.

use http::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::pool::{Explained, Obstacle, Pool, Query};

use super::answers;
use crate::config::Config;
use crate::wiring;

pub(super) const PATH: &str = "/explain";

/// The clients of the configuration, and whether they come with tokens of their own.
pub(super) struct Clients(Vec<(Client, bool)>);

impl Clients {
    pub(super) fn new(config: &Config) -> Self {
        let have_tokens = config.clients.iter().map(|described| described.entra.is_some());
        Self(wiring::clients(config).into_iter().zip(have_tokens).collect())
    }

    pub(super) fn answer(&self, pool: &Pool, query: &str) -> Response<Body> {
        match self.read(query) {
            Ok(asked) => answers::json(StatusCode::OK, &asked.explain(pool)),
            Err((status, wrong)) => answers::text(status, wrong),
        }
    }

    fn read(&self, query: &str) -> Result<Asked<'_>, (StatusCode, String)> {
        let bad = |wrong: String| (StatusCode::BAD_REQUEST, wrong);
        let (mut alias, mut client) = (None, None);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            // As forms are sent.
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8_lossy().into_owned();
            match name {
                "alias" => alias = Some(value),
                "client" if value.is_empty() => {}
                "client" => client = Some(value),
                _ => return Err(bad(format!("{name:?} is not known: alias and client are\n"))),
            }
        }
        let alias = alias.filter(|alias| !alias.is_empty());
        let alias = alias.ok_or_else(|| bad("alias is missing: /explain?alias=NAME&client=ID\n".to_owned()))?;
        let client = client.map(|id| {
            let found = self.0.iter().find(|(client, _)| client.id() == id);
            found.ok_or_else(|| (StatusCode::NOT_FOUND, format!("no client is {id:?}\n")))
        });
        Ok(Asked { alias, client: client.transpose()? })
    }
}

struct Asked<'a> {
    alias: String,
    client: Option<&'a (Client, bool)>,
}

impl Asked<'_> {
    fn explain(&self, pool: &Pool) -> Value {
        let client = self.client.map(|(client, _)| client);
        let alias = client.map_or(&*self.alias, |client| client.resolve(&self.alias));
        let mut query = Query::new(Some(alias)).has_token(self.client.is_none_or(|(_, has_token)| *has_token));
        if let Some(client) = client {
            query = query.client(client.id()).constraints(client.constraints());
        }
        let explanation = pool.explain_query(&query);
        json!({
            "alias": alias,
            "client": client.map(Client::id),
            "allowed": client.is_none_or(|client| client.may_use(&self.alias)),
            "candidates": explanation.candidates().count(),
            "targets": explanation.targets().iter().map(target).collect::<Vec<_>>(),
        })
    }
}

fn target(explained: &Explained) -> Value {
    let target = explained.target();
    json!({
        "backend": target.backend(),
        "deployment": target.deployment(),
        "alias": target.alias(),
        "priority": target.priority(),
        "weight": target.weight(),
        "in_flight": target.in_flight(),
        "candidate": explained.is_candidate(),
        "obstacles": explained.obstacles().iter().map(Obstacle::to_string).collect::<Vec<_>>(),
    })
}
