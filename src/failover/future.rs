use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use tower::BoxError;

use crate::body::Body;
use crate::pool::BoxFuture;

/// The future of [`Failover`](super::Failover).
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(BoxFuture<Result<Response<Body>, BoxError>>);

impl ResponseFuture {
    pub(super) fn new(future: impl Future<Output = Result<Response<Body>, BoxError>> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
