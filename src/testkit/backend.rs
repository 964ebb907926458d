//! The handle of a backend, and the service that it is.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tower::BoxError;
use tower_service::Service;

use super::body::{Activity, InFlight};
use super::builder::Builder;
use super::error::TransportError;
use super::fault::Faults;
use super::received::ReceivedRequest;
use super::resource::Resource;
use crate::body::Body;

/// A fake Azure OpenAI resource: a service, or a server on loopback.
///
/// Cheap to clone; clones are handles to the same backend. See the [module docs](super).
#[derive(Clone)]
pub struct SimulatedBackend(Arc<Resource>);

impl SimulatedBackend {
    pub(super) fn new(resource: Resource) -> Self {
        Self(Arc::new(resource))
    }

    /// A backend that will tell in its answers that `name` served them.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder::new(name.into())
    }

    /// The name that was given to the builder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the faults that are to come.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Every request that was received whole, whatever it was answered, in the order of their arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.0.received().clone()
    }

    /// Returns the number of [`requests`](Self::requests).
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.0.received().len()
    }

    /// Forgets the [`requests`](Self::requests), and counts from zero again.
    pub fn clear_requests(&self) {
        self.0.log(Vec::clear);
    }

    /// Number of requests that are being read or answered.
    ///
    /// A request is in flight until the last byte of its answer was handed out, or until it or its answer was dropped;
    /// a server drops them when the client has gone away.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.activity.borrow().in_flight
    }

    /// Waits until nothing is [in flight](Self::in_flight).
    pub async fn wait_until_idle(&self) {
        self.wait_until(|activity| activity.in_flight == 0).await;
    }

    /// Waits until at least `n` [requests](Self::requests) have been received.
    pub async fn wait_for_requests(&self, n: usize) {
        self.wait_until(|activity| activity.received >= n).await;
    }

    async fn wait_until(&self, reached: impl Fn(&Activity) -> bool) {
        // The sender lives as long as `self`, so there is nothing that could fail.
        let _ = self.0.activity.subscribe().wait_for(|activity| reached(activity)).await;
    }

    /// Answers a request. `address` is the only `Host` that is served, when the builder was not told another one.
    pub(super) fn answer<B>(&self, request: Request<B>, address: Option<Arc<str>>) -> ResponseFuture
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let resource = Arc::clone(&self.0);
        let in_flight = InFlight::enter(&resource.activity);
        ResponseFuture { inner: Box::pin(async move { resource.serve(request, address.as_deref(), in_flight).await }) }
    }
}

impl<B> Service<Request<B>> for SimulatedBackend
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        self.answer(request, None)
    }
}

impl fmt::Debug for SimulatedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedBackend")
            .field("name", &self.0.name)
            .field("host", &self.0.host)
            .field("credentials", &self.0.credentials)
            .field("deployments", &self.0.deployments)
            .field("activity", &*self.0.activity.borrow())
            .finish_non_exhaustive()
    }
}

// ===== impl ResponseFuture =====

/// The answer of a [`SimulatedBackend`] that is on its way.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    inner: Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send>>,
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, TransportError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
