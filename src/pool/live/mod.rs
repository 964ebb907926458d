//! State that changes while targets serve: circuits, figures, requests in flight, and the permits that move them.

mod breaker;
mod circuit;
pub mod load;
mod no_target;
mod opening;
mod permit;
mod recent;
mod spread;
mod state;
mod target;
mod target_set;
mod transition;
mod trouble;
mod window;

use std::time::Duration;

pub(crate) use self::breaker::{Breaker, BreakerPermit};
pub use self::circuit::CircuitState;
pub use self::load::RouteKind;
pub use self::no_target::{NoTarget, NoTargetReason};
pub(in crate::pool) use self::opening::Announcer;
pub use self::opening::{Opening, Openings};
pub(in crate::pool) use self::permit::Neighbours;
pub use self::permit::Permit;
pub(in crate::pool) use self::spread::Spread;
pub(in crate::pool) use self::state::Live;
pub use self::target::Target;
pub(in crate::pool) use self::target::{Inner, Names, Resource, Served};
pub use self::target_set::TargetSet;
pub use self::transition::Transition;
pub(in crate::pool) use self::trouble::Trouble;

/// Whole milliseconds, rounded up, so that who waits so long does not come too early.
pub(crate) fn ceil_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
