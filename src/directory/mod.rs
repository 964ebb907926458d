//! Directory of objects: which backend holds which, and who made it.
//!
//! A [`SessionStore`] remembers it, in memory ([`MemoryStore`]) or elsewhere, by the digest of an id and never by the id itself.
//! What answers tell is written down as they pass; what nobody here remembers is asked of the backends, all at once. Layers
//! that need to know where an object lies, such as [`session`](crate::session), stand on this room and not on one another.

#[cfg(feature = "testkit")]
pub mod conformance;
mod discovery;
mod learning;
mod memory;
mod store;
mod subject;

pub use self::discovery::DISCOVERY_RATE;
pub(crate) use self::discovery::MAX_UNKNOWN;
pub(crate) use self::discovery::{Discovery, Finding, Question};
pub(crate) use self::learning::{LearningBody, Ledger, Lesson, Note, Notebook};
pub use self::memory::MemoryStore;
pub use self::store::{ObjectKey, Remembered, SessionStore, StoreFuture};
pub(crate) use self::store::{in_time, warn};
pub(crate) use self::subject::{Extent, Named, Subject, Taught, not_found};
