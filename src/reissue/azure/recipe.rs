//! All that is needed to make a credential of the SDK, checked.

use std::env;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, HttpClient, RetryOptions, Transport, Url};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions, DeveloperToolsCredential,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use tower::BoxError;

use super::IdentityError;
use super::failure::Failure;
use super::source;
use super::transport::{self, Guarded};
use crate::error::causes;
use crate::pool::BoxFuture;
use crate::reissue::{Token, TokenSource};

/// Makes a credential for every fetch. One that is kept would show a token again that a backend has refused: the SDK's
/// cache cannot be told. A workload's token file is read anew that way too.
pub(super) struct Recipe {
    pub(super) kind: Kind,
    pub(super) scope: Arc<str>,
    pub(super) options: ClientOptions,
}

#[derive(Clone)]
pub(super) enum Kind {
    ClientSecret { tenant_id: String, client_id: String, secret: Secret },
    DeveloperTools,
    ManagedIdentity { client_id: Option<String> },
    WorkloadIdentity { tenant_id: String, client_id: String, token_file: PathBuf },
}

impl Recipe {
    pub(super) fn credential(&self) -> Result<Arc<dyn TokenCredential>, IdentityError> {
        let client_options = self.options.clone();
        Ok(match self.kind.clone() {
            Kind::ClientSecret { tenant_id, client_id, secret } => {
                let options = ClientSecretCredentialOptions { client_options };
                ClientSecretCredential::new(&tenant_id, client_id, secret, Some(options))
                    .map_err(|error| unusable(&error))?
            }
            Kind::DeveloperTools => DeveloperToolsCredential::new(None).map_err(|error| unusable(&error))?,
            Kind::ManagedIdentity { client_id } => {
                let user_assigned_id = client_id.map(UserAssignedId::ClientId);
                let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
                let unsupported = "only App Service, Container Apps and virtual machines give managed identities here";
                ManagedIdentityCredential::new(Some(options)).map_err(|_| IdentityError::new(unsupported))?
            }
            Kind::WorkloadIdentity { tenant_id, client_id, token_file } => {
                let options = WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options },
                    client_id: Some(client_id),
                    tenant_id: Some(tenant_id),
                    token_file_path: Some(token_file),
                };
                WorkloadIdentityCredential::new(Some(options)).map_err(|error| unusable(&error))?
            }
        })
    }
}

impl TokenSource for Recipe {
    fn fetch(&self, _forced: bool) -> BoxFuture<Result<Token, BoxError>> {
        let (credential, scope) = (self.credential(), Arc::clone(&self.scope));
        Box::pin(async move { Ok(source::fetch(credential?.as_ref(), &scope).await?) })
    }
}

/// All that a checked recipe can fail of is the token file.
fn unusable(error: &azure_core::Error) -> IdentityError {
    match causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()) {
        Some(error) => IdentityError::new(format!("the token file cannot be read: {}", error.kind())),
        None => IdentityError::new("the credential cannot be made"),
    }
}

/// No repeats below the keeper, which has a back-off of its own. A transport is always given: the SDK panics without.
pub(super) fn options(transport: Arc<dyn HttpClient>, authority: Option<Url>) -> ClientOptions {
    ClientOptions {
        transport: Some(Transport::new(Arc::new(Guarded(transport)))),
        retry: RetryOptions::none(),
        cloud: authority.map(|authority| {
            let mut cloud = CustomConfiguration::default();
            cloud.authority_host = authority.into();
            Arc::new(cloud.into())
        }),
        ..ClientOptions::default()
    }
}

/// A value that was given, or the one of a variable.
pub(super) fn given_or(given: Option<&String>, variable: &str) -> Result<String, IdentityError> {
    let value = given.cloned().or_else(|| env::var(variable).ok());
    value.filter(|value| !value.is_empty()).ok_or_else(|| IdentityError::new(format!("{variable} is not set")))
}

pub(super) fn tenant(id: String) -> Result<String, IdentityError> {
    let is_one = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    if is_one { Ok(id) } else { Err(IdentityError::new("the tenant id must be a GUID or a domain")) }
}

/// The host that gives tokens, when it is not the public cloud's.
pub(super) fn authority(given: Option<&String>) -> Result<Option<Url>, IdentityError> {
    let Ok(host) = given_or(given, "AZURE_AUTHORITY_HOST") else { return Ok(None) };
    let url = Url::parse(&host).ok().filter(|url| url.scheme() == "https" && !url.authority().contains('@'));
    url.map(Some).ok_or_else(|| IdentityError::new("the authority host must be an https URL without credentials"))
}

/// Checks what App Service and Container Apps say of themselves, before the first fetch.
pub(super) fn check_endpoint() -> Result<(), IdentityError> {
    let (Ok(endpoint), Ok(_)) = (env::var("IDENTITY_ENDPOINT"), env::var("IDENTITY_HEADER")) else { return Ok(()) };
    let url = Url::parse(&endpoint).map_err(|_| IdentityError::new("IDENTITY_ENDPOINT is not a URL"))?;
    if transport::may_carry_secrets(&url) { Ok(()) } else { Err(IdentityError::new(Failure::PLAIN.to_string())) }
}
