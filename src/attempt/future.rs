use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::{ResponseBody, Running};
use crate::azure::Outcome;
use crate::below::Answering;
use crate::body::Body;
use crate::context::{AttemptFailed, of_body, of_head};
use crate::error::polled_again;
use crate::pool::BoxFuture;

pin_project! {
    /// The future of an attempt: that of the service below, its answer read and its body watched.
    #[must_use = "futures do nothing unless polled"]
    pub struct Watched<F> {
        #[pin]
        state: State<F>,
        running: Option<Running>,
    }
}

pin_project! {
    #[project = StateProjected]
    enum State<F> {
        Called { #[pin] future: F },
        // Boxed because it is rare: only where the body of an answer decides what it means.
        Reading { future: BoxFuture<Result<(Response<Body>, Outcome), AttemptFailed>> },
    }
}

impl<F> Watched<F> {
    pub(crate) const fn new(future: F, running: Running) -> Self {
        Self { state: State::Called { future }, running: Some(running) }
    }
}

impl<F: Answering> Future for Watched<F> {
    type Output = Result<Response<ResponseBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(running) = this.running.as_ref() else { return Poll::Ready(Err(polled_again())) };
        let read = loop {
            match this.state.as_mut().project() {
                StateProjected::Called { future } => match ready!(future.poll_answer(cx)) {
                    Ok(answer) => match of_head(&answer) {
                        Some(outcome) => break Ok((answer, outcome)),
                        None => this.state.set(State::Reading { future: Box::pin(of_body(answer)) }),
                    },
                    Err(error) => break Err(running.failed(error)),
                },
                StateProjected::Reading { future } => break ready!(future.as_mut().poll(cx)),
            }
        };
        let Some(running) = this.running.take() else { return Poll::Ready(Err(polled_again())) };
        Poll::Ready(running.settle(read).map_err(Into::into))
    }
}

impl<F> fmt::Debug for Watched<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("running", &self.running).finish_non_exhaustive()
    }
}
