use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower::BoxError;

use crate::body::Body;
use crate::pool::BoxFuture;

pin_project! {
    /// The future of [`ClientLimit`](super::ClientLimit). Nothing is allocated for a request without limits.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Passing { #[pin] future: F },
        Limited { future: BoxFuture<Result<Response<Body>, BoxError>> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn passing(future: F) -> Self {
        Self { state: State::Passing { future } }
    }

    pub(super) fn limited(future: impl Future<Output = Result<Response<Body>, BoxError>> + Send + 'static) -> Self {
        Self { state: State::Limited { future: Box::pin(future) } }
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
        match self.project().state.project() {
            StateProjection::Passing { future } => {
                let answer = ready!(future.poll(cx)).map_err(Into::into)?;
                Poll::Ready(Ok(answer.map(Body::new)))
            }
            StateProjection::Limited { future } => future.as_mut().poll(cx),
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
