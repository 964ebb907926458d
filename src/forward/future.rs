use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::locations;
use crate::context::BasePath;
use crate::headers;
use crate::pool::Target;
use crate::refusable;

pin_project! {
    /// Response future of [`Forward`](super::Forward).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        future: refusable::ResponseFuture<F>,
        way: Option<Way>,
    }
}

/// Way of a request: its target, and the prefix under which the client reaches the API.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) target: Target,
    pub(super) base_path: Option<BasePath>,
}

impl Way {
    /// Takes from an answer what concerned only the way to the gateway.
    fn clean<B>(&self, answer: &mut Response<B>) {
        headers::strip_answer(answer.status(), answer.headers_mut());
        locations::make_relative(answer.headers_mut(), &self.target, self.base_path.as_ref());
        headers::drop_host(answer.headers_mut(), self.target.endpoint().authority().host());
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn refused(error: BoxError) -> Self {
        Self { future: refusable::ResponseFuture::refused(error), way: None }
    }

    pub(super) const fn sent(future: F, way: Option<Way>) -> Self {
        Self { future: refusable::ResponseFuture::called(future), way }
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<ResBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = ready!(this.future.poll(cx))?;
        if let Some(way) = this.way.take() {
            way.clean(&mut answer);
        }
        Poll::Ready(Ok(answer))
    }
}
