//! `[[backends]]`: the resources, their deployments and our credentials to them.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;

use http::Uri;
use tower_azure_openai::pool::BackendKind;

use super::reader::Section;
use super::secret::{Form, Secret, resolve};
use super::value::name;
use super::{address, endpoint};

const DEFAULT_SCOPE: &str = "https://cognitiveservices.azure.com/.default";
const MAX_PRIORITY: u32 = 1_000_000;
const MAX_WEIGHT: u32 = 1_000_000;

/// One Azure OpenAI resource.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Unique; printable ASCII.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Scheme, host, optional port and path prefix.
    pub(crate) endpoint: Uri,
    pub(crate) credential: Credential,
    pub(crate) priority: u32,
    pub(crate) weight: u32,
    pub(crate) region: Option<String>,
    pub(crate) geography: Option<String>,
    pub(crate) processing: Processing,
    /// `None` is unlimited.
    pub(crate) max_in_flight: Option<NonZeroU32>,
    /// Address to connect to instead of resolving the endpoint's name.
    pub(crate) address: Option<SocketAddr>,
    /// Certificates, in PEM, that are trusted as well.
    pub(crate) ca_pem: Option<Vec<u8>>,
    /// At least one; names are unique.
    pub(crate) deployments: Vec<Deployment>,
}

/// A model on a backend, with the backend's defaults filled in.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) name: String,
    pub(crate) alias: String,
    pub(crate) model: String,
    pub(crate) version: Option<String>,
    pub(crate) priority: u32,
    pub(crate) weight: u32,
    pub(crate) quota_group: Option<String>,
    pub(crate) tokens_per_minute: Option<NonZeroU32>,
}

#[derive(Debug)]
pub(crate) enum Credential {
    ApiKey(Secret),
    /// The client's own token.
    PassThrough,
    Token {
        source: TokenSource,
        scope: String,
    },
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum TokenSource {
    ClientSecret { tenant_id: String, client_id: String, secret: Secret },
    DeveloperTools,
    ManagedIdentity { client_id: Option<String> },
    WorkloadIdentity,
}

/// Form of the API that a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Azure,
    OpenAi,
}

impl From<Kind> for BackendKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Azure => Self::Azure,
            Kind::OpenAi => Self::OpenAi,
        }
    }
}

/// Place in which prompts may be processed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Processing {
    Regional,
    DataZone,
    Global,
}

impl Processing {
    pub(super) const VOCABULARY: &[(&str, Self)] =
        &[("regional", Self::Regional), ("data-zone", Self::DataZone), ("global", Self::Global)];
}

pub(super) fn read(s: &mut Section<'_>) -> Vec<Backend> {
    s.require_sections("backends");
    s.sections("backends", Backend::read)
}

/// Defaults that a deployment takes from its backend.
struct Defaults {
    priority: u32,
    weight: u32,
    quota_group: Option<String>,
}

impl Backend {
    fn read(s: &mut Section<'_>) -> Self {
        s.require("name");
        s.require("endpoint");
        s.require("credential");
        s.require_sections("deployments");

        let name = s.parsed("name", header_name).unwrap_or_default();
        let endpoint = s.parsed("endpoint", endpoint::parse);
        let kind = s.choice("kind", &[("azure", Kind::Azure), ("openai", Kind::OpenAi)]).unwrap_or(Kind::Azure);
        if let Some(Err(why)) = endpoint.as_ref().map(|endpoint| BackendKind::from(kind).check_endpoint(endpoint)) {
            s.problem("endpoint", why);
        }
        let credential = s.given_section("credential", Credential::read).flatten();
        let address = s.parsed("address", connect_address);
        if kind == Kind::OpenAi && matches!(credential, Some(Credential::PassThrough)) {
            s.problem("credential", "with pass_through, kind must be \"azure\": tokens of clients are for nobody else");
        }
        let has_tokens = matches!(credential, Some(Credential::PassThrough | Credential::Token { .. }));
        if let (Some(endpoint), true) = (&endpoint, has_tokens) {
            require_safe_for_tokens(s, endpoint, address);
        }
        let defaults = Defaults {
            priority: s.integer("priority", 0..=MAX_PRIORITY).unwrap_or(0),
            weight: s.integer("weight", 0..=MAX_WEIGHT).unwrap_or(1),
            quota_group: s.name("quota_group"),
        };
        Self {
            name,
            kind,
            endpoint: endpoint.unwrap_or_default(),
            credential: credential.unwrap_or(Credential::PLACEHOLDER),
            priority: defaults.priority,
            weight: defaults.weight,
            region: s.name("region"),
            geography: s.name("geography"),
            processing: s.choice("processing", Processing::VOCABULARY).unwrap_or(Processing::Regional),
            max_in_flight: s.integer("max_in_flight", 0..=u32::MAX).and_then(NonZeroU32::new),
            address,
            ca_pem: ca_pem(s),
            deployments: s.sections("deployments", |s| Deployment::read(s, &defaults)),
        }
    }
}

impl Deployment {
    fn read(s: &mut Section<'_>, backend: &Defaults) -> Self {
        let name = s.required_name("name");
        let alias = s.name("alias").unwrap_or_else(|| name.clone());
        Self {
            model: s.name("model").unwrap_or_else(|| alias.clone()),
            version: s.name("version"),
            priority: s.integer("priority", 0..=MAX_PRIORITY).unwrap_or(backend.priority),
            weight: s.integer("weight", 0..=MAX_WEIGHT).unwrap_or(backend.weight),
            quota_group: s.name("quota_group").or_else(|| backend.quota_group.clone()),
            tokens_per_minute: s.integer("tokens_per_minute", 0..=u32::MAX).and_then(NonZeroU32::new),
            name,
            alias,
        }
    }
}

impl Credential {
    const KINDS: &[&str] = &[
        "api_key",
        "api_key_env",
        "api_key_file",
        "managed_identity",
        "workload_identity",
        "client_secret",
        "developer_tools",
        "pass_through",
    ];

    /// Stands in for one that is wrong.
    const PLACEHOLDER: Self = Self::Token { source: TokenSource::DeveloperTools, scope: String::new() };

    fn read(s: &mut Section<'_>) -> Option<Self> {
        let kind = s.one_of(Self::KINDS);
        let has_scope = s.has("scope");
        let scope = s.parsed("scope", name).unwrap_or_else(|| DEFAULT_SCOPE.to_owned());
        let source = match kind? {
            kind if TokenSource::KINDS.contains(&kind) => TokenSource::read(s, kind)?,
            "pass_through" => {
                if has_scope {
                    s.problem("scope", "goes with a token of the gateway's own");
                }
                if !s.flag("pass_through", true) {
                    s.problem("pass_through", "must be true, or absent");
                }
                return Some(Self::PassThrough);
            }
            key => {
                if has_scope {
                    s.problem("scope", "goes with a token, not with a key");
                }
                let sources = s.findings.sources;
                return s.parsed(key, |value| resolve(Form::of(key), value, sources)?.into_key()).map(Self::ApiKey);
            }
        };
        Some(Self::Token { source, scope })
    }
}

impl TokenSource {
    pub(super) const KINDS: &[&str] = &["managed_identity", "workload_identity", "client_secret", "developer_tools"];

    /// Of one of these kinds.
    pub(super) fn read(s: &mut Section<'_>, kind: &str) -> Option<Self> {
        Some(match kind {
            "managed_identity" => s.section(kind, |s| Self::ManagedIdentity { client_id: s.name("client_id") }),
            "workload_identity" => s.section(kind, |_| Self::WorkloadIdentity),
            "client_secret" => s.given_section(kind, client_secret)??,
            _ => s.section(kind, |_| Self::DeveloperTools),
        })
    }
}

fn client_secret(s: &mut Section<'_>) -> Option<TokenSource> {
    let tenant_id = s.required_name("tenant_id");
    let client_id = s.required_name("client_id");
    let key = s.one_of(&["secret", "secret_env", "secret_file"])?;
    let sources = s.findings.sources;
    let secret = s.parsed(key, |value| resolve(Form::of(key), value, sources))?;
    Some(TokenSource::ClientSecret { tenant_id, client_id, secret })
}

/// A token that leaves this machine does so over https.
fn require_safe_for_tokens(s: &Section<'_>, endpoint: &Uri, address: Option<SocketAddr>) {
    let loopback = endpoint::is_loopback(endpoint) && address.is_none_or(|address| address.ip().is_loopback());
    if !endpoint::is_https(endpoint) && !loopback {
        s.problem("endpoint", "must be https: tokens go over plain http on loopback only");
    }
}

/// A backend's name is also the value of a header.
fn header_name(text: &str) -> Result<String, String> {
    if text.is_ascii() { name(text) } else { Err("must be ASCII".to_owned()) }
}

fn connect_address(text: &str) -> Result<SocketAddr, String> {
    match address(text)? {
        address if address.port() == 0 => Err("must have a port other than 0".to_owned()),
        address => Ok(address),
    }
}

pub(super) fn ca_pem(s: &mut Section<'_>) -> Option<Vec<u8>> {
    let sources = s.findings.sources;
    s.parsed("ca_file", |path| {
        let pem = (sources.file)(Path::new(path)).map_err(|error| format!("cannot read {path:?}: {error}"))?;
        let certificate = b"-----BEGIN CERTIFICATE-----";
        if pem.windows(certificate.len()).any(|window| window == certificate) {
            Ok(pem)
        } else {
            Err(format!("file {path:?} holds no certificate in PEM form"))
        }
    })
}
