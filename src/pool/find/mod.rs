//! From what a request asks for to the target that gets it.

mod barriers;
mod filter;
mod pin;
mod pool;
mod query;
mod refusal;
mod release;
pub(crate) mod rendezvous;
mod select;
mod survey;
mod table;

pub(in crate::pool) use self::barriers::{Barrier, View};
pub use self::pin::{Pin, Strength};
pub use self::pool::Pool;
pub(in crate::pool) use self::pool::Shared;
pub use self::query::Query;
pub(crate) use self::select::in_range;
pub(in crate::pool) use self::survey::Surveyed;
pub(in crate::pool) use self::table::Table;
