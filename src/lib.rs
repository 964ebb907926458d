//! Composable Tower layers that put several Azure OpenAI resources behind one endpoint.

pub mod azure;
pub mod body;
pub mod circuit;
pub mod context;
mod error;
pub mod failover;
mod headers;
pub mod pool;
pub mod respond;
pub mod select;

#[cfg(feature = "testkit")]
pub mod testkit;

pub use self::error::{Error, ErrorKind};
