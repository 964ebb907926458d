//! From what a request asks for to the target that gets it.

mod filter;
mod pin;
mod pool;
mod query;
mod release;
pub(crate) mod rendezvous;
mod select;
mod table;

pub use self::pin::{Pin, Strength};
pub use self::pool::Pool;
pub(in crate::pool) use self::pool::Shared;
pub use self::query::Query;
pub(in crate::pool) use self::table::{Group, Seat, Table};
