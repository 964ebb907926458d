//! Composable Tower layers that put several Azure OpenAI resources behind one endpoint.

pub mod azure;
pub mod body;
#[cfg(feature = "client")]
pub mod client;
pub mod context;
mod error;
mod headers;
pub mod pool;
pub mod reissue;
pub mod respond;

pub use self::error::{Error, ErrorKind};
