use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::ResponseBody;
use super::trace::Trace;
use crate::attempt::Watched;
use crate::below::Answering;
use crate::context::{Attempt, Route, Terms, wait};
use crate::pool::{Pool, Target};

pin_project! {
    /// An attempt at the target that was chosen.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Sent<F> {
        #[pin]
        future: Watched<F>,
        chosen: Chosen,
        trace: Option<Trace>,
    }
}

#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) target: Target,
    pub(super) pool: Pool,
    pub(super) route: Route,
    pub(super) terms: Terms,
}

impl<F> Sent<F> {
    pub(super) const fn new(future: Watched<F>, chosen: Chosen, trace: Option<Trace>) -> Self {
        Self { future, chosen, trace }
    }
}

impl Chosen {
    fn answered(&self, mut answer: Response<ResponseBody>) -> Response<ResponseBody> {
        answer.extensions_mut().insert(self.target.clone());
        if wait::is_due(answer.status()) {
            let hint = Attempt::of(&answer).outcome.and_then(|outcome| outcome.hint());
            wait::tell(&mut answer, Some(self.pool.outlook(&self.terms.query(&self.route))), hint);
        }
        answer
    }
}

impl<F: Answering> Future for Sent<F> {
    type Output = Result<Response<ResponseBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = this.trace.as_ref().map(Trace::enter);
        let came = ready!(this.future.poll(cx));
        drop(entered);
        if let Some(trace) = this.trace.take() {
            trace.end(&came);
        }
        Poll::Ready(came.map(|answer| this.chosen.answered(answer)))
    }
}
