//! How much memory is asked for on the way of one request through the whole stack, and how large what waits for an answer is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../benches/common/mod.rs"]
mod common;

use tower::Service;
use tower_azure_openai::azure::operation::Surface;

/// What a request may ask for: raised only with a reason, lowered with every step.
const MOST: u64 = 45;

fn allocations(surface: Surface) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let mut gateway = common::gateway(common::NoOp).unwrap();
    let request = common::request(surface).unwrap();
    for _ in 0..10 {
        common::drive(&mut gateway, request.clone());
    }
    // How tables of a registry grow is nothing of one request.
    let of = |request| allocation_counter::measure(|| common::drive(&mut gateway, request)).count_total;
    (0..5).map(|_| request.clone()).map(of).min().unwrap()
}

#[test]
fn a_request_asks_for_little() {
    for surface in [Surface::Classic, Surface::V1] {
        let count = allocations(surface);
        println!("{surface:?}: {count} allocations");
        assert!(count <= MOST, "{surface:?}: {count} allocations, {MOST} at most");
    }
}

#[test]
fn what_waits_for_an_answer_is_small() {
    let mut gateway = common::gateway(common::NoOp).unwrap();
    let answer = gateway.call(common::request(Surface::Classic).unwrap());
    println!("{} bytes beside what is boxed", size_of_val(&answer));
    assert!(size_of_val(&answer) <= 64);
}
