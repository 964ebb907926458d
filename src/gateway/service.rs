//! The whole stack as one service.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower::BoxError;
use tower::util::BoxCloneSyncService;
use tower_service::Service;

use crate::body::Body;
use crate::pool::BoxFuture;

/// The whole stack as one service: cheap to clone, for any request body, and without errors.
#[derive(Clone)]
pub struct Gateway(pub(super) BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>);

impl<B> Service<Request<B>> for Gateway
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        ResponseFuture(self.0.call(request.map(Body::new)))
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

/// Response future of [`Gateway`].
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(BoxFuture<Result<Response<Body>, Infallible>>);

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
