//! What threads share, with [`loom`] in the place of the standard library: the sources of the library themselves, built with another
//! `sync`. Only what the models need of it is here. `cargo run` runs them all, `cargo run ring` those whose name has `ring` in it.
#![allow(dead_code, unexpected_cfgs, unused_imports, reason = "a part of the library without the rest")]

mod context;
mod limit;
mod models;
mod recorder;
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64 as Gate};
    pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock};
}

#[path = "../../../src/account.rs"]
mod account;
#[path = "../../../src/azure/mod.rs"]
pub mod azure;
#[path = "../../../src/pool/mod.rs"]
pub mod pool;
#[path = "../../../src/problems.rs"]
mod problems;

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for (name, run) in models::MODELS.iter().filter(|(name, _)| name.contains(&wanted)) {
        let began = std::time::Instant::now();
        run();
        println!("{name}: held, {:.1} s", began.elapsed().as_secs_f64());
    }
}
