//! Where requests may go: clients with constraints, requests that narrow them, and backends that remember who came.
#![allow(unreachable_pub, reason = "tests have no outside")]
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod narrowed;
#[path = "../support/policies.rs"]
mod policies;
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod world;
