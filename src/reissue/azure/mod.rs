//! Tokens of Microsoft Entra: whom the gateway is to its backends.
//!
//! 1. An [`Identity`] says who the gateway is; [`Identity::keeper`] checks that against its surroundings and gives the
//!    [`TokenKeeper`](super::TokenKeeper) that backends share.
//! 2. Any other credential of the Azure SDK becomes a [`TokenCredentialSource`].
//! 3. The SDK speaks HTTP through a [`Transport`], and is never on the way of a request: the keeper alone calls it, and does
//!    timeouts, repeats and back-off. Every fetch makes a new credential, so that no cache below shows a refused token again.
//! 4. Secrets go over https. Plain http is allowed to loopback and to link-local addresses, where the instance metadata service and the identity
//!    endpoint of App Service on Linux are.
//! 5. What went wrong is said with the status of the answer and Entra's codes for it. No body, no URL and no secret is in
//!    any error or `Debug`.
//!
//! It guesses nothing: there is no chain of credentials that are tried in turn.
//!
//! ```no_run
//! use std::sync::Arc;
//! use tower_azure_openai::pool::Credential;
//! use tower_azure_openai::reissue::azure::{Identity, IdentityError};
//!
//! # fn main() -> Result<(), IdentityError> {
//! let credential = Credential::bearer(Arc::new(Identity::managed_identity().keeper()?));
//! # Ok(())
//! # }
//! ```
//!
//! An application of another cloud:
//!
//! ```
//! use tower_azure_openai::reissue::azure::{Identity, IdentityError};
//!
//! # fn main() -> Result<(), IdentityError> {
//! let keeper = Identity::client_secret("contoso.example", "the application's id", "its secret")
//!     .authority_host("https://login.microsoftonline.us")
//!     .scope("https://cognitiveservices.azure.us/.default")
//!     .keeper()?;
//! # Ok(())
//! # }
//! ```

mod failure;
mod identity;
mod recipe;
mod source;
mod transport;

pub use self::identity::{Identity, IdentityError};
pub use self::source::TokenCredentialSource;
pub use self::transport::Transport;

/// Scope of tokens for Azure OpenAI of the public cloud.
pub const DEFAULT_SCOPE: &str = "https://cognitiveservices.azure.com/.default";
