use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Response, StatusCode};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::ResponseBody;
use crate::context::{Attempt, AttemptFailed, ClassifyError, DefaultClassify, Route, Terms, wait};
use crate::error::{Error, polled_again};
use crate::pool::{PermitCell, Pool, Target};

pin_project! {
    /// The future of [`SelectBackend`](super::SelectBackend).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjected]
    enum State<F> {
        Refused { error: Option<Error> },
        Sent { #[pin] future: F, sent: Sent },
    }
}

#[derive(Debug)]
pub(super) struct Sent {
    pub(super) target: Target,
    pub(super) cell: PermitCell,
    pub(super) pool: Pool,
    pub(super) route: Route,
    pub(super) terms: Terms,
}

impl<F> ResponseFuture<F> {
    pub(super) const fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }

    pub(super) const fn sent(future: F, sent: Sent) -> Self {
        Self { state: State::Sent { future, sent } }
    }
}

impl Sent {
    fn answered<B: HttpBody>(&self, mut answer: Response<B>) -> Response<ResponseBody<B>> {
        answer.extensions_mut().insert(self.target.clone());
        Attempt::of_mut(answer.extensions_mut()).target = Some(self.target.clone());
        // The circuit breaker below has taken it, if there is one.
        let permit = self.cell.take();
        // Without one the pool has learned nothing, and the backend knows better.
        if permit.is_none() && wait::is_due(answer.status()) {
            let outlook = self.pool.outlook(&self.terms.query(&self.route));
            if let Some(soonest) = outlook.retry_after {
                wait::set_by_outlook(&mut answer, &outlook, soonest);
            }
        }
        let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let held = if switches { ResponseBody::lasting } else { ResponseBody::new };
        answer.map(|body| held(body, permit))
    }
}

impl Sent {
    /// Says of a failed attempt where it was. What is no attempt, such as an upload that failed, stays what it is.
    fn failed(&self, error: BoxError) -> BoxError {
        let error = match error.downcast::<AttemptFailed>() {
            Ok(failed) => return failed.at(self.target.clone()).into(),
            Err(error) => error,
        };
        if Error::find(error.as_ref()).is_some() {
            return error;
        }
        let outcome = DefaultClassify.classify(error.as_ref());
        AttemptFailed::new(outcome, error).at(self.target.clone()).into()
    }
}

/// Gives the place back for whoever still holds the request.
impl Drop for Sent {
    fn drop(&mut self) {
        drop(self.cell.take());
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    E: Into<BoxError>,
    ResBody: HttpBody,
{
    type Output = Result<Response<ResponseBody<ResBody>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjected::Refused { error } => Poll::Ready(Err(error.take().map_or_else(polled_again, Into::into))),
            StateProjected::Sent { future, sent } => {
                let answer = ready!(future.poll(cx)).map_err(|error| sent.failed(error.into()))?;
                Poll::Ready(Ok(sent.answered(answer)))
            }
        }
    }
}
