//! `--check --live`: whether every backend would serve, seen from this machine and without spending a token.
//!
//! A deployment is asked for a chat with an empty object. Nothing is generated for that: it is answered 400 where the
//! deployment exists and may be used, whatever kind of model it is.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::client::HttpClient;
use tower_azure_openai::context::Tried;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::pool::{Pool, Target};
use tower_azure_openai::reissue::ReissueCredentialsLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::shared::Shared;

use crate::config::Config;
use crate::config::backends::{Backend, Credential};
use crate::config::redis::Redis;
use crate::identities::Identities;
use crate::wiring;

/// Time that each of the questions may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// One that every resource serves.
const API_VERSION: &str = "2024-10-21";
/// An error says what it is in far less.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Asks every backend.
///
/// # Errors
/// The gateway could not start with this configuration.
pub(crate) async fn check(config: &Config) -> Result<Report, BoxError> {
    let client = wiring::client(config)?;
    let pool = wiring::pool(config, &mut Identities::default())?.build()?;
    let stack = ServiceBuilder::new()
        .map_response(|answer: Response<_>| answer.map(Body::new))
        .layer(SelectBackendLayer::new(pool.clone()))
        .layer(ForwardLayer::new())
        .layer(ReissueCredentialsLayer::new())
        .service(client.clone());
    let asker = Asker { pool, client, stack: BoxCloneSyncService::new(stack) };
    let rows = join_all(config.backends.iter().map(|backend| asker.backend(backend))).await;
    let mut rows: Vec<_> = rows.into_iter().flatten().collect();
    if let Some(redis) = &config.redis {
        rows.push(Row { backend: "redis".to_owned(), check: "connection".to_owned(), found: shared(redis).await? });
    }
    Ok(Report(rows))
}

/// Tells whether Redis lets us in, and takes what it is told.
async fn shared(redis: &Redis) -> Result<Found, BoxError> {
    let shared = Shared::new(redis.address.clone(), Identities::default().login(redis)?)?;
    Ok(match timeout(PATIENCE, shared.check()).await {
        Ok(Ok(())) => Found::fine("it takes what it is told"),
        Ok(Err(why)) => Found::Wrong(why),
        Err(_) => Found::wrong(LATE),
    })
}

struct Asker {
    pool: Pool,
    client: HttpClient,
    /// Sends as the gateway does: to where it would, with the credential that it would show.
    stack: BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>,
}

impl Asker {
    async fn backend(&self, backend: &Backend) -> Vec<Row> {
        let row = |check: &str, found| Row { backend: backend.name.clone(), check: check.to_owned(), found };
        let mut rows = vec![row("name", name(backend).await)];
        let connection = self.connection(backend).await;
        let is_reached = !connection.is_wrong();
        rows.push(row("connection", connection));
        let credential = self.credential(backend).await;
        let is_shown = matches!(credential, Found::Fine(_));
        rows.push(row("credential", credential));
        let asked =
            |at: usize| backend.deployments[..at].iter().any(|other| other.name == backend.deployments[at].name);
        for (_, deployment) in backend.deployments.iter().enumerate().filter(|(at, _)| !asked(*at)) {
            let targets = self.pool.targets(&deployment.alias);
            let target = targets.iter().find(|target| {
                target.backend() == backend.name && target.deployment() == Some(deployment.name.as_str())
            });
            let found = match target.filter(|_| is_reached && is_shown) {
                Some(target) => self.deployment(target, &backend.credential).await,
                None => Found::Skipped("for want of what stands above"),
            };
            rows.push(row(&format!("deployment {}", deployment.name), found));
        }
        rows
    }

    /// Any answer will do.
    async fn connection(&self, backend: &Backend) -> Found {
        let request = Request::get(&backend.endpoint).body(Body::empty());
        let Ok(request) = request else { return Found::wrong("the endpoint cannot be asked") };
        match timeout(PATIENCE, self.client.clone().oneshot(request)).await {
            Err(_) => Found::wrong(LATE),
            Ok(Err(failed)) => Found::Wrong(chain(&failed)),
            Ok(Ok(_)) if backend.endpoint.scheme_str() == Some("https") => Found::fine("TLS, and it answers"),
            Ok(Ok(_)) => Found::fine("plain http, and it answers"),
        }
    }

    async fn credential(&self, backend: &Backend) -> Found {
        let scope = match &backend.credential {
            Credential::ApiKey(_) => return Found::fine("a key; whether it is taken shows below"),
            Credential::PassThrough => return Found::Skipped("it is the client's own"),
            Credential::Token { scope, .. } => scope,
        };
        let alias = backend.deployments.first().map_or("", |deployment| deployment.alias.as_str());
        let targets = self.pool.targets(alias);
        let target = targets.iter().find(|target| target.backend() == backend.name);
        let tokens = target.and_then(Target::credential).and_then(|credential| credential.as_bearer());
        let Some(tokens) = tokens else { return Found::wrong("there is no identity") };
        match tokens.wait().await {
            Ok(_) => Found::Fine(format!("a token for {scope}")),
            Err(error) => Found::Wrong(error.to_string()),
        }
    }

    async fn deployment(&self, target: &Target, credential: &Credential) -> Found {
        match timeout(PATIENCE, self.ask(target)).await {
            Err(_) => Found::wrong(LATE),
            Ok(Err(error)) => Found::Wrong(chain(error.as_ref())),
            Ok(Ok((status, outcome))) => judge(status, outcome, credential),
        }
    }

    async fn ask(&self, target: &Target) -> Result<(StatusCode, Outcome), BoxError> {
        // Nothing but this target will do, drained or not.
        let mut tried = Tried::new();
        tried.repeat_on(target.clone());
        let alias = utf8_percent_encode(target.alias().unwrap_or_default(), NON_ALPHANUMERIC);
        let path = format!("/openai/deployments/{alias}/chat/completions?api-version={API_VERSION}");
        let request = Request::post(path).header(CONTENT_TYPE, "application/json").extension(tried);
        let (head, body) = self.stack.clone().oneshot(request.body(Body::from("{}"))?).await?.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await?.to_bytes();
        Ok((head.status, Outcome::of_answer(head.status, &head.headers, &body, SystemTime::now())))
    }
}

const LATE: &str = "no answer in 10 s";

/// The causes are the library's own words, which name no host and no secret.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn judge(status: StatusCode, outcome: Outcome, credential: &Credential) -> Found {
    let is_key = matches!(credential, Credential::ApiKey(_));
    match outcome {
        Outcome::CredentialRefused { status: StatusCode::FORBIDDEN } if is_key => {
            Found::wrong("403: it takes no keys, or lets in no requests from here")
        }
        Outcome::CredentialRefused { status: StatusCode::FORBIDDEN } => {
            Found::wrong("403: the identity lacks a role, or requests from here are not let in")
        }
        Outcome::CredentialRefused { .. } if is_key => Found::wrong("401: the key is refused"),
        Outcome::CredentialRefused { .. } => Found::wrong("401: the token is refused, or the identity lacks a role"),
        Outcome::DeploymentMissing => Found::wrong("404: there is no such deployment"),
        Outcome::ClientFault if status == StatusCode::NOT_FOUND => {
            Found::wrong("404: the endpoint does not serve deployments")
        }
        Outcome::ClientFault | Outcome::Success => Found::fine("it exists and may be used"),
        Outcome::Throttled { .. } => Found::fine("it exists and may be used, but is throttled now"),
        _ => Found::Wrong(format!("it answers {}", status.as_u16())),
    }
}

async fn name(backend: &Backend) -> Found {
    if let Some(address) = backend.address {
        return Found::Fine(format!("{}, as configured", described(address.ip())));
    }
    let host = backend.endpoint.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match timeout(PATIENCE, tokio::net::lookup_host((host, 0))).await {
        Err(_) => Found::wrong("it is not resolved in 10 s"),
        Ok(Err(_)) => Found::wrong("it cannot be resolved"),
        Ok(Ok(found)) => {
            let found: BTreeSet<_> = found.map(|address| address.ip()).collect();
            Found::Fine(found.into_iter().map(described).collect::<Vec<_>>().join(", "))
        }
    }
}

fn described(address: IpAddr) -> String {
    format!("{address} ({})", if is_private(address) { "private" } else { "public" })
}

/// Tells whether no packet to it leaves for the internet.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            // RFC 6598, which providers use inside their networks.
            let is_shared = matches!(address.octets(), [100, 64..=127, ..]);
            address.is_private() || address.is_loopback() || address.is_link_local() || is_shared
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

/// Finding about one thing.
#[derive(Debug)]
enum Found {
    Fine(String),
    Skipped(&'static str),
    Wrong(String),
}

impl Found {
    fn fine(what: &str) -> Self {
        Self::Fine(what.to_owned())
    }

    fn wrong(what: &str) -> Self {
        Self::Wrong(what.to_owned())
    }

    const fn is_wrong(&self) -> bool {
        matches!(self, Self::Wrong(_))
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fine(what) => write!(f, "ok: {what}"),
            Self::Skipped(why) => write!(f, "not checked: {why}"),
            Self::Wrong(what) => write!(f, "FAILED: {what}"),
        }
    }
}

#[derive(Debug)]
struct Row {
    backend: String,
    check: String,
    found: Found,
}

/// Report of what was found out, as a table.
#[derive(Debug)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    /// Tells whether nothing would fail in service.
    pub(crate) fn is_fine(&self) -> bool {
        !self.0.iter().any(|row| row.found.is_wrong())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEAD: [&str; 2] = ["backend", "check"];
        let width = |head: &str, of: fn(&Row) -> &str| {
            self.0.iter().map(|row| of(row).chars().count()).fold(head.len(), usize::max)
        };
        let (first, second) = (width(HEAD[0], |row| &row.backend), width(HEAD[1], |row| &row.check));
        writeln!(f, "{:first$}  {:second$}  result", HEAD[0], HEAD[1])?;
        self.0.iter().try_for_each(|row| writeln!(f, "{:first$}  {:second$}  {}", row.backend, row.check, row.found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_addresses_that_stay_inside() {
        for (address, expected) in [
            ("10.1.2.3", true),
            ("172.31.0.1", true),
            ("192.168.1.1", true),
            ("127.0.0.1", true),
            ("169.254.1.1", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("20.1.2.3", false),
            ("::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("::ffff:10.0.0.1", true),
            ("2603::1", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn lines_are_aligned() {
        let row = |backend: &str, check: &str, found| Row { backend: backend.into(), check: check.into(), found };
        let rows = vec![
            row("a", "name", Found::fine("x")),
            row("long-backend", "deployment gpt-4o", Found::wrong("y")),
            row("b", "credential", Found::Skipped("z")),
        ];
        let expected = "\
backend       check              result
a             name               ok: x
long-backend  deployment gpt-4o  FAILED: y
b             credential         not checked: z
";
        let report = Report(rows);
        assert_eq!((report.to_string().as_str(), report.is_fine()), (expected, false));
    }
}
