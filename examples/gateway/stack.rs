//! The stack that serves, at hand for each loop.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::Request;
use hyper::body::Incoming;
use tower::Service;
use tower_azure_openai::gateway::{Gateway, ResponseFuture};

thread_local! {
    /// A clone for the next request of this loop, and of which [`Stack`]. To make one for each request would count all that the layers
    /// share, up and down again, which costs as much as some of them do.
    static SPARE: RefCell<Option<(u64, Gateway)>> = const { RefCell::new(None) };
}

/// A stack, until a reload replaces it.
pub(crate) struct Stack {
    number: u64,
    gateway: Gateway,
}

impl Stack {
    pub(crate) fn new(gateway: Gateway) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self { number: NUMBERS.fetch_add(1, Relaxed), gateway }
    }

    /// Begins to serve a request.
    pub(crate) fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        let spare = SPARE.take().filter(|(number, _)| *number == self.number);
        let mut gateway = spare.map_or_else(|| self.gateway.clone(), |(_, gateway)| gateway);
        let called = gateway.call(request);
        SPARE.set(Some((self.number, gateway)));
        called
    }
}
