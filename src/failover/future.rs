use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::attempt::{self, Sending};
use crate::below::Below;
use crate::body::Body;
use crate::error::polled_again;
use crate::pool::BoxFuture;

pin_project! {
    /// The future of [`Failover`](super::Failover).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S>
    where
        S: Service<Request<Body>>,
    {
        #[pin]
        state: State<S, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F> {
        First { #[pin] future: F, sending: Option<Sending<S>> },
        // Boxed because it is rare: what follows a first attempt that was no plain success.
        Further { future: BoxFuture<Result<Response<Body>, BoxError>> },
        Refused { error: Option<BoxError> },
    }
}

impl<S> ResponseFuture<S>
where
    S: Service<Request<Body>>,
{
    pub(super) const fn sent(future: S::Future, sending: Sending<S>) -> Self {
        Self { state: State::First { future, sending: Some(sending) } }
    }

    pub(super) fn further(future: impl Future<Output = Result<Response<Body>, BoxError>> + Send + 'static) -> Self {
        Self { state: State::Further { future: Box::pin(future) } }
    }

    pub(super) const fn refused(error: BoxError) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }
}

impl<S: Below> Future for ResponseFuture<S> {
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::First { future, sending } => {
                    let came = ready!(future.poll(cx)).map_err(Into::into).map(|answer| answer.map(Body::new));
                    if came.as_ref().is_ok_and(attempt::is_plain_success) {
                        return Poll::Ready(came);
                    }
                    sending.take().map(|sending| sending.go_on(came))
                }
                StateProjection::Further { future } => return future.as_mut().poll(cx),
                StateProjection::Refused { error } => {
                    return Poll::Ready(Err(error.take().unwrap_or_else(polled_again)));
                }
            };
            state.set(match next {
                Some(further) => State::Further { future: Box::pin(further) },
                None => State::Refused { error: None },
            });
        }
    }
}

impl<S: Service<Request<Body>>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
