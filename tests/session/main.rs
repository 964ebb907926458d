//! Sticky sessions from outside: the layer above failover, selection and circuits, over resources that keep objects.
#![allow(unreachable_pub, reason = "tests have no outside")]
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod answers;
#[path = "../support/collections.rs"]
mod collections;
mod contents;
mod cookies;
mod discovery;
mod estate;
mod families;
mod forms;
mod heads;
mod homes;
mod hostile;
mod ownership;
mod pins;
mod positive;
mod remixes;
mod spoken;
mod stack;
#[path = "../support/mod.rs"]
mod support;
