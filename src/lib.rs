//! Composable Tower layers that put several Azure OpenAI resources behind one endpoint.

pub mod authorize;
pub mod azure;
pub mod body;
pub mod circuit;
#[cfg(feature = "client")]
pub mod client;
pub mod context;
mod error;
pub mod failover;
pub mod gateway;
mod headers;
pub mod health;
pub mod inspect;
pub mod pool;
pub mod reissue;
pub mod respond;
pub mod select;
pub mod terminate;

#[cfg(feature = "testkit")]
pub mod testkit;

pub use self::error::{Error, ErrorKind};
