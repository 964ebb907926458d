//! `[[clients]]`: who may call, and what.

use std::collections::HashMap;

use tower_azure_openai::azure::operation::Operation;
use tower_azure_openai::context::Limits;
use tower_azure_openai::pool::Priority;

use super::backends::Processing;
use super::entra::Caller;
use super::reader::Section;
use super::secret::{Form, KeyDigest, resolve};

const OPERATIONS: &[(&str, Operation)] = &[
    ("assistants", Operation::Assistants),
    ("batches", Operation::Batches),
    ("chatkit", Operation::ChatKit),
    ("evals", Operation::Evals),
    ("fine_tuning", Operation::FineTuning),
    ("ingestion", Operation::Ingestion),
    ("models", Operation::Models),
    ("realtime", Operation::Realtime),
    ("responses", Operation::Responses),
    ("threads", Operation::Threads),
    ("videos", Operation::Videos),
    ("other", Operation::Other),
];

#[derive(Debug)]
pub(crate) struct Client {
    /// Unique.
    pub(crate) id: String,
    /// Several while keys are rotated. No two clients share one.
    pub(crate) keys: Vec<KeyDigest>,
    /// Claim by which a token names it. No two clients share one.
    pub(crate) entra: Option<Caller>,
    /// Aliases; `None` is all.
    pub(crate) allow: Option<Vec<String>>,
    /// Names that this client uses, with the aliases that they stand for.
    pub(crate) route: Vec<(String, String)>,
    /// Calls beside inference, where nobody sees the model.
    pub(crate) operations: Vec<Operation>,
    /// Geography of the backends of this client; `None` is anywhere.
    pub(crate) geography: Option<String>,
    /// Processing scopes that it accepts; `None` is all.
    pub(crate) processing: Option<Vec<Processing>>,
    pub(crate) limits: Limits,
    pub(crate) priority: Priority,
}

pub(super) fn read(s: &mut Section<'_>) -> Vec<Client> {
    let mut owners = HashMap::new();
    let mut at = 0..;
    s.sections("clients", |s| Client::read(s, at.next().unwrap_or_default(), &mut owners))
}

impl Client {
    fn read(s: &mut Section<'_>, at: usize, owners: &mut HashMap<KeyDigest, usize>) -> Self {
        let id = s.required_name("id");
        let mut keys = Vec::new();
        for (place, key) in keys_of(s, &id) {
            match *owners.entry(key).or_insert(at) {
                owner if owner == at => keys.push(key),
                owner => s.findings.problem(place, format!("is also a key of clients[{owner}]")),
            }
        }
        Self {
            id,
            keys,
            entra: s.given_section("entra", Caller::read).flatten(),
            allow: s.texts("allow").map(|aliases| aliases.into_iter().map(|(_, alias)| alias).collect()),
            route: s.texts_by_name("route"),
            operations: s.choices("operations", OPERATIONS).unwrap_or_default(),
            geography: s.name("geography"),
            processing: s.choices("processing", Processing::VOCABULARY),
            limits: limits(s),
            priority: s.choice("priority", &Priority::ALL.map(|each| (each.as_str(), each))).unwrap_or_default(),
        }
    }
}

fn limits(s: &mut Section<'_>) -> Limits {
    Limits::new()
        .tokens_per_minute(s.count("tokens_per_minute"))
        .requests_per_minute(s.count("requests_per_minute"))
        .tokens_per_day(s.count("tokens_per_day"))
}

fn keys_of(s: &mut Section<'_>, id: &str) -> Vec<(String, KeyDigest)> {
    const FORMS: &[&str] = &["key", "key_env", "key_file", "key_sha256"];
    let form = if FORMS.iter().any(|form| s.has(form)) {
        s.one_of(FORMS)
    } else {
        if !s.has("entra") {
            s.problem_here(&format!("client {id:?} needs one of key, key_env, key_file, key_sha256 or entra"));
        }
        // Tokens alone will do.
        None
    };
    let Some(form) = form else { return Vec::new() };
    let findings = s.findings;
    let digest = |text: &str| match form {
        "key_sha256" => KeyDigest::from_hex(text).map(|digest| (digest, None)),
        _ => {
            resolve(Form::of(form), text, findings.sources)?.into_key().map(|key| (KeyDigest::of(&key), key.weakness()))
        }
    };
    let each = s.one_or_more_texts(form).into_iter();
    each.filter_map(|(place, text)| match digest(&text) {
        Ok((key, weakness)) => {
            if let Some(weakness) = weakness {
                findings.weakness(&place, weakness);
            }
            Some((place, key))
        }
        Err(wrong) => {
            findings.problem(place, wrong);
            None
        }
    })
    .collect()
}
