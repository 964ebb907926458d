//! Locks and atomics at which threads meet. `tests/models` puts its own in their place, and tries every order in which they can meet.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64 as Gate};
pub(crate) use std::sync::{Mutex, MutexGuard, RwLock};
