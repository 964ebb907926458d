//! Composable Tower layers that put several Azure OpenAI resources behind one endpoint.

pub mod body;

#[cfg(feature = "testkit")]
pub mod testkit;
