//! `[redis]`: what several replicas know together.

use tower_azure_openai::shared::{Address, InvalidAddress, OnFailure};

use super::backends::{TokenSource, ca_pem};
use super::reader::Section;
use super::secret::{Form, Secret, resolve};
use super::value::name;

const DEFAULT_SCOPE: &str = "https://redis.azure.com/.default";
const PASSWORDS: &[&str] = &["password", "password_env", "password_file"];

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Redis {
    pub(crate) address: Address,
    pub(crate) credential: Credential,
    pub(crate) on_failure: OnFailure,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Credential {
    Nobody,
    Password { user: Option<String>, password: Secret },
    Token { source: TokenSource, scope: String },
}

impl Redis {
    /// `None` where the address is missing or wrong, which is told.
    pub(super) fn read(s: &mut Section<'_>) -> Option<Self> {
        s.require("url");
        let address = s.parsed("url", |text| text.parse().map_err(|error: InvalidAddress| error.to_string()));
        let credential = s.given_section("credential", Credential::read);
        let credential = credential.map_or(Some(Credential::Nobody), |read| read);
        let on_failure = s.choice("on_failure", &[("local", OnFailure::Local), ("refuse", OnFailure::Refuse)]);
        let ca = ca_pem(s);
        let (mut address, credential): (Address, _) = (address?, credential?);
        if let Some(pem) = ca {
            match address.clone().trust_ca(pem) {
                Ok(trusting) => address = trusting,
                Err(error) => s.problem("ca_file", error.to_string()),
            }
        }
        if !address.is_tls() && !address.is_loopback() && credential != Credential::Nobody {
            s.problem("url", "must be rediss: passwords and tokens go without TLS on loopback only");
        }
        Some(Self { address, credential, on_failure: on_failure.unwrap_or_default() })
    }
}

impl Credential {
    fn read(s: &mut Section<'_>) -> Option<Self> {
        let kinds = [PASSWORDS, TokenSource::KINDS].concat();
        let kind = s.one_of(&kinds)?;
        let has_scope = s.has("scope");
        let scope = s.parsed("scope", name).unwrap_or_else(|| DEFAULT_SCOPE.to_owned());
        if !PASSWORDS.contains(&kind) {
            return TokenSource::read(s, kind).map(|source| Self::Token { source, scope });
        }
        if has_scope {
            s.problem("scope", "goes with a token, not with a password");
        }
        let (user, sources) = (s.name("username"), s.findings.sources);
        let password = s.parsed(kind, |text| resolve(Form::of(kind), text, sources))?;
        Some(Self::Password { user, password })
    }
}
