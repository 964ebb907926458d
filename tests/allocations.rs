//! How much memory is asked for on the way of one request through the whole stack, and how large what waits for an answer is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../benches/common/mod.rs"]
mod common;

use std::convert::Infallible;

use futures_util::FutureExt;
use tower::Service;
use tower_azure_openai::azure::operation::Surface;
use tower_azure_openai::body::Body;

/// What a request may ask for: raised only with a reason, lowered with every step.
const MOST: u64 = 42;

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
fn a_chunk_of_a_stream_asks_for_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let of = |chunks| {
        let mut gateway = common::gateway(common::Streaming { chunks }).unwrap();
        let request = common::streamed_request().unwrap();
        common::drive(&mut gateway, request.clone());
        allocation_counter::measure(|| common::drive(&mut gateway, request)).count_total
    };
    let (few, many) = (of(100), of(1_100));
    println!("{few} allocations for a stream, {} for each of a thousand more chunks", (many - few) as f64 / 1e3);
    assert_eq!(many, few);
}

/// What a request holds while its backend is silent: its head twice, its body, and every layer's part of the future.
#[test]
fn a_request_that_waits_holds_little() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let silent = tower::service_fn(|_| std::future::pending::<Result<http::Response<Body>, Infallible>>());
    let mut gateway = common::gateway(silent).unwrap();
    let request = common::request(Surface::Classic).unwrap();
    let mut waiting = Vec::with_capacity(2);
    let mut wait = || {
        let mut answer = gateway.call(request.clone());
        assert!((&mut answer).now_or_never().is_none(), "the backend is silent");
        waiting.push(answer);
    };
    wait();
    let held = allocation_counter::measure(wait).bytes_current;
    println!("{held} bytes for a request that waits");
    assert!(held <= 8 << 10, "{held} bytes");
}

#[test]
fn what_waits_for_an_answer_is_small() {
    let mut gateway = common::gateway(common::NoOp).unwrap();
    let answer = gateway.call(common::request(Surface::Classic).unwrap());
    println!("{} bytes beside what is boxed", size_of_val(&answer));
    assert!(size_of_val(&answer) <= 64);
}
