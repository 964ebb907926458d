use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use azure_core::credentials::Secret;
use azure_core::http::HttpClient;

use super::recipe::{self, Kind, Recipe};
use super::{DEFAULT_SCOPE, Transport};
use crate::reissue::TokenKeeper;

/// Describes who the gateway is, to Entra. See the [module docs](super).
///
/// `Debug` shows the kind and the scope only.
#[derive(Clone)]
#[must_use]
pub struct Identity {
    form: Form,
    client_id: Option<String>,
    tenant_id: Option<String>,
    token_file: Option<PathBuf>,
    scope: String,
    authority_host: Option<String>,
    transport: Option<Arc<dyn HttpClient>>,
}

#[derive(Clone)]
enum Form {
    ClientSecret(Secret),
    DeveloperTools,
    ManagedIdentity,
    WorkloadIdentity,
}

impl Identity {
    fn new(form: Form) -> Self {
        Self {
            form,
            client_id: None,
            tenant_id: None,
            token_file: None,
            scope: DEFAULT_SCOPE.to_owned(),
            authority_host: None,
            transport: None,
        }
    }

    /// The identity that Azure gives to this virtual machine, App Service or Container App: the system-assigned one, unless
    /// [`client_id`](Self::client_id) names another.
    pub fn managed_identity() -> Self {
        Self::new(Form::ManagedIdentity)
    }

    /// The federated identity of a Kubernetes service account, as the workload identity webhook describes it in
    /// `AZURE_CLIENT_ID`, `AZURE_TENANT_ID`, `AZURE_FEDERATED_TOKEN_FILE` and `AZURE_AUTHORITY_HOST`.
    pub fn workload_identity() -> Self {
        Self::new(Form::WorkloadIdentity)
    }

    /// An application with a secret of its own.
    pub fn client_secret(
        tenant_id: impl Into<String>,
        client_id: impl Into<String>,
        secret: impl Into<String>,
    ) -> Self {
        Self::new(Form::ClientSecret(Secret::new(secret.into()))).tenant_id(tenant_id).client_id(client_id)
    }

    /// Makes the identity of whoever is signed in with `az` or `azd` on this machine: for development.
    pub fn developer_tools() -> Self {
        Self::new(Form::DeveloperTools)
    }

    /// Names the user-assigned identity, or the application. Means nothing to developer tools.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// The tenant of an application. Means nothing to a managed identity and developer tools.
    pub fn tenant_id(mut self, id: impl Into<String>) -> Self {
        self.tenant_id = Some(id.into());
        self
    }

    /// Names the file in which the token of the service account is found, instead of `AZURE_FEDERATED_TOKEN_FILE`. It is read for
    /// every fetch.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token_file = Some(path.into());
        self
    }

    /// Sets what the tokens are for: [`DEFAULT_SCOPE`].
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = scope.into();
        self
    }

    /// The authority of another cloud, such as `https://login.microsoftonline.us`, instead of `AZURE_AUTHORITY_HOST` or else
    /// the public one. Only applications ask it.
    pub fn authority_host(mut self, url: impl Into<String>) -> Self {
        self.authority_host = Some(url.into());
        self
    }

    /// Speaks HTTP through this instead of a [`Transport`] of its own; one can be shared by many identities.
    pub fn transport(mut self, transport: Arc<dyn HttpClient>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Checks the description against its surroundings, and keeps its tokens. Nothing is fetched before somebody asks.
    ///
    /// # Errors
    /// Something is missing, here or in the environment, or is not what it should be.
    pub fn keeper(&self) -> Result<TokenKeeper, IdentityError> {
        let recipe = self.recipe()?;
        recipe.credential()?;
        Ok(TokenKeeper::new(recipe))
    }

    fn recipe(&self) -> Result<Recipe, IdentityError> {
        if self.scope.is_empty() || self.scope.contains(char::is_whitespace) {
            return Err(IdentityError::new("the scope must be one word"));
        }
        let kind = self.kind()?;
        let authority = match kind {
            Kind::ClientSecret { .. } | Kind::WorkloadIdentity { .. } => {
                recipe::authority(self.authority_host.as_ref())?
            }
            Kind::DeveloperTools | Kind::ManagedIdentity { .. } => None,
        };
        let transport = match &self.transport {
            Some(transport) => Arc::clone(transport),
            None => Arc::new(Transport::new().map_err(|error| IdentityError::new(error.to_string()))?),
        };
        Ok(Recipe { kind, scope: self.scope.as_str().into(), options: recipe::options(transport, authority) })
    }

    fn kind(&self) -> Result<Kind, IdentityError> {
        let client_id = self.client_id.as_ref();
        if client_id.is_some_and(String::is_empty) {
            return Err(IdentityError::new("the client id is empty"));
        }
        Ok(match &self.form {
            Form::ClientSecret(secret) if secret.secret().is_empty() => {
                return Err(IdentityError::new("the client secret is empty"));
            }
            Form::ClientSecret(secret) => Kind::ClientSecret {
                tenant_id: recipe::tenant(self.tenant_id.clone().unwrap_or_default())?,
                client_id: self.client_id.clone().unwrap_or_default(),
                secret: secret.clone(),
            },
            Form::DeveloperTools => Kind::DeveloperTools,
            Form::ManagedIdentity => {
                recipe::check_endpoint()?;
                Kind::ManagedIdentity { client_id: self.client_id.clone() }
            }
            Form::WorkloadIdentity => Kind::WorkloadIdentity {
                tenant_id: recipe::tenant(recipe::given_or(self.tenant_id.as_ref(), "AZURE_TENANT_ID")?)?,
                client_id: recipe::given_or(client_id, "AZURE_CLIENT_ID")?,
                token_file: match &self.token_file {
                    Some(path) => path.clone(),
                    None => recipe::given_or(None, "AZURE_FEDERATED_TOKEN_FILE")?.into(),
                },
            },
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.form {
            Form::ClientSecret(_) => "client_secret",
            Form::DeveloperTools => "developer_tools",
            Form::ManagedIdentity => "managed_identity",
            Form::WorkloadIdentity => "workload_identity",
        };
        f.debug_struct("Identity").field("kind", &kind).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Reason why no identity can be made of a description, as a sentence without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdentityError(Cow<'static, str>);

impl IdentityError {
    pub(super) fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self(what.into())
    }
}
