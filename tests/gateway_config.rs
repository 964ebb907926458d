//! Runs the unit tests of the gateway example's command line and configuration, which stand beside the code.
//!
//! They are not tests of the example target itself, because cargo would then build only the tests, and not the program that
//! `tests/gateway` drives.
#![allow(dead_code, reason = "the program reads what these tests do not")]

#[path = "../examples/gateway/args.rs"]
mod args;
#[path = "../examples/gateway/config/mod.rs"]
mod config;
