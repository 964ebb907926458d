#[path = "../../../src/limit/bucket.rs"]
mod bucket;
#[path = "../../../src/limit/day.rs"]
mod day;
#[path = "../../../src/limit/memory.rs"]
mod memory;
#[path = "../../../src/limit/store.rs"]
mod store;

pub use self::memory::MemoryLimits;
pub use self::store::{Decision, LimitStore, Reservation};
