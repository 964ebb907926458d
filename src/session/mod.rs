//! Sticky sessions.

mod body;
#[cfg(feature = "testkit")]
pub mod conformance;
mod cookie;
mod discovery;
mod future;
mod home;
mod layer;
mod list;
mod memory;
mod service;
mod store;
mod subject;
mod visit;

pub use self::body::{LEARNED_BODY, LEARNED_EVENT, REMEMBER_TIME};
pub use self::cookie::{COOKIE_LIFETIME, COOKIE_NAME, InvalidKey, MIN_KEY, SessionCookie};
pub use self::discovery::{DISCOVERY_RATE, DISCOVERY_TIME, MAX_UNKNOWN, UNKNOWN_TIME};
pub use self::future::ResponseFuture;
pub use self::layer::{Ownership, REMEMBER, SESSION_HEADER, StickySessionLayer, WhenUnavailable};
pub use self::list::{LIST_BODY, LIST_PAGES};
pub use self::memory::MemoryStore;
pub use self::service::StickySession;
pub use self::store::{ObjectKey, Remembered, SessionStore, StoreFuture};
