use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::account::Account;
use super::body::ResponseBody;
use crate::below::Answering;
use crate::body::Body;
use crate::error::Error;
use crate::refusable;

pin_project! {
    /// Response future of [`MeterUsage`](super::MeterUsage).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        future: refusable::ResponseFuture<F>,
        account: Option<Account>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn called(future: F, account: Option<Account>) -> Self {
        Self { future: refusable::ResponseFuture::called(future), account }
    }

    pub(super) fn refused(error: Error) -> Self {
        Self { future: refusable::ResponseFuture::refused(error), account: None }
    }
}

impl<F: Answering> Future for ResponseFuture<F> {
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.future.poll(cx))?.map(Body::new);
        Poll::Ready(Ok(match this.account.take() {
            Some(account) => ResponseBody::around(answer, account),
            None => answer,
        }))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
