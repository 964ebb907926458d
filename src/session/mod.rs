//! Sticky sessions.

#[cfg(feature = "testkit")]
pub mod conformance;
mod cookie;
mod home;
mod memory;
mod store;

pub use self::cookie::{COOKIE_LIFETIME, COOKIE_NAME, InvalidKey, MIN_KEY, SessionCookie};
pub use self::memory::MemoryStore;
pub use self::store::{ObjectKey, Remembered, SessionStore, StoreFuture};
