//! Account of a pool for people: its status, and why a target would, or would not, be given a request.

mod explain;
mod status;

pub use self::explain::{Explained, Explanation, Obstacle};
pub use self::status::{BackendStatus, DeploymentStatus, FirstContent, PoolStatus, ReleaseStatus};
