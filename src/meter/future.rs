use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::account::Account;
use super::body::ResponseBody;
use crate::body::Body;
use crate::error::{Error, polled_again};

pin_project! {
    /// The future of [`MeterUsage`](super::MeterUsage).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Called { #[pin] future: F, account: Option<Account> },
        Refused { error: Option<Error> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn called(future: F, account: Option<Account>) -> Self {
        Self { state: State::Called { future, account } }
    }

    pub(super) const fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    E: Into<BoxError>,
    ResBody: HttpBody<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (answer, account) = match self.project().state.project() {
            StateProjection::Called { future, account } => {
                (ready!(future.poll(cx)).map_err(Into::into)?.map(Body::new), account)
            }
            StateProjection::Refused { error } => {
                return Poll::Ready(Err(error.take().map_or_else(polled_again, Into::into)));
            }
        };
        Poll::Ready(Ok(match account.take() {
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
