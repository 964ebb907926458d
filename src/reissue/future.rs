use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use crate::azure::Outcome;
use crate::context::{Attempt, AttemptFailed};
use crate::error::{Error, polled_again};
use crate::pool::{BearerTokens, BoxFuture, Target};

pin_project! {
    /// The future of [`ReissueCredentials`](super::ReissueCredentials).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req>,
    }
}

pin_project! {
    #[project = StateProj]
    pub(super) enum State<S, Req>
    where
        S: Service<Req>,
    {
        /// For a first token.
        Waiting { wait: BoxFuture<Result<HeaderValue, BoxError>>, call: Option<Call<S, Req>> },
        /// For the answer.
        Sent { #[pin] future: S::Future, way: Option<Way>, shown: Option<Shown> },
        /// Not sent at all.
        Unsent { error: Option<Error> },
        /// For another token than the refused one.
        Refused { wait: BoxFuture<bool>, answer: Option<(S::Response, Target)> },
    }
}

/// The service that was ready, and what it will be called with.
type Call<S, Req> = (S, Req, Way, Arc<dyn BearerTokens>);

/// Way of a request: its target, and whose credential it shows.
pub(super) struct Way {
    pub(super) target: Target,
    /// True if the backend is shown the client's credential rather than the gateway's.
    pub(super) is_clients: bool,
}

impl Way {
    /// Says of a refusal whose affair it is.
    fn explain<B>(&self, answer: &mut Response<B>) {
        let is_refusal = matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if is_refusal && self.is_clients {
            Attempt::of_mut(answer.extensions_mut()).outcome = Some(Outcome::ClientFault);
        }
    }
}

/// Tells whether the answer shows that the token was good: a 403 may come from a firewall before it, a 5xx from anywhere.
fn takes_token(status: StatusCode) -> bool {
    status != StatusCode::FORBIDDEN && !status.is_server_error()
}

/// The token that the backend was shown, and whom to tell that it was refused.
pub(super) struct Shown {
    pub(super) token: HeaderValue,
    pub(super) tokens: Arc<dyn BearerTokens>,
}

impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req>,
{
    pub(super) const fn new(state: State<S, Req>) -> Self {
        Self { state }
    }

    /// It is nobody's failure.
    pub(super) const fn refused(error: Error) -> Self {
        Self { state: State::Unsent { error: Some(error) } }
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, Request<ReqBody>>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>, Error: Into<BoxError>>,
{
    type Output = Result<Response<ResBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Waiting { wait, call } => {
                    let token = ready!(wait.as_mut().poll(cx));
                    let token = token.map_err(|error| AttemptFailed::new(Outcome::CredentialUnavailable, error))?;
                    let Some((mut ready, mut request, way, tokens)) = call.take() else { return again() };
                    request.headers_mut().insert(AUTHORIZATION, token.clone());
                    let (future, shown) = (ready.call(request), Some(Shown { token, tokens }));
                    State::Sent { future, way: Some(way), shown }
                }
                StateProj::Sent { future, way, shown } => {
                    let mut answer = ready!(future.poll(cx)).map_err(Into::into)?;
                    let Some(way) = way.take() else { return Poll::Ready(Ok(answer)) };
                    way.explain(&mut answer);
                    match shown.take() {
                        Some(Shown { token, tokens }) if answer.status() == StatusCode::UNAUTHORIZED => {
                            let (wait, target) = (tokens.rejected(&token), way.target);
                            State::Refused { wait, answer: Some((answer, target)) }
                        }
                        shown => {
                            if shown.is_some() && takes_token(answer.status()) {
                                way.target.accept_token();
                            }
                            return Poll::Ready(Ok(answer));
                        }
                    }
                }
                StateProj::Unsent { error } => {
                    let unsent = |error| AttemptFailed::new(Outcome::Abandoned, error).into();
                    return Poll::Ready(Err(error.take().map_or_else(polled_again, unsent)));
                }
                StateProj::Refused { wait, answer } => {
                    let fresh = ready!(wait.as_mut().poll(cx));
                    let Some((mut answer, target)) = answer.take() else { return again() };
                    if fresh {
                        Attempt::of_mut(answer.extensions_mut()).has_fresh_credential = true;
                    } else {
                        target.refuse_token();
                    }
                    return Poll::Ready(Ok(answer));
                }
            };
            state.set(next);
        }
    }
}

fn again<T>() -> Poll<Result<T, BoxError>> {
    Poll::Ready(Err(polled_again()))
}

impl<S, Req> fmt::Debug for ResponseFuture<S, Req>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
