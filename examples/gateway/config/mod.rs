//! The configuration file: TOML in, either a complete [`Config`] or everything that is wrong with the file.
//!
//! `gateway.example.toml` in the folder above is the contract. Of the library that is configured only values are known here.

pub(crate) mod aliases;
pub(crate) mod backends;
pub(crate) mod behaviour;
pub(crate) mod capture;
pub(crate) mod clients;
mod consistency;
pub(crate) mod cors;
mod endpoint;
pub(crate) mod entra;
mod nearest;
mod problem;
mod reader;
pub(crate) mod recorder;
pub(crate) mod redis;
pub(crate) mod releases;
pub(crate) mod secret;
mod served;
pub(crate) mod session;
mod syntax;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod units;
mod unknown;
mod value;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use aliases::Alias;
use backends::Backend;
use behaviour::{
    ApiVersion, Circuit, Failover, Forward, FrontDoor, Limits, Selection, Stream, Telemetry, Thresholds, Timeouts,
    Usage,
};
use capture::Capture;
use clients::Client;
use cors::Origins;
use entra::Entra;
use problem::Problem;
pub(crate) use problem::Problems;
use reader::{Findings, Found, Section};
use recorder::Recorder;
use redis::Redis;
use releases::Release;
use secret::{Form, Secret, resolve};
use session::Session;
use sha2::{Digest, Sha256};
use tls::Tls;
use tower_azure_openai::context::{BasePath, InvalidBasePath};

/// More than one for each core of the largest machines serves nobody.
const MOST_THREADS: u32 = 1024;

/// Empty is none.
fn base_path(text: &str) -> Result<Option<BasePath>, String> {
    let read = |text| BasePath::new(text).map(Some).map_err(|error: InvalidBasePath| error.to_string());
    if text.is_empty() { Ok(None) } else { read(text) }
}

/// Everything that the file says, with every default filled in.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    /// `None` when it is off.
    pub(crate) admin: Option<SocketAddr>,
    /// Names that the admin listener answers to, beside addresses and localhost.
    pub(crate) admin_hosts: Vec<String>,
    /// Token that most of the admin listener asks for; `None`: nothing.
    pub(crate) admin_token: Option<Secret>,
    /// `None`: plain http.
    pub(crate) tls: Option<Tls>,
    pub(crate) authentication: Authentication,
    /// For which connections are still accepted once the process is told to stop.
    pub(crate) shutdown_delay: Duration,
    pub(crate) shutdown_grace: Duration,
    /// Event loops; zero is one per core.
    pub(crate) threads: usize,
    /// Region in which this gateway runs.
    pub(crate) region: Option<String>,
    pub(crate) base_path: Option<BasePath>,
    /// At least one.
    pub(crate) backends: Vec<Backend>,
    pub(crate) clients: Vec<Client>,
    /// `None`: tokens are not accepted.
    pub(crate) entra: Option<Entra>,
    pub(crate) aliases: Vec<Alias>,
    pub(crate) releases: Vec<Release>,
    pub(crate) selection: Selection,
    pub(crate) failover: Failover,
    pub(crate) stream: Stream,
    pub(crate) circuit: Circuit,
    pub(crate) session: Session,
    pub(crate) api_version: ApiVersion,
    pub(crate) front_door: FrontDoor,
    pub(crate) forward: Forward,
    pub(crate) usage: Usage,
    /// Browser applications that may call.
    pub(crate) cors: Origins,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) priority: Thresholds,
    pub(crate) capture: Capture,
    pub(crate) recorder: Recorder,
    pub(crate) telemetry: Telemetry,
    /// `None`: each replica on its own.
    pub(crate) redis: Option<Redis>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Authentication {
    /// A request must carry the key of one of the clients.
    Clients,
    /// Everyone may call.
    None,
}

/// A valid file, with what is worth a second look.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// Problems that `--check` refuses, and a start does not.
    pub(crate) weaknesses: Problems,
    pub(crate) warnings: Problems,
}

/// Sources of secrets and files.
pub(crate) struct Sources<'a> {
    /// The value of an environment variable, unless it is unset or not UTF-8.
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
    /// The content of a file.
    pub(crate) file: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

impl Sources<'static> {
    /// The environment and the files of this process.
    pub(crate) const PROCESS: Self =
        Self { env: &|name| std::env::var(name).ok(), file: &|path: &Path| std::fs::read(path) };
}

impl Config {
    /// Reads and validates `file`; relative paths in it start at the working directory.
    ///
    /// # Errors
    /// All problems of the file at once.
    pub(crate) fn load(file: &Path, sources: &Sources<'_>) -> Result<Loaded, Problems> {
        let unread = |list| Problems { file: file.to_owned(), list, telemetry: None };
        let bytes =
            (sources.file)(file).map_err(|error| unread(vec![Problem::new("", format!("cannot be read: {error}"))]))?;
        let table = syntax::parse(bytes).map_err(unread)?;

        let findings = Findings::new(sources);
        let mut config = findings.read(table, Self::read);
        aliases::spread(&mut config);
        consistency::check(&config, &findings);
        let problems = |list| Problems { telemetry: Some(config.telemetry.clone()), ..unread(list) };
        let Found { problems: mut wrong, weaknesses, warnings } = findings.into_found();
        if wrong.is_empty() {
            let (weaknesses, warnings) = (problems(weaknesses), problems(warnings));
            return Ok(Loaded { config, weaknesses, warnings });
        }
        wrong.extend(weaknesses);
        Err(problems(wrong))
    }

    /// The same for configurations that differ in nothing but secrets, which show nothing of themselves here.
    pub(crate) fn fingerprint(&self) -> u64 {
        let digest: [u8; 32] = Sha256::digest(format!("{self:?}")).into();
        digest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn read(s: &mut Section<'_>) -> Self {
        let (listen, admin) = listeners(s);
        Self {
            listen,
            admin,
            admin_hosts: s.names("admin_hosts"),
            admin_token: admin_token(s),
            tls: s.given_section("tls", Tls::read).flatten(),
            authentication: authentication(s),
            shutdown_delay: s.duration("shutdown_delay", Duration::ZERO),
            shutdown_grace: s.duration("shutdown_grace", Duration::from_secs(30)),
            threads: s.integer("threads", 0..=MOST_THREADS).unwrap_or(0) as usize,
            region: s.name("region"),
            base_path: s.parsed("base_path", base_path).flatten(),
            backends: backends::read(s),
            clients: clients::read(s),
            entra: s.given_section("entra", Entra::read),
            aliases: aliases::read(s),
            releases: releases::read(s),
            selection: s.section("selection", Selection::read),
            failover: s.section("failover", Failover::read),
            stream: s.section("stream", Stream::read),
            circuit: s.section("circuit", Circuit::read),
            session: s.section("session", Session::read),
            api_version: s.section("api_version", ApiVersion::read),
            front_door: s.section("front_door", FrontDoor::read),
            forward: s.section("forward", Forward::read),
            usage: s.section("usage", Usage::read),
            cors: s.section("cors", Origins::read),
            timeouts: s.section("timeouts", Timeouts::read),
            limits: s.section("limits", Limits::read),
            priority: s.section("priority", Thresholds::read),
            capture: s.section("capture", Capture::read),
            recorder: s.section("recorder", Recorder::read),
            telemetry: s.section("telemetry", Telemetry::read),
            redis: s.given_section("redis", Redis::read).flatten(),
        }
    }
}

fn listeners(s: &mut Section<'_>) -> (SocketAddr, Option<SocketAddr>) {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listen = s.parsed("listen", address).unwrap_or(local(8080));
    let admin = s.parsed("admin", |text| match text {
        "off" => Ok(None),
        _ => address(text).map(Some).map_err(|wrong| format!("{wrong}, or \"off\"")),
    });
    let admin = admin.unwrap_or(Some(local(9090)));
    if admin == Some(listen) && listen.port() != 0 {
        s.problem("admin", "is the same address as listen");
    }
    (listen, admin)
}

fn admin_token(s: &mut Section<'_>) -> Option<Secret> {
    const FORMS: &[&str] = &["admin_token", "admin_token_env", "admin_token_file"];
    if !FORMS.iter().any(|form| s.has(form)) {
        return None;
    }
    let (form, sources) = (s.one_of(FORMS)?, s.findings.sources);
    s.parsed(form, |text| resolve(Form::of(form), text, sources)?.into_client_key())
}

fn authentication(s: &mut Section<'_>) -> Authentication {
    let vocabulary = [("clients", Authentication::Clients), ("none", Authentication::None)];
    let authentication = s.choice("authentication", &vocabulary).unwrap_or(Authentication::Clients);
    match authentication {
        Authentication::Clients if s.is_empty("clients") && !s.has("entra") => s.problem(
            "authentication",
            "there are no [[clients]] and no [entra]: write authentication = \"none\" to let everyone in",
        ),
        Authentication::None if !s.is_empty("clients") => {
            s.findings.warning("authentication", "\"none\" lets everyone in, whatever [[clients]] says");
        }
        Authentication::Clients | Authentication::None => {}
    }
    authentication
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be an IP address with a port, such as \"127.0.0.1:8080\"".to_owned())
}
