//! The owner's description of a pool: backends, deployments, aliases, releases, circuits. Parsed and checked as a whole.

mod backend;
mod builder;
mod circuit;
mod constraints;
mod credential;
mod deployment;
mod endpoint;
mod overrides;
mod priority;
mod release;

pub use self::backend::{Backend, BackendKind};
pub(in crate::pool) use self::builder::Checked;
pub use self::builder::{BuildError, MAX_PRIORITY, MAX_WEIGHT, PoolBuilder};
pub use self::circuit::CircuitConfig;
pub(in crate::pool) use self::constraints::Place;
pub use self::constraints::{Constraints, Processing};
pub use self::credential::{BearerTokens, BoxFuture, Credential};
pub use self::deployment::Deployment;
pub use self::endpoint::Endpoint;
#[cfg(any(feature = "azure-identity", feature = "client", feature = "entra"))]
pub(crate) use self::endpoint::is_loopback;
pub(in crate::pool) use self::overrides::{Override, Overrides};
pub use self::priority::{Priority, Thresholds};
pub use self::release::Release;
