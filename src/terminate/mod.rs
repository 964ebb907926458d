//! Identifies the client, strips every inbound credential, and inserts [`Client`](crate::context::Client).
//!
//! 1. Credentials are read in this order: the header `api-key`, `Authorization: Bearer …`, the header
//!    `Ocp-Apim-Subscription-Key`, the query parameters `api-key` and `subscription-key`, and the subprotocol
//!    `openai-insecure-api-key.…` that browsers offer for a WebSocket. Empty ones count as absent.
//! 2. Two different values of one form are refused, and so are two schemes of `Authorization`; the same value given again is
//!    not, since some client libraries do that.
//! 3. The [`Authenticate`] strategy is asked about one after the other; the first that identifies a client wins.
//! 4. If none does, the request is refused.
//! 5. All forms, `Authorization` of any scheme and `Cookie` are removed, whether or not they identified anybody, and the
//!    request is passed on with its `Client`. No credential that stood in the request leaves this layer in its head; cookies
//!    are kept as an extension ([`Cookies`](crate::context::Cookies)) for the gateway's own.
//!
//! An ephemeral key (`ek_…`), which a browser opens a realtime session with, is a credential of the client that it was issued to,
//! where it stands after `Bearer` or in the subprotocol, on `GET realtime` and `POST realtime/calls`, if
//! [`ephemeral_keys`](TerminateCredentialsLayer::ephemeral_keys) is set and knows it. The request gets an
//! [`EphemeralKey`](crate::context::EphemeralKey), by which it goes to the backend that issued it, with that key. Elsewhere, and
//! after its end, it identifies nobody.
//!
//! It does not decide what a client may do, does not read the body, and does not remove hop-by-hop headers.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::context::Client;
//! use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let registry = ClientRegistry::builder().add_key(Client::new("team-a"), "correct horse").build()?;
//! let backend = service_fn(async |request: Request<String>| {
//!     assert!(request.headers().is_empty());
//!     let client = request.extensions().get::<Client>().expect("inserted");
//!     Ok::<_, BoxError>(Response::new(client.id().to_owned()))
//! });
//! let service = ServiceBuilder::new().layer(TerminateCredentialsLayer::new(registry)).service(backend);
//!
//! let request = Request::get("/openai/models").header("api-key", "correct horse").body(String::new())?;
//! assert_eq!(service.oneshot(request).await?.body(), "team-a");
//! # Ok(())
//! # }
//! ```
//!
//! A closure that knows its clients otherwise, and accepts one form only:
//!
//! ```
//! use tower_azure_openai::context::Client;
//! use tower_azure_openai::terminate::{Form, Presented, TerminateCredentialsLayer};
//!
//! let layer = TerminateCredentialsLayer::new(|presented: &Presented| {
//!     let key = std::str::from_utf8(presented.secret()).ok()?;
//!     let team = key.strip_prefix("team:").filter(|_| presented.form() == Form::ApiKey)?;
//!     Some(Client::new(team))
//! });
//! # let _ = layer;
//! ```
//!
//! With the feature `entra`, `entra::Entra` knows clients by Microsoft Entra ID tokens; a pair of strategies is one too.
//!
//! [`TerminateCredentialsLayer::without_clients`] asks nobody: everything is removed all the same, nothing is refused, and a
//! `Client` that an embedder inserted stays.
//!
//! **Order.** Below inspection or authorisation nobody is known yet, and who is not known is held to nothing; below selection the
//! refusal of a stranger would look like a failure of a backend, and below credential re-issue the backend's own key would be
//! taken off. Below another of its kind nobody is found. Each is refused with [`Misordered`](crate::ErrorKind::Misordered).
//! [`without_clients`](TerminateCredentialsLayer::without_clients) may stand anywhere above selection.
//!
//! # Errors
//! [`AmbiguousRequest`](crate::ErrorKind::AmbiguousRequest), [`Unauthenticated`](crate::ErrorKind::Unauthenticated),
//! [`Overloaded`](crate::ErrorKind::Overloaded) when a strategy fails, and those of the service below.
//!
//! # Cancellation
//! Dropping the future drops what the strategy is doing, or the request below.

mod authenticate;
#[cfg(feature = "entra")]
pub mod entra;
mod layer;
mod presented;
mod registry;
mod service;

pub use self::authenticate::{Authenticate, FirstOf, FromFn, Maybe, from_fn};
pub use self::layer::TerminateCredentialsLayer;
pub use self::presented::{Form, Presented};
pub use self::registry::{ClientRegistry, ClientRegistryBuilder, KeyDigest, ParseDigestError, RegistryError};
pub use self::service::{ResponseFuture, TerminateCredentials};
